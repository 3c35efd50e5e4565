"""The loop and the commit: one row in, one accounted outcome out, whatever is away meanwhile. Kafka is simulated here."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from kafka import TopicPartition
from kafka.errors import KafkaTimeoutError
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

import consumer
from airquality.ground.errors import ContractError, InvalidRecord, Unavailable
from airquality.ground.settings import Settings
from airquality.metrics import ConsumerMetrics
from airquality.records import Prediction, isoformat
from airquality.stream import kafka_io, snapshots
from airquality.stream.kafka_io import Message, Poll, Position, Record, TransactionalStream, _Assignment
from consumer import BACKOFF_SECONDS, POLL_SECONDS, Console, Limits, Stopped, Worker
from partition_state import Counts, DeadLetter, Note
from tests.simulated_kafka import Monitors, SimulatedKafka, predicted, reading
from tests.system import PROJECT, free_port

SETTINGS = Settings(max_poll_records=100, snapshot_offsets=10**6, snapshot_seconds=30.0)
RAW, PRED, STATE, DLQ = SETTINGS.raw_topic, SETTINGS.pred_topic, SETTINGS.state_topic, SETTINGS.dlq_topic
START = 307_668


class Clock:
    """A clock that only sleeping and waiting move; ``at`` holds what happens once a time has come."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.at: list[tuple[float, Callable[[], None]]] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        due, self.at = [a for a in self.at if a[0] <= self.now], [a for a in self.at if a[0] > self.now]
        for _, happens in due:
            happens()


class Stream:
    """What a worker sees of a :class:`SimulatedKafka`."""

    def __init__(self, kafka: SimulatedKafka, clock: Clock, partitions: Iterable[int] = (0,)) -> None:
        self.kafka = kafka
        self.clock = clock
        self.polls = [Poll(gained=set(partitions))]  # what the next polls bring besides records
        self.owned: dict[int, int] = {}
        self.assignment_stays = True
        self.held: list[float] = []
        self.fails: list[Exception] = []

    def poll(self, timeout_seconds: float, max_records: int) -> Poll:
        news = self.polls.pop(0) if self.polls else Poll()
        for partition in news.lost:
            self.owned.pop(partition)
        self.owned.update({partition: self.position(partition).offset for partition in news.gained})
        for partition, offset in self.owned.items():
            taken = list(self.kafka.read(RAW, partition, offset))[:max_records]
            max_records -= len(taken)
            if taken:
                news.records[partition] = taken
                self.owned[partition] = taken[-1].offset + 1
        if not news.records:
            self.clock.sleep(timeout_seconds)
        return news

    def keep_membership(self) -> bool:
        self.held.append(self.clock())
        return self.assignment_stays

    def position(self, partition: int) -> Position:
        return self.kafka.positions.get(partition, Position(0, ""))

    def commit(self, messages: Iterable[Message], positions: Mapping[int, Position]) -> list[int]:
        if self.fails:
            raise self.fails.pop()
        return self.kafka.commit(messages, positions)

    def lag(self) -> dict[int, int]:
        return {partition: self.kafka.end(RAW, partition) - offset for partition, offset in self.owned.items()}


@dataclass
class Service:
    """A prediction service that is away as often as it is told to be."""

    away: int = 0
    fault: Exception | None = None
    checks_away: int = 0
    asked: list[int] = field(default_factory=list)

    def check(self) -> None:
        if self.checks_away > 0:
            self.checks_away -= 1
            raise Unavailable("the prediction service does not answer")

    def predict(self, matrix: NDArray[np.float64]) -> list[tuple[float, str]]:
        self.asked.append(len(matrix))
        if self.fault:
            raise self.fault
        if self.away > 0:
            self.away -= 1
            raise Unavailable("the prediction service does not answer")
        return [(value, "1") for value, _ in predicted(matrix, range(len(matrix)))]


