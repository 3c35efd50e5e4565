"""The state of one assigned partition: its stations, its counts, and how both come back from Kafka.

Live rows and replayed rows go through the same :meth:`PartitionState.apply`; only where predictions come from differs.
A station's snapshot is its buffer and its monitor as of one raw offset. What lies between a partition's snapshots and
its committed offset is replayed; the note committed with the offset says from where, and holds the counts.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from airquality.events import AlarmEvent, Finding, OperationTaken, WindowJudged
from airquality.ground.errors import InvalidRecord
from airquality.incoming import LateTruth, Operation, TruthOutcome, parse_record
from airquality.monitoring.drift import Window
from airquality.records import Outcome, Prediction, Reading, RowAnswer, check_not_future, kafka_hour
from airquality.stream import snapshots
from airquality.stream.account import Counts, Note
from airquality.stream.batches import MAX_BATCH_BYTES
from airquality.stream.homes import Homes
from airquality.stream.identity import Plan, Refused
from airquality.stream.kafka_io import Record
from airquality.stream.saved import NOTE_HEADER, SINCE_HEADER, SavedStations
from airquality.stream.station import Buffer, Judge, Monitor, OpenStation, take_features

#: How many rows are replayed at a time: features and predictions of all of them are held together.
REPLAY_ROWS = 2_000
#: A snapshot takes a millisecond or two and up to 50 KB: a commit with many must not keep the next rows waiting.
SNAPSHOTS_PER_COMMIT = 500

logger = logging.getLogger(__name__)

#: Predicts the rows of a matrix: for each row its value and the model version that made it, or why there is none.
#: The offsets say which raw records the rows came from.
Predict = Callable[[NDArray[np.float64], Sequence[int]], Sequence[RowAnswer]]


@dataclass(frozen=True, slots=True)
class Unsaved:
    """The oldest accepted row of a station that no snapshot holds: where it is, and since when (monotonic seconds)."""

    offset: int
    pred_offset: int
    dlq_offset: int
    since: float


@dataclass
class Station:
    """Everything held for one station, since when, and the raw offset up to which its last snapshot holds it (-1: none)."""

    buffer: Buffer
    monitor: Monitor
    since_ms: int
    saved_offset: int = -1
    unsaved: Unsaved | None = None
    saved: bool = False


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
    #: What was found, each with the offset of the record it comes from.
    found: list[tuple[int, Finding]] = field(default_factory=list)
    warming: Reading | None = None

    @property
    def findings(self) -> list[Finding]:
        """What was found, in the order of the records it comes from: the same however the stream was cut."""
        return [finding for _, finding in sorted(self.found, key=lambda found: (found[0], found[1].at))]

    def refuse(self, record: Record, error: InvalidRecord) -> None:
        """Count a record as a dead letter."""
        self.dead_letters.append(DeadLetter(record, error))
        self.counts.dead_letters[error.reason] = self.counts.dead_letters.get(error.reason, 0) + 1


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A record for the state topic: a station's state, and in the headers the note of the same commit."""

    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


