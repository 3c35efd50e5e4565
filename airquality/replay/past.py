"""What Kafka still holds of a station's past: its published predictions and the raw rows they were made of."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from airquality.ground.errors import InvalidRecord, UsageError
from airquality.ground.settings import Settings
from airquality.incoming import LateTruth, Operation, parse_record
from airquality.records import HISTORY_HOURS, Prediction, Reading, isoformat
from airquality.stream import dlq, kafka_io
from airquality.stream.kafka_io import Record
from airquality.stream.replay import prediction_of

#: Where a record is: partition and offset.
Place = tuple[int, int]
#: How many raw records are read at first, backwards from the newest row wanted; each further block is twice as long.
_FIRST_BLOCK = 1_000


@dataclass(frozen=True, slots=True)
class Row:
    """A raw record of a station that was accepted, a reading or a truth that came late, and where it is."""

    place: Place
    content: Reading | LateTruth


@dataclass(frozen=True, slots=True)
class Past:
    """The predictions asked for, ascending in time, and the raw rows that were accepted up to the newest of them.

    ``rows`` are in the order of the stream. ``gone_before`` is None where they reach back as far as is needed, else the
    offset at which what is left of the raw topic begins.
    """

    predictions: Sequence[Prediction]
    rows: Sequence[Row]
    gone_before: int | None

    @property
    def first_hour(self) -> int:
        """The hour of the oldest reading."""
        return min(row.content.hour for row in self.rows if isinstance(row.content, Reading))


def read_past(settings: Settings, station_id: str, hours: range) -> Past:
    """Read the station's predictions of these hours, and the rows they were made of.

    Raises:
        UsageError: there is no such prediction.
        Unavailable: no broker answers.
    """
    predictions = sorted(_predictions(settings, station_id, hours), key=lambda prediction: prediction.hour)
    if not predictions:
        raise UsageError(
            f"{settings.pred_topic} holds no prediction of station {station_id!r} {_span(hours)}: was it in the warm-up, "
            f"refused (python -m airquality dlq list --station {station_id}), or deleted by retention?"
        )
    refused = _refused(settings)
    first_hour = predictions[0].hour - HISTORY_HOURS
    ends: dict[int, int | None] = {}
    for prediction in sorted(predictions, key=lambda each: each.source_offset):
        ends[prediction.source_partition] = prediction.source_offset + 1
    if any(math.isnan(prediction.actual) for prediction in predictions):  # the truth may have come later
        ends = dict.fromkeys(ends)
    rows, oldest = _rows(settings, station_id, ends, first_hour, refused)
    if not _reach_back(rows, first_hour):  # a station that was moved began on another partition
        others: dict[int, int | None] = {p: None for p in kafka_io.partitions(settings, settings.raw_topic) if p not in ends}
        rows = [*_rows(settings, station_id, others, first_hour, refused)[0], *rows]
    return Past(predictions, rows, None if _reach_back(rows, first_hour) else oldest)


def _reach_back(rows: Sequence[Row], first_hour: int) -> bool:
    return any(row.content.hour <= first_hour for row in rows if isinstance(row.content, Reading))


def _span(hours: range) -> str:
    if len(hours) == 1:
        return f"at {isoformat(hours.start)}"
    return f"from {isoformat(hours.start)} to {isoformat(hours.stop - 1)}"


def _predictions(settings: Settings, station_id: str, hours: range) -> Iterator[Prediction]:
    key = station_id.encode()
    for partition in kafka_io.partitions(settings, settings.pred_topic):
        for record in kafka_io.read(settings, settings.pred_topic, partition):
            prediction = prediction_of(record) if record.key == key else None
            if prediction is not None and prediction.hour in hours:
                yield prediction


def _refused(settings: Settings) -> set[Place]:
    """Return where the raw records are that never became part of a station's history."""
    letters = dlq.letters(settings, dlq.Filter())
    return {
        (partition, offset)
        for letter in letters
        for topic, partition, offset in [letter.source]
        if topic == settings.raw_topic and letter.reason != "unpredictable"  # that one is history: the model had no value
    }


def _rows(
    settings: Settings, station_id: str, ends: Mapping[int, int | None], first_hour: int, refused: Collection[Place]
) -> tuple[list[Row], int]:
    """Return the station's accepted rows, read backwards from an offset of each partition (None: its end) to ``first_hour``.

    Beside them the oldest offset that is still there, of the partition that begins latest.
    """
    found: list[Row] = []
    begins = 0
    for partition, end in ends.items():
        oldest, newest = kafka_io.log_ranges(settings, [settings.raw_topic], partition)[settings.raw_topic]
        rows: list[Row] = []
        stop, step = newest if end is None else min(end, newest), _FIRST_BLOCK
        while stop > oldest and not _reach_back(rows, first_hour):
            start = max(oldest, stop - step)
            block = kafka_io.read(settings, settings.raw_topic, partition, start, stop)
            rows = [*_accepted(block, station_id, refused), *rows]
            stop, step = start, 2 * step
        found, begins = [*found, *rows], max(begins, oldest)
    return found, begins


def _accepted(records: Iterable[Record], station_id: str, refused: Collection[Place]) -> Iterator[Row]:
    key = station_id.encode()
    for record in records:
        place = record.partition, record.offset
        if record.key not in (None, key) or record.unread or place in refused:
            continue
        try:
            content = parse_record(record.key, record.value, record.headers)
        except InvalidRecord:  # its dead letter is gone, or not written yet
            continue
        if content.station_id == station_id and not isinstance(content, Operation):
            yield Row(place, content)
