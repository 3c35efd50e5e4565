"""Bring a partition's stations back: from their snapshots, and from the rows after them. Nothing is published anew."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from airquality.ground.errors import InvalidRecord, Refused
from airquality.incoming import parse_record
from airquality.model.predictor import Answers, FeatureRows
from airquality.records import Prediction, RowAnswer, isoformat
from airquality.reports.due import Job
from airquality.stream import snapshots
from airquality.stream.account import Counts, Note
from airquality.stream.identity import Plan
from airquality.stream.kafka_io import Record
from airquality.stream.partition import PartitionState
from airquality.stream.ports import OpenStation
from airquality.stream.saved import NOTE_HEADER, SavedStations
from airquality.stream.station import Unsaved
from airquality.stream.then import Then

#: How many rows are replayed at a time: features and predictions of all of them are held together.
REPLAY_ROWS = 2_000

logger = logging.getLogger(__name__)


class Published:
    """Predicts rows by what was published of them."""

    def __init__(self, made: Mapping[int, Prediction], refused: Mapping[int, InvalidRecord], strict: bool) -> None:
        """What was published, by raw offset; with ``strict``, a row whose answer is gone or another row's is refused."""
        self._made = made
        self._refused = refused
        self._strict = strict

    def begin(self, asked: FeatureRows) -> Answers:
        """Return what was published of each row, as soon as it is asked for."""
        return lambda: self._published(asked)

    def _published(self, asked: FeatureRows) -> Sequence[RowAnswer]:
        rows = list(zip(asked.offsets, asked.station_ids, asked.hours, strict=True))
        if self._strict:
            self._require_all(rows)
        return [self._answer(*row) for row in rows]

    def _answer(self, offset: int, station_id: str, hour: int) -> RowAnswer:
        if offset in self._refused:
            return self._refused[offset]
        made = self._made.get(offset)
        if made is None or (made.station_id, made.hour) != (station_id, hour):
            return InvalidRecord("unpredictable", "its prediction is gone")
        return made.prediction, made.model_version

    def _require_all(self, rows: Sequence[tuple[int, str, int]]) -> None:
        absent = [offset for offset, _, _ in rows if offset not in self._made and offset not in self._refused]
        if absent:
            raise Refused(
                f"predictions of the raw offsets {absent[:5]} were committed but cannot be read back; "
                f"--accept-loss goes on without them"
            )
        for offset, station_id, hour in rows:
            made = self._made.get(offset)
            if made and (made.station_id, made.hour) != (station_id, hour):
                raise Refused(
                    f"the raw row at offset {offset} is of {station_id!r} at {isoformat(hour)}, but the prediction made of "
                    f"that offset is of {made.station_id!r} at {isoformat(made.hour)}: the raw topic is not the one that "
                    f"was predicted. A CONSUMER_GROUP with topics of its own begins anew; --accept-loss goes on in this one "
                    f"and takes the rows up to the newest prediction's offset for done"
                )


def replay(
    state: PartitionState,
    open_station: OpenStation,
    plan: Plan,
    saved: SavedStations,
    rows: Iterable[Record],
    published: Iterable[Record],
    refused: Mapping[int, InvalidRecord],
    complete: bool,
    ends: tuple[int, int],
) -> list[Job]:
    """Bring back the stations of ``state``, which holds none yet, from their snapshots and the rows after them.

    Args:
        state: The partition.
        open_station: Opens a station from its snapshot.
        plan: From where to where, and what holds between.
        saved: What the state topic's partition says.
        rows: The raw records from ``plan.replay_from`` up to ``plan.resume``.
        published: The records of the prediction topic's partition from ``plan.note.pred_offset`` on.
        refused: The dead letters of those rows, by raw offset.
        complete: Whether none of those letters has been deleted since.
        ends: The offsets the next prediction and the next dead letter get.

    Returns:
        The windows the replayed rows closed or settled, whose reports may not have been written.

    Raises:
        Refused: a snapshot is of another group or release, a prediction is gone that ``plan`` needs, or a row that was sound
            is not so by today's rules.
    """
    for station_id in list(saved.snapshots):
        _load(state, open_station, station_id, saved, plan)
    made = {prediction.source_offset: prediction for prediction in _predictions(published, state.partition)}
    without = {offset: error for offset, error in refused.items() if error.reason == "unpredictable"}
    predictor = Published(made, without, plan.strict)
    windows: list[Job] = []
    counted, state.then = state.counts, Then(refused, complete and plan.strict)
    state.quiet.begin(state.stations.values(), plan.note.newest)
    state.known = lambda record: _is_known(state, record, saved)
    for chunk in _chunks(rows):
        new = [row for row in chunk if row.offset >= plan.note.position]
        for part, counts in ((chunk[: len(chunk) - len(new)], Counts()), (new, counted)):
            state.counts = counts
            batch = state.apply(part, predictor)
            windows += [*batch.windows, *batch.settled]
    state.counts, state.then, state.known = counted, Then(), None
    state.next_offset, (state.pred_offset, state.dlq_offset) = plan.resume, ends
    for station_id in saved.stale & state.stations.keys():
        state.save_soon(station_id)  # or the older snapshot after it would be all that is left of it
    return windows


def _load(state: PartitionState, open_station: OpenStation, station_id: str, saved: SavedStations, plan: Plan) -> None:
    since_ms, record = saved.since_ms(station_id), saved.snapshots.pop(station_id)
    home = state.homes.home(station_id)
    if home not in (None, state.partition):
        logger.warning(
            "%s has a state on partition %d, but lives on partition %d, where its first row came earlier: the state of "
            "partition %d is left out",
            *(station_id, state.partition, home, state.partition),
        )
        return
    try:
        document = snapshots.decode(record.value or b"")
        _require_own(state.group, document["group"])
        if document["station_id"] != station_id:
            raise ValueError(f"it is one of {document['station_id']!r}")
        station, offset = open_station(station_id, document), int(document["offset"])
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise Refused(
            f"the snapshot of {station_id!r} at offset {record.offset} of the state topic's partition {state.partition} "
            f"cannot be read ({type(error).__name__}: {error}). If another release wrote it, go on with that one, or, "
            f"with all consumers stopped, delete the state topic: the stations are rebuilt from the rows that are left. "
            f"A tombstone with that key forgets this station alone: it warms up again"
        ) from error
    note = Note.decode(dict(record.headers)[NOTE_HEADER] or b"")
    station.since_ms, station.saved_offset, station.saved = since_ms, offset, True
    if note is None or note.era != plan.note.era:  # its offset is that of a raw log that is gone
        station.saved_offset = -1
        station.unsaved = Unsaved(plan.resume, state.pred_offset, state.dlq_offset, -math.inf)  # due at once
    state.hold(station)
    state.homes.learn(station_id, state.partition, since_ms)


def _require_own(group: str, found: object) -> None:
    if found != group:
        raise Refused(
            f"the state topic holds the stations of group {found!r}, not of {group!r}: "
            f"another group needs a STATE_TOPIC and a PRED_TOPIC of its own"
        )


def _is_known(state: PartitionState, record: Record, saved: SavedStations) -> bool:
    """Whether a snapshot holds the row already, or a tombstone forgot it; a row without a key is parsed to know."""
    try:
        station_id = record.key.decode() if record.key else parse_record(None, record.value, record.headers).station_id
    except (InvalidRecord, UnicodeDecodeError):
        return False
    if 0 <= record.timestamp_ms <= saved.forgotten.get(station_id, -1):
        return True
    station = state.stations.get(station_id)
    return station is not None and record.offset <= station.saved_offset


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
