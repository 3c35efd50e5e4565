"""More of what shares the work: three consumers on three partitions behind two APIs that ask for a key."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import ExitStack
from typing import Any

from lab.containers import monitoring, reader
from lab.containers.reader import PREDICTIONS, RAW
from lab.containers.stack import Stack, check, wait_for

STATIONS = tuple(f"scaled-{letter}" for letter in "abcdef")
ROWS = 400
PREDICTED = (ROWS - reader.WARMUP_HOURS) * len(STATIONS)
KEY = "a-key-of-this-run"
API = "http://localhost:8000"


def drive_scaled(stack: Stack) -> None:
    """Let six stations stream through three consumers, kill one of them and an API on the way, and count."""
    stack.up(scale={"api": 2}, API_KEY=KEY, API_OPEN="0")
    key_is_asked_for()
    scaled = ["--scale=consumer=3", "--scale=api=2", "consumer", "consumer-port"]
    stack.compose("--profile=stream", "up", "-d", *scaled, API_KEY=KEY, API_OPEN="0")
    wait_for("three members", lambda: reader.members("air-quality-consumer") == 3, 120)
    check(True, "three consumers share three partitions")
    for service, number in (("api", 2), ("consumer", 3)):
        wait_for(f"{number} of {service}", lambda s=service, n=number: scraped(s) == n, 60)  # type: ignore[misc]
        check(True, f"Prometheus finds all {number} of {service}")
    with ExitStack() as producers:
        sending = [producers.enter_context(producer(stack, station)) for station in STATIONS]
        wait_for("the first predictions", lambda: reader.count(PREDICTIONS) > 200, 180)
        for service in ("consumer", "api"):
            subprocess.run(["docker", "kill", stack.containers(service)[0]], check=True, capture_output=True)
    check(all(each.returncode == 0 for each in sending), f"{len(sending)} producers sent their files")
    every_row_once(stack)
    quiet = monitoring.firing() & {"ConsumerGone", "ApiDown", "LagExporterDown"}
    check(not quiet, f"one of three consumers and one of two APIs killed: nothing says that all are gone {quiet or ''}")


def producer(
    stack: Stack, station: str, servers: str = reader.BOOTSTRAP, rows_a_second: int = 40
) -> subprocess.Popen[bytes]:
    """Start to send the beginning of the file under a station's name."""
    command = [sys.executable, "producer.py", "--csv", "dataset/test_data_raw.csv", "--station-id", station]
    return subprocess.Popen(
        [*command, "--rate", str(rows_a_second), "--max-records", str(ROWS)],
        cwd=stack.tree,
        env={**os.environ, "KAFKA_BOOTSTRAP_SERVERS": servers},
        stdout=subprocess.DEVNULL,
    )


def every_row_once(stack: Stack, servers: str = reader.BOOTSTRAP) -> None:
    """Check that every station's rows were predicted once, and that the parts of the summary add up."""
    wait_for("all predictions", lambda: reader.count(PREDICTIONS, servers) >= PREDICTED, 240)
    found = [(each["station_id"], each["DateTime"]) for each in reader.committed(PREDICTIONS, servers)]
    check(len(found) == len(set(found)) == PREDICTED, f"{PREDICTED} predictions of {len(STATIONS)} stations, each once")
    totals = wait_for("the summary", lambda: whole(stack.summary(), servers), 90)
    check(totals["rows_in"] == ROWS * len(STATIONS), f"the consumers' summaries add up to {totals['rows_in']} rows")


def whole(totals: dict[str, Any], servers: str) -> dict[str, Any] | None:
    """Return the summary once it covers every row in Kafka."""
    return totals if totals and totals["rows_in"] == reader.count(RAW, servers) else None


def key_is_asked_for() -> None:
    """Check that the API in its container answers 401 to who has no key, and what the stack itself asks all the same."""
    check(status("/version") == 401, "without the key the API answers 401")
    check(status("/version", KEY + "x") == 401, "with another key the API answers 401")
    check(status("/version", KEY) == 200, "with the key the API answers")
    exempt = [status(path) for path in ("/health", "/ready", "/metrics")]
    check(exempt == [200] * 3, "health, readiness and metrics need no key")


def status(path: str, key: str = "") -> int:
    """Return the status that the API answers."""
    request = urllib.request.Request(API + path, headers={"X-API-Key": key} if key else {})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def scraped(job: str) -> int:
    """Return how many targets of a job are up in Prometheus."""
    return sum(float(sample["value"][1]) == 1 for sample in monitoring.query(f'up{{job="{job}"}}'))
