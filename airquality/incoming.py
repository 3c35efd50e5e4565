"""What a record of the raw topic is: a reading, a truth that comes late, or what an operator decided.

The Kafka header ``type`` says which; without it a record is a reading. All of them carry their station's key: they have
one order with its readings, and are accounted for in the same way.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, get_args

import orjson

from airquality.ground.errors import InvalidRecord
from airquality.records import (
    HARD_LIMITS,
    TARGET,
    Reading,
    isoformat,
    parse_hour,
    parse_json_object,
    parse_reading,
    parse_station_id,
    parse_value,
)

#: The header that says what a record is.
TYPE_HEADER = "type"
#: The type of a truth that comes late.
TRUTH = "truth"
#: What an operator can do, as the header says it.
OperationKind = Literal["reset", "ack", "maintenance"]
OPERATION_KINDS: tuple[OperationKind, ...] = get_args(OperationKind)
#: How long the texts of an operation may be: they stand in a station's state.
MAX_WHO_CHARACTERS = 100
MAX_NOTE_CHARACTERS = 300

#: A record's Kafka headers, as the client gives them; a value may be null.
Headers = Iterable[tuple[str, bytes | None]]


class TruthOutcome(Enum):
    """What became of a truth that came late: it filled its hour, or why not."""

    FILLED = "filled"
    REPEATED = "repeated"
    CONTRADICTING = "contradicting"
    NEVER_STREAMED = "never_streamed"
    TOO_OLD = "too_old"


TRUTH_OUTCOMES = tuple(outcome.value for outcome in TruthOutcome)


@dataclass(frozen=True, slots=True)
class LateTruth:
    """The measured target of an hour that was streamed without it, in the target's unit; finite."""

    station_id: str
    hour: int
    value: float

    @property
    def headers(self) -> list[tuple[str, bytes]]:
        """The headers of its record."""
        return [(TYPE_HEADER, TRUTH.encode())]

    def to_bytes(self) -> bytes:
        """Return the record's JSON value."""
        return orjson.dumps({"station_id": self.station_id, "DateTime": isoformat(self.hour), TARGET: self.value})


@dataclass(frozen=True, slots=True)
class Operation:
    """What an operator decided about the alarms of a station.

    Attributes:
        station_id: The station.
        kind: ``reset``, ``ack`` or ``maintenance``.
        column: Whose alarms are meant; None: all of the station.
        from_hour: The first hour it is about, None if the record names none.
        to_hour: The last hour it is about, None if the record names none.
        who: Who decided it.
        note: Why.
    """

    station_id: str
    kind: OperationKind
    column: str | None = None
    from_hour: int | None = None
    to_hour: int | None = None
    who: str = ""
    note: str = ""

    @property
    def by(self) -> str:
        """Who is said to have decided it, where nobody put a name to it, too."""
        return self.who or "somebody"

    @property
    def sentence(self) -> str:
        """What was decided, in one line.

        >>> Operation("roof", "maintenance", "T", 27, 30, "ann", "new filter").sentence
        'Maintenance of T from 1970-01-02T03:00:00 to 1970-01-02T06:00:00 by ann: new filter'
        """
        what = _SENTENCES[self.kind].format(self.column or "the whole station")
        span = "" if self.from_hour is None else f" from {isoformat(self.from_hour)}"
        span += "" if self.to_hour is None else f" to {isoformat(self.to_hour)}"
        return f"{what}{span} by {self.by}{f': {self.note}' if self.note else ''}"

    @property
    def headers(self) -> list[tuple[str, bytes]]:
        """The headers of its record."""
        return [(TYPE_HEADER, self.kind.encode())]

    def to_bytes(self) -> bytes:
        """Return the record's JSON value."""
        first, last = (None if hour is None else isoformat(hour) for hour in (self.from_hour, self.to_hour))
        body = {"station_id": self.station_id, "column": self.column, "from": first, "to": last}
        return orjson.dumps({**body, "who": self.who, "note": self.note})


_SENTENCES = {"reset": "Reset of {}", "ack": "Alarms of {} acknowledged", "maintenance": "Maintenance of {}"}

