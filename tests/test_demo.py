"""`make run` without its broker choice, which has tests of its own: what it leaves behind when it is interrupted."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system import PROJECT, wait_until


@pytest.fixture
def started(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    environment = {
        **os.environ,
        "AIR_QUALITY_BROKER": "mock",
        "RUN_DIR": str(tmp_path / "run"),
        "REPORTS_DIR": str(tmp_path / "reports"),
    }
    output = tmp_path / "output.txt"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "lab.demo"], cwd=PROJECT, env=environment, stdout=file, stderr=subprocess.STDOUT
        )
    yield process, output
    process.kill()
    process.wait()


def descendants(pid: int) -> set[int]:
    """Return the process and everything below it, from /proc."""
    children = {int(child) for task in Path(f"/proc/{pid}/task").glob("*/children") for child in task.read_text().split()}
    return {pid}.union(*(descendants(child) for child in children))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads the process tree from /proc")
def test_ctrl_c_stops_everything_it_started(started: tuple[subprocess.Popen[bytes], Path]) -> None:
    process, output = started
    wait_until(lambda: "Sent row" in output.read_text() or process.poll() is not None, "the replay has begun", 240)
    assert process.poll() is None, output.read_text()
    family = descendants(process.pid)
    assert len(family) >= 3, "the demo, the prediction service, a program"
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in family), "every process has ended", 20)
    assert output.read_text().splitlines()[0].startswith("Broker: librdkafka mock cluster")
    assert "everything this run started has been stopped" in output.read_text()
    assert not re.search("Traceback", output.read_text())
