"""The door: what is tried again, what is said of a wrong environment, what the port does."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import Any

import pytest
import requests
from prometheus_client import CollectorRegistry

import consumer
from airquality.ground.errors import Refused, Unavailable
from airquality.metrics import ConsumerMetrics
from airquality.reports.summary import SUMMARY_NAME
from airquality.stream import kafka_io, workers
from airquality.stream.account import Counts
from airquality.stream.limits import Limits, Stopped
from airquality.stream.patience import BACKOFF_SECONDS, Patience
from lab.ports import free_port
from lab.waiting import PATIENCE_SECONDS
from monitoring_service import MonitoringService
from tests.system import PROJECT
from tests.worker_rig import SETTINGS, Clock


def supervised(monkeypatch: pytest.MonkeyPatch, away: int, **limits: Any) -> tuple[Counts, float]:
    """Run with a broker that is away for so many workers; return the counts and how long it took."""
    clock, left = Clock(), [Unavailable("the broker went away")] * away

    def work(*_: object) -> Counts:
        if left:
            raise left.pop()
        return Counts(rows_in=1, warmup=1)

    monkeypatch.setattr(workers, "time", types.SimpleNamespace(sleep=clock.sleep, monotonic=clock))
    monkeypatch.setattr(workers, "_work", work)
    monkeypatch.setattr(kafka_io, "ensure_topics", lambda _: None)
    monkeypatch.setattr(MonitoringService, "open", lambda *_: contextlib.nullcontext())
    began = clock()
    settings = SETTINGS.model_copy(update={"consumer_metrics_port": 0})
    return consumer.run(settings, Limits(started=began, **limits)), clock() - began


@pytest.mark.parametrize(("written", "said"), [(True, "; summary in "), (False, "; no summary, ")])
def test_main_names_the_summary_only_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], written: bool, said: str
) -> None:
    if written:
        (tmp_path / SUMMARY_NAME).touch()
    monkeypatch.setenv("REPORTS_DIR", str(tmp_path))
    monkeypatch.setattr(consumer, "run", lambda *_: Counts(rows_in=1, warmup=1))
    monkeypatch.setattr(consumer, "stop_on_signals", lambda _: None)
    monkeypatch.setattr("airquality.ground.log.configure", lambda *_: None)
    assert consumer.main([]) == 0
    assert f"{said}{tmp_path / SUMMARY_NAME}" in capsys.readouterr().out


def test_run_broker_away_a_new_worker_is_tried_ever_more_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    counts, seconds = supervised(monkeypatch, away=7)
    assert counts == Counts(rows_in=1, warmup=1)
    low, high = BACKOFF_SECONDS
    doubled = sum(min(low * 2**i, high) for i in range(7))
    assert 0.5 * doubled <= seconds <= 1.5 * doubled + 1.0


@pytest.mark.parametrize("limits", [{"timeout_seconds": 60.0}, {"stopped": True}], ids=str)
def test_run_that_has_to_end_while_the_broker_is_away_is_no_clean_end(
    monkeypatch: pytest.MonkeyPatch, limits: dict[str, float]
) -> None:
    with pytest.raises(Stopped, match=r"Kafka could not be used \(the broker went away\).* the other rows wait in Kafka"):
        supervised(monkeypatch, away=10**6, **limits)


def test_run_names_as_many_stations_in_its_metrics_as_the_setting_says(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[set[str]] = []

    def work(_: object, __: object, metrics: ConsumerMetrics, *___: object) -> Counts:
        for station in ("a", "b", "c"):
            metrics.stations.open(station)
            metrics.stations.show_prediction(station, 1.5)
        [family] = metrics.stations.prediction.collect()
        shown.append({sample.labels["station"] for sample in family.samples})
        return Counts()

    monkeypatch.setattr(workers, "_work", work)
    monkeypatch.setattr(kafka_io, "ensure_topics", lambda _: None)
    monkeypatch.setattr(MonitoringService, "open", lambda *_: contextlib.nullcontext())
    consumer.run(SETTINGS.model_copy(update={"consumer_metrics_port": 0, "metrics_stations": 1}), Limits())
    assert shown == [{"a", "other"}]


@pytest.mark.parametrize("waits", [False, True])
def test_run_without_kafka_at_the_start_waits_only_where_a_supervisor_asked_for_it(
    monkeypatch: pytest.MonkeyPatch, waits: bool
) -> None:
    clock, away = Clock(), [Unavailable("no broker answers")] * 3

    def ensure_topics(_: object) -> None:
        if away:
            raise away.pop()

    monkeypatch.setattr(workers, "time", types.SimpleNamespace(sleep=clock.sleep, monotonic=clock))
    monkeypatch.setattr(kafka_io, "ensure_topics", ensure_topics)
    settings = SETTINGS.model_copy(update={"consumer_waits_for_kafka": waits})

    def ensure() -> None:
        workers._ensure_topics(settings, Patience(clock=clock), Limits())

    if waits:
        ensure()
    else:
        with pytest.raises(Unavailable):
            ensure()
    assert len(away) == (0 if waits else 2)


def refused(monkeypatch: pytest.MonkeyPatch, limits: Limits, clock: Clock) -> None:
    def work(*_: object) -> Counts:
        raise Refused("600 rows are gone")

    monkeypatch.setattr(workers, "time", types.SimpleNamespace(sleep=clock.sleep, monotonic=clock))
    monkeypatch.setattr(workers, "_work", work)
    monkeypatch.setattr(kafka_io, "ensure_topics", lambda _: None)
    monkeypatch.setattr(MonitoringService, "open", lambda *_: contextlib.nullcontext())
    consumer.run(SETTINGS.model_copy(update={"consumer_metrics_port": 0}), limits)


def test_run_refused_under_a_supervisor_stays_up_and_says_why_once_a_minute(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock, limits, seen = Clock(), Limits(), list[float]()
    metrics: list[ConsumerMetrics] = []
    made = ConsumerMetrics.__init__

    def noted(self: ConsumerMetrics, *arguments: Any) -> None:
        made(self, *arguments)
        metrics.append(self)

    monkeypatch.setattr(ConsumerMetrics, "__init__", noted)
    clock.at = [
        (clock() + 150.0, lambda: seen.append(metrics[0].refused._value.get())),
        (clock() + 200.0, lambda: setattr(limits, "stopped", True)),
    ]
    with pytest.raises(Refused, match="600 rows"):
        refused(monkeypatch, limits, clock)
    assert seen == [1.0]
    assert len([r for r in caplog.records if r.levelname == "ERROR" and "600 rows are gone" in r.getMessage()]) == 4


@pytest.mark.parametrize("limits", [{"max_records": 5}, {"timeout_seconds": 60.0}, {"idle_exit_seconds": 5.0}], ids=str)
def test_run_refused_with_a_limit_ends_at_once(monkeypatch: pytest.MonkeyPatch, limits: dict[str, Any]) -> None:
    clock = Clock()
    began = clock()
    with pytest.raises(Refused, match="600 rows"):
        refused(monkeypatch, Limits(**limits), clock)
    assert clock() == began


# --- the program ---

_MONITORING_OFF = """
import contextlib
import consumer
from airquality.reports.summary import SUMMARY_NAME
from airquality.stream import kafka_io, workers
from monitoring_service import MonitoringService
MonitoringService.open = lambda *_: contextlib.nullcontext()
"""


def program(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *(arguments if arguments[:1] == ("-c",) else ("consumer.py", *arguments))],
        cwd=PROJECT,
        env={**os.environ, "CONSUMER_METRICS_PORT": "0", "LOG_FORMAT": "text", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAX_POLL_RECORDS", "many"),
        ("API_URL", "127.0.0.1:8000"),
        ("KAFKA_BOOTSTRAP_SERVERS", '"a:9092"'),
        ("MLFLOW_TRACKING_URI", "sqlite:/m.db"),
    ],
)
@pytest.mark.slow
def test_main_setting_that_can_never_work_is_one_line(name: str, value: str) -> None:
    done = program(**{name: value})
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert line.startswith(f"consumer.py: settings: {name}={value}: ")


_DEFECT = """
import threading
from airquality.ground import program
def defect(*_):
    threading.Thread(target=threading.Event().wait).start()
    raise KeyError("a defect")
