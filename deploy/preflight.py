"""Say, all at once, what this machine misses to run the stack: engine, ports, memory, files. Needs only Python itself."""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PORTS = {5000: "MLflow", 8000: "API", 8080: "Kafka UI", 9090: "Prometheus", 3000: "Grafana", 9092: "Kafka"}
STREAM_PORTS = {8001: "consumer metrics"}
#: Of the second and the third of three brokers.
BROKER_PORTS = {9094: "Kafka, broker 2", 9095: "Kafka, broker 3"}
#: Limits add up to 6.5 GB; what the services really take together is under 3.
NEEDED_GB = 3.0
#: What two more brokers really take.
MORE_BROKERS_GB = 1.0
#: What a container mounts, and the command that makes it. Data and reference are made by the stack where they are missing.
MODEL = {"artifacts/model.ubj": "python training/train.py --quick"}


def main(argv: list[str] | None = None) -> int:
    """Print what is missing; 0 if nothing is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stream", action="store_true", help="consumer and producer are to run in containers, too")
    parser.add_argument("--bare", action="store_true", help="nothing may run yet, and the files are made later")
    parser.add_argument("--brokers", type=int, choices=(1, 3), default=1, help="how many brokers are to run (%(default)s)")
    args = parser.parse_args(argv)
    missing = list(engine())
    if not missing:
        missing += memory(docker_info(), NEEDED_GB + (MORE_BROKERS_GB if args.brokers == 3 else 0))
        wanted = PORTS | (STREAM_PORTS if args.stream or args.bare else {}) | (BROKER_PORTS if args.brokers == 3 else {})
        missing += ports(wanted, set() if args.bare else own_ports())
    if not args.bare:
        missing += files(MODEL, ROOT)
    for line in missing:
        print(f"missing: {line}", file=sys.stderr)
    if not missing:
        print("preflight: engine, ports, memory and files are all there")
    return 1 if missing else 0


def engine() -> Iterator[str]:
    """Yield what keeps a container engine from being used."""
    if not shutil.which("docker"):
        yield "docker: install Docker Engine or Docker Desktop (or run without containers: make run)"
    elif not docker_info():
        yield "the docker engine does not answer: start it, or join the group docker (or run without containers: make run)"
    elif not shutil.which("docker-compose") and not succeeds("docker", "compose", "version"):
        yield "compose: install docker-compose 1.29.2 or later, or the compose plugin of docker"


def memory(info: dict[str, Any], needed_gb: float = NEEDED_GB) -> Iterator[str]:
    """Yield a complaint if the engine has too little memory for the services."""
    available = info.get("MemTotal", 0) / 1e9
    if available < needed_gb:
        yield f"memory: the engine has {available:.1f} GB, the stack needs {needed_gb:.0f} (Docker Desktop: Resources)"


def ports(wanted: dict[int, str], ours: set[int]) -> Iterator[str]:
    """Yield each wanted port that somebody else listens on; ``ours`` are taken by this stack itself."""
    for port, name in sorted(wanted.items()):
        if port not in ours and is_taken(port):
            yield f"port {port} for {name}: another program listens on it (ss -ltnp 'sport = :{port}' says which)"


def files(wanted: dict[str, str], root: Path) -> Iterator[str]:
    """Yield each file that is not there, and the command that makes it."""
    for name, command in wanted.items():
        if not (root / name).exists():
            yield f"{name}: {command}"


def is_taken(port: int) -> bool:
    """Return whether something listens on the port on this machine."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def own_ports() -> set[int]:
    """Return the host ports of containers that were started from this directory."""
    label = f"label=com.docker.compose.project.working_dir={ROOT}"
    listed = output("docker", "ps", "--filter", label, "--format", "{{.Ports}}")
    return {int(part.split("->")[0].rsplit(":", 1)[1]) for part in listed.replace("\n", ", ").split(", ") if "->" in part}


def docker_info() -> dict[str, Any]:
    """Return what the engine says of itself, empty if it does not answer."""
    text = output("docker", "info", "--format", "{{json .}}")
    found = json.loads(text) if text else {}
    return found if found.get("ServerVersion") else {}


def succeeds(*command: str) -> bool:
    """Return whether the command ends with status 0."""
    return subprocess.run(command, capture_output=True).returncode == 0


def output(*command: str) -> str:
    """Return what the command prints, empty if it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""


if __name__ == "__main__":
    sys.exit(main())
