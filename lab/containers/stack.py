"""One running copy of the stack: a tree of its own, a compose project of its own, the unmodified files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar

from lab.waiting import Failed

ROLES = ("api", "producer", "consumer", "data", "mlflow")
SOURCE = Path(__file__).resolve().parent.parent.parent
PROJECT = "air-quality-e2e"
ONE_SHOT = {"kafka-init", "model-init", "data-init", "producer"}

T = TypeVar("T")


def check(kept: object, promise: str) -> None:
    """Say that a promise was kept, or raise :class:`Failed`."""
    if not kept:
        raise Failed(promise)
    print(f"  ok  {promise}", flush=True)


def wait_for(what: str, look: Callable[[], T | None], seconds: float) -> T:
    """Return the first true answer of ``look``; raise :class:`Failed` with its last answer after ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        answer = look()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not within {seconds:.0f} s")
        time.sleep(1)


def fetch(url: str) -> str | None:
    """Return the body behind ``url``, None while nobody answers with success."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return str(answer.read().decode())
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None


def in_image(role: str, script: str) -> str:
    """Return what a shell script prints in a fresh container of one of the project's images."""
    command = ["docker", "run", "--rm", "--entrypoint", "sh", f"air-quality-{role}", "-c", script]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def copy_tree(target: Path) -> None:
    """Copy what a fresh clone with the data set would hold, so that nobody's reports and volumes are touched."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=SOURCE, check=True, capture_output=True, text=True).stdout.split("\0")
    data = ["dataset/AirQualityUCI.csv", "dataset/source.json"]
    for name in [*filter(None, names), *data]:
        if (SOURCE / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(SOURCE / name, target / name)


class Stack:
    """Compose commands on the copy in ``tree``, with the files named instead of docker-compose.yml alone."""

    def __init__(self, tree: Path, files: Sequence[str] = ("docker-compose.yml",)) -> None:
        self.tree = tree
        self._files = ":".join(files)
        self._command = os.environ.get(
            "COMPOSE", "docker-compose" if shutil.which("docker-compose") else "docker compose"
        ).split()

    def compose(self, *arguments: str, **environment: str) -> str:
        """Run one compose command and return its output; raises :class:`Failed` with that output if it fails."""
        done = self._run(arguments, environment)
        if done.returncode:
            raise Failed(f"{' '.join(arguments)} exited with {done.returncode}: {done.stdout[-2000:]}")
        return done.stdout

    def refused(self, *arguments: str, **environment: str) -> str:
        """Run one compose command that must fail, and return its output."""
        done = self._run(arguments, environment)
        if not done.returncode:
            raise Failed(f"{' '.join(arguments)} did not fail: {done.stdout[-2000:]}")
        return done.stdout

    def _run(self, arguments: tuple[str, ...], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self._command, *arguments],
            cwd=self.tree,
            env={**os.environ, "COMPOSE_PROJECT_NAME": PROJECT, "COMPOSE_FILE": self._files, **environment},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def up(
        self, *profiles: str, scale: Mapping[str, int] | None = None, within_seconds: float = 180, **environment: str
    ) -> float:
        """Start the stack, so many containers of a service, and return the seconds until all that runs on is healthy."""
        started = time.monotonic()
        scaled = [f"--scale={service}={number}" for service, number in (scale or {}).items()]
        self.compose(*(f"--profile={name}" for name in profiles), "up", "-d", *scaled, **environment)
        wait_for("all services healthy", self.all_healthy, within_seconds)
        return time.monotonic() - started

    def summary(self) -> dict[str, Any]:
        """Return the monitoring summary on the host, empty while there is none."""
        path = self.tree / "reports" / "monitoring_summary.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def down(self, *options: str) -> None:
        """Stop and remove the containers of every profile."""
        self.compose("--profile=stream", "--profile=alerting", "down", *options)

    def all_healthy(self) -> bool:
        """Return whether every long-running container is healthy and every one-shot job has not failed."""
        states = self.states()
        fine = ("running", "exited 0")
        return bool(states) and all(
            state in fine if name in ONE_SHOT else state == "healthy" for name, state in states.items()
        )

    def states(self) -> dict[str, str]:
        """Return each service's health, or what its container is doing (``exited 0``) where it has no health check.

        Of a service with several containers it is the one that is not yet healthy, if there is one.
        """
        found: dict[str, str] = {}
        for container in self._containers():
            state = container["State"]
            health = state.get("Health", {}).get("Status")
            name = container["Config"]["Labels"]["com.docker.compose.service"]
            now = health or (f"exited {state['ExitCode']}" if state["Status"] == "exited" else state["Status"])
            found[name] = now if found.get(name, "healthy") == "healthy" else found[name]
        return found

    def follow_log(self, service: str, log: IO[str]) -> subprocess.Popen[str] | None:
        """Write what a service's container says from now on to ``log`` until it ends; None where it has no container."""
        running = self._identities(service, "status=running")
        command = ["docker", "logs", "--follow", "--tail=0"]
        return subprocess.Popen([*command, running[0]], stdout=log, stderr=log, text=True) if running else None

    def health_of(self, service: str) -> str:
        """Return what the last health check of a service's container printed."""
        identity = self._identities(service)[0]
        out = subprocess.run(["docker", "inspect", identity], check=True, capture_output=True, text=True).stdout
        checks = json.loads(out)[0]["State"]["Health"]["Log"] or [{"Output": ""}]
        return str(checks[-1]["Output"])

    def containers(self, service: str) -> list[str]:
        """Return the identities of a service's containers that run."""
        return self._identities(service, "status=running")

    def restarts(self, service: str) -> int:
        """Return how often the engine has restarted a service's container."""
        identity = self._identities(service)[0]
        out = subprocess.run(["docker", "inspect", identity], check=True, capture_output=True, text=True).stdout
        return int(json.loads(out)[0]["RestartCount"])

    def image_sizes(self) -> dict[str, int]:
        """Return the uncompressed megabytes of each image this project builds."""
        out = subprocess.run(
            ["docker", "image", "inspect", *(f"air-quality-{role}" for role in ROLES)],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        return {image["RepoTags"][0].split(":")[0]: round(image["Size"] / 1e6) for image in json.loads(out)}

    def host_user_of(self, service: str, program: str) -> str:
        """Return the user that runs ``program`` in a service, as the host sees it."""
        identity = self._identities(service)[0]
        listed = subprocess.run(
            ["docker", "top", identity, "-eo", "pid,uid,args"], check=True, capture_output=True, text=True
        ).stdout
        columns = (line.split(None, 2) for line in listed.splitlines())
        return next((uid for _, uid, started in columns if started.startswith(program)), "nobody")

    def _containers(self) -> list[dict[str, Any]]:
        identities = self._identities()
        if not identities:
            return []
        out = subprocess.run(["docker", "inspect", *identities], check=True, capture_output=True, text=True).stdout
        return list(json.loads(out))

    def _identities(self, service: str | None = None, *more: str) -> list[str]:
        labels = [f"label=com.docker.compose.project={PROJECT}"]
        labels += [f"label=com.docker.compose.service={service}"] if service else []
        filters = [part for label in (*labels, *more) for part in ("--filter", label)]
        return subprocess.run(["docker", "ps", "-aq", *filters], check=True, capture_output=True, text=True).stdout.split()
