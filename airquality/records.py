"""The records on the wire: what a reading and a prediction are, how they are parsed, and what is refused.

Hours are integers: whole hours since 1970-01-01T00:00 in the station's own local time, without a time zone,
because that is what the data set records. Arithmetic on them is exact and a lag of 24 means 24 hours.
"""

from __future__ import annotations

import functools
import json
import math
import re
import reprlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, NamedTuple

import orjson

from airquality.ground.errors import InvalidRecord
from airquality.network.current import NETWORK

#: The column that is predicted.
TARGET = NETWORK.target.name
#: What predictions and their errors are measured in, in ASCII.
TARGET_UNIT = NETWORK.target.ascii_unit
#: Columns of a raw record in the order of the declaration; units, limits and roles stand there.
RAW_COLUMNS = NETWORK.names
#: Where each is in a row, and where the target is.
COLUMN_INDEX = {name: index for index, name in enumerate(RAW_COLUMNS)}
TARGET_INDEX = COLUMN_INDEX[TARGET]
#: The columns the device itself measures, as opposed to the reference analysers beside it.
DEVICE_COLUMNS = tuple(column.name for column in NETWORK.device)
#: What the columns are measured in.
UNITS: dict[str, str] = {column.name: column.unit for column in NETWORK.columns}
#: The data set's marker for a missing value; accepted on the wire beside null.
MISSING_MARKER = -200.0
#: What no such instrument can report, inclusive bounds. Outside is a dead letter; odd but possible is an alarm's business.
HARD_LIMITS: dict[str, tuple[float, float]] = {column.name: column.limits for column in NETWORK.columns}
#: The hours a row can be of, inclusive: no such device existed before, and Kafka's timestamps are of this age.
HOUR_LIMITS = (datetime(1970, 1, 1), datetime(2199, 12, 31, 23))
#: How many hours a row may be ahead of its station's newest hour or of Kafka's timestamp, whichever allows more: two days,
#: because station-local time is up to 14 hours ahead of UTC and clocks are wrong by a day.
MAX_HOURS_AHEAD = 48
#: What may be a Kafka key, a file name and part of a message everywhere.
MAX_STATION_ID_BYTES = 255
#: Key and value of a record together; a reading is some 350 bytes. Anything larger is refused unread.
MAX_RECORD_BYTES = 64 * 1024
#: The predictions that can be meant, in the unit of the target, inclusive: those that could be measured.
PREDICTION_LIMITS = HARD_LIMITS[TARGET]
#: A registry's version is a number of a few digits; it is in every prediction, in metrics and in log lines.
MAX_MODEL_VERSION_CHARACTERS = 64
#: Why a record is refused by what it holds; of several faults the first one in the order of the columns counts.
PARSE_REASONS = ("oversize", "malformed", "not_finite", "out_of_range", "unknown_type")
#: Why a reading is refused by its place in the stream: against what was accepted before, Kafka's time, its partition.
ORDER_REASONS = ("conflict", "late", "future", "moved")
#: The closed set of reasons a record is dead-lettered for; ``unpredictable``: the model has no usable value for the row.
DEAD_LETTER_REASONS = (*PARSE_REASONS, *ORDER_REASONS, "unpredictable")

#: What the model says of a row: its prediction in the unit of the target and the version that made it, or why there is none.
RowAnswer = tuple[float, str] | InvalidRecord

HISTORY_HOURS = 168
DAILY_HOURS = 24
WEEKLY_HOURS = 168

_EPOCH = datetime(1970, 1, 1)
_HOUR_MS = 3_600_000
#: One spelling, on which every Python version agrees: the date, the time of day to the minute or finer, no time zone.
_DATE_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?")
_NO_DATE_TIME = "DateTime must be local time such as 2005-02-05T03:00:00, without a time zone, not {}"
_LIMITS = tuple((name, *HARD_LIMITS[name]) for name in RAW_COLUMNS)
_NAMES = frozenset(RAW_COLUMNS)
_PACKED = struct.Struct(f"<{len(RAW_COLUMNS)}d").pack


