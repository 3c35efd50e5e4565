"""The records of the events topic: what was found, typed and versioned, in the transaction of what it was found in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

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
            }
        )


Finding = AlarmEvent | WindowJudged


def finding_of(value: bytes | None) -> Finding:
    """Return what a record of the events topic holds; raises ``ValueError`` if it is none of this release's."""
    try:
        record = orjson.loads(value or b"")
        if record["version"] != VERSION:
            raise ValueError(f"version {record['version']}")
        return _alarm(record) if record["type"] == "alarm" else _window(record)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not an event of this release: {error}") from error


def _alarm(record: dict[str, Any]) -> AlarmEvent:
    size = math.nan if record["size"] is None else float(record["size"])
    at, since = _hour(record["at"]), _hour(record["since"])
    event = Event(record["event"], record["detector"], record["column"], at, since, size, record["unit"])
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
    )


def _hour(text: str) -> int:
    return hour_of(datetime.fromisoformat(text))


def alarm_sentence(event: Event) -> str:
    """Return what happened to an alarm, in one line.

    >>> alarm_sentence(Event("opened", "level", "T", 30, 27, 2.5, "degC"))
    'Alarm opened: T, level, +2.5 degC, since 1970-01-02T03:00:00'
    """
    size = "" if math.isnan(event.size) else f", {event.size:+.3g} {event.unit}".rstrip()
    return f"Alarm {event.kind}: {event.column}, {event.detector}{size}, since {isoformat(event.since)}"
