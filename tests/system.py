"""The programs of the system as processes of their own, for tests that run them for real."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import requests

from lab.child import Child
from lab.waiting import wait_until

PROJECT = Path(__file__).resolve().parent.parent
ARTIFACTS = PROJECT / "artifacts"
#: How long a program may take that ends by itself: it makes reports beside whatever else the machine has to do.
RUN_SECONDS = 900


@dataclass
class System:
    """One installation: its environment, its folder, and the processes running in it."""

    directory: Path
    environment: dict[str, str]
    processes: list[Child] = field(default_factory=list)

    def run(self, *program: str, **overrides: str) -> str:
        """Run a program to its end and return what it printed; fail with its output if it does not exit 0."""
        done = subprocess.run(
            [sys.executable, *program],
            cwd=PROJECT,
            env={**self.environment, **overrides},
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{program} exited {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def start(self, name: str, *program: str, **overrides: str) -> Child:
        """Start a program, which ends with this process; its output goes to ``<name>.log``, appended."""
        with (self.directory / f"{name}.log").open("ab") as log:
            process = Child([sys.executable, *program], PROJECT, {**self.environment, **overrides}, log)
        self.processes.append(process)
        return process

    def log(self, name: str) -> str:
        """Return what a started program has printed so far."""
        return (self.directory / f"{name}.log").read_text()

    def start_api(self) -> Child:
        """Serve the model at ``API_URL`` and return once it is ready."""
        url = self.environment["API_URL"]
        port = url.rpartition(":")[2]
        process = self.start("api", "-m", "uvicorn", "api_service:app", "--host", "127.0.0.1", "--port", port)
        wait_until(lambda: process.poll() is not None or is_ready(url), "the prediction service is ready")
        assert process.poll() is None, self.log("api")
        return process

    def judge(self, *roles: str) -> dict[str, list[dict[str, Any]]]:
        """Return the committed records of the topics, read by a program that shares no code with this project."""
        topics = {role: self.environment[f"{role.upper()}_TOPIC"] for role in roles}
        output = self.run(str(PROJECT / "tests/judge.py"), self.environment["KAFKA_BOOTSTRAP_SERVERS"], *topics.values())
        found = json.loads(output)
        return {role: found[topic] for role, topic in topics.items()}

    def summary(self) -> dict[str, Any]:
        """Return ``monitoring_summary.json``."""
        content: dict[str, Any] = json.loads((self.directory / "reports" / "monitoring_summary.json").read_text())
        return content

    def stop(self) -> None:
        """Kill whatever still runs."""
        for process in self.processes:
            process.kill()


def is_ready(url: str) -> bool:
    """Return whether the prediction service has a model."""
    try:
        return requests.get(f"{url}/ready", timeout=2).ok
    except requests.RequestException:
        return False


def is_running(pid: int) -> bool:
    """Whether a process has not ended yet; one that has, and that init has not collected, does not count."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def kill(process: Child) -> None:
    """End a process as a crash would: no handler runs."""
    process.send_signal(signal.SIGKILL)
    process.wait()


@contextmanager
def system(directory: Path, base: Mapping[str, str], bootstrap_servers: str, name: str) -> Iterator[System]:
    """Yield a system with topics, group and reports of its own on a broker; everything it started ends with it."""
    environment = {
        **os.environ,
        **base,
        "KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
        "CONSUMER_GROUP": name,
        "CONSUMER_METRICS_PORT": "0",
        "REPORTS_DIR": str(directory / "reports"),
        "LOG_FORMAT": "text",
        "PYTHONUNBUFFERED": "1",
        **{f"{role.upper()}_TOPIC": f"{name}.{role}" for role in ("raw", "pred", "state", "dlq", "events")},
    }
    made = System(directory, environment)
    try:
        yield made
    finally:
        made.stop()


def lines(log: str, beginnings: Sequence[str]) -> list[str]:
    """Return the lines of a log that begin in one of these ways."""
    return [line for line in log.splitlines() if line.startswith(tuple(beginnings))]
