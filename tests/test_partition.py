"""One partition's state: every cutting of the stream and every crash gives the same bytes; every row is accounted for."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airquality.data.digests import REMEMBERED_HOURS
from airquality.events import AlarmEvent, OperationTaken, WindowSettled, finding_of
from airquality.ground.errors import ContractError, InvalidRecord
from airquality.ground.settings import Settings
from airquality.incoming import TRUTH_OUTCOMES, LateTruth, Operation, with_late_truths
from airquality.model.predictor import FeatureRows
from airquality.monitoring.detectors import Detectors, DetectorsState
from airquality.records import HISTORY_HOURS, MAX_HOURS_AHEAD, Prediction, Reading, RowAnswer
from airquality.stream import snapshots
from airquality.stream.account import Counts, Note
from airquality.stream.batch import Batch
from airquality.stream.checkpoint import Snapshot
from airquality.stream.dead_letters import dead_letter, refused_rows
from airquality.stream.homes import Homes
from airquality.stream.identity import Plan
from airquality.stream.kafka_io import Record
from airquality.stream.partition import STATIONS_AS_SET, PartitionState
from airquality.stream.ports import Predictor
from airquality.stream.replay import replay
from airquality.stream.saved import SavedStations
from airquality.stream.transactions import Message, Position
from airquality.truth.performance import ErrorSums, Performance
from monitoring_service import HOURLY
from tests import watched
from tests.forecasts import calibration
from tests.simulated_kafka import Monitors, Predicts, SimulatedKafka, predicted, reading

START = 307_668
TOPICS = Settings(raw_topic="raw", pred_topic="pred", state_topic="state", dlq_topic="dlq")
GARBAGE = (b"{", None, b"[]", json.dumps({"station_id": "station_0"}).encode())
STATIONS = range(3)

KINDS = [
    "hours", "again", "conflict", "keyless", "garbage", "wrong key", "out of range", "future",
    "truth late", "truths", "keyless truths", "operation", "unknown type",
]  # fmt: skip

# A segment of the stream: what it holds, of which station, how far its first hour is from that station's newest, how long.
segments = st.lists(
    st.tuples(
        st.sampled_from(["hours"] * 3 + ["truth late"] * 2 + KINDS[1:]),
        st.sampled_from(STATIONS),
        st.sampled_from([1, 1, 1, 2, 30, 169, 170]),
        st.sampled_from([1, 2, 5, 30, 80]),
    ),
    min_size=1,
    max_size=14,
)
cuts = st.lists(st.sampled_from([1, 2, 7, 50, 200, 500]), min_size=1, max_size=8)


class Stream:
    """Raw records, with the newest hour of each station."""

    def __init__(self, warm: Sequence[int] = STATIONS) -> None:
        self.kafka = SimulatedKafka()
        self.newest = dict.fromkeys(STATIONS, START)
        for station in warm:
            self.hours(station, 1, HISTORY_HOURS - 2)

    @property
    def records(self) -> list[Record]:
        return self.kafka.log("raw")

    def add(self, kind: str, station: int, step: int, length: int) -> None:
        if kind == "hours":
            self.hours(station, step, length)
        elif kind == "keyless":
            self.hours(station, step, min(length, 5), keyed=False)
        elif kind in ("again", "conflict"):
            first = self.newest[station] - min(step * length, 400)
            for hour in range(first, min(first + length, self.newest[station] + 1)):
                self.send(station, hour, variant=int(kind == "conflict"))
        elif kind == "truth late":
            self.truth_late(station, step, length)
        elif kind in ("truths", "keyless truths"):
            self.truths(station, step, length, keyed=kind == "truths")
        elif kind == "operation":
            operation = Operation(f"station_{station}", "reset", "T", who="Ada")
            self.kafka.append("raw", 0, operation.station_id.encode(), operation.to_bytes(), headers=(*operation.headers,))
        elif kind == "unknown type":
            sent = reading(station, self.newest[station] + 1)
            self.kafka.append("raw", 0, sent.station_id.encode(), sent.to_bytes(), headers=(("type", b"row"),))
        elif kind == "garbage":
            self.kafka.append("raw", 0, b"station_%d" % station, GARBAGE[length % len(GARBAGE)])
        elif kind == "wrong key":
            self.kafka.append("raw", 0, b"other", reading(station, self.newest[station] + 1).to_bytes())
        elif kind == "future":
            kafka_ms = (self.newest[station] + length) * 3_600_000
            ahead = reading(station, self.newest[station] + length + MAX_HOURS_AHEAD + step)
            self.kafka.append("raw", 0, b"station_%d" % station, ahead.to_bytes(), kafka_ms)
        else:
            odd = reading(station, self.newest[station] + 1).to_bytes().replace(b'"RH":', b'"RH":1e6,"was":')
            self.kafka.append("raw", 0, b"station_%d" % station, odd)
        self.kafka.skip("raw", 0) if length == 2 else None

    def hours(self, station: int, step: int, length: int, keyed: bool = True) -> None:
        self.newest[station] += step - 1
        for _ in range(length):
            self.newest[station] += 1
            self.send(station, self.newest[station], keyed=keyed)

    def truth_late(self, station: int, delay: int, length: int) -> None:
        """Hours without their truth, each truth ``delay`` hours after its row."""
        first = self.newest[station] + 1
        for hour in range(first, first + length):
            sent = reading(station, hour)
            self.kafka.append("raw", 0, sent.station_id.encode(), replace(sent, values=(nan, *sent.values[1:])).to_bytes())
            self.truth(station, hour - delay, hour % 7 / 2)
        self.newest[station] += length

    def truths(self, station: int, back: int, length: int, keyed: bool) -> None:
        """Truths of hours that may never have been streamed, have a truth already, or are too old."""
        for hour in range(self.newest[station] - back, self.newest[station] - back + length):
            known = reading(station, hour).actual
            self.truth(station, hour, known if hour % 3 == 0 and known >= 0 else 2.5, keyed)

    def truth(self, station: int, hour: int, value: float, keyed: bool = True) -> None:
        truth = LateTruth(f"station_{station}", hour, value)
        key = truth.station_id.encode() if keyed else None
        self.kafka.append("raw", 0, key, truth.to_bytes(), headers=(*truth.headers,))

    def send(self, station: int, hour: int, variant: int = 0, keyed: bool = True) -> None:
        sent = reading(station, hour, variant)
        self.kafka.append("raw", 0, sent.station_id.encode() if keyed else None, sent.to_bytes())


def stream_of(described: list[tuple[str, int, int, int]]) -> Stream:
    stream = Stream()
    for segment in described:
        stream.add(*segment)
    return stream


@dataclass
class Ticks:
    """A clock that moves by one second whenever it is read."""

    now: float = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def fresh(note: Note | None = None, monitors: Monitors | None = None) -> PartitionState:
    monitors = monitors or Monitors()
    return PartitionState(0, note or Note(), monitors.open_station, monitors, Ticks(), Homes())


def dealt(records: list[Record], sizes: list[int]) -> Iterator[list[Record]]:
    """Yield the records in batches of these sizes, over and over."""
    rest = iter(records)
    for size in itertools.cycle(sizes):
        batch = list(itertools.islice(rest, size))
        if not batch:
            return
        yield batch


def _fail(rows: FeatureRows) -> list[RowAnswer]:
    raise AssertionError(f"nothing is ready, but {len(rows)} rows are asked for")


FORBIDDEN = Predicts(_fail)


@dataclass
class Outcomes:
    """Everything that came of a stream, as bytes."""

    predictions: list[bytes] = field(default_factory=list)
    dead_letters: list[tuple[int, str, str]] = field(default_factory=list)
    duplicates: list[bytes] = field(default_factory=list)
    windows: list[tuple[str, str, int]] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)

    def take(self, batch: Batch) -> None:
        self.predictions += [prediction.to_bytes() for prediction in batch.predictions]
        self.dead_letters += [(d.record.offset, d.error.reason, str(d.error)) for d in batch.dead_letters]
        self.duplicates += [duplicate.to_bytes() for duplicate in batch.duplicates]
        self.windows = sorted([*self.windows, *((w.station_id, w.kind.name, w.end_hour) for w in batch.windows)])


def _picky(rows: FeatureRows) -> list[RowAnswer]:
    """Predict but every fifth row or so, which one depends on its bits only."""
    answers: list[RowAnswer] = []
    for answer in predicted(rows):
        assert isinstance(answer, tuple)
        usable = int(answer[0] * 1e6) % 5
        answers.append(answer if usable else InvalidRecord("unpredictable", f"{answer[0]} is no concentration"))
    return answers


PICKY, PREDICTED = Predicts(_picky), Predicts()


def outcomes(records: list[Record], sizes: list[int]) -> tuple[Outcomes, list[Snapshot]]:
    """Return what comes of the records cut into batches, and the snapshots at the end."""
    monitors, found = Monitors(intervals=calibration()), Outcomes()
    state = fresh(monitors=monitors)
    for records_of_batch in dealt(records, sizes):
        batch = state.apply(records_of_batch, PICKY)
        found.take(batch)
        monitors.submit([*batch.windows, *batch.settled], state.stations)
        monitors.poll()
    found.counts = state.counts
    return found, list(state.checkpoint(0, 0.0).snapshots)


# --- cutting ---


@given(segments, cuts)
def test_any_cutting_of_the_stream_gives_the_same_bytes(
    described: list[tuple[str, int, int, int]], sizes: list[int]
) -> None:
    records = stream_of(described).records
    expected, expected_snapshots = outcomes(records, [len(records)])
    found, found_snapshots = outcomes(records, sizes)
    assert found == expected
    assert found_snapshots == expected_snapshots
    assert found.counts.rows_in == len(records)
    found.counts.check()


def test_the_streams_of_these_tests_hold_every_outcome() -> None:
    described = [(kind, 0, step, 30) for step in (1, 30, 169) for kind in KINDS]
    counts = outcomes(stream_of(described).records, [50])[0].counts
    assert min(counts.warmup, counts.predictions, counts.duplicates) > 0
    refused = {"malformed", "out_of_range", "unknown_type", "conflict", "late", "future", "unpredictable"}
    assert set(counts.dead_letters) == refused
    assert set(counts.truths) == set(TRUTH_OUTCOMES)
    assert counts.operations == {"reset": 3}


def test_ready_rows_of_all_stations_are_predicted_in_one_call() -> None:
    stream, calls = Stream(), []

    def counting(rows: FeatureRows) -> list[RowAnswer]:
        calls.append(len(rows))
        assert [f"station_{station}" for station in STATIONS for _ in range(8)] == rows.station_ids
        assert list(rows.hours) == [START + 168 + hour for _ in STATIONS for hour in range(1, 9)]
        return predicted(rows)

    for station in STATIONS:
        stream.hours(station, 1, 10)
    state = fresh()
    batch = state.apply(stream.records, Predicts(counting))
    assert calls == [len(batch.predictions)] == [24]
    assert [p.source_offset for p in batch.predictions] == sorted(p.source_offset for p in batch.predictions)


def test_a_batch_without_ready_rows_asks_for_no_prediction() -> None:
    batch = fresh().apply(Stream(warm=[0]).records, FORBIDDEN)
    assert batch.counts == Counts(rows_in=166, warmup=166)
    assert batch.warming is not None
    assert batch.warming.to_bytes() == reading(0, START + 166).to_bytes()


# --- crashes ---


class Life:
    """A partition whose owner commits as a worker does, and may die at any point: what it knew is then gone."""

    def __init__(
        self,
        kafka: SimulatedKafka,
        snapshot_offsets: int,
        reports_a_commit: int,
        predict: Predictor = PREDICTED,
        detect: Callable[[], Detectors] = lambda: Detectors(None),
    ) -> None:
        self.kafka = kafka
        self.detect = detect
        self.snapshot_offsets = snapshot_offsets
        self.reports_a_commit = reports_a_commit
        self.predict = predict
        self.restart()

    def restart(self) -> None:
        position = self.kafka.positions.get(0, Position(0, ""))
        note = Note.decode(position.note) or Note()
        plan = Plan(note, note.position if note.replay_offset is None else note.replay_offset, note.position)
        self.monitors = Monitors(self.detect(), calibration())
        self.state = fresh(note, self.monitors)
        windows = replay(
            self.state,
            self.monitors.open_station,
            plan,
            SavedStations(self.kafka.read("state", 0)),
            self.kafka.read("raw", 0, plan.replay_from, plan.resume),
            self.kafka.read("pred", 0, note.pred_offset),
            refused_rows(self.kafka.read("dlq", 0, note.dlq_offset), TOPICS),
            True,
            (self.kafka.end("pred", 0), self.kafka.end("dlq", 0)),
        )
        self.monitors.submit(windows, self.state.stations)

    def step(self, size: int, dies: str = "") -> None:
        """Take in up to ``size`` records and commit; die before or after that where ``dies`` says so."""
        records = list(itertools.islice(self.kafka.read("raw", 0, self.state.next_offset), size))
        batch = self.state.apply(records, self.predict)
        if dies != "before":
            self.commit(batch, self.snapshot_offsets)
        if dies:
            self.restart()
        else:
            self.monitors.submit([*batch.windows, *batch.settled], self.state.stations)
            self.monitors.finish(self.reports_a_commit)

    def commit(self, batch: Batch, snapshot_offsets: int) -> None:
        messages = [Message("pred", 0, p.station_id.encode(), p.to_bytes()) for p in batch.predictions]
        messages += [dead_letter(letter, TOPICS) for letter in batch.dead_letters]
        messages += [Message("events", 0, found.station_id.encode(), found.to_bytes()) for found in batch.findings]
        point = self.state.checkpoint(snapshot_offsets, 1e9 if snapshot_offsets else 0.0)
        messages += [Message("state", 0, snapshot.key, snapshot.value, snapshot.headers) for snapshot in point.snapshots]
        offsets = self.kafka.commit(messages, {0: Position(point.position, point.note.encode())})
        self.state.take_commit(point)
        for message, offset in zip(messages, offsets, strict=True):
            if message.topic == "pred":
                self.state.pred_offset = offset + 1
            elif message.topic == "dlq":
                self.state.dlq_offset = offset + 1

    def finish(self) -> dict[str, bytes]:
        """Take in the rest, make every report, snapshot every station, and return what the broker then holds of each.

        But for the offset of the snapshot, which says when it was taken.
        """
        while next(self.kafka.read("raw", 0, self.state.next_offset), None):
            self.step(500)
        self.monitors.poll()
        self.commit(Batch(), 0)
        latest = {r.key.decode(): snapshots.decode(r.value) for r in self.kafka.log("state") if r.key and r.value}
        return {name: snapshots.encode({**state, "offset": 0}) for name, state in latest.items()}


deaths = st.lists(
    st.tuples(st.sampled_from([0, 1, 3, 20, 90, 300]), st.sampled_from(["", "", "before", "after"])), min_size=1, max_size=10
)


def committed(kafka: SimulatedKafka, topic: str) -> list[tuple[bytes | None, bytes | None]]:
    return [(record.key, record.value) for record in kafka.log(topic)]


@given(segments, deaths, st.sampled_from([1, 60, 200, 10**9]), st.sampled_from([0, 1, 100]))
def test_a_crash_at_any_point_changes_nothing_that_is_committed(
    described: list[tuple[str, int, int, int]], steps: list[tuple[int, str]], snapshot_offsets: int, reports_a_commit: int
) -> None:
    unharmed, crashed = stream_of(described).kafka, stream_of(described).kafka
    expected = Life(unharmed, 10**9, 100, PICKY).finish()
    life = Life(crashed, snapshot_offsets, reports_a_commit, PICKY)
    for size, dies in steps:
        life.step(size, dies)
    found = life.finish()
    assert committed(crashed, "pred") == committed(unharmed, "pred")
    assert committed(crashed, "dlq") == committed(unharmed, "dlq")
    assert committed(crashed, "events") == committed(unharmed, "events")
    assert crashed.positions == unharmed.positions
    assert found == expected
    assert life.state.counts.rows_in == len(crashed.log("raw"))


def truth_a_day_late(n_hours: int) -> SimulatedKafka:
    """A station whose every truth comes 24 hours after its row."""
    kafka = SimulatedKafka()
    for record in with_late_truths([reading(0, START + hour) for hour in range(n_hours)], 24):
        headers = () if isinstance(record, Reading) else (*record.headers,)
        kafka.append("raw", 0, record.station_id.encode(), record.to_bytes(), headers=headers)
    return kafka


def settled(kafka: SimulatedKafka) -> list[WindowSettled]:
    found = [finding_of(record.value) for record in kafka.log("events")]
    return [finding for finding in found if isinstance(finding, WindowSettled)]


@pytest.mark.parametrize("snapshot_offsets", [1, 100, 10**9])
def test_final_performance_of_late_truth_is_the_offline_figure_whatever_crashed(snapshot_offsets: int) -> None:
    kafka = truth_a_day_late(HISTORY_HOURS + 24 * 9)
    life = Life(kafka, snapshot_offsets, 1)
    for size, dies in [(170, ""), (1, "before"), (1, "after"), (2, "before"), (90, "after"), (7, ""), (61, "before")]:
        life.step(size, dies)
    life.finish()
    predictions = [Prediction.from_bytes(record.value or b"") for record in kafka.log("pred")]
    assert all(math.isnan(prediction.actual) for prediction in predictions)
    found = settled(kafka)
    assert [each.truth.kind for each in found].count(
        "daily"
    ) == 6  # the last three days still wait for what was never measured
    for each in found:
        inside = [p for p in predictions if 0 <= each.end_hour - p.hour < each.kind.hours]
        truths = np.array([reading(0, p.hour).actual for p in inside])
        assert each.truth.final == Performance.of(np.array([p.prediction for p in inside]), truths)
        assert each.truth.known.n <= each.truth.final.n == sum(~np.isnan(truths))
    truths = np.array([reading(0, p.hour).actual for p in predictions])
    whole = Performance.of(np.array([p.prediction for p in predictions]), truths)
    figures = life.monitors.stations["station_0"].figures()
    assert figures.errors.performance() == whole
    assert life.state.counts.truths == {"filled": sum(not math.isnan(reading(0, START + h).actual) for h in range(384))}


def test_a_kill_between_a_truth_and_its_prediction_counts_each_once() -> None:
    kafka, unharmed = truth_a_day_late(HISTORY_HOURS + 60), truth_a_day_late(HISTORY_HOURS + 60)
    whole = Life(unharmed, 10**9, 100)
    expected = whole.finish()
    life = Life(kafka, 10**9, 100)
    life.step(350)
    for dies in ("before", "after", "") * 4:
        life.step(1, dies)
    assert life.finish() == expected
    for topic in ("pred", "events"):
        assert committed(kafka, topic) == committed(unharmed, topic)
    assert life.state.counts == whole.state.counts


def station_with_a_gain() -> SimulatedKafka:
    """A station whose rows follow the detectors' history, one sensor half as much again from its hundredth row on."""
    kafka, frame = SimulatedKafka(), watched.stream()
    values = frame.values[:500].copy()
    values[100:, watched.column("PT08.S1(CO)")] *= 1.5
    for hour, row in zip(frame.hours[:500].tolist(), values.tolist(), strict=True):
        kafka.append("raw", 0, b"roof", Reading("roof", hour, tuple(row)).to_bytes())
    return kafka


