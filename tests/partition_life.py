"""Streams of made-up stations, and the lives of a partition's state that takes them in: cut into batches, and crashed."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import nan

from hypothesis import strategies as st

from airquality.events import WindowSettled, finding_of
from airquality.ground.errors import InvalidRecord
from airquality.ground.settings import Settings
from airquality.incoming import LateTruth, Operation, with_late_truths
from airquality.model.predictor import FeatureRows
from airquality.monitoring.detectors import Detectors
from airquality.records import HISTORY_HOURS, MAX_HOURS_AHEAD, Reading, RowAnswer
from airquality.stream import snapshots
from airquality.stream.account import Counts, Note
from airquality.stream.batch import Batch
from airquality.stream.checkpoint import Snapshot
from airquality.stream.dead_letters import dead_letter, refused_rows
from airquality.stream.homes import Homes
from airquality.stream.identity import Plan
from airquality.stream.kafka_io import Record
from airquality.stream.partition import PartitionState
from airquality.stream.ports import Predictions
from airquality.stream.replay import replay
from airquality.stream.saved import SavedStations
from airquality.stream.transactions import Message, Position
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


class Life:
    """A partition whose owner commits as a worker does, and may die at any point: what it knew is then gone."""

    def __init__(
        self,
        kafka: SimulatedKafka,
        snapshot_offsets: int,
        reports_a_commit: int,
        predictions: Predictions = PREDICTED,
        detect: Callable[[], Detectors] = lambda: Detectors(None),
    ) -> None:
        self.kafka = kafka
        self.detect = detect
        self.snapshot_offsets = snapshot_offsets
        self.reports_a_commit = reports_a_commit
        self.predictions = predictions
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
        batch = self.state.apply(records, self.predictions)
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
        written = self.kafka.commit(messages, {0: Position(point.position, point.note.encode())})
        self.state.take_commit(point)
        self.state.pred_offset = written.get(("pred", 0), self.state.pred_offset)
        self.state.dlq_offset = written.get(("dlq", 0), self.state.dlq_offset)

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


def committed(kafka: SimulatedKafka, topic: str) -> list[tuple[bytes | None, bytes | None]]:
    return [(record.key, record.value) for record in kafka.log(topic)]


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


def watching() -> Detectors:
    return Detectors(watched.calibration())


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