class Rig:
    """A worker among fakes; ``restart`` replaces it, and what it knew, but not Kafka."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.kafka = SimulatedKafka()
        self.service = Service()
        self.lines: list[str] = []
        self.restart()

    def restart(self, **limits: float) -> None:
        self.stream = Stream(self.kafka, self.clock)
        self.monitors = Monitors()
        self.registry = CollectorRegistry()
        self.limits = Limits(**{"idle_exit_seconds": 5.0, "started": self.clock(), **limits})  # type: ignore[arg-type]
        self.worker = Worker(
            SETTINGS,
            self.stream,  # type: ignore[arg-type]
            self.service,  # type: ignore[arg-type]
            self.monitors,  # type: ignore[arg-type]
            ConsumerMetrics(self.registry),
            Console(self.lines.append),
            self.limits,
            self.clock,
        )

    def send(self, first: int, n_hours: int, station: int = 0, partition: int = 0, variant: int = 0) -> None:
        for hour in range(START + first, START + first + n_hours):
            sent = reading(station, hour, variant)
            self.kafka.append(RAW, partition, sent.station_id.encode(), sent.to_bytes())

    def metric(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)

    def predictions(self, partition: int = 0) -> list[Prediction]:
        return [Prediction.from_bytes(record.value or b"") for record in self.kafka.log(PRED, partition)]


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    clock = Clock()
    made = Rig(clock)
    monkeypatch.setattr(consumer, "time", types.SimpleNamespace(sleep=clock.sleep, monotonic=clock))
    for name, function in made.kafka.as_functions().items():
        monkeypatch.setattr(kafka_io, name, function)
    return made


# --- one row in, one accounted outcome out ---


def test_every_row_is_accounted_for_and_published_once(rig: Rig) -> None:
    rig.send(0, 200)
    rig.send(190, 10)
    rig.send(195, 1, variant=1)
    rig.kafka.append(RAW, 0, b"station_0", b"{")
    rig.worker.run()
    expected = Counts(rows_in=212, warmup=168, predictions=32, duplicates=10, dead_letters={"conflict": 1, "malformed": 1})
    assert rig.worker.counts == expected
    assert Note.decode(rig.kafka.positions[0].note).counts == expected
    assert rig.kafka.positions[0].offset == 212
    assert [p.source_offset for p in rig.predictions()] == list(range(168, 200))
    assert [isoformat(START + 168), isoformat(START + 199)] == [isoformat(rig.predictions()[i].hour) for i in (0, -1)]
    assert rig.monitors.summaries[-1] == expected.summary()
    assert rig.metric("kafka_messages_consumed_total") == 212
    for outcome, reason, count in (
        ("warmup", "", 168),
        ("prediction", "", 32),
        ("duplicate", "", 10),
        ("dead_letter", "conflict", 1),
        ("dead_letter", "malformed", 1),
        ("dead_letter", "late", 0),
    ):
        assert rig.metric("rows_total", outcome=outcome, reason=reason) == count


def test_a_batch_is_one_transaction_and_one_request(rig: Rig) -> None:
    rig.send(0, 300)
    rig.worker.run()
    assert rig.service.asked == [32, 100]  # the third poll holds rows 200..299
    assert rig.kafka.transactions == 4  # three polls, and the snapshot at the end


def test_a_restart_goes_on_where_the_group_stands(rig: Rig) -> None:
    rig.send(0, 180)
    rig.restart(max_records=171)
    rig.worker.run()
    assert rig.worker.counts.rows_in == 171
    rig.restart()
    rig.worker.run()
    assert rig.worker.counts == Counts(rows_in=180, warmup=168, predictions=12)
    assert len({p.source_offset for p in rig.predictions()}) == len(rig.predictions()) == 12


def test_a_run_that_finished_leaves_a_snapshot_and_nothing_to_replay(rig: Rig) -> None:
    rig.send(0, 200)
    rig.worker.run()
    assert not rig.monitors.waiting
    [snapshot] = rig.kafka.log(STATE)
    assert (snapshot.key, snapshots.decode(snapshot.value or b"")["offset"]) == (b"station_0", 199)
    assert Note.decode(rig.kafka.positions[0].note).replay_offset is None


def test_stations_at_rest_are_snapshotted_while_the_consumer_idles(rig: Rig) -> None:
    rig.send(0, 10)
    rig.restart(idle_exit_seconds=35.0)
    seen: list[int] = []
    rig.clock.at = [(rig.clock() + at, lambda: seen.append(len(rig.kafka.log(STATE)))) for at in (29.0, 33.0)]
    rig.worker.run()
    assert seen == [0, 1]
    assert len(rig.kafka.log(STATE)) == 1


def test_rows_after_a_snapshot_find_their_predictions_again(rig: Rig) -> None:
    rig.send(0, 200)
    rig.restart(idle_exit_seconds=100.0)

    def go_out() -> None:
        rig.send(210, 1)
        rig.service.away = 10**6

    start = rig.clock()
    stop = (start + 60.0, lambda: setattr(rig.limits, "stopped", True))
    rig.clock.at = [(start + 40.0, lambda: rig.send(200, 10)), (start + 50.0, go_out), stop]
    with pytest.raises(Stopped):
        rig.worker.run()
    assert len(rig.kafka.log(STATE)) == 1
    assert Note.decode(rig.kafka.positions[0].note).replay_offset == 200
    rig.service.away = 0
    rig.restart()
    rig.worker.run()
    assert rig.worker.counts == Counts(rows_in=211, warmup=168, predictions=43)


def test_partitions_come_and_go(rig: Rig) -> None:
    rig.send(0, 50)
    rig.send(0, 50, station=1, partition=1)
    rig.stream.polls = [Poll(gained={0}), Poll(gained={1}), Poll(lost={0}), Poll()]
    rig.worker.run()
    assert set(rig.monitors.stations) == {"station_1"}
    assert rig.worker.counts == Counts(rows_in=50, warmup=50)
    assert rig.kafka.positions[0].offset == rig.kafka.positions[1].offset == 50
    assert rig.metric("consumer_lag_records", partition="1") == 0


def test_a_partition_lost_and_regained_between_two_polls_is_restored(rig: Rig) -> None:
    rig.send(0, 50)
    rig.stream.polls = [Poll(gained={0}), Poll(lost={0}, gained={0})]
    rig.worker.run()
    assert rig.worker.counts == Counts(rows_in=50, warmup=50)


def test_a_failed_commit_ends_the_worker_and_its_rows_come_again(rig: Rig) -> None:
    rig.send(0, 200)
    rig.stream.fails = [Unavailable("fenced")]
    with pytest.raises(Unavailable, match="fenced"):
        rig.worker.run()
    assert (rig.predictions(), rig.kafka.positions, rig.lines) == ([], {}, [])
    rig.restart()
    rig.worker.run()
    assert rig.worker.counts == Counts(rows_in=200, warmup=168, predictions=32)


# --- the prediction service is away ---


def test_rows_keep_their_place_while_the_service_is_away(rig: Rig) -> None:
    rig.send(0, 200)
    rig.service.away = 6
    paused: list[float | None] = []
    rig.clock.at = [(rig.clock() + 1.0, lambda: paused.append(rig.metric("consumer_paused")))]
    began = rig.clock()
    rig.worker.run()
    assert rig.service.asked == [32] * 7
    assert len(rig.predictions()) == 32
    assert (paused, rig.metric("consumer_paused")) == ([1.0], 0.0)
    waited = rig.clock() - began
    low, high = BACKOFF_SECONDS
    doubled = [min(low * 2**i, high) for i in range(6)]
    assert 0.5 * sum(doubled) <= waited - 5.0 <= 1.5 * sum(doubled) + 7 * POLL_SECONDS
    pauses = np.diff(rig.stream.held)
    assert pauses.max() <= 2 * POLL_SECONDS  # the group hears of us all the while


def test_the_lag_grows_while_the_service_is_away_and_forgets_lost_partitions(rig: Rig) -> None:
    rig.send(0, 200)
    rig.service.away = 6
    lags: list[float | None] = []
    measure = lambda: lags.append(rig.metric("consumer_lag_records", partition="0"))  # noqa: E731
    rig.clock.at = [(rig.clock() + 3.0, lambda: rig.send(200, 30)), (rig.clock() + 11.0, measure)]
    rig.worker.run()
    assert lags == [30.0]
    rig.stream.owned.clear()
    rig.clock.now += 60.0
    rig.worker._measure_lag()
    assert rig.metric("consumer_lag_records", partition="0") is None


def test_a_stop_during_an_outage_publishes_nothing(rig: Rig) -> None:
    rig.send(0, 250)
    rig.service.away = 10**6
    rig.clock.at = [(rig.clock() + 20.0, lambda: setattr(rig.limits, "stopped", True))]
    with pytest.raises(Stopped):
        rig.worker.run()
    assert rig.predictions() == rig.kafka.log(STATE) == []
    assert rig.kafka.positions[0].offset == 100  # the first poll held warm-up only
    rig.service.away = 0
    rig.restart()
    rig.worker.run()
    assert rig.worker.counts == Counts(rows_in=250, warmup=168, predictions=82)


@pytest.mark.parametrize("away", ["checks_away", "away"])
def test_the_time_limit_holds_while_the_service_is_away(rig: Rig, away: str) -> None:
    rig.send(0, 200)
    rig.restart(timeout_seconds=60.0)
    setattr(rig.service, away, 10**6)
    began = rig.clock()
    with pytest.raises(Stopped):
        rig.worker.run()
    assert 60.0 <= rig.clock() - began < 62.0
    assert rig.predictions() == []


def test_rows_that_may_have_got_another_owner_are_let_go(rig: Rig) -> None:
    rig.send(0, 200)
    rig.service.away = 10**6
    rig.clock.at = [(rig.clock() + 3.0, lambda: setattr(rig.stream, "assignment_stays", False))]
    with pytest.raises(Unavailable, match="shared out anew"):
        rig.worker.run()
    assert rig.predictions() == []


def test_partitions_that_come_before_the_service_does_cost_nothing(rig: Rig) -> None:
    rig.send(0, 10)
    rig.stream.assignment_stays = False  # the first assignment arrives while the worker waits for the service
    rig.service.checks_away = 8
    rig.worker.run()
    assert rig.worker.counts.rows_in == 10


def test_a_refusal_ends_the_worker(rig: Rig) -> None:
    rig.send(0, 200)
    rig.service.fault = ContractError("the features are not the model's")
    with pytest.raises(ContractError, match="not the model's"):
        rig.worker.run()
    assert rig.predictions() == []


# --- limits ---


def test_a_run_takes_no_more_records_than_it_was_told_to(rig: Rig) -> None:
    rig.send(0, 300)
    rig.restart(max_records=230)
    rig.worker.run()
    assert rig.worker.counts.rows_in == rig.kafka.positions[0].offset == 230


def test_limits_hold_for_a_run_however_many_workers_it_takes(rig: Rig) -> None:
    rig.send(0, 300)
    rig.restart(max_records=150)
    limits = rig.limits
    rig.stream.polls.append(Poll())
    commit, calls = rig.stream.commit, []

    def second_fails(messages: Iterable[Message], positions: Mapping[int, Position]) -> list[int]:
        calls.append(1)
        if len(calls) == 2:
            raise Unavailable("the broker went away")
        return commit(messages, positions)

    rig.stream.commit = second_fails  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        rig.worker.run()
    rig.restart()
    rig.worker._limits = limits
    rig.worker.run()
    assert rig.worker.counts.rows_in == 150


def test_a_run_ends_when_its_time_is_up(rig: Rig) -> None:
    rig.restart(timeout_seconds=30.0, idle_exit_seconds=float("inf"))
    began = rig.clock()
    rig.worker.run()
    assert 30.0 < rig.clock() - began < 31.0


def test_idle_means_that_no_record_came_for_that_time(rig: Rig) -> None:
    rig.clock.at = [(rig.clock() + at, lambda at=at: rig.send(int(at), 1)) for at in (4.0, 8.0, 12.0)]
    began = rig.clock()
    rig.worker.run()
    assert rig.worker.counts.rows_in == 3
    assert 17.0 <= rig.clock() - began < 18.0


def test_waiting_for_reports_is_not_being_idle(rig: Rig) -> None:
    rig.send(0, 30)
    rig.monitors.saturated = True
    rig.clock.at = [(rig.clock() + 60.0, lambda: setattr(rig.monitors, "saturated", False))]
    rig.worker.run()
    assert rig.worker.counts.rows_in == 30
    assert rig.stream.held


def test_a_worker_without_partitions_leaves_the_summary_alone(rig: Rig) -> None:
    rig.stream.polls = []
    rig.restart(timeout_seconds=20.0)
    rig.stream.polls = []
    rig.worker.run()
    assert rig.monitors.summaries == []


def test_a_stop_does_not_wait_for_reports_but_saves_what_is_saved_safely(rig: Rig) -> None:
    rig.send(0, 200)
    rig.send(0, 20, station=1)
    rig.monitors.poll = lambda: []  # type: ignore[method-assign]
    rig.clock.at = [(rig.clock() + 1.0, lambda: setattr(rig.limits, "stopped", True))]
    rig.worker.run()
    assert len(rig.monitors.waiting) == 1
    assert [record.key for record in rig.kafka.log(STATE)] == [b"station_1"]
    assert Note.decode(rig.kafka.positions[0].note).replay_offset == 0


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


# --- what a person sees ---


def run_lines(rig: Rig, **limits: float) -> list[str]:
    rig.lines.clear()
    rig.restart(**limits)
    rig.worker.run()
    return list(rig.lines)


def test_live_rows_have_a_line_each(rig: Rig) -> None:
    for hour in range(193):
        rig.clock.at.append((rig.clock() + 1.0 + hour, lambda hour=hour: rig.send(hour, 1)))
    lines = run_lines(rig)
    warmup = [f"Waiting for warmup... ({row}/168 rows)" for row in range(1, 169)]
    assert lines[:168] == warmup
    assert lines[168] == "Warmup complete! Starting inference..."
    values = [f"{prediction.prediction:.2f}" for prediction in rig.predictions()]
    assert lines[169:192] == [f"Prediction {n}: CO(GT) = {values[n - 1]}" for n in range(1, 24)]
    assert lines[192] == f"Prediction 24: CO(GT) = {values[23]} | Daily report queued"
    assert lines[193:] == [f"Prediction 25: CO(GT) = {values[24]}"]


def test_catching_up_shows_every_hundredth_and_every_report(rig: Rig) -> None:
    rig.send(0, 168 + 168)
    lines = run_lines(rig)
    shown = [int(match[1]) for line in lines if (match := re.match(r"Prediction (\d+):", line))]
    assert shown == sorted({100, *range(24, 169, 24)})
    assert lines[-1].endswith("| Daily report queued | Weekly report queued")
    assert "Waiting for warmup... (100/168 rows)" in lines
    assert lines.count("Warmup complete! Starting inference...") == 1


def test_the_count_goes_on_after_a_restart(rig: Rig) -> None:
    rig.send(0, 170)
    run_lines(rig)
    rig.send(170, 1)
    assert [line.split(":")[0] for line in run_lines(rig)] == ["Prediction 3"]


def test_a_report_is_announced_by_the_row_that_closed_its_window(rig: Rig) -> None:
    rig.send(0, 168 + 23)
    rig.send(100, 168 + 20, station=1)  # its hours overlap, its windows do not
    run_lines(rig)
    rig.send(168 + 26, 1)  # after a gap: the day ended three hours ago
    rig.send(100 + 168 + 20, 1, station=1)
    assert [line.partition(" | ")[2] for line in run_lines(rig)] == ["Daily report queued", ""]


def test_a_report_is_announced_by_its_own_station(rig: Rig) -> None:
    rig.send(20, 168 + 2)
    rig.send(0, 168 + 23, station=1)
    run_lines(rig)
    rig.send(200, 1)
    rig.send(191, 1, station=1)
    assert [line.partition(" | ")[2] for line in run_lines(rig)] == ["", "Daily report queued"]


def test_a_second_replay_says_so_and_is_counted(rig: Rig) -> None:
    rig.send(0, 180)
    run_lines(rig)
    rig.send(0, 180)
    lines = run_lines(rig)
    assert lines == [
        f"station_0: already predicted up to {isoformat(START + 99)}; 100 duplicates ignored",
        f"station_0: already predicted up to {isoformat(START + 179)}; 80 duplicates ignored",
    ]
    assert rig.worker.counts.duplicates == 180


def test_a_dead_letter_has_a_line_with_its_reason_and_place(rig: Rig) -> None:
    rig.kafka.append(RAW, 0, None, b"{")
    [line] = run_lines(rig)
    assert line.startswith("Dead letter (malformed) at offset 0: not JSON")


def test_a_dead_letter_holds_the_original_and_says_what_was_wrong(rig: Rig) -> None:
    rig.send(0, 2)
    rig.send(0, 1, variant=1)
    rig.kafka.append(RAW, 0, b"\xff", None)
    rig.worker.run()
    conflict, malformed = rig.kafka.log(DLQ)
    assert (malformed.key, malformed.value) == (b"\xff", None)
    assert conflict.value == rig.kafka.log(RAW)[2].value
    assert rig.kafka.headers[DLQ, 0, conflict.offset] == {
        "error_class": "InvalidRecord",
        "error_message": f"station_0 {isoformat(START)} was accepted before with other values",
        "reason": "conflict",
        "stage": "order",
        "source_topic": RAW,
        "source_partition": "0",
        "source_offset": "2",
    }
    assert rig.kafka.headers[DLQ, 0, malformed.offset]["stage"] == "parse"


def test_no_message_can_break_the_headers() -> None:
    letter = DeadLetter(Record(1, 2, None, b""), InvalidRecord("malformed", "\ud800"))
    headers = dict(consumer.dead_letter(letter, SETTINGS).headers)
    assert headers["error_message"] == rb"\ud800"


# --- the stream below it ---

HELD, NEW = TopicPartition("raw", 0), TopicPartition("raw", 1)


class Group:
    """A client whose group hands it a second partition, and that partition's first records, in the next poll."""

    def __init__(self, assignment: _Assignment) -> None:
        self.owned = {HELD: 5}
        self.paused: set[TopicPartition] = set()
        self.fault: Exception | None = None
        self._listener = assignment

    def assignment(self) -> set[TopicPartition]:
        return set(self.owned)

    def pause(self, *partitions: TopicPartition) -> None:
        self.paused |= set(partitions)

    def resume(self, *partitions: TopicPartition) -> None:
        self.paused -= set(partitions)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.owned[partition] = offset

    def poll(self, timeout_ms: int) -> dict[TopicPartition, list[types.SimpleNamespace]]:
        if self.fault:
            raise self.fault
        assert self.paused == {HELD}
        self.owned[NEW] = 12
        self._listener.on_partitions_assigned([NEW])
        return {NEW: [types.SimpleNamespace(offset=offset) for offset in (9, 10, 11)]}