def hour_of(moment: datetime) -> int:
    """Return the whole hours since 1970-01-01T00:00 of a naive, station-local ``moment`` on the hour.

    Raises:
        ValueError: ``moment`` carries a time zone or is not on the hour.

    >>> hour_of(datetime(1970, 1, 2, 3))
    27
    """
    if moment.tzinfo is not None:
        raise ValueError(f"{moment.isoformat()} carries a time zone; station-local time without one is expected")
    hour, rest = divmod(moment - _EPOCH, timedelta(hours=1))
    if rest:
        raise ValueError(f"{moment.isoformat()} is not on the hour")
    return hour


def datetime_of(hour: int) -> datetime:
    """Return the naive, station-local datetime of ``hour``; the inverse of :func:`hour_of`."""
    return _EPOCH + timedelta(hours=hour)


@functools.lru_cache(maxsize=256)
def isoformat(hour: int) -> str:
    """Return ``hour`` as records write it.

    >>> isoformat(27)
    '1970-01-02T03:00:00'
    """
    return datetime_of(hour).isoformat()


def hour_of_isoformat(text: str) -> int:
    """Return the hour that :func:`isoformat` wrote; raises ``ValueError`` if ``text`` is no station-local hour.

    >>> hour_of_isoformat('1970-01-02T03:00:00')
    27
    """
    return hour_of(datetime.fromisoformat(text))


class Outcome(Enum):
    """What became of a reading the buffer did not refuse."""

    DUPLICATE = "duplicate"
    WARMUP = "warmup"
    READY = "ready"


@dataclass(frozen=True, slots=True)
class Reading:
    """One hour of one station: ``values`` follows :data:`RAW_COLUMNS`, NaN where nothing was measured."""

    station_id: str
    hour: int
    values: tuple[float, ...]

    @property
    def actual(self) -> float:
        """The measured target of this hour, NaN if missing. Truth: never an input to this hour's prediction."""
        return self.values[TARGET_INDEX]

    def without_truth(self) -> Reading:
        """Return the same reading as it is where the truth has not come yet."""
        return replace(self, values=(*self.values[:TARGET_INDEX], math.nan, *self.values[TARGET_INDEX + 1 :]))

    def packed(self) -> bytes:
        """Return the values as little-endian float64, one after the other."""
        return _PACKED(*self.values)

    def to_bytes(self) -> bytes:
        """Return the raw record's JSON value; missing is null."""
        record: dict[str, Any] = {"station_id": self.station_id, "DateTime": isoformat(self.hour)}
        record.update(zip(RAW_COLUMNS, map(or_null, self.values), strict=True))
        return orjson.dumps(record)


class Prediction(NamedTuple):
    """One committed prediction with its 90 % interval and the truth of its hour, in the target's unit, and its row's place.

    What is missing is NaN: a truth that is not in the row, an interval where nothing is calibrated.
    """

    station_id: str
    hour: int
    prediction: float
    actual: float
    model_version: str
    source_partition: int
    source_offset: int
    lower: float = math.nan
    upper: float = math.nan

    def to_bytes(self) -> bytes:
        """Return the prediction record's JSON value; what is missing is null."""
        return orjson.dumps(
            {
                "station_id": self.station_id,
                "DateTime": isoformat(self.hour),
                "prediction": self.prediction,
                "lower": or_null(self.lower),
                "upper": or_null(self.upper),
                "actual": or_null(self.actual),
                "model_version": self.model_version,
                "source_partition": self.source_partition,
                "source_offset": self.source_offset,
            }
        )

    @classmethod
    def from_bytes(cls, value: bytes) -> Prediction:
        """Return the prediction a record of the prediction topic holds.

        Raises:
            KeyError, TypeError, ValueError: it is none, as others may write where ours are.
        """
        record = orjson.loads(value)
        found = cls(
            station_id=record["station_id"],
            hour=hour_of_isoformat(record["DateTime"]),
            prediction=record["prediction"],
            actual=or_nan(record["actual"]),
            model_version=record["model_version"],
            source_partition=record["source_partition"],
            source_offset=record["source_offset"],
            lower=or_nan(record.get("lower")),  # predictions of earlier releases have none
            upper=or_nan(record.get("upper")),
        )
        found._require_types()
        return found

    def _require_types(self) -> None:
        texts, places = (self.station_id, self.model_version), (self.source_partition, self.source_offset)
        numbers = (self.prediction, self.actual, self.lower, self.upper)
        sound = all(type(text) is str for text in texts) and all(type(number) in (float, int) for number in numbers)
        if not sound or not all(type(place) is int and 0 <= place < 2**63 for place in places):
            raise ValueError(f"not a prediction: {reprlib.repr(tuple(self))}")