def attended_station() -> SimulatedKafka:
    """The same, and operators: two faults, an acknowledgement, work on another sensor, a repair that changed the level."""
    kafka, frame = SimulatedKafka(), watched.stream()
    values = frame.values[:500].copy()
    values[100:, watched.column("PT08.S1(CO)")] *= 1.5
    values[330:360, watched.column("PT08.S5(O3)")] = 4_000.0
    hours = frame.hours.tolist()
    done = {
        190: Operation("roof", "ack", "PT08.S1(CO)", who="ann"),
        191: Operation("roof", "maintenance", "PT08.S5(O3)", hours[330], hours[359], "ann"),
        480: Operation("roof", "reset", "PT08.S1(CO)", who="bob", note="new sensor"),
    }
    for row, (hour, cells) in enumerate(zip(hours[:500], values.tolist(), strict=True)):
        kafka.append("raw", 0, b"roof", Reading("roof", hour, tuple(cells)).to_bytes())
        if row in done:
            kafka.append("raw", 0, b"roof", done[row].to_bytes(), headers=(*done[row].headers,))
    return kafka


@pytest.mark.parametrize("snapshot_offsets", [1, 60, 10**9])
def test_operations_in_the_stream_a_crash_at_any_point_changes_no_finding(snapshot_offsets: int) -> None:
    unharmed, crashed = attended_station(), attended_station()
    expected = Life(unharmed, 10**9, 100, detect=watching).finish()
    life = Life(crashed, snapshot_offsets, 1, detect=watching)
    for size, dies in [
        (191, ""),
        (1, "after"),
        (1, ""),
        (1, "before"),
        (170, "after"),
        (118, ""),
        (1, "after"),
        (3, "before"),
    ]:
        life.step(size, dies)
    assert life.finish() == expected
    found = [finding_of(record.value) for record in unharmed.log("events")]
    assert [finding.operation.kind for finding in found if isinstance(finding, OperationTaken)] == [
        "ack",
        "maintenance",
        "reset",
    ]
    events = [finding.event for finding in found if isinstance(finding, AlarmEvent) and not finding.event.alarm[0]]
    assert {event.column for event in events} == {"PT08.S1(CO)"}
    assert [(event.kind, event.by) for event in events if event.kind != "changed"] == [("opened", ""), ("closed", "bob")]
    assert ("changed", "ann") in [(event.kind, event.by) for event in events]
    assert committed(crashed, "events") == committed(unharmed, "events")
    assert [event.alarm for event in life.monitors.stations["roof"].alarms.state() if not event.alarm[0]] == []


