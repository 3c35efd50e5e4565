"""The state of one assigned partition: its stations, its counts, and how both come back from Kafka.

Live rows and replayed rows go through the same :meth:`PartitionState.apply`; only where predictions come from differs.
A station's snapshot is its buffer and its monitor as of one raw offset. What lies between a partition's snapshots and
its committed offset is replayed; the note committed with the offset says from where, and holds the counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import orjson
from numpy.typing import NDArray

from airquality.ground.errors import ContractError, InvalidRecord
from airquality.monitoring.drift import Window
from airquality.records import DEAD_LETTER_REASONS, Prediction, Reading, kafka_hour, parse_reading
from airquality.stream import snapshots
from airquality.stream.kafka_io import Record
from airquality.stream.station import Buffer, Monitor, OpenStation, Outcome, take_features

#: Predicts the rows of a matrix: for each row its value in mg/m3 and the model version that made it. The offsets say
#: which raw records the rows came from.
Predict = Callable[[NDArray[np.float64], Sequence[int]], list[tuple[float, str]]]


@dataclass
class Counts:
    """What became of the rows of a partition. The law: ``rows_in`` is the sum of all the others."""

    rows_in: int = 0
    warmup: int = 0
    predictions: int = 0
    duplicates: int = 0
    dead_letters: dict[str, int] = field(default_factory=dict)

    def add(self, other: Counts) -> None:
        """Add another partition's or batch's counts."""
        self.rows_in += other.rows_in
        self.warmup += other.warmup
        self.predictions += other.predictions
        self.duplicates += other.duplicates
        for reason, count in other.dead_letters.items():
            self.dead_letters[reason] = self.dead_letters.get(reason, 0) + count

    def check(self) -> None:
        """Raise ``ContractError`` if a row is unaccounted for."""
        accounted = self.warmup + self.predictions + self.duplicates + sum(self.dead_letters.values())
        if accounted != self.rows_in or not set(self.dead_letters) <= set(DEAD_LETTER_REASONS):
            raise ContractError(f"{self.rows_in} rows came in but {accounted} are accounted for: {self}")

    def summary(self) -> dict[str, Any]:
        """Return the counts under the names of ``monitoring_summary.json``."""
        return {
            "rows_in": self.rows_in,
            "warmup": self.warmup,
            "predictions_total": self.predictions,
            "dead_letters": dict(sorted(self.dead_letters.items())),
            "duplicates": self.duplicates,
        }


@dataclass(frozen=True, slots=True)
class Unsaved:
    """The oldest accepted row of a station that no snapshot holds: where it is, and since when (monotonic seconds)."""

    offset: int
    pred_offset: int
    since: float


@dataclass
class Station:
    """Everything held for one station, and the raw offset up to which its last snapshot holds it (-1: none)."""

    buffer: Buffer
    monitor: Monitor
    saved_offset: int = -1
    unsaved: Unsaved | None = None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that was refused, and why."""

    record: Record
    error: InvalidRecord


@dataclass
class Batch:
    """What came of the records of one partition: the outcome of each, in order, and what to publish and report."""

    counts: Counts = field(default_factory=Counts)
    predictions: list[Prediction] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)
    duplicates: list[Reading] = field(default_factory=list)
    warming: Reading | None = None


@dataclass(frozen=True)
class Note:
    """What is committed with a partition's offset: its counts, and from where a restart must replay (None: nothing)."""

    counts: Counts
    replay_offset: int | None
    pred_offset: int | None

    def encode(self) -> str:
        """Return the note as Kafka keeps it; a few hundred bytes of the 4,096 it allows."""
        return orjson.dumps(self).decode()

    @classmethod
    def decode(cls, text: str) -> Self:
        """Return the note of :meth:`encode`; an empty text is the note of a partition never committed."""
        if not text:
            return cls(Counts(), None, None)
        note = orjson.loads(text)
        return cls(Counts(**note["counts"]), note["replay_offset"], note["pred_offset"])