def or_null(value: float) -> float | None:
    """Return a figure as JSON holds it, which knows no NaN."""
    return None if math.isnan(value) else value


def or_nan(value: float | None) -> float:
    """Return a figure that JSON holds, the inverse of :func:`or_null`; raises ``TypeError`` if it is no number."""
    if value is None:
        return math.nan
    if type(value) not in (float, int):
        raise TypeError(f"{reprlib.repr(value)} is no number")
    return float(value)


@dataclass(frozen=True, slots=True)
class Served:
    """What ``GET /version`` says of the model that answers: its data and the error of its twin on the validation rows.

    ``valid_rmse`` is in the unit of the target. None: the service does not say.
    """

    version: str
    data_source: str | None
    data_hash: str | None
    valid_rmse: float | None


def parse_reading(key: bytes | None, value: bytes | None) -> Reading:
    """Parse a raw record that is a reading; see :func:`airquality.incoming.parse_record` for the others.

    Args:
        key: The record's key; where present it must equal ``station_id``, or order within a station is not guaranteed.
        value: A JSON object of ``station_id``, ``DateTime`` and every column. Fields it does not know are ignored.

    Raises:
        InvalidRecord: with one of :data:`PARSE_REASONS`.
    """
    return reading_of(parse_json_object(key, value), key)


def reading_of(record: Mapping[str, Any], key: bytes | None = None) -> Reading:
    """Return the reading a parsed record holds; raises ``InvalidRecord`` as :func:`parse_reading` does."""
    station_id = parse_station_id(record.get("station_id"), key)
    if not record.keys() >= _NAMES:
        absent = [name for name in RAW_COLUMNS if name not in record]
        raise InvalidRecord("malformed", f"columns absent (missing values are null): {', '.join(absent)}")
    hour = parse_hour(record.get("DateTime"))
    values = []
    for name, low, high in _LIMITS:
        value = record[name]
        usual = type(value) is float and low <= value <= high and value != MISSING_MARKER
        values.append(value + 0.0 if usual else parse_value(value, name, low, high))
    return Reading(station_id, hour, tuple(values))


def kafka_hour(timestamp_ms: int) -> int | None:
    """Return the hour of a record's Kafka timestamp (UTC, rounded down), None where the record has no timestamp.

    >>> isoformat(kafka_hour(1_107_572_400_000))
    '2005-02-05T03:00:00'
    """
    return timestamp_ms // _HOUR_MS if timestamp_ms >= 0 else None


def check_not_future(reading: Reading, newest_hour: int | None, kafka_hour: int | None) -> None:
    """Refuse a row that would make every later row of its station late.

    No clock is read, so a replay decides alike. The bound is only as good as Kafka's timestamp: the broker's own on topics
    with ``LogAppendTime``; on a topic with ``CreateTime`` a producer with a wrong clock moves it, and where a record has no
    timestamp nothing but :data:`HOUR_LIMITS` holds.

    Args:
        reading: The row.
        newest_hour: The newest hour its station has, None before its first row.
        kafka_hour: The hour of the record's Kafka timestamp, None if it has none.

    Raises:
        InvalidRecord: ``future``: the row is more than :data:`MAX_HOURS_AHEAD` ahead of both.
    """
    if kafka_hour is None or reading.hour <= max(kafka_hour, newest_hour or 0) + MAX_HOURS_AHEAD:
        return
    newest = "no row yet" if newest_hour is None else f"newest row {isoformat(newest_hour)}"
    raise InvalidRecord(
        "future",
        f"{reading.station_id} {isoformat(reading.hour)} is more than {MAX_HOURS_AHEAD} h ahead of its station ({newest}) "
        f"and of Kafka's timestamp ({isoformat(kafka_hour)}Z): are its clock and the broker's right?",
    )


