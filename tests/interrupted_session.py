"""A session that starts programs and does not end by itself; ``test_interrupted_tests.py`` runs it, nobody collects it."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from tests.system import System
from tests.terminal import typed

PROGRAM = "import os, signal, sys; open(sys.argv[1], 'w').write(str(os.getpid())); signal.pause()"


def test_session_waits_for_a_signal() -> None:
    folder = Path(os.environ["INTERRUPTED_FOLDER"])
    (folder / "program.py").write_text(PROGRAM)
    system = System(folder, dict(os.environ))
    try:
        system.start("started", str(folder / "program.py"), str(folder / "started.pid"))
        with typed(f"{sys.executable} program.py typed.pid\ntrue", folder, os.environ):
            signal.pause()
    finally:
        system.stop()