def test_operation_on_the_hour_a_window_closes_leaves_the_window_as_its_rows_say() -> None:
    def windows(sizes: list[int]) -> list[tuple[str, ...]]:
        monitors = Monitors(watching())
        state, found = fresh(monitors=monitors), []
        for records in dealt(kafka.log("raw"), sizes):
            batch = state.apply(records, PREDICTED)
            found += [tuple(event.column for event in window.alarms) for window in batch.windows]
            monitors.submit(batch.windows, state.stations)
        return found

    kafka = station_with_a_gain()
    last_of_a_day = 168 + 24 * 4 - 1
    reset = Operation("roof", "reset", "PT08.S1(CO)", who="ann")
    rows = kafka.log("raw")[: last_of_a_day + 30]
    kafka = SimulatedKafka()
    for row, record in enumerate(rows):
        kafka.append("raw", 0, record.key, record.value)
        if row == last_of_a_day:
            kafka.append("raw", 0, b"roof", reset.to_bytes(), headers=(*reset.headers,))
    assert windows([1000]) == windows([last_of_a_day + 1]) == windows([1])
    assert windows([1])[-2:] == [("PT08.S1(CO)",), ()]


def test_windows_say_what_is_learned_and_what_operators_did_however_the_stream_is_cut() -> None:
    def shown(sizes: list[int]) -> list[tuple[str, int, tuple[tuple[str, int], ...], tuple[tuple[int, str], ...]]]:
        monitors = Monitors(watching())
        state, found = fresh(monitors=monitors), []
        for records in dealt(kafka.log("raw"), sizes):
            batch = state.apply(records, PREDICTED)
            found += [(w.kind.name, w.end_hour, w.learning, w.operations) for w in batch.windows]
            monitors.submit(batch.windows, state.stations)
        return found

    kafka, frame = SimulatedKafka(), watched.stream()
    hours = (frame.hours[:700] + 1).tolist()  # not the calibrated station's next hour: it starts cold
    reset = Operation("roof", "reset", "T", who="ann", note="new sensor")
    for row, (hour, cells) in enumerate(zip(hours, frame.values[:700].tolist(), strict=True)):
        kafka.append("raw", 0, b"roof", Reading("roof", hour, tuple(cells)).to_bytes())
        if row == 600:
            kafka.append("raw", 0, b"roof", reset.to_bytes(), headers=(*reset.headers,))
    found = shown([1000])
    assert found == shown([1]) == shown([7, 90])
    assert dict(found[0][2]).keys() >= {"PT08.S1(CO)", "T"}
    assert {until for kind, end, learning, _ in found for _, until in learning if until <= end} == set()
    assert [dict(learning).get("T", 0) > 0 for kind, _, learning, _ in found if kind == "daily"][-5:] == [False] + [True] * 4
    done = [(kind, operations) for kind, _, _, operations in found if operations]
    assert done[0] == ("daily", ((hours[600], "Reset of T by ann: new sensor"),))
    assert [kind for kind, _ in done] in (["daily"], ["daily", "weekly"])