def _bounded(key: bytes | None, value: bytes | None) -> bytes:
    if value is None:
        raise InvalidRecord("malformed", "the record has no value")
    size = len(value) + len(key or b"")
    if size > MAX_RECORD_BYTES:
        raise InvalidRecord("oversize", f"key and value are {size:,} bytes, a record may have {MAX_RECORD_BYTES:,}")
    return value


def parse_json_object(key: bytes | None, value: bytes | None) -> dict[str, Any]:
    """Return the JSON object a record's value is; raises ``InvalidRecord`` if it is none, too large, or ambiguous."""
    value = _bounded(key, value)
    try:
        record = orjson.loads(value)
    except orjson.JSONDecodeError:
        record = _lenient_json(value)
    if not isinstance(record, dict):
        raise InvalidRecord("malformed", f"a JSON object is expected, not {type(record).__name__}")
    if _may_repeat_a_name(value, record) and len(_lenient_json(value, object_pairs_hook=list)) != len(record):
        raise InvalidRecord("malformed", "a field is there twice: which one is meant cannot be known")
    return record


def _may_repeat_a_name(value: bytes, record: dict[str, Any]) -> bool:
    """Whether there are more colons than names and plain text account for; cheap, and false for every record we write."""
    texts = (str(record.get("station_id")), str(record.get("DateTime")))
    return b"\\" in value or value.count(b":") != len(record) + sum(text.count(":") for text in texts)


def _lenient_json(value: bytes, **options: Any) -> Any:
    """Parse what strict JSON refuses but Python writes, bare NaN and Infinity, so that each is refused by name."""
    try:
        return json.loads(value.decode("utf-8-sig"), **options)
    except (ValueError, RecursionError) as error:
        raise InvalidRecord("malformed", f"not JSON: {error}") from error


def parse_station_id(station_id: object, key: bytes | None) -> str:
    """Return a record's station, which its key must be, too; raises ``InvalidRecord``."""
    if not isinstance(station_id, str):
        raise InvalidRecord("malformed", f"station_id must be a string, not {reprlib.repr(station_id)}")
    try:
        name = station_id.encode()
    except UnicodeEncodeError as error:  # a lone surrogate: JSON can spell it, no key can hold it
        raise InvalidRecord("malformed", f"station_id {reprlib.repr(station_id)}: {error}") from error
    if not 0 < len(name) <= MAX_STATION_ID_BYTES:
        raise InvalidRecord("malformed", f"station_id must be of 1 to {MAX_STATION_ID_BYTES} bytes, not {len(name)}")
    if key is not None and key != name:
        raise InvalidRecord("malformed", f"record key {reprlib.repr(key)} is not its station_id {station_id!r}")
    return station_id


def parse_hour(text: object) -> int:
    """Return the hour of a record's ``DateTime``; raises ``InvalidRecord``."""
    if isinstance(text, str):
        return _hour_of_text(text)
    raise InvalidRecord("malformed", _NO_DATE_TIME.format(reprlib.repr(text)))


@functools.lru_cache(maxsize=256)  # the stations of a network send the same hours at the same time
def _hour_of_text(text: str) -> int:
    if not _DATE_TIME.fullmatch(text):
        raise InvalidRecord("malformed", _NO_DATE_TIME.format(reprlib.repr(text)))
    try:
        moment = datetime.fromisoformat(text)
        hour = hour_of(moment)
    except ValueError as error:
        raise InvalidRecord("malformed", f"DateTime {text}: {error}") from error
    earliest, latest = HOUR_LIMITS
    if not earliest <= moment <= latest:
        raise InvalidRecord("out_of_range", f"DateTime {text} lies outside [{earliest.isoformat()}, {latest.isoformat()}]")
    return hour


def parse_value(value: object, name: str, low: float, high: float) -> float:
    """Return the number of a column, NaN where it is missing; raises ``InvalidRecord``."""
    if value is None or value == MISSING_MARKER:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidRecord("malformed", f"{name} must be a number or null, not {reprlib.repr(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidRecord("not_finite", f"{name} is {value}")
    if not low <= value <= high:
        raise InvalidRecord("out_of_range", f"{name} = {value} lies outside [{low}, {high}]")
    return float(value) + 0.0  # -0.0 is the same reading as 0.0: it may neither contradict it nor divide otherwise
