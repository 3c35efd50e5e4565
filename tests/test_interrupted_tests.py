"""A session of tests that is interrupted takes the programs along that its tests have started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lab.waiting import PATIENCE_SECONDS, wait_until
from tests.system import PROJECT, is_running

SESSION = f"exec {sys.executable} -m pytest -q -p no:cacheprovider tests/interrupted_session.py"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_session_interrupted_leaves_nothing_running(tmp_path: Path, number: signal.Signals) -> None:
    shell = f"trap '' INT; {SESSION}"  # as a script that puts it into the background starts it
    environment = {**os.environ, "INTERRUPTED_FOLDER": str(tmp_path)}
    session = subprocess.Popen(["sh", "-c", shell], cwd=PROJECT, env=environment, stdout=subprocess.DEVNULL)
    notes = [tmp_path / "started.pid", tmp_path / "typed.pid"]
    try:
        wait_until(lambda: all(note.exists() and note.read_text() for note in notes), "its programs run")
        pids = [int(note.read_text()) for note in notes]
        session.send_signal(number)
        assert session.wait(PATIENCE_SECONDS) == (pytest.ExitCode.INTERRUPTED if number is not signal.SIGKILL else -number)
        wait_until(lambda: not any(map(is_running, pids)), "its programs have ended")
    finally:
        session.kill()
        session.wait()
