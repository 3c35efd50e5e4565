"""One installation under proof: a broker, a prediction service, consumers as processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airquality.data import uci_file
from lab.child import Child
from lab.ports import free_port
from lab.proof.topics import Cluster
from lab.waiting import PATIENCE_SECONDS, Failed, wait_until

PROJECT = Path(__file__).resolve().parent.parent.parent
INJECT = Path(__file__).resolve().parent / "inject"
ROLES = ("raw", "pred", "state", "dlq", "events")
PARTITIONS = 3
RUN_SECONDS = 900.0  # reports are drawn before a consumer ends


class Broker:
    """A real Apache Kafka behind ``python -m airquality broker``, which the proof may kill, freeze and bring back."""

    def __init__(self, directory: Path, temporary: Path | None = None) -> None:
        """Prepare a broker; ``temporary`` is a folder to remove if this process dies before it."""
        self._directory, self._temporary = directory, temporary
        self._port = free_port()
        self._process: Child | None = None
        self.servers = f"127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it on the same port with the same data, and return once it answers."""
        command = ["-m", "airquality", "broker", "--broker", "real"]
        command += ["--port", str(self._port), "--data-dir", str(self._directory / "kafka")]
        environment = {name: value for name, value in os.environ.items() if name != "KAFKA_BOOTSTRAP_SERVERS"}
        path = self._directory / "broker.log"
        with path.open("ab") as log:
            before = log.tell()
            process = self._process = Child([sys.executable, *command], PROJECT, environment, log, self._temporary)
        wait_until(
            lambda: process.poll() is not None or b"Ctrl-C ends it" in path.read_bytes()[before:], "the broker answers", 180
        )
        if process.poll() is not None:
            raise Failed(f"the broker ended: see {path}")

    def jvm(self) -> int:
        """Return the process id of the JVM."""
        assert self._process is not None
        listed = subprocess.run(
            ["ps", "-o", "pid=,comm=", "--ppid", str(self._process.pid)], capture_output=True, text=True, check=True
        )
        return next(int(line.split()[0]) for line in listed.stdout.splitlines() if line.split()[1] == "java")

    def kill(self) -> None:
        """End the JVM as a crash would."""
        os.kill(self.jvm(), signal.SIGKILL)
        self._ended()

    def stop(self) -> None:
        """End it as an operator would."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)  # not SIGINT, which a job in the background ignores
        self._ended()

    def _ended(self) -> None:
        assert self._process is not None
        try:
            self._process.wait(PATIENCE_SECONDS)  # as long as it takes with clients on a busy machine
        finally:
            self._process.kill()


@dataclass
class Site:
    """Topics, a group and a reports folder of their own on a broker that others share."""

    name: str
    directory: Path
    environment: dict[str, str]
    cluster: Cluster
    processes: list[Child] = field(default_factory=list)
    project: Path = PROJECT  # whose programs it runs

    def topic(self, role: str) -> str:
        """Return the name of one of this site's topics."""
        return self.environment[f"{role.upper()}_TOPIC"]

    @property
    def group(self) -> str:
        """The consumer group."""
        return self.environment["CONSUMER_GROUP"]

    def run(self, *program: str, code: int | None = 0, environment: Mapping[str, str] | None = None) -> str:
        """Run a program to its end; return all it printed. Raise :class:`Failed` on another exit status (None: any)."""
        return self.execute(self.python, *program, code=code, environment=environment)

    @property
    def python(self) -> str:
        """The interpreter that runs the product's programs."""
        return sys.executable

    def execute(self, *command: str, code: int | None = 0, environment: Mapping[str, str] | None = None) -> str:
        """Run any command as :meth:`run` does."""
        with tempfile.TemporaryFile() as output:
            with Child(command, self.project, {**self.environment, **(environment or {})}, output) as program:
                status = program.wait(RUN_SECONDS)
            output.seek(0)
            said = output.read().decode(errors="replace")
        if code is not None and status != code:
            raise Failed(f"{' '.join(command)} ended with {status}, not {code}: {said[-1500:]}")
        return said

    def start(self, *program: str, **overrides: str) -> Child:
        """Start a program; its output goes to this site's log."""
        with (self.directory / "log.txt").open("ab") as log:
            process = Child([self.python, *program], self.project, {**self.environment, **overrides}, log)
        self.processes.append(process)
        return process

    def consumer(self, *arguments: str, **overrides: str) -> Child:
        """Start a consumer."""
        return self.start("consumer.py", *arguments, **overrides)

    def finish(self, idle_seconds: float = 6.0, **overrides: str) -> str:
        """Run one consumer until nothing is left to do; return what it printed."""
        return self.run("consumer.py", "--idle-exit-seconds", str(idle_seconds), environment=overrides)

    def grown(self, role: str, offsets: int) -> None:
        """Wait until a topic has grown past so many offsets."""
        wait_until(lambda: self.cluster.ends(self.topic(role)) > offsets, f"{self.name}: {role} past {offsets}")

    def caught_up(self, seconds: float = 120.0) -> None:
        """Wait until the group has committed all there is in the raw topic."""
        ends = self.cluster.end_offsets(self.topic("raw"))
        wait_until(
            lambda: self.cluster.committed_offsets(self.group, self.topic("raw")) == ends, f"{self.name}: caught up", seconds
        )

    def summary(self) -> dict[str, Any]:
        """Return ``monitoring_summary.json``."""
        content: dict[str, Any] = json.loads((self.directory / "reports" / "monitoring_summary.json").read_text())
        return content

    def said(self) -> str:
        """Return what the started programs have printed so far."""
        path = self.directory / "log.txt"
        return path.read_text(errors="replace") if path.exists() else ""

    def end(self) -> None:
        """Kill whatever still runs."""
        for process in self.processes:
            process.kill()