def test_operation_for_a_station_without_rows_is_counted_and_leaves_nothing_behind() -> None:
    kafka, ack = SimulatedKafka(), Operation("roof", "ack", "T", who="ann")
    kafka.append("raw", 0, b"roof", ack.to_bytes(), headers=(*ack.headers,))
    state = fresh(monitors=Monitors(watching()))
    batch = state.apply(kafka.log("raw"), FORBIDDEN)
    assert batch.counts.operations == {"ack": 1}
    assert (batch.findings, state.stations) == ([], {})


def watching() -> Detectors:
    return Detectors(watched.calibration())


@pytest.mark.parametrize("snapshot_offsets", [1, 60, 10**9])
def test_a_crash_at_any_point_changes_no_finding(snapshot_offsets: int) -> None:
    unharmed, crashed = station_with_a_gain(), station_with_a_gain()
    expected = Life(unharmed, 10**9, 100, detect=watching).finish()
    life = Life(crashed, snapshot_offsets, 1, detect=watching)
    for size, dies in [(60, ""), (45, "before"), (3, "after"), (1, "before"), (100, "after"), (7, ""), (50, "before")]:
        life.step(size, dies)
    assert life.finish() == expected
    found = [finding_of(record.value) for record in unharmed.log("events")]
    opened = [finding.event for finding in found if isinstance(finding, AlarmEvent) and not finding.event.alarm[0]]
    assert (opened[0].kind, opened[0].column) == ("opened", "PT08.S1(CO)")
    assert committed(crashed, "events") == committed(unharmed, "events")