class PartitionState:
    """The stations of one raw partition and the counts of its rows.

    Invariant between batches: state, counts and ``next_offset`` are those of the last commit. After a failed batch
    the object is not to be used again; it is restored anew.

    Args:
        partition: The raw partition.
        note: What holds of the partition at its position.
        open_station: Opens the buffer and the monitor of a station.
        judge: Judges accepted rows hour by hour.
        forget: Lets go of a station's monitor.
        clock: Monotonic seconds.
        homes: Which partition each station lives on.
        group: The consumer group whose state this is; the state topic is one group's.
    """

    def __init__(
        self,
        partition: int,
        note: Note,
        open_station: OpenStation,
        judge: Judge,
        forget: Callable[[str], None],
        clock: Callable[[], float],
        homes: Homes,
        group: str = "",
    ) -> None:
        self.partition = partition
        self.next_offset = note.position
        self.pred_offset = note.pred_offset
        self.dlq_offset = note.dlq_offset
        self.counts = note.counts.copy()
        self.stations: dict[str, Station] = {}
        #: Whether something is to be committed though no row came: what a restore repaired, or began.
        self.dirty = False
        self._note = note
        self._open_station = open_station
        self._judge = judge
        self._forget = forget
        self._clock = clock
        self._homes = homes
        self._group = group
        self._refused: Mapping[int, InvalidRecord] = {}  # dead letters of the rows that are replayed

    def apply(self, records: Iterable[Record], predict: Predict) -> Batch:
        """Take in records in order and return what came of them; ``predict`` is called once, for all ready rows."""
        batch = Batch()
        ready: dict[str, list[tuple[Reading, Record]]] = {}
        accepted: dict[str, list[tuple[int, Reading | Operation]]] = {}
        for record in records:
            self._admit(record, batch, ready, accepted)
            self.next_offset = record.offset + 1
        answers = self._predicted(ready, predict)
        self._detect(accepted, batch)
        for station_id, rows in ready.items():
            for reading, record in rows:
                self._observe(self.stations[station_id].monitor, reading, record, answers[record.offset], batch)
        batch.predictions.sort(key=lambda prediction: prediction.source_offset)
        batch.dead_letters.sort(key=lambda letter: letter.record.offset)
        batch.counts.predictions = len(batch.predictions)
        batch.counts.check()
        self.counts.add(batch.counts)
        return batch

    def due_snapshots(self, max_offsets: int, max_seconds: float) -> list[Snapshot]:
        """Return the snapshots to publish with the next commit: of stations whose oldest unsaved row is far back or old.

        A station whose windows still wait for their reports is left out: a restart must see those windows again. At most
        :data:`SNAPSHOTS_PER_COMMIT` are returned, the others with the next commits.
        """
        began = self._clock()
        states = {}
        for station_id, station in self.stations.items():
            unsaved = station.unsaved
            if unsaved is None or station.monitor.outstanding:
                continue
            if self.next_offset - unsaved.offset >= max_offsets or began - unsaved.since >= max_seconds:
                states[station_id] = self._snapshot(station_id, station)
                if len(states) == SNAPSHOTS_PER_COMMIT:
                    break
        note = self.note().encode().encode()  # after all of them are saved: what a restart without an offset begins with
        return [
            Snapshot(
                station_id.encode(),
                state,
                ((NOTE_HEADER, note), (SINCE_HEADER, b"%d" % self.stations[station_id].since_ms)),
            )
            for station_id, state in states.items()
        ]

    def note(self) -> Note:
        """Return the note to commit, after :meth:`due_snapshots`."""
        unsaved = [station.unsaved for station in self.stations.values() if station.unsaved]
        return replace(
            self._note,
            position=self.next_offset,
            counts=self.counts,
            replay_offset=min((u.offset for u in unsaved), default=None),
            pred_offset=min((u.pred_offset for u in unsaved), default=0),
            dlq_offset=min((u.dlq_offset for u in unsaved), default=0),
            n_saved=sum(station.saved for station in self.stations.values()),
        )

    def restore(
        self,
        plan: Plan,
        saved: SavedStations,
        rows: Iterable[Record],
        published: Iterable[Record],
        refused: Mapping[int, InvalidRecord],
        ends: tuple[int, int],
    ) -> list[Window]:
        """Bring back the stations from their snapshots and the rows after them; nothing is published or predicted anew.

        Args:
            plan: From where to where, and what holds between.
            saved: What the state topic's partition says.
            rows: The raw records from ``plan.replay_from`` up to ``plan.resume``.
            published: The records of the prediction topic's partition from ``plan.note.pred_offset`` on.
            refused: The dead letters of those rows, by raw offset.
            ends: The offsets the next prediction and the next dead letter get.

        Returns:
            The windows the replayed rows closed, whose reports may not have been written.

        Raises:
            Refused: a snapshot is of another group or release, or a prediction is gone that ``plan`` needs.
        """
        for station_id in list(saved.snapshots):
            self._load(station_id, saved, plan)
        made = _predictions(published, self.partition)
        answers: dict[int, RowAnswer] = {p.source_offset: (p.prediction, p.model_version) for p in made}
        answers |= {offset: error for offset, error in refused.items() if error.reason == "unpredictable"}
        windows: list[Window] = []
        counted, self._refused = self.counts, refused
        for chunk in _chunks(row for row in rows if not self._is_known(row, saved)):
            new = [row for row in chunk if row.offset >= plan.note.position]
            for part, counts in ((chunk[: len(chunk) - len(new)], Counts()), (new, counted)):
                self.counts = counts
                windows += self.apply(part, lambda _, offsets: _look_up(answers, plan.strict, offsets)).windows
        self.counts, self._refused = counted, {}
        self.next_offset, (self.pred_offset, self.dlq_offset) = plan.resume, ends
        return windows

    def release(self) -> None:
        """Let go of the stations: another consumer owns the partition now."""
        for station_id in self.stations:
            self._forget(station_id)

    def _detect(self, accepted: Mapping[str, Sequence[tuple[int, Reading | Operation]]], batch: Batch) -> None:
        """Let the detectors judge the accepted rows, predicted or not, and do what operators decided between them."""
        items = {station_id: [item for _, item in arrived] for station_id, arrived in accepted.items()}
        for station_id, events in self._judge(items).items():
            self.stations[station_id].monitor.take_events([event for _, event in events])
            batch.found += [(accepted[station_id][place][0], AlarmEvent(station_id, event)) for place, event in events]

    def _admit(
        self,
        record: Record,
        batch: Batch,
        ready: dict[str, list[tuple[Reading, Record]]],
        accepted: dict[str, list[tuple[int, Reading | Operation]]],
    ) -> None:
        batch.counts.rows_in += 1
        try:
            if record.unread:
                raise InvalidRecord("oversize", f"its batch inflates to more than {MAX_BATCH_BYTES:,} bytes: it is not read")
            found = parse_record(record.key, record.value, record.headers)
            match found:
                case Reading():
                    self._admit_reading(found, record, batch, ready, accepted)
                case LateTruth():
                    self._admit_truth(found, record, batch)
                case Operation():
                    self._admit_operation(found, record, batch, accepted)
        except InvalidRecord as error:
            batch.refuse(record, error)

    def _admit_reading(
        self,
        reading: Reading,
        record: Record,
        batch: Batch,
        ready: dict[str, list[tuple[Reading, Record]]],
        accepted: dict[str, list[tuple[int, Reading | Operation]]],
    ) -> None:
        outcome = self._station(reading, record).buffer.push(reading, kafka_hour(record.timestamp_ms))
        if outcome is Outcome.DUPLICATE:
            batch.counts.duplicates += 1
            batch.duplicates.append(reading)
            return
        self._mark(reading.station_id, record.offset)
        accepted.setdefault(reading.station_id, []).append((record.offset, reading))
        if outcome is Outcome.WARMUP:
            batch.counts.warmup += 1
            batch.warming = reading
        else:
            ready.setdefault(reading.station_id, []).append((reading, record))

    def _admit_truth(self, truth: LateTruth, record: Record, batch: Batch) -> None:
        """Let a late truth fill its hour; one of a station that is not here was never streamed here."""
        station = self._known_station(truth.station_id, record)
        outcome = TruthOutcome.NEVER_STREAMED if station is None else station.buffer.fill(truth)
        if outcome is TruthOutcome.FILLED:
            self._mark(truth.station_id, record.offset)
        batch.counts.truths[outcome.value] = batch.counts.truths.get(outcome.value, 0) + 1

    def _admit_operation(
        self,
        operation: Operation,
        record: Record,
        batch: Batch,
        accepted: dict[str, list[tuple[int, Reading | Operation]]],
    ) -> None:
        """Count what an operator decided; it takes effect, and is published, where the station has rows."""
        station = self._known_station(operation.station_id, record)
        batch.counts.operations[operation.kind] = batch.counts.operations.get(operation.kind, 0) + 1
        if station is not None and station.buffer.newest_hour is not None:
            self._mark(operation.station_id, record.offset)
            accepted.setdefault(operation.station_id, []).append((record.offset, operation))
            taken = OperationTaken(operation, station.buffer.newest_hour, record.timestamp_ms)
            batch.found.append((record.offset, taken))

    def _predicted(self, ready: dict[str, list[tuple[Reading, Record]]], predict: Predict) -> dict[int, RowAnswer]:
        if not ready:
            return {}
        matrix = take_features([self.stations[station_id].buffer for station_id in ready])
        offsets = [record.offset for rows in ready.values() for _, record in rows]
        return dict(zip(offsets, predict(matrix, offsets), strict=True))

    def _observe(self, monitor: Monitor, reading: Reading, record: Record, answer: RowAnswer, batch: Batch) -> None:
        """Take in what the model said of a row; one it has no value for stays in the history all the same."""
        if isinstance(answer, InvalidRecord):
            batch.refuse(record, answer)
            return
        value, version = answer
        windows = monitor.observe(reading, value, version)
        batch.windows += windows
        batch.found += [(record.offset, WindowJudged.of(window)) for window in windows]
        verdicts = monitor.take_verdict_events()
        batch.found += [(record.offset, AlarmEvent(reading.station_id, event)) for event in verdicts]
        batch.predictions.append(
            Prediction(reading.station_id, reading.hour, value, reading.actual, version, self.partition, record.offset)
        )

    def _station(self, reading: Reading, record: Record) -> Station:
        """Return the row's station, opened if this is its first row; a refused row leaves nothing behind."""
        station_id = reading.station_id
        if self._known_station(station_id, record) is None:
            check_not_future(reading, None, kafka_hour(record.timestamp_ms))
            parts = self._open_station(station_id, None)
            self.stations[station_id] = Station(parts.buffer, parts.monitor, record.timestamp_ms)
            self._homes.learn(station_id, self.partition, record.timestamp_ms)
        return self.stations[station_id]

    def _known_station(self, station_id: str, record: Record) -> Station | None:
        """Return the station a record is of, None before its first row; raises ``InvalidRecord`` if it lives elsewhere."""
        if record.offset in self._refused and self._refused[record.offset].reason == "moved":
            raise self._refused[record.offset]  # as it was decided then, whatever is known of other partitions now
        if station_id not in self.stations:
            self._homes.require(station_id, self.partition)
        return self.stations.get(station_id)

    def _mark(self, station_id: str, offset: int) -> None:
        station = self.stations[station_id]
        if station.unsaved is None:
            station.unsaved = Unsaved(offset, self.pred_offset, self.dlq_offset, self._clock())

    def _snapshot(self, station_id: str, station: Station) -> bytes:
        station.saved_offset, station.unsaved, station.saved = self.next_offset - 1, None, True
        return snapshots.encode(
            {
                "station_id": station_id,
                "group": self._group,
                "offset": station.saved_offset,
                "buffer": station.buffer.state(),
                "monitor": station.monitor.state(),
            }
        )

    def _load(self, station_id: str, saved: SavedStations, plan: Plan) -> None:
        since_ms, record = saved.since_ms(station_id), saved.snapshots.pop(station_id)
        home = self._homes.home(station_id)
        if home not in (None, self.partition):
            logger.warning(
                "%s has a state on partition %d, but lives on partition %d, where its first row came earlier: the state of "
                "partition %d is left out",
                *(station_id, self.partition, home, self.partition),
            )
            return
        try:
            state = snapshots.decode(record.value or b"")
            group, parts = state["group"], self._open_station(station_id, state)
        except (ValueError, KeyError, TypeError) as error:
            raise Refused(
                f"the snapshot of {station_id!r} at offset {record.offset} of the state topic's partition {self.partition} "
                f"cannot be read ({type(error).__name__}: {error}). If another release wrote it, go on with that one, or, "
                f"with all consumers stopped, delete the state topic: the stations are rebuilt from the rows that are left. "
                f"A tombstone with that key forgets this station alone: it warms up again"
            ) from error
        if group != self._group:
            raise Refused(
                f"the state topic holds the stations of group {group!r}, not of {self._group!r}: "
                f"another group needs a STATE_TOPIC and a PRED_TOPIC of its own"
            )
        note = Note.decode(dict(record.headers)[NOTE_HEADER])
        station = Station(parts.buffer, parts.monitor, since_ms, state["offset"], saved=True)
        if note is None or note.era != plan.note.era:  # its offset is that of a raw log that is gone
            station.saved_offset = -1
            station.unsaved = Unsaved(plan.resume, self.pred_offset, self.dlq_offset, -math.inf)  # due at once
        self.stations[station_id] = station
        self._homes.learn(station_id, self.partition, since_ms)

    def _is_known(self, record: Record, saved: SavedStations) -> bool:
        """Whether a snapshot holds the row already, or a tombstone forgot it; a row without a key is parsed to know."""
        try:
            station_id = record.key.decode() if record.key else _station_id_in(record)
        except (InvalidRecord, UnicodeDecodeError):
            return False
        if 0 <= record.timestamp_ms <= saved.forgotten.get(station_id, -1):
            return True
        station = self.stations.get(station_id)
        return station is not None and record.offset <= station.saved_offset


def _station_id_in(record: Record) -> str:
    return parse_record(None, record.value, record.headers).station_id


def _chunks(rows: Iterable[Record]) -> Iterator[list[Record]]:
    rest = iter(rows)
    while chunk := list(itertools.islice(rest, REPLAY_ROWS)):
        yield chunk


def _predictions(records: Iterable[Record], partition: int) -> Iterator[Prediction]:
    """Yield the partition's predictions; what is not one of ours is passed over."""
    for record in records:
        prediction = prediction_of(record)
        if prediction is not None and prediction.source_partition == partition:
            yield prediction


def prediction_of(record: Record) -> Prediction | None:
    """Return the prediction that a record of the prediction topic holds, None if it is not ours."""
    try:
        return Prediction.from_bytes(record.value or b"")
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _look_up(made: Mapping[int, RowAnswer], strict: bool, offsets: Sequence[int]) -> list[RowAnswer]:
    absent = [offset for offset in offsets if offset not in made]
    if absent and strict:
        raise Refused(
            f"predictions of the raw offsets {absent[:5]} were committed but cannot be read back; "
            f"--accept-loss goes on without them"
        )
    gone = InvalidRecord("unpredictable", "its prediction is gone")
    return [made.get(offset, gone) for offset in offsets]
