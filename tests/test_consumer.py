"""The door: what is tried again, what a wrong environment is told, what the port does."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import types
from pathlib import Path

import pytest
import requests
from prometheus_client import CollectorRegistry

import consumer
from airquality.ground.errors import Unavailable
from airquality.metrics import ConsumerMetrics
from airquality.stream import kafka_io
from airquality.stream.account import Counts
from airquality.stream.worker import Limits
from tests.system import PROJECT, free_port
from tests.worker_rig import SETTINGS, Clock


def supervised(monkeypatch: pytest.MonkeyPatch, away: int, **limits: float) -> tuple[Counts, float]:
    """Run with a broker that is away for so many workers; return the counts and how long it took."""
    clock, left = Clock(), [Unavailable("the broker went away")] * away

    def work(*_: object) -> Counts:
        if left:
            raise left.pop()
        return Counts(rows_in=1, warmup=1)

    monkeypatch.setattr(consumer, "time", types.SimpleNamespace(sleep=clock.sleep, monotonic=clock))
    monkeypatch.setattr(consumer, "_work", work)
    monkeypatch.setattr(kafka_io, "ensure_topics", lambda _: None)
    monkeypatch.setattr(consumer.MonitoringService, "open", lambda *_: contextlib.nullcontext())
    began = clock()
    settings = SETTINGS.model_copy(update={"consumer_metrics_port": 0})
    return consumer.run(settings, Limits(started=began, **limits)), clock() - began  # type: ignore[arg-type]


def test_a_new_worker_is_tried_ever_more_slowly_until_one_ends_well(monkeypatch: pytest.MonkeyPatch) -> None:
    counts, seconds = supervised(monkeypatch, away=7)
    assert counts == Counts(rows_in=1, warmup=1)
    assert seconds == 0.5 + 1 + 2 + 4 + 8 + 10 + 10


@pytest.mark.parametrize("limits", [{"timeout_seconds": 60.0}, {"stopped": True}], ids=str)
def test_no_new_worker_is_tried_once_the_run_has_to_end(monkeypatch: pytest.MonkeyPatch, limits: dict[str, float]) -> None:
    counts, seconds = supervised(monkeypatch, away=10**6, **limits)
    assert counts == Counts()
    assert seconds <= 70.0


# --- the program ---


def program(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *(arguments if arguments[:1] == ("-c",) else ("consumer.py", *arguments))],
        cwd=PROJECT,
        env={**os.environ, "CONSUMER_METRICS_PORT": "0", "LOG_FORMAT": "text", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_help_teaches() -> None:
    done = program("--help")
    assert done.returncode == 0
    for taught in ("--max-records", "--timeout-seconds", "--idle-exit-seconds", "API_URL", "examples:", "exit status: 0"):
        assert taught in done.stdout


def test_a_wrong_environment_is_wrong_usage() -> None:
    done = program(MAX_POLL_RECORDS="many")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("consumer.py: settings: MAX_POLL_RECORDS=many")


def test_a_taken_metrics_port_is_wrong_usage_that_says_what_to_do() -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        done = program(CONSUMER_METRICS_PORT=str(taken.getsockname()[1]))
    assert done.returncode == 2
    assert "stop the other consumer or set CONSUMER_METRICS_PORT" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_reference_it_says_how_to_make_one(tmp_path: Path) -> None:
    done = program(DATASET_DIR=str(tmp_path))
    assert done.returncode == 2
    assert "generate_reference_dataset.py" in done.stderr
    assert "Traceback" not in done.stderr


_IMPATIENT = """
import contextlib, sys
import consumer
consumer.kafka_io.CONNECT_TIMEOUT_MS = 500
consumer.MonitoringService.open = lambda *_: contextlib.nullcontext()
sys.exit(consumer.main([]))
"""


def test_without_a_broker_it_fails_with_a_hint() -> None:
    servers = f"127.0.0.1:{free_port()}"
    done = program("-c", _IMPATIENT, KAFKA_BOOTSTRAP_SERVERS=servers)
    assert done.returncode == 1
    assert f"consumer.py: Kafka at {servers}" in done.stderr
    assert "KAFKA_BOOTSTRAP_SERVERS says where to look" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_metrics_port_is_given_back() -> None:
    registry = CollectorRegistry()
    settings = SETTINGS.model_copy(update={"consumer_metrics_port": free_port(), "consumer_metrics_host": "127.0.0.1"})
    address = ("127.0.0.1", settings.consumer_metrics_port)
    for _ in range(2):
        with consumer._exposed(settings, registry), socket.create_connection(address):
            pass
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


def test_health_without_kafka_and_api_names_both() -> None:
    registry = CollectorRegistry()
    ConsumerMetrics(registry)
    away = {"api_url": f"http://127.0.0.1:{free_port()}", "consumer_metrics_port": 0, "consumer_metrics_host": "127.0.0.1"}
    with consumer._exposed(SETTINGS.model_copy(update=away), registry) as port:
        answer = requests.get(f"http://127.0.0.1:{port}/health", timeout=10)
    assert answer.status_code == 503
    kafka, api = answer.json()["faults"]
    assert kafka == "Kafka has not answered yet"
    assert "prediction service" in api