def test_restore_another_calibration_begins_cold_keeps_the_alarms_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    kafka = station_with_a_gain()
    Life(kafka, 10**9, 100, detect=watching).finish()
    another = replace(watched.calibration(), data_hash="of other data")
    other = Life(kafka, 10**9, 100, detect=lambda: Detectors(another))
    assert "of another calibration and is dropped" in caplog.text
    roof = other.monitors.stations["roof"]
    remembered = roof.detectors[HOURLY].state()
    assert isinstance(remembered, DetectorsState)
    assert (remembered.basis, remembered.memory) == ("", {})
    assert ("", "PT08.S1(CO)") in roof.alarms


def test_restore_another_budget_keeps_what_the_detectors_remember(caplog: pytest.LogCaptureFixture) -> None:
    kafka = station_with_a_gain()
    before = Life(kafka, 10**9, 100, detect=watching)
    before.finish()
    other = Life(kafka, 10**9, 100, detect=lambda: Detectors(watched.calibration(), budget=2.0))
    remembered, kept = (life.monitors.stations["roof"].detectors[HOURLY].state() for life in (before, other))
    assert isinstance(remembered, DetectorsState)
    assert isinstance(kept, DetectorsState)
    np.testing.assert_equal(kept.memory, remembered.memory)
    assert caplog.text == ""


