"""What the sections stand on: a real Kafka, the prediction service, the data set; opened when they are first needed."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import psutil
import requests

from airquality.data import dataset
from airquality.data.dataset import Frame
from airquality.ground.errors import ContractError, Unavailable, UsageError
from airquality.ground.settings import Settings, read_settings
from airquality.model.model import Model
from airquality.monitoring import calibration
from airquality.monitoring.drift import load_judge
from lab import embedded_kafka
from lab.broker import Broker
from lab.child import Child
from lab.ports import free_port
from lab.prepare import SIMULATED_ARTIFACTS
from lab.waiting import Failed, wait_until

PROJECT = Path(__file__).resolve().parent.parent
_CHILD_SECONDS = 600.0


class Ground:
    """A real Kafka, a registry with the champion, its service, and the data; each is made when it is first asked for."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.numbers = itertools.count()  # of topics
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    @cached_property
    def broker(self) -> Broker:
        """A real Apache Kafka; raises ``Unavailable`` where none can be had."""
        broker = self._opened.enter_context(embedded_kafka.start(None, self.directory / "kafka"))
        if broker.kind == "mock":
            raise Unavailable(f"the benchmarks need a real Apache Kafka. {broker.description}")
        print(broker.description, flush=True)
        return broker

    @cached_property
    def frame(self) -> Frame:
        """The hours of the data set."""
        return dataset.current(self.settings.dataset_dir)

    @cached_property
    def model(self) -> Model:
        """The champion, as it is seeded into the registry."""
        return Model.load(self.settings.artifacts_dir)

    @cached_property
    def settings(self) -> Settings:
        """Settings without a broker: data (prepared where they are not yet), model, registry, a folder for reports."""
        given = read_settings()
        folder = PROJECT / given.dataset_dir
        if not _is_prepared(folder):
            self.run_program([sys.executable, "-m", "lab.prepare"])
        simulated = dataset.current_source(folder) == "simulated" and "artifacts_dir" not in given.model_fields_set
        return read_settings(
            mlflow_tracking_uri=f"sqlite:///{self.directory}/mlflow.db",
            artifacts_dir=PROJECT / (SIMULATED_ARTIFACTS if simulated else given.artifacts_dir),
            dataset_dir=folder,
            reports_dir=self.directory / "reports",
        )

    @cached_property
    def registry(self) -> str:
        """The address of a registry whose champion is the model in ``artifacts/``."""
        self.run_program(
            [sys.executable, "-m", "airquality", "registry", "seed"],
            MLFLOW_TRACKING_URI=self.settings.mlflow_tracking_uri,
            ARTIFACTS_DIR=str(self.settings.artifacts_dir),
        )
        return self.settings.mlflow_tracking_uri

    @cached_property
    def api(self) -> Server:
        """The prediction service, one worker, as a user starts it."""
        return self.serve(
            [sys.executable, "api_service.py", "--port", "{port}"], "/ready", MLFLOW_TRACKING_URI=self.registry
        )

    def serve(self, command: list[str], path: str, seconds: float = 120.0, **environment: str) -> Server:
        """Start a server until the end of the ground, on a port of its own, and return once ``path`` answers 200."""
        server = Server(command, path, self.directory, {**_environment(), **environment})
        self._opened.enter_context(server.child)
        server.wait(seconds)
        return server

    def run_program(self, command: list[str], **environment: str) -> None:
        """Run a program to its end; raises :class:`Failed` if it fails."""
        done = subprocess.run(
            command,
            cwd=PROJECT,
            env={**_environment(), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise Failed(f"{' '.join(command)} ended with {done.returncode}: {done.stdout[-2000:]}")

    def start(self, python: str, module: list[str], task: Mapping[str, Any], **environment: str) -> Task:
        """Start a contender as a process of its own; it reads its task as JSON from its last argument."""
        command = [python, *module, json.dumps(task)]
        return Task(command, self.directory, {**_environment(), **environment})

    def measure(self, module: str, task: Mapping[str, Any], **environment: str) -> dict[str, Any]:
        """Run a module of this project as a contender and return what it says."""
        return self.start(sys.executable, ["-m", module], task, **environment).result()


class Server:
    """A server in a process of its own."""

    def __init__(self, command: list[str], path: str, directory: Path, environment: Mapping[str, str]) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._path = path
        self._name = " ".join(command)
        self._log = directory / f"server-{self.port}.log"
        words = [word.format(port=self.port) for word in command]
        with self._log.open("wb") as log:
            self.child = Child(words, PROJECT, environment, log)

    def wait(self, seconds: float) -> None:
        """Return once it answers."""
        wait_until(lambda: self.child.poll() is not None or self._answers(), f"{self._name} answers", seconds)
        if self.child.poll() is not None:
            raise Failed(f"{self._name} ended: {self._log.read_text()[-2000:]}")

    def _answers(self) -> bool:
        with requests.Session() as session:
            session.trust_env = False  # a proxy in the environment cannot reach this machine's loopback
            try:
                return session.get(self.url + self._path, timeout=2).status_code == 200
            except requests.RequestException:
                return False

    def cpu_seconds(self) -> float:
        """Return the CPU time of the server and what it started."""
        leader = psutil.Process(self.child.pid)
        times = [process.cpu_times() for process in (leader, *leader.children(recursive=True))]
        return float(sum(t.user + t.system for t in times))


class Task:
    """A contender that runs, and says one line of JSON at its end."""

    def __init__(self, command: list[str], directory: Path, environment: Mapping[str, str]) -> None:
        self._name = " ".join(command[1:-1])
        self._log = directory / f"task-{free_port()}-{len(list(directory.iterdir()))}.log"
        with self._log.open("wb") as log:
            self.child = Child(command, PROJECT, environment, log)

    def result(self, seconds: float = _CHILD_SECONDS) -> dict[str, Any]:
        """Return what it said at its end; raises :class:`Failed` with its output if it failed, or took too long."""
        try:
            wait_until(lambda: self.child.poll() is not None, f"{self._name} ends", seconds)
        finally:
            self.child.kill()
        said = self._log.read_text(errors="replace")
        lines = [line for line in said.splitlines() if line.startswith("{")]
        if self.child.poll() or not lines:
            raise Failed(f"{self._name} ended with {self.child.poll()}: {said[-3000:]}")
        answer: dict[str, Any] = json.loads(lines[-1])
        return answer

    def stop(self) -> None:
        """Ask it to end by itself."""
        psutil.Process(self.child.pid).terminate()

    def said(self) -> str:
        """Return what it has said so far."""
        return self._log.read_text(errors="replace")


def _environment() -> dict[str, str]:
    own = {
        "LOG_LEVEL": "WARNING",
        "LOG_FORMAT": "text",
        "PYTHONUNBUFFERED": "1",
        "NO_PROXY": "127.0.0.1,localhost",
        "DO_NOT_TRACK": "1",
    }
    return {**os.environ, **own}


def _is_prepared(folder: Path) -> bool:
    """Whether the files are there that the consumer reads, and of this release."""
    try:
        load_judge(folder)
        calibration.load(folder)
    except (UsageError, ContractError):
        return False
    return True
