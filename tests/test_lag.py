"""The lag as the broker knows it: counted without the consumers, and unknown where the broker does not answer."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from kafka import KafkaConsumer, OffsetAndMetadata, TopicPartition
from prometheus_client import CollectorRegistry

from airquality.ground.errors import Unavailable
from airquality.ground.settings import Settings
from airquality.metrics import GroupMetrics
from airquality.stream import kafka_io, lag
from airquality.stream.lag import GroupReader, GroupState, LagWatch
from lab.ports import free_port
from lab.waiting import wait_until
from tests.broker_topics import send

PROJECT = Path(__file__).resolve().parent.parent


@pytest.mark.broker
def test_read_group_lag_is_what_the_group_has_not_committed_whether_a_consumer_runs_or_not(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    send(settings, 0, b"a", b"b", b"c")
    send(settings, 1, b"d")
    with closing(GroupReader(settings)) as reader:
        assert reader.read() == GroupState({0: 3, 1: 1}, 0), "a group that has committed nothing begins at the oldest record"
        consumer = KafkaConsumer(
            settings.raw_topic,
            bootstrap_servers=settings.kafka_bootstrap_servers,
            group_id=settings.consumer_group,
            enable_auto_commit=False,
        )
        wait_until(lambda: consumer.poll(timeout_ms=100) is not None and consumer.assignment(), "assigned")
        consumer.commit({TopicPartition(settings.raw_topic, 0): OffsetAndMetadata(2, "", -1)})
        assert reader.read() == GroupState({0: 1, 1: 1}, 1)
        consumer.close()
        assert reader.read() == GroupState({0: 1, 1: 1}, 0)
        send(settings, 1, b"e")
        assert reader.read().lag == {0: 1, 1: 2}
    for name in ("kafka_bootstrap_servers", "raw_topic", "consumer_group"):
        monkeypatch.setenv(name.upper(), getattr(settings, name))
    assert lag.main(["--once"]) == 0
    assert "3 rows wait (partition 0: 1, partition 1: 2), 0 members" in capsys.readouterr().out


@pytest.mark.broker
def test_read_rows_behind_a_transaction_that_stays_open_wait_too(settings: Settings) -> None:
    with closing(kafka_io.open_producer(settings, transactional_id=f"{settings.consumer_group}-open")) as producer:
        producer.init_transactions()
        producer.begin_transaction()
        producer.send(settings.raw_topic, value=b"undecided", partition=0).get(timeout=20)
        send(settings, 0, b"a", b"b")
        with closing(GroupReader(settings)) as reader:
            assert reader.read().lag == {0: 3, 1: 0}
        producer.abort_transaction()


@pytest.mark.broker
def test_read_topic_that_is_yet_to_be_made_has_no_lag_and_is_not_made(settings: Settings) -> None:
    absent = settings.model_copy(update={"raw_topic": "no.such.topic"})
    with closing(GroupReader(absent)) as reader:
        assert reader.read().lag == {}
        assert reader.read().lag == {}


class Fake:
    """A reader with given answers, None for no answer."""

    def __init__(self, *states: GroupState | None) -> None:
        self.states = list(states)
        self.closed = 0

    def read(self) -> GroupState:
        state = self.states.pop(0)
        if state is None:
            raise Unavailable("no Kafka broker answers")
        return state

    def close(self) -> None:
        self.closed += 1


def watching(fake: Fake, now: list[float]) -> tuple[LagWatch, Callable[..., float | None]]:
    registry = CollectorRegistry()
    watch = LagWatch(GroupMetrics(registry), lambda: fake, lambda: now[0])
    return watch, lambda name, **labels: registry.get_sample_value(name, labels)


def test_measure_broker_that_goes_away_leaves_no_figure_that_was_true_once(caplog: pytest.LogCaptureFixture) -> None:
    fake, now = Fake(GroupState({0: 7, 1: 0}, 2), None, GroupState({0: 9}, 1)), [1000.0]
    watch, value = watching(fake, now)
    assert watch.faults() == ["Kafka has not answered yet"]
    watch.measure()
    assert (value("air_quality_group_lag_records", partition="0"), value("air_quality_group_members")) == (7, 2)
    assert (value("air_quality_kafka_answered_timestamp_seconds"), watch.faults()) == (1000, [])
    now[0] += 30
    with caplog.at_level(logging.WARNING):
        watch.measure()
    assert "no Kafka broker answers; the lag is not known" in caplog.text
    assert value("air_quality_group_lag_records", partition="0") is None
    assert str(value("air_quality_group_members")) == "nan"
    assert (watch.faults(), fake.closed) == (["Kafka has not answered for 30 s"], 1)
    watch.measure()
    assert (value("air_quality_group_lag_records", partition="0"), watch.faults()) == (9, [])


@pytest.mark.slow
def test_main_without_a_broker_says_so() -> None:
    environment = {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}"}
    command = [sys.executable, "-m", "airquality", "lag", "--once"]
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, "no Kafka broker answers" in done.stderr, "Traceback" in done.stderr) == (1, True, False)
