"""The records of the events topic: what was found, typed and versioned, in the transaction of what it was found in."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from airquality.incoming import TYPE_HEADER, Operation, parse_record
from airquality.monitoring.alarms import Event
from airquality.monitoring.drift import DAILY, MIN_TRUTHS, Window
from airquality.records import hour_of, isoformat

#: Changes whenever a reader of the last release would misread a record.
VERSION = 1


@dataclass(frozen=True, slots=True)
class AlarmEvent:
    """An alarm of a station opened, changed or closed."""

    station_id: str
    event: Event

    @property
    def at(self) -> int:
        """The hour it belongs to."""
        return self.event.at

    @property
    def alarm(self) -> tuple[str, str, str]:
        """Which alarm it is, among all that are open: a column has one of its own, and those of the daily verdicts."""
        return self.station_id, DAILY.name if self.event.detector == DAILY.name else "", self.event.column

    def to_bytes(self) -> bytes:
        """Return the record's value."""
        return orjson.dumps({"version": VERSION, "type": "alarm", "station_id": self.station_id, **self.event.to_json()})


@dataclass(frozen=True, slots=True)
class WindowJudged:
    """A window closed and was judged. ``raised`` is what its verdict raises; ``rmse`` is NaN with too few truths."""

    station_id: str
    kind: str
    end_hour: int
    n_rows: int
    raised: tuple[str, ...]
    rmse: float
    n_truths: int
    model_version: str
    learning: tuple[tuple[str, int], ...] = ()

    @property
    def at(self) -> int:
        """The hour it belongs to."""
        return self.end_hour

    @classmethod
    def of(cls, window: Window) -> WindowJudged:
        """Return what is published of a window."""
        performance = window.verdict.performance
        return cls(
            station_id=window.station_id,
            kind=window.kind.name,
            end_hour=window.end_hour,
            n_rows=len(window.hours),
            raised=tuple(sorted(window.since)),
            rmse=performance.rmse if performance.n >= MIN_TRUTHS else math.nan,
            n_truths=performance.n,
            model_version=window.model_version,
            learning=window.learning,
        )

    def to_bytes(self) -> bytes:
        """Return the record's value."""
        return orjson.dumps(
            {
                "version": VERSION,
                "type": "window",
                "station_id": self.station_id,
                "kind": self.kind,
                "at": isoformat(self.end_hour),
                "rows": self.n_rows,
                "raised": list(self.raised),
                "rmse": None if math.isnan(self.rmse) else self.rmse,
                "truths": self.n_truths,
                "model_version": self.model_version,
                "learning": {column: isoformat(hour) for column, hour in self.learning},
            }
        )


@dataclass(frozen=True, slots=True)
class OperationTaken:
    """What an operator decided took effect after the station's hour ``at``; ``taken_ms`` is its record's Kafka timestamp."""

    operation: Operation
    at: int
    taken_ms: int

    @property
    def station_id(self) -> str:
        """Whose alarms it is about."""
        return self.operation.station_id

    def to_bytes(self) -> bytes:
        """Return the record's value."""
        body = orjson.loads(self.operation.to_bytes())
        kind = {"version": VERSION, "type": "operation", "operation": self.operation.kind}
        return orjson.dumps({**kind, **body, "at": isoformat(self.at), "taken_ms": self.taken_ms})


Finding = AlarmEvent | WindowJudged | OperationTaken


def finding_of(value: bytes | None) -> Finding:
    """Return what a record of the events topic holds; raises ``ValueError`` if it is none of this release's."""
    try:
        record = orjson.loads(value or b"")
        if record["version"] != VERSION:
            raise ValueError(f"version {record['version']}")
        return _READERS[record["type"]](record)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not an event of this release: {error}") from error


def _alarm(record: dict[str, Any]) -> AlarmEvent:
    size = math.nan if record["size"] is None else float(record["size"])
    at, since = _hour(record["at"]), _hour(record["since"])
    names = record["event"], record["detector"], record["column"]
    acted = (record["by"], _hour(record["by_at"])) if "by" in record else ()
    event = Event(*names, at, since, size, record["unit"], *acted)
    return AlarmEvent(record["station_id"], event)


def _window(record: dict[str, Any]) -> WindowJudged:
    return WindowJudged(
        station_id=record["station_id"],
        kind=record["kind"],
        end_hour=_hour(record["at"]),
        n_rows=record["rows"],
        raised=tuple(record["raised"]),
        rmse=math.nan if record["rmse"] is None else float(record["rmse"]),
        n_truths=record["truths"],
        model_version=record["model_version"],
        learning=tuple((column, _hour(text)) for column, text in record.get("learning", {}).items()),
    )


def _operation(record: dict[str, Any]) -> OperationTaken:
    found = parse_record(None, orjson.dumps(record), ((TYPE_HEADER, record["operation"].encode()),))
    if not isinstance(found, Operation):
        raise ValueError(f"{record['operation']} is no operation")
    return OperationTaken(found, _hour(record["at"]), record["taken_ms"])


_READERS: dict[str, Callable[[dict[str, Any]], Finding]] = {"alarm": _alarm, "window": _window, "operation": _operation}


def _hour(text: str) -> int:
    return hour_of(datetime.fromisoformat(text))


def alarm_sentence(event: Event) -> str:
    """Return what happened to an alarm, in one line.

    >>> alarm_sentence(Event("opened", "level", "T", 30, 27, 2.5, "degC"))
    'Alarm opened: T, level, +2.5 degC, since 1970-01-02T03:00:00'
    """
    size = "" if math.isnan(event.size) else f", {event.size:{'+' if event.is_shift else ''}.3g} {event.unit}".rstrip()
    return f"Alarm {event.kind}: {event.column}, {event.detector}{size}, since {isoformat(event.since)}{_acted(event)}"


def _acted(event: Event) -> str:
    """Say who acknowledged or closed the alarm, and when."""
    if not event.by:
        return ""
    closed = event.kind == "closed" and event.by_at == event.at
    return f", {'closed' if closed else 'acknowledged'} by {event.by} at {isoformat(event.by_at)}"