def note_of(life: Life) -> Note:
    note = Note.decode(life.kafka.positions[0].note)
    assert note is not None
    return note


def two_stations_one_saved() -> Life:
    """The last rows before the commit are of a station that has a snapshot; the other station's must be replayed."""
    stream = Stream()
    stream.hours(0, 1, 5)
    stream.hours(1, 1, 5)
    life = Life(stream.kafka, 10**9, 100)
    life.state.stations.clear()
    life.step(10**6)
    stations = life.state.stations
    others = [station for station_id, station in stations.items() if station_id != "station_1"]
    for station in others:
        station.reports.outstanding += 1
    point = life.state.checkpoint(0, 0.0)
    [snapshot] = point.snapshots
    life.state.take_commit(point)
    for station in others:
        station.reports.outstanding -= 1
    position = Position(life.state.next_offset, life.state.checkpoint(10**9, 1e9).note.encode())
    life.kafka.commit([Message("state", 0, snapshot.key, snapshot.value, snapshot.headers)], {0: position})
    return life


def test_restart_goes_on_at_the_committed_offset() -> None:
    life = two_stations_one_saved()
    committed, counts = life.state.next_offset, life.state.counts
    life.restart()
    assert life.state.next_offset == committed
    life.finish()
    life.restart()
    assert life.state.next_offset == committed
    assert life.state.counts == counts


