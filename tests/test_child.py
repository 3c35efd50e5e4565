"""A child ends with its parent, however that ends, and takes its own children along."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.child import Child
from lab.waiting import PATIENCE_SECONDS, wait_until
from tests.system import is_running

pytestmark = pytest.mark.slow

#: Starts a process of its own, ignores SIGTERM if asked to, says both process ids, and never ends.
STUBBORN = """
import os, signal, subprocess, sys, time
if "stubborn" in sys.argv: signal.signal(signal.SIGTERM, signal.SIG_IGN)
grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(os.getpid(), grandchild.pid, flush=True)
time.sleep(600)
"""
PARENT = f"""
import sys, time
from pathlib import Path
from lab.child import Child
child = Child([sys.executable, "-c", {STUBBORN!r}], Path("."), temporary=Path(sys.argv[1]))
time.sleep(600)
"""


def pids_in(path: Path) -> list[int]:
    wait_until(lambda: path.exists() and path.read_text().endswith("\n"), "the program has said its process ids")
    return [int(pid) for pid in path.read_text().split()]


@pytest.fixture
def output(tmp_path: Path) -> Iterator[Path]:
    """Where a program says its process ids; whatever a failed test leaves running is killed."""
    path = tmp_path / "pids"
    yield path
    for pid in path.read_text().split() if path.exists() else []:
        if is_running(int(pid)):
            os.kill(int(pid), signal.SIGKILL)


@pytest.mark.parametrize("arguments", [[], ["stubborn"]], ids=["ends on SIGTERM", "ignores SIGTERM"])
def test_child_end_takes_the_whole_group(output: Path, arguments: list[str]) -> None:
    with output.open("wb") as file:
        child = Child([sys.executable, "-c", STUBBORN, *arguments], output.parent, output=file)
    family = pids_in(output)
    child.end(timeout_seconds=0.5)
    wait_until(lambda: not any(is_running(pid) for pid in family), "program and grandchild have ended")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP, signal.SIGTERM])
def test_child_parent_dies_ends_the_whole_group(output: Path, tmp_path: Path, number: signal.Signals) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with output.open("wb") as file:
        parent = subprocess.Popen([sys.executable, "-c", PARENT, str(temporary)], stdout=file)
    family = pids_in(output)
    parent.send_signal(number)
    assert parent.wait(PATIENCE_SECONDS) == -number
    wait_until(lambda: not any(is_running(pid) for pid in family), "program and grandchild have ended")
    wait_until(lambda: not temporary.exists(), "the temporary folder is gone")


def test_child_signal_while_it_starts_is_delivered_once_it_is_watched(tmp_path: Path) -> None:
    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    def popen(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(real(*arguments, **options))
        os.kill(os.getpid(), signal.SIGTERM)
        return started[-1]

    started: list[subprocess.Popen[bytes]] = []
    real = subprocess.Popen
    before = signal.signal(signal.SIGTERM, interrupt)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "Popen", popen)
        try:
            with pytest.raises(KeyboardInterrupt):
                Child([sys.executable, "-c", "import time; time.sleep(600)"], tmp_path)
        finally:
            signal.signal(signal.SIGTERM, before)
    program, watchdog = started
    assert program.poll() is None
    assert watchdog.stdin is not None
    watchdog.stdin.close()  # what the death of this process would do
    assert program.wait(PATIENCE_SECONDS) == -signal.SIGTERM
    watchdog.wait(PATIENCE_SECONDS)
