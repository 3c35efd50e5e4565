"""A proof that is interrupted takes its broker, its service and its consumers along, and keeps no result."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from airquality.ground import command
from lab.proof.site import PROJECT
from lab.waiting import PATIENCE_SECONDS, wait_until
from tests.system import is_running

pytestmark = [pytest.mark.broker, pytest.mark.slow]


def descendants(pid: int) -> dict[int, str]:
    """Return the command lines of what a process started, by process id, and of what those started in turn."""
    listed = subprocess.run(["ps", "-ww", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(maxsplit=2) for line in listed.splitlines()]
    found: dict[int, str] = {}
    family = {pid}
    while new := {int(row[0]): row[2] for row in rows if int(row[1]) in family and int(row[0]) not in found}:
        found |= new
        family |= set(new)
    return found


def test_proof_ended_by_sigterm_leaves_nothing_behind(broker: object, tmp_path: Path) -> None:
    arguments = ["--quick", "--row", "kills"]
    with (tmp_path / "log.txt").open("wb") as log:
        proof = subprocess.Popen(
            [sys.executable, "-m", "lab.proof", *arguments],
            cwd=PROJECT,
            env={**os.environ, "TMPDIR": str(tmp_path)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    family: dict[int, str] = {}

    def whole() -> bool:
        assert proof.poll() is None, (tmp_path / "log.txt").read_text()
        family.update(descendants(proof.pid))
        return all(any(words in line for line in family.values()) for words in ("kafka.Kafka", "uvicorn", "consumer.py"))

    try:
        wait_until(whole, "broker, service and consumer run")
        proof.send_signal(signal.SIGTERM)
        assert proof.wait(PATIENCE_SECONDS) == command.INTERRUPTED
        wait_until(lambda: not any(is_running(pid) for pid in family), f"{family} have ended")
        assert "proven in" not in (tmp_path / "log.txt").read_text().lower()
        wait_until(lambda: not list(tmp_path.glob("air-quality-proof-*")), "its temporary folder is gone")
    finally:
        for pid in family:
            if is_running(pid):
                os.kill(pid, signal.SIGKILL)