def test_a_second_crash_before_any_snapshot_finds_the_predictions_of_before_the_first() -> None:
    stream = Stream(warm=[0])
    stream.hours(0, 1, 30)
    life = Life(stream.kafka, 10**9, 0)
    life.step(180)
    life.step(3, "after")
    life.step(3, "after")
    life.restart()
    assert life.state.counts.predictions == 18


def test_replay_begins_with_the_predictions_of_the_station_that_is_furthest_back() -> None:
    stream = Stream(warm=[0])
    stream.hours(0, 1, 10)
    stream.hours(1, 1, 1)
    life = Life(stream.kafka, 10**9, 100)
    life.step(176)
    life.step(1)
    assert note_of(life).pred_offset == 0
    life.restart()
    assert life.state.counts.predictions == 8


def errors_of(life: Life) -> ErrorSums:
    return life.monitors.stations["station_0"].windows.errors


def test_a_restart_publishes_and_predicts_nothing_anew() -> None:
    life = two_stations_one_saved()
    transactions = life.kafka.transactions
    life.predict = FORBIDDEN
    life.restart()
    assert life.kafka.transactions == transactions
    assert errors_of(life) == errors_of(two_stations_one_saved())


def test_a_committed_prediction_that_cannot_be_read_back_stops_the_start() -> None:
    life = two_stations_one_saved()
    lost = life.kafka.log("pred").pop(0)
    with pytest.raises(ContractError, match=r"raw offsets \[\d+\] were committed but cannot be read back"):
        life.restart()
    assert lost.value is not None


def test_a_snapshot_that_cannot_be_read_stops_the_start() -> None:
    life = two_stations_one_saved()
    headers = life.kafka.log("state")[0].headers
    life.kafka.append("state", 0, b"station_1", b"garbage", headers=headers)
    with pytest.raises(ContractError, match=r"the snapshot of 'station_1' at offset 2 .* cannot be read"):
        life.restart()


def test_windows_that_had_no_report_yet_are_seen_again() -> None:
    stream = Stream(warm=[0])
    stream.hours(0, 1, 2 + 48)
    life = Life(stream.kafka, 1, reports_a_commit=0)
    life.step(10**6)
    assert [w.end_hour for w in life.monitors.waiting] == [START + 168 + 24, START + 168 + 48]
    assert life.kafka.log("state") == []  # outstanding windows block the snapshot
    life.restart()
    assert [w.end_hour for w in life.monitors.waiting] == [START + 168 + 24, START + 168 + 48]
    life.finish()
    assert len(life.kafka.log("state")) == 1
    life.restart()
    assert not life.monitors.waiting
    assert life.monitors.stations["station_0"].reports.generated == {"daily": 2, "weekly": 0}


# --- what is due, and how large ---


def test_a_snapshot_is_due_by_offsets_or_by_age_and_only_where_rows_are_unsaved() -> None:
    stream = Stream(warm=[0, 1])
    state = fresh()
    state.apply(stream.records, FORBIDDEN)
    assert state.checkpoint(10_000, 1e9).snapshots == ()
    point = state.checkpoint(200, 1e9)
    [snapshot] = point.snapshots
    assert snapshot.key == b"station_0"  # the rows of station_1 are the last 166
    assert point.note.replay_offset == 166
    state.take_commit(point)
    point = state.checkpoint(10_000, 1.0)
    assert [snapshot.key for snapshot in point.snapshots] == [b"station_1"]
    assert point.note.replay_offset is None
    state.take_commit(point)
    assert state.checkpoint(0, 0.0).snapshots == ()


