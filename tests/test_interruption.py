"""When a run ends early though no signal came."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lab import interruption
from tests.system import PROJECT


def test_output_poll_reader_gone_is_noticed_though_nothing_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        closed = interruption._output_poll()
        assert not closed()
        os.close(reader)
        assert closed()


def test_output_poll_file_is_never_closed_by_a_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "output").open("w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        assert not interruption._output_poll()()


WAITING = """
import time
from lab.interruption import Interruption
Interruption()
try:
    print("ready", flush=True)
    time.sleep(60)
except KeyboardInterrupt as interrupt:
    print(interrupt)
"""


@pytest.mark.parametrize("ignored", [False, True], ids=["on a terminal", "under nohup"])
def test_interruption_hang_up_ends_the_run_unless_it_is_ignored(ignored: bool) -> None:
    program = f"import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n{WAITING}" if ignored else WAITING
    with subprocess.Popen([sys.executable, "-c", program], cwd=PROJECT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(1)
        if ignored:
            process.send_signal(15)
        said = process.stdout.read()
    assert ("SIGTERM" if ignored else "SIGHUP") in said
