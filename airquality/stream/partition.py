"""The state of one assigned partition: its stations, its counts, and what a commit says of both.

Live rows and replayed rows go through the same :meth:`PartitionState.apply`; only where predictions come from differs.
A station's snapshot is everything it holds as of one raw offset. What lies between a partition's snapshots and its
committed offset is replayed (``airquality/stream/replay.py``); the note committed with the offset says from where, and holds
the counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from airquality.events import AlarmEvent, OperationTaken, RowsMissed, WindowJudged, WindowSettled
from airquality.ground.errors import InvalidRecord
from airquality.incoming import LateTruth, Operation, TruthOutcome, parse_record
from airquality.model.predictor import FeatureRows
from airquality.monitoring.component import Found, Missed, Predicted, Refusal, Row
from airquality.monitoring.drift import Window
from airquality.records import Outcome, Prediction, Reading, RowAnswer, check_not_future, kafka_hour
from airquality.reports.summary import PartitionFigures
from airquality.stream.account import Note
from airquality.stream.batch import Batch
from airquality.stream.checkpoint import Checkpoint, Snapshot
from airquality.stream.entered import Accepted, Entered, Passed, SideInput
from airquality.stream.feature_rows import take_features
from airquality.stream.homes import Homes
from airquality.stream.kafka_io import Record
from airquality.stream.ports import Monitoring, OpenStation, Predictions
from airquality.stream.quiet import Quiet
from airquality.stream.saved import headers_of
from airquality.stream.station import Station, Unsaved
from airquality.stream.then import Then
from airquality.truth.window_truth import WindowTruth

#: A snapshot takes a millisecond or two: rows that come during a commit with snapshots wait a tenth of a second at most.
SNAPSHOTS_PER_COMMIT = 50
#: On a partition with more stations than this, rows are so much further back before they are due: else a thousand stations
#: that catch up would be snapshotted every fifth row, which takes longer than the rows.
STATIONS_AS_SET = 100


def _publish(found: Iterable[Found], station: Station, batch: Batch) -> None:
    """Put what a station found where it is published and reported."""
    for each in found:
        match each:
            case Window():
                batch.windows.append(each)
                batch.findings.append(WindowJudged.of(each))
            case WindowTruth():
                batch.settled.append(WindowSettled(station.station_id, each))
                batch.findings.append(batch.settled[-1])
            case Missed():
                batch.findings.append(RowsMissed(station.station_id, each))
            case _:
                batch.findings.append(AlarmEvent(station.station_id, each))


class PartitionState:
    """The stations of one raw partition and the counts of its rows.

    Invariant between batches: state, counts and ``next_offset`` are those of the last commit. After a failed batch
    the object is not to be used again; it is restored anew.

    Args:
        partition: The raw partition.
        note: What holds of the partition at its position.
        open_station: Opens a station.
        monitoring: Judges accepted rows of many stations together, and lets go of stations.
        clock: Monotonic seconds.
        homes: Which partition each station lives on.
        group: The consumer group whose state this is; the state topic is one group's.
    """

    def __init__(
        self,
        partition: int,
        note: Note,
        open_station: OpenStation,
        monitoring: Monitoring,
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
        self.homes = homes
        self.group = group
        #: Whether something is to be committed though no row came: what a restore repaired, or began.
        self.dirty = False
        #: What was decided of the rows that are replayed.
        self.then = Then()
        #: Whether a replayed record's station holds it already; None outside of a replay.
        self.known: Callable[[Record], bool] | None = None
        self.quiet = Quiet()
        self.quiet.newest = self._newest_admitted = note.newest
        # So that a commit costs what its rows do, however many stations have none.
        self._unsaved: dict[str, Station] = {}
        self._n_saved = 0
        self._note = note
        self._open_station = open_station
        self._monitoring = monitoring
        self._clock = clock

    def hold(self, station: Station) -> None:
        """Take in a station that was brought back from its snapshot, before any row."""
        self.stations[station.station_id] = station
        self._n_saved += station.saved
        if station.unsaved is not None:
            self._unsaved[station.station_id] = station

    def apply(self, records: Iterable[Record], predictions: Predictions) -> Batch:
        """Take in records in order and return what came of them.

        ``predictions`` are asked for once, for all ready rows; until they are there the detectors judge these rows.
        """
        batch = Batch()
        entered = self._admit_all(records, batch)
        awaited = self._begin([row for row in entered if isinstance(row, Accepted) and row.ready], predictions)
        self._judge(entered)
        answers = awaited()
        for entry in entered:
            self._take(entry, answers, batch)
        batch.dead_letters.sort(key=lambda letter: letter.record.offset)
        batch.counts.predictions = len(batch.predictions)
        batch.counts.check()
        self.counts.add(batch.counts)
        return batch

    def _admit_all(self, records: Iterable[Record], batch: Batch) -> list[Entered]:
        entered = list[Entered]()
        for record in records:
            entry = self._admit(record, batch)
            entered += [entry] if entry else []
            self.next_offset = record.offset + 1
        return entered

    def _admit(self, record: Record, batch: Batch) -> Entered | None:
        """Return what the record means to its station, None where it means nothing; count what became of it."""
        if self.known is not None and self.known(record):
            return self._passed(record)
        batch.counts.rows_in += 1
        try:
            found = self.then.parse(record)
            match found:
                case Reading():
                    return self._admit_reading(found, record, batch)
                case LateTruth():
                    return self._admit_truth(found, record, batch)
                case Operation():
                    return self._admit_operation(found, record, batch)
        except InvalidRecord as error:
            batch.refuse(record, error)
        return None

    def _passed(self, record: Record) -> Passed | None:
        """Return the hour of a record that its station holds already, None where it was refused then."""
        try:
            found = parse_record(record.key, record.value, record.headers)
        except InvalidRecord:
            return None
        if not isinstance(found, Reading) or self.then.kept_out(record):
            return None
        self._newest_admitted = max(self._newest_admitted, found.hour)
        return Passed(found.hour, record)

    def _admit_reading(self, reading: Reading, record: Record, batch: Batch) -> Entered | None:
        station = self._station(reading, record)
        try:
            outcome = station.buffer.push(reading, kafka_hour(record.timestamp_ms))
        except InvalidRecord as error:
            batch.refuse(record, error)
            return self._side_input(station, Refusal(reading, error.reason), record)
        if outcome is Outcome.DUPLICATE:
            batch.counts.duplicates += 1
            batch.duplicates.append(reading)
            return None
        self._mark(station, record.offset)
        batch.arrivals[reading.station_id] = reading, record
        self._newest_admitted = max(self._newest_admitted, reading.hour)
        if outcome is Outcome.WARMUP:
            batch.counts.warmup += 1
            batch.warming = reading
        return Accepted(station, reading, record, outcome is Outcome.READY)

    def _admit_truth(self, truth: LateTruth, record: Record, batch: Batch) -> SideInput | None:
        """Let a late truth fill its hour; one of a station that is not here was never streamed here."""
        station = self._known_station(truth.station_id, record)
        outcome = TruthOutcome.NEVER_STREAMED if station is None else station.buffer.fill(truth)
        batch.counts.truths[outcome.value] = batch.counts.truths.get(outcome.value, 0) + 1
        if station is None or outcome is not TruthOutcome.FILLED:
            return None
        return self._side_input(station, truth, record)

    def _admit_operation(self, operation: Operation, record: Record, batch: Batch) -> SideInput | None:
        """Count what an operator decided; it takes effect, and is published, where the station has rows."""
        station = self._known_station(operation.station_id, record)
        batch.counts.operations[operation.kind] = batch.counts.operations.get(operation.kind, 0) + 1
        return None if station is None else self._side_input(station, operation, record)

    def _side_input(self, station: Station, what: LateTruth | Operation | Refusal, record: Record) -> SideInput | None:
        hour = station.buffer.newest_hour
        if hour is None:
            return None
        self._mark(station, record.offset)
        return SideInput(station, what, hour, record)

    def _mark(self, station: Station, offset: int) -> None:
        """Note that no snapshot holds what the record at ``offset`` did to its station."""
        if station.unsaved is None:
            station.unsaved = Unsaved(offset, self.pred_offset, self.dlq_offset, self._clock(), self._newest_admitted)
            self._unsaved[station.station_id] = station

    def _station(self, reading: Reading, record: Record) -> Station:
        """Return the row's station, opened if this is its first row; a refused row leaves nothing behind."""
        station_id = reading.station_id
        if self._known_station(station_id, record) is None:
            check_not_future(reading, None, kafka_hour(record.timestamp_ms))
            self.stations[station_id] = self._open_station(station_id, None)
            self.stations[station_id].since_ms = record.timestamp_ms
            self.homes.learn(station_id, self.partition, record.timestamp_ms)
        return self.stations[station_id]

    def _known_station(self, station_id: str, record: Record) -> Station | None:
        """Return the station a record is of, None before its first row; raises ``InvalidRecord`` if it lives elsewhere."""
        self.then.require_not_moved(record)
        if station_id not in self.stations:
            self.homes.require(station_id, self.partition)
        return self.stations.get(station_id)

    def _begin(self, ready: Sequence[Accepted], predictions: Predictions) -> Callable[[], dict[int, RowAnswer]]:
        """Begin to have rows predicted, station by station; return what waits for the answers, by raw offset."""
        if not ready:
            return dict
        by_station: dict[str, list[Accepted]] = {}
        for row in ready:
            by_station.setdefault(row.station.station_id, []).append(row)
        rows = [row for of_station in by_station.values() for row in of_station]
        asked = FeatureRows(
            matrix=take_features([of_station[0].station.buffer for of_station in by_station.values()]),
            station_ids=[row.station.station_id for row in rows],
            hours=[row.reading.hour for row in rows],
            offsets=[row.record.offset for row in rows],
            partition=self.partition,
        )
        answers = predictions.begin(asked)
        return lambda: dict(zip(asked.offsets, answers(), strict=True))

    def _judge(self, entered: Sequence[Entered]) -> None:
        """Let the hour-by-hour detectors judge the rows, whether or not the model predicts them, all stations together."""
        by_station: dict[str, list[Reading | Operation]] = {}
        for entry in entered:
            if isinstance(entry, Passed):
                continue
            item = entry.reading if isinstance(entry, Accepted) else entry.what
            if isinstance(item, Reading | Operation):
                by_station.setdefault(entry.station.station_id, []).append(item)
        if by_station:
            self._monitoring.judge([(self.stations[station_id], items) for station_id, items in by_station.items()])

    def _take(self, entry: Entered, answers: Mapping[int, RowAnswer], batch: Batch) -> None:
        """Let a station take in what entered it, in the order of the stream."""
        before = self.quiet.newest
        match entry:
            case Accepted():
                self._update(entry, answers.get(entry.record.offset), batch)
                self._say_silences(self.quiet.move(entry.station, entry.reading.hour), entry.record, before, batch)
            case Passed():
                self._say_silences(self.quiet.pass_by(entry.hour), entry.record, before, batch)
            case SideInput():
                _publish(self._apply(entry, batch), entry.station, batch)

    def _apply(self, side_input: SideInput, batch: Batch) -> Sequence[Found]:
        match side_input.what:
            case Operation():
                batch.findings.append(OperationTaken(side_input.what, side_input.hour, side_input.record.timestamp_ms))
                return side_input.station.operate(side_input.what)
            case LateTruth():
                return side_input.station.take_truth(side_input.what)
            case Refusal():
                return side_input.station.take_refusal(side_input.what)

    def _say_silences(
        self, silent: Iterable[tuple[Station, list[Found]]], record: Record, newest: int, batch: Batch
    ) -> None:
        """Say which stations send nothing while others go on; their state changed though no row of theirs came.

        A replay must begin with ``record``, where the partition's newest hour was ``newest``, even if the station has a
        later row in this very batch.
        """
        for station, events in silent:
            unsaved = station.unsaved
            if unsaved is None or unsaved.offset > record.offset:
                since = self._clock() if unsaved is None else unsaved.since
                station.unsaved = Unsaved(record.offset, self.pred_offset, self.dlq_offset, since, newest)
                self._unsaved[station.station_id] = station
            _publish(events, station, batch)

    def _update(self, row: Accepted, answer: RowAnswer | None, batch: Batch) -> None:
        """Let a row's station take it in; one the model has no value for stays in the history all the same."""
        row.station.arrived_ms = row.record.timestamp_ms
        if isinstance(answer, InvalidRecord):
            batch.refuse(row.record, answer)
            answer = None
        if answer is None:
            _publish(row.station.update(Row(row.reading)), row.station, batch)
            return
        reading, (value, version) = row.reading, answer
        interval = row.station.around(reading, value)
        _publish(row.station.update(Row(reading, Predicted(value, version, interval))), row.station, batch)
        made = Prediction(
            station_id=reading.station_id,
            hour=reading.hour,
            prediction=value,
            actual=reading.actual,
            model_version=version,
            source_partition=self.partition,
            source_offset=row.record.offset,
            lower=math.nan if interval is None else interval.lower,
            upper=math.nan if interval is None else interval.upper,
        )
        batch.predictions.append(made)
        row.station.prediction = (value, made.lower, made.upper)

    def checkpoint(self, max_offsets: int, max_seconds: float) -> Checkpoint:
        """Return what the next commit says; its snapshots are of stations whose oldest unsaved row is far back or old.

        ``max_offsets`` holds for up to :data:`STATIONS_AS_SET` stations, and for more of them in proportion.
        A station whose windows are not stored as due yet is left out: a restart must see those windows again. At most
        :data:`SNAPSHOTS_PER_COMMIT` are taken, the others with the next commits. Nothing changes here: see
        :meth:`take_commit`.
        """
        due = self._due(max_offsets, max_seconds)
        kept = [s.unsaved for s in self._unsaved.values() if s.unsaved and s.station_id not in due]
        note = replace(
            self._note,
            position=self.next_offset,
            counts=self.counts.copy(),
            replay_offset=min((u.offset for u in kept), default=None),
            pred_offset=min((u.pred_offset for u in kept), default=0),
            dlq_offset=min((u.dlq_offset for u in kept), default=0),
            newest=min(kept, key=lambda u: u.offset).newest if kept else self._newest_admitted,
            n_saved=self._n_saved + sum(not station.saved for station in due.values()),
            uncalibrated=self._monitoring.uncalibrated,
        )
        encoded = note.encode().encode()  # what a restart without an offset begins with
        taken = tuple(self._snapshot(self.stations[station_id], encoded) for station_id in due)
        return Checkpoint(self.next_offset, note, taken, tuple(due), bool(due) or self.dirty)

    def _due(self, max_offsets: int, max_seconds: float) -> dict[str, Station]:
        began, due = self._clock(), dict[str, Station]()
        far = max_offsets * max(1.0, len(self.stations) / STATIONS_AS_SET)
        for station_id, station in self._unsaved.items():
            unsaved = station.unsaved
            if unsaved is None or station.reports.outstanding:
                continue
            if self.next_offset - unsaved.offset >= far or began - unsaved.since >= max_seconds:
                due[station_id] = station
                if len(due) == SNAPSHOTS_PER_COMMIT:
                    break
        return due

    def _snapshot(self, station: Station, note: bytes) -> Snapshot:
        encoded = station.snapshot(self.group, self.next_offset - 1)
        return Snapshot(station.station_id.encode(), encoded, headers_of(note, station.since_ms, self.partition))

    def take_commit(self, checkpoint: Checkpoint) -> None:
        """Note that ``checkpoint`` was committed."""
        self.dirty = False
        for station_id in checkpoint.station_ids:
            station = self.stations[station_id]
            self._n_saved += not station.saved
            station.saved_offset, station.unsaved, station.saved = checkpoint.position - 1, None, True
            del self._unsaved[station_id]

    def save_soon(self, station_id: str) -> None:
        """Have a station saved with the next commit, whether or not it changed."""
        station = self.stations[station_id]
        self._mark(station, self.next_offset)
        assert station.unsaved is not None
        station.unsaved = replace(station.unsaved, since=-math.inf)

    def figures(self) -> PartitionFigures:
        """Return what the summary says of this partition."""
        stations = [self.stations[station_id].figures() for station_id in sorted(self.stations)]
        return PartitionFigures(self.counts.summary(), tuple(stations))

    def release(self) -> None:
        """Let go of the stations: another consumer owns the partition now."""
        for station in self.stations.values():
            self._monitoring.forget(station)