class PartitionState:
    """The stations of one raw partition and the counts of its rows.

    Invariant between batches: state, counts and ``next_offset`` are those of the last commit. After a failed batch
    the object is not to be used again; it is restored anew.

    Args:
        partition: The raw partition.
        next_offset: The first raw offset not yet applied.
        pred_offset: A lower bound for the offset the next prediction gets in the prediction topic.
        open_station: Opens the buffer and the monitor of a station.
        forget: Lets go of a station's monitor.
        clock: Monotonic seconds.
        group: The consumer group whose state this is; the state topic is one group's.
    """

    def __init__(
        self,
        partition: int,
        next_offset: int,
        pred_offset: int,
        open_station: OpenStation,
        forget: Callable[[str], None],
        clock: Callable[[], float],
        group: str = "",
    ) -> None:
        self.partition = partition
        self.next_offset = next_offset
        self.pred_offset = pred_offset
        self.counts = Counts()
        self.stations: dict[str, Station] = {}
        self._open_station = open_station
        self._forget = forget
        self._clock = clock
        self._group = group

    def apply(self, records: Iterable[Record], predict: Predict) -> Batch:
        """Take in records in order and return what came of them; ``predict`` is called once, for all ready rows."""
        batch = Batch()
        ready: dict[str, list[tuple[Reading, int]]] = {}
        for record in records:
            self._admit(record, batch, ready)
            self.next_offset = record.offset + 1
        made = self._predicted(ready, predict)
        for station_id, rows in ready.items():
            monitor = self.stations[station_id].monitor
            for reading, offset in rows:
                value, version = made[offset]
                batch.windows += monitor.observe(reading, value, version)
                batch.predictions.append(
                    Prediction(station_id, reading.hour, value, reading.actual, version, self.partition, offset)
                )
        batch.predictions.sort(key=lambda prediction: prediction.source_offset)
        batch.counts.predictions = len(batch.predictions)
        batch.counts.check()
        self.counts.add(batch.counts)
        return batch

    def due_snapshots(self, max_offsets: int, max_seconds: float) -> dict[str, bytes]:
        """Return the snapshots to publish with the next commit: of stations whose oldest unsaved row is far back or old.

        A station whose windows still wait for their reports is left out: a restart must see those windows again.
        """
        now = self._clock()
        due = {}
        for station_id, station in self.stations.items():
            unsaved = station.unsaved
            if unsaved is None or station.monitor.outstanding:
                continue
            if self.next_offset - unsaved.offset >= max_offsets or now - unsaved.since >= max_seconds:
                due[station_id] = self._snapshot(station_id, station)
        return due

    def note(self) -> Note:
        """Return the note to commit, after :meth:`due_snapshots`."""
        unsaved = [station.unsaved for station in self.stations.values() if station.unsaved]
        return Note(
            counts=self.counts,
            replay_offset=min((u.offset for u in unsaved), default=None),
            pred_offset=min((u.pred_offset for u in unsaved), default=None),
        )

    def restore(
        self, note: Note, saved: Iterable[Record], rows: Iterable[Record], published: Iterable[Record]
    ) -> list[Window]:
        """Bring back the stations from their snapshots and the rows after them; nothing is published or predicted anew.

        Args:
            note: The note of the committed offset.
            saved: The records of the state topic's partition.
            rows: The raw records from ``note.replay_offset`` up to the committed offset.
            published: The records of the prediction topic's partition from ``note.pred_offset`` on.

        Returns:
            The windows the replayed rows closed, whose reports may not have been written.
        """
        for record in saved:
            self._load(record)
        stands = self.next_offset  # the last rows before it may be of stations whose snapshots hold them already
        newest, self.pred_offset = self.pred_offset, note.pred_offset or 0  # where the replayed rows' predictions begin
        made = {p.source_offset: (p.prediction, p.model_version) for p in _predictions(published, self.partition)}
        batch = self.apply((row for row in rows if not self._is_saved(row)), lambda _, offsets: _look_up(made, offsets))
        self.next_offset, self.counts, self.pred_offset = stands, note.counts, newest
        return batch.windows

    def release(self) -> None:
        """Let go of the stations: another consumer owns the partition now."""
        for station_id in self.stations:
            self._forget(station_id)

    def _admit(self, record: Record, batch: Batch, ready: dict[str, list[tuple[Reading, int]]]) -> None:
        batch.counts.rows_in += 1
        try:
            reading = parse_reading(record.key, record.value)
            outcome = self._station(reading.station_id).buffer.push(reading, kafka_hour(record.timestamp_ms))
        except InvalidRecord as error:
            batch.dead_letters.append(DeadLetter(record, error))
            batch.counts.dead_letters[error.reason] = batch.counts.dead_letters.get(error.reason, 0) + 1
            return
        if outcome is Outcome.DUPLICATE:
            batch.counts.duplicates += 1
            batch.duplicates.append(reading)
            return
        self._mark(reading.station_id, record.offset)
        if outcome is Outcome.WARMUP:
            batch.counts.warmup += 1
            batch.warming = reading
        else:
            ready.setdefault(reading.station_id, []).append((reading, record.offset))

    def _predicted(self, ready: dict[str, list[tuple[Reading, int]]], predict: Predict) -> dict[int, tuple[float, str]]:
        if not ready:
            return {}
        matrix = take_features([self.stations[station_id].buffer for station_id in ready])
        offsets = [offset for rows in ready.values() for _, offset in rows]
        return dict(zip(offsets, predict(matrix, offsets), strict=True))

    def _station(self, station_id: str) -> Station:
        if station_id not in self.stations:
            parts = self._open_station(station_id, None)
            self.stations[station_id] = Station(parts.buffer, parts.monitor)
        return self.stations[station_id]

    def _mark(self, station_id: str, offset: int) -> None:
        station = self.stations[station_id]
        if station.unsaved is None:
            station.unsaved = Unsaved(offset, self.pred_offset, self._clock())

    def _snapshot(self, station_id: str, station: Station) -> bytes:
        station.saved_offset, station.unsaved = self.next_offset - 1, None
        return snapshots.encode(
            {
                "station_id": station_id,
                "group": self._group,
                "offset": station.saved_offset,
                "buffer": station.buffer.state(),
                "monitor": station.monitor.state(),
            }
        )

    def _load(self, record: Record) -> None:
        if record.value is None:
            return
        try:
            state = snapshots.decode(record.value)
        except ValueError as error:
            raise ContractError(f"the snapshot of {record.key!r} cannot be read: {error}") from error
        if state["group"] != self._group:
            raise ContractError(
                f"the state topic holds the stations of group {state['group']!r}, not of {self._group!r}: "
                f"another group needs a STATE_TOPIC and a PRED_TOPIC of its own"
            )
        parts = self._open_station(state["station_id"], state)
        self.stations[state["station_id"]] = Station(parts.buffer, parts.monitor, saved_offset=state["offset"])

    def _is_saved(self, record: Record) -> bool:
        """Whether a snapshot holds the row already; the key is the station, and a row without one is parsed to know."""
        try:
            station_id = record.key.decode() if record.key else parse_reading(None, record.value).station_id
        except (InvalidRecord, UnicodeDecodeError):
            return False
        station = self.stations.get(station_id)
        return station is not None and record.offset <= station.saved_offset


def _predictions(records: Iterable[Record], partition: int) -> Iterable[Prediction]:
    for record in records:
        if record.value is not None:
            prediction = Prediction.from_bytes(record.value)
            if prediction.source_partition == partition:
                yield prediction


def _look_up(made: Mapping[int, tuple[float, str]], offsets: Sequence[int]) -> list[tuple[float, str]]:
    absent = [offset for offset in offsets if offset not in made]
    if absent:
        raise ContractError(f"predictions of the raw offsets {absent[:5]} were committed but cannot be read back")
    return [made[offset] for offset in offsets]