def test_snapshots_of_many_stations_are_due_further_back_so_that_rows_cost_more_than_they() -> None:
    kafka, state = SimulatedKafka(), fresh()
    for row in range(4 * STATIONS_AS_SET + 50):  # of three sets of stations
        hour, station = divmod(row, 3 * STATIONS_AS_SET)
        kafka.append("raw", 0, b"station_%d" % station, reading(station, START + hour).to_bytes())
    records = kafka.log("raw")
    state.apply(records[:-1], FORBIDDEN)
    assert state.checkpoint(150, 1e9).snapshots == ()
    state.apply(records[-1:], FORBIDDEN)
    [snapshot] = state.checkpoint(150, 1e9).snapshots
    assert snapshot.key == b"station_0"


def test_checkpoint_of_stations_without_news_looks_at_none_of_them() -> None:
    kafka, state = SimulatedKafka(), fresh()
    for station in range(3):
        kafka.append("raw", 0, b"station_%d" % station, reading(station, START).to_bytes())
    state.apply(kafka.log("raw"), FORBIDDEN)
    state.take_commit(state.checkpoint(0, 0.0))
    kafka.append("raw", 0, b"station_1", reading(1, START + 1).to_bytes())
    state.apply(kafka.log("raw")[3:], FORBIDDEN)
    point = state.checkpoint(0, 0.0)
    assert (point.station_ids, point.note.n_saved) == (("station_1",), 3)


def test_checkpoint_changes_nothing() -> None:
    stream = Stream(warm=[0, 1])
    stream.hours(0, 1, 30)
    state = fresh()
    state.apply(stream.records, PREDICTED)
    for station in state.stations.values():
        station.reports.outstanding = 0
    first, second = (state.checkpoint(0, 0.0) for _ in range(2))
    assert first == second
    assert len(first.snapshots) == 2


def test_a_snapshot_after_10_000_hours_fits_its_limit() -> None:
    monitors, stream = Monitors(), Stream(warm=[])
    state = fresh(monitors=monitors)
    n_weeks = REMEMBERED_HOURS // HISTORY_HOURS + 2
    stream.hours(0, 1, n_weeks * HISTORY_HOURS - 1)  # the open week is full but for its last hour
    for batch in dealt(stream.records, [510]):
        applied = state.apply(batch, PREDICTED)
        monitors.submit([*applied.windows, *applied.settled], state.stations)
        monitors.poll()
    kept = monitors.stations["station_0"].windows.state()
    assert len(kept.hours) == HISTORY_HOURS - 1
    [snapshot] = state.checkpoint(0, 0.0).snapshots
    assert 30_000 < len(snapshot.value) <= snapshots.MAX_BYTES


def test_a_released_partition_lets_go_of_its_stations() -> None:
    monitors = Monitors()
    state = fresh(monitors=monitors)
    state.apply(Stream().records, FORBIDDEN)
    assert set(monitors.stations) == {"station_0", "station_1", "station_2"}
    state.release()
    assert monitors.stations == {}


# --- rows without a prediction ---


def test_apply_unpredictable_row_is_a_dead_letter_and_stays_in_the_history() -> None:
    stream = Stream(warm=[0])
    stream.hours(0, 1, 4)
    third = len(stream.records) - 1
    refusal = InvalidRecord("unpredictable", "no value")
    made = fresh().apply(
        stream.records,
        Predicts(lambda r: [refusal if o == third - 1 else a for o, a in zip(r.offsets, predicted(r), strict=True)]),
    )
    assert made.counts == Counts(rows_in=170, warmup=168, predictions=1, dead_letters={"unpredictable": 1})
    assert [letter.record.offset for letter in made.dead_letters] == [third - 1]
    unharmed = fresh().apply(stream.records, PREDICTED)
    values = [prediction.prediction for prediction in unharmed.predictions[1:]]
    assert [p.prediction for p in made.predictions] == values  # the last row's features hold the refused row's hour


def test_apply_row_of_2099_does_not_make_later_rows_late() -> None:
    stream = Stream(warm=[])
    now_ms = (START + 5) * 3_600_000
    for hour in (START + 1, START + 800_000, START + 2):
        stream.kafka.append("raw", 0, b"station_0", reading(0, hour).to_bytes(), now_ms)
    batch = fresh().apply(stream.records, FORBIDDEN)
    assert batch.counts == Counts(rows_in=3, warmup=2, dead_letters={"future": 1})


def test_apply_refused_rows_open_no_station() -> None:
    stream = Stream(warm=[])
    stream.kafka.append("raw", 0, b"station_0", reading(0, START + 800_000).to_bytes(), START * 3_600_000)
    monitors = Monitors()
    state = fresh(monitors=monitors)
    state.apply(stream.records, FORBIDDEN)
    assert state.stations == monitors.stations == {}