@pytest.fixture
def stream() -> TransactionalStream:
    made = object.__new__(TransactionalStream)
    made._settings, made._assignment = Settings(), _Assignment()
    made._consumer = Group(made._assignment)
    return made


def test_records_that_come_while_membership_is_kept_are_given_back(stream: TransactionalStream) -> None:
    assert not stream.keep_membership()
    assert stream._consumer.owned == {HELD: 5, NEW: 9}
    assert stream._consumer.paused == set()


def test_a_fault_while_membership_is_kept_leaves_nothing_paused(stream: TransactionalStream) -> None:
    stream._consumer.fault = KafkaTimeoutError("no answer")
    with pytest.raises(Unavailable, match="no answer"):
        stream.keep_membership()
    assert stream._consumer.paused == set()


def test_a_partition_that_came_and_went_between_two_polls_is_lost_and_not_gained() -> None:
    noted = _Assignment()
    noted.on_partitions_assigned([NEW, HELD])
    noted.on_partitions_revoked([NEW])
    assert noted.take() == ({1}, {0})
    noted.on_partitions_lost([HELD])
    noted.on_partitions_assigned([HELD])
    assert noted.take() == ({0}, {0})
    assert noted.take() == (set(), set())


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
    port = free_port()
    for _ in range(2):
        with consumer._exposed(port, registry), socket.create_connection(("127.0.0.1", port)):
            pass
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