@dataclass
class Ground:
    """What all rows of the proof share: broker, data, model, registry, a served model."""

    directory: Path
    broker: Broker
    environment: dict[str, str]
    sites: list[Site] = field(default_factory=list)
    #: Set once nothing more may be started, and nothing be judged: rows that run beside each other cannot be interrupted.
    over: threading.Event = field(default_factory=threading.Event)

    def end(self) -> None:
        """Kill whatever the rows have started and still runs."""
        self.over.set()
        for site in self.sites:
            site.end()

    @property
    def artifacts(self) -> Path:
        """The folder of the model that is served."""
        return Path(self.environment["ARTIFACTS_DIR"])

    @contextmanager
    def own_broker(self, name: str) -> Iterator[Broker]:
        """Yield a broker that a row may kill without reaching the others."""
        directory = self.directory / f"broker-of-{name}"
        directory.mkdir()
        broker = Broker(directory)
        broker.start()
        try:
            yield broker
        finally:
            broker.stop()

    @contextmanager
    def site(self, name: str, **overrides: str) -> Iterator[Site]:
        """Yield a site with its topics made; everything it started ends with it. A name's second site is called so."""
        again = len(list(self.directory.glob(f"{name}.[0-9]*"))) + 1
        name = f"{name}.{again}"
        directory = self.directory / name
        directory.mkdir(parents=True)
        environment = {
            **self.environment,
            "KAFKA_BOOTSTRAP_SERVERS": self.broker.servers,
            "CONSUMER_GROUP": name,
            "TOPIC_PARTITIONS": str(PARTITIONS),
            "REPORTS_DIR": str(directory / "reports"),
            **{f"{role.upper()}_TOPIC": f"{name}.{role}" for role in ROLES},
            **overrides,
        }
        site = Site(name, directory, environment, Cluster(environment["KAFKA_BOOTSTRAP_SERVERS"]))
        self.sites.append(site)
        try:
            site.run("-m", "airquality", "topics")
            yield site
        finally:
            site.end()


@contextmanager
def prepared(directory: Path) -> Iterator[Ground]:
    """Yield a broker, the data, a seeded registry and a served model, made by the programs that users type."""
    from airquality.data import dataset

    found = dataset.find(PROJECT / "dataset", "auto")
    simulated = found.source == "simulated"
    api_port = free_port()
    environment = {
        **os.environ,
        "DATASET_DIR": str(directory / "dataset"),
        "ARTIFACTS_DIR": str(directory / "artifacts" if simulated else PROJECT / "artifacts"),
        "AIR_QUALITY_DATA_SOURCE": found.source,
        "MLFLOW_TRACKING_URI": f"sqlite:///{directory}/mlflow.db",
        "API_URL": f"http://127.0.0.1:{api_port}",
        "CONSUMER_METRICS_PORT": "0",
        "LOG_FORMAT": "text",
        "PYTHONUNBUFFERED": "1",
    }
    broker = Broker(directory, temporary=directory)
    base = Site("base", directory, environment, Cluster(broker.servers))
    ground = Ground(directory, broker, environment, [base])
    try:
        broker.start()
        (directory / "dataset").mkdir()
        if not simulated:
            (directory / "dataset" / uci_file.UCI_NAME).write_bytes((PROJECT / "dataset" / uci_file.UCI_NAME).read_bytes())
        base.run("dataset/create_dataset.py")
        if simulated:
            base.run("training/train.py", "--quick")
        base.run("generate_reference_dataset.py")
        base.run("-m", "airquality", "registry", "seed")
        base.start("-m", "uvicorn", "api_service:app", "--host", "127.0.0.1", "--port", str(api_port))
        wait_until(lambda: is_ready(environment["API_URL"]), "the prediction service is ready")
        yield ground
    finally:
        ground.end()
        broker.stop()


def is_ready(url: str) -> bool:
    """Return whether the service at an address has a model."""
    try:
        with urllib.request.urlopen(f"{url}/ready", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