program.LEAVE_SECONDS = 1.0
kafka_io.ensure_topics = defect
program.leave(lambda: consumer.main([]))
"""


_STUCK = """
import sys, threading
class Stuck(contextlib.nullcontext):
    def __exit__(self, *_):
        threading.Event().wait()
def defect(*_):
    raise KeyError("a defect")
workers.CLOSE_SECONDS = 1.0
MonitoringService.open = lambda *_: Stuck()
kafka_io.ensure_topics = defect
sys.exit(consumer.main([]))
"""


@pytest.mark.slow
def test_main_uncaught_error_ends_the_process_whatever_cannot_be_closed() -> None:
    done = program("-c", _MONITORING_OFF + _STUCK)
    assert done.returncode == 1
    assert "not everything could be closed within 1 s" in done.stderr


@pytest.mark.slow
def test_main_uncaught_error_ends_the_process_whatever_thread_is_left() -> None:
    done = program("-c", _MONITORING_OFF + _DEFECT)
    assert done.returncode == 1
    assert "KeyError: 'a defect'" in done.stderr


_WAITING = """
import sys, time
import consumer
def wait(settings):
    print("waiting", flush=True)
    while True:
        time.sleep(0.1)
kafka_io.ensure_topics = wait
sys.exit(consumer.main([]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.slow
def test_main_second_signal_ends_it_at_once(number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _MONITORING_OFF + _WAITING],
        cwd=PROJECT,
        env={**os.environ, "CONSUMER_METRICS_PORT": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(number)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            process.send_signal(number)
            time.sleep(0.05)
        process.kill()
    assert process.returncode == -number


@pytest.mark.slow
def test_a_taken_metrics_port_is_wrong_usage_that_says_what_to_do() -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        done = program(CONSUMER_METRICS_PORT=str(taken.getsockname()[1]))
    assert done.returncode == 2
    assert "stop the other consumer or set CONSUMER_METRICS_PORT" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_without_a_reference_it_says_how_to_make_one(tmp_path: Path) -> None:
    done = program(DATASET_DIR=str(tmp_path))
    assert done.returncode == 2
    assert "generate_reference_dataset.py" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_without_a_broker_it_fails_with_a_hint() -> None:
    servers = f"127.0.0.1:{free_port()}"
    done = program("-c", _MONITORING_OFF + "import sys; sys.exit(consumer.main([]))", KAFKA_BOOTSTRAP_SERVERS=servers)
    assert done.returncode == 1
    [line] = [line for line in done.stderr.splitlines() if "metrics on" not in line]
    assert line.startswith(f"consumer.py: no Kafka broker answers at {servers}")
    assert "KAFKA_BOOTSTRAP_SERVERS" in line


def test_the_metrics_port_is_given_back() -> None:
    registry = CollectorRegistry()
    settings = SETTINGS.model_copy(update={"consumer_metrics_port": free_port(), "consumer_metrics_host": "127.0.0.1"})
    address = ("127.0.0.1", settings.consumer_metrics_port)
    for _ in range(20):  # a connection may come in at any turn of the end
        with workers._exposed(settings, registry), socket.create_connection(address):
            pass
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


def test_health_without_kafka_and_api_names_both() -> None:
    registry = CollectorRegistry()
    ConsumerMetrics(registry)
    away = {"api_url": f"http://127.0.0.1:{free_port()}", "consumer_metrics_port": 0, "consumer_metrics_host": "127.0.0.1"}
    with workers._exposed(SETTINGS.model_copy(update=away), registry) as port:
        answer = requests.get(f"http://127.0.0.1:{port}/health", timeout=PATIENCE_SECONDS)
    assert answer.status_code == 503
    kafka, api = answer.json()["faults"]
    assert kafka == "Kafka has not answered yet"
    assert "prediction service" in api