Incoming = Reading | LateTruth | Operation


def parse_record(key: bytes | None, value: bytes | None, headers: Headers = ()) -> Incoming:
    """Parse one raw record at the edge of the system.

    Args:
        key: The record's key; where present it must equal ``station_id``, or order within a station is not guaranteed.
        value: Its JSON value. Fields it does not know are ignored.
        headers: Its headers, of which ``type`` says what it is.

    Raises:
        InvalidRecord: with one of :data:`airquality.records.PARSE_REASONS`.
    """
    types = [text for name, text in headers if name == TYPE_HEADER]
    if not types:
        return parse_reading(key, value)
    kind, record = _kind(types), parse_json_object(key, value)
    return _late_truth(record, key) if kind == "truth" else _operation(record, key, kind)


def with_late_truths(rows: Iterable[Reading], delay_hours: int) -> Iterator[Reading | LateTruth]:
    """Yield the rows without their truths, and each truth before the first row that is ``delay_hours`` later, or at the end.

    The rows are of one station and ascend.
    """
    waiting: deque[LateTruth] = deque()
    for row in rows:
        while waiting and waiting[0].hour + delay_hours <= row.hour:
            yield waiting.popleft()
        if not math.isnan(row.actual):
            waiting.append(LateTruth(row.station_id, row.hour, row.actual))
        yield row.without_truth()
    yield from waiting


def _kind(types: list[bytes | None]) -> Literal["truth"] | OperationKind:
    if len(types) > 1:
        raise InvalidRecord(
            "malformed", f"the header {TYPE_HEADER} is there {len(types)} times: which is meant cannot be known"
        )
    text = (types[0] or b"").decode(errors="backslashreplace")
    if text == "truth":
        return "truth"
    for kind in OPERATION_KINDS:
        if text == kind:
            return kind
    known = ", ".join((TRUTH, *OPERATION_KINDS))
    raise InvalidRecord("unknown_type", f"the header {TYPE_HEADER} is {text[:50]!r}: known are {known}; a reading has none")


def _late_truth(record: Mapping[str, Any], key: bytes | None) -> LateTruth:
    station_id = parse_station_id(record.get("station_id"), key)
    hour = parse_hour(record.get("DateTime"))
    if TARGET not in record:
        raise InvalidRecord("malformed", f"a late truth without {TARGET}")
    value = parse_value(record[TARGET], TARGET, *HARD_LIMITS[TARGET])
    if math.isnan(value):
        raise InvalidRecord("malformed", f"a late truth whose {TARGET} is missing tells nothing")
    return LateTruth(station_id, hour, value)


def _operation(record: Mapping[str, Any], key: bytes | None, kind: OperationKind) -> Operation:
    station_id = parse_station_id(record.get("station_id"), key)
    column = record.get("column")
    if column is not None and column not in tuple(HARD_LIMITS):  # may be unhashable
        raise InvalidRecord("malformed", f"column must be one of the readings' columns or null, not {str(column)[:50]!r}")
    first, last = (None if record.get(name) is None else parse_hour(record[name]) for name in ("from", "to"))
    if first is not None and last is not None and first > last:
        raise InvalidRecord("malformed", f"from {isoformat(first)} is later than to {isoformat(last)}")
    if kind == "maintenance" and (first is None or last is None):
        raise InvalidRecord("malformed", "a maintenance must say from which hour to which it lasts: from and to")
    who, note = _text(record, "who", MAX_WHO_CHARACTERS), _text(record, "note", MAX_NOTE_CHARACTERS)
    return Operation(station_id, kind, column, first, last, who, note)


def _text(record: Mapping[str, Any], name: str, limit: int) -> str:
    text = record.get(name, "")
    if not isinstance(text, str) or len(text) > limit:
        raise InvalidRecord("malformed", f"{name} must be a text of at most {limit} characters")
    try:
        text.encode()
    except UnicodeEncodeError as error:  # a lone surrogate: JSON can spell it, but no event and no snapshot can hold it
        raise InvalidRecord("malformed", f"{name}: {error}") from error
    return text
