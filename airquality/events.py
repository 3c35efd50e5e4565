"""The records of the events topic: what was found, typed and versioned, in the transaction of what it was found in."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from airquality.ground.typed import plain, restored
from airquality.incoming import TYPE_HEADER, Operation, parse_record
from airquality.monitoring.alarms import Event
from airquality.monitoring.component import Missed
from airquality.monitoring.drift import Window
from airquality.records import TARGET, UNITS, hour_of_isoformat, isoformat, or_nan, or_null
from airquality.truth.kinds import KIND_BY_NAME, WindowKind
from airquality.truth.performance import MIN_TRUTHS, Performance
from airquality.truth.window_truth import Held, WindowTruth

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
        """Which alarm it is, among all that are open."""
        return self.station_id, *self.event.alarm

    def to_bytes(self) -> bytes:
        """Return the record's value."""
        return orjson.dumps({"version": VERSION, "type": "alarm", "station_id": self.station_id, **self.event.to_json()})


@dataclass(frozen=True, slots=True)
class WindowJudged:
    """A window closed and was judged. ``raised`` is what its verdict raises; ``rmse`` is NaN with too few truths.

    ``uncalibrated`` names the versions whose predictions were judged against a reference of another model.
    """

    station_id: str
    kind: str
    end_hour: int
    n_rows: int
    raised: tuple[str, ...]
    rmse: float
    n_truths: int
    model_version: str
    learning: tuple[tuple[str, int], ...] = ()
    uncalibrated: tuple[str, ...] = ()

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
            uncalibrated=window.uncalibrated,
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
                "rmse": or_null(self.rmse),
                "truths": self.n_truths,
                "model_version": self.model_version,
                "learning": {column: isoformat(hour) for column, hour in self.learning},
                "uncalibrated": list(self.uncalibrated),
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


@dataclass(frozen=True, slots=True)
class WindowSettled:
    """A window's truth is in, or its time is over: what was known when it closed, and what is final."""

    station_id: str
    truth: WindowTruth

    @property
    def at(self) -> int:
        """The hour it belongs to."""
        return self.truth.at

    @property
    def changes_page(self) -> bool:
        """Whether the window's page says less: truths came after it was written."""
        return bool(self.truth.late)

    @property
    def kind(self) -> WindowKind:
        """Of the window."""
        return KIND_BY_NAME[self.truth.kind]

    @property
    def end_hour(self) -> int:
        """The window's last hour."""
        return self.truth.end_hour

    def to_bytes(self) -> bytes:
        """Return the record's value."""
        return orjson.dumps(
            {"version": VERSION, "type": "truth", "station_id": self.station_id, **truth_to_json(self.truth)}
        )


def truth_to_json(truth: WindowTruth) -> dict[str, Any]:
    """Return what is said of a window's truth, as records and sidecars hold it; undefined figures are null."""
    return {
        "kind": truth.kind,
        "end": isoformat(truth.end_hour),
        "at": isoformat(truth.at),
        "settled_by": "truth" if truth.complete else "deadline",
        "rows": truth.n_rows,
        "known_then": plain(truth.known),
        "final": plain(truth.final),
        "late_truths": len(truth.late),
        "label_delay_hours": or_null(truth.delay_hours),
        "estimated_rmse": or_null(truth.estimated_rmse),
        "coverage": {name: {"truths": held.n, "inside": held.held} for name, held in truth.coverage.items()},
    }


def truth_from_json(record: Mapping[str, Any]) -> WindowTruth:
    """Return what :func:`truth_to_json` was made of, but for the late truths themselves; raises as a lookup does."""
    return WindowTruth(
        kind=record["kind"],
        end_hour=hour_of_isoformat(record["end"]),
        at=hour_of_isoformat(record["at"]),
        complete=record["settled_by"] == "truth",
        n_rows=record["rows"],
        known=restored(Performance, record["known_then"]),
        final=restored(Performance, record["final"]),
        late=(),
        delay_hours=or_nan(record["label_delay_hours"]),
        estimated_rmse=or_nan(record["estimated_rmse"]),
        coverage={name: Held(counts["truths"], counts["inside"]) for name, counts in record["coverage"].items()},
    )


@dataclass(frozen=True, slots=True)
class RowsMissed:
    """A part of a station's monitoring had failed and did not see the rows of these hours."""

    station_id: str
    missed: Missed

    @property
    def at(self) -> int:
        """The hour it belongs to: the last one that was not seen."""
        return self.missed.until

    def to_bytes(self) -> bytes:
        """Return the record's value."""
        missed = self.missed
        span = {"since": isoformat(missed.since), "at": isoformat(missed.until)}
        head = {"version": VERSION, "type": "missed", "station_id": self.station_id}
        return orjson.dumps({**head, "part": missed.part, **span, "why": missed.why})


Finding = AlarmEvent | WindowJudged | OperationTaken | WindowSettled | RowsMissed


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
    size = or_nan(record["size"])
    at, since = hour_of_isoformat(record["at"]), hour_of_isoformat(record["since"])
    names = record["event"], record["detector"], record["column"]
    acted = (record["by"], hour_of_isoformat(record["by_at"])) if "by" in record else ()
    event = Event(*names, at, since, size, record["unit"], *acted)
    return AlarmEvent(record["station_id"], event)


def _window(record: dict[str, Any]) -> WindowJudged:
    return WindowJudged(
        station_id=record["station_id"],
        kind=record["kind"],
        end_hour=hour_of_isoformat(record["at"]),
        n_rows=record["rows"],
        raised=tuple(record["raised"]),
        rmse=or_nan(record["rmse"]),
        n_truths=record["truths"],
        model_version=record["model_version"],
        learning=tuple((column, hour_of_isoformat(text)) for column, text in record.get("learning", {}).items()),
        uncalibrated=tuple(record.get("uncalibrated", ())),
    )


def _operation(record: dict[str, Any]) -> OperationTaken:
    found = parse_record(None, orjson.dumps(record), ((TYPE_HEADER, record["operation"].encode()),))
    if not isinstance(found, Operation):
        raise ValueError(f"{record['operation']} is no operation")
    return OperationTaken(found, hour_of_isoformat(record["at"]), record["taken_ms"])


def _settled(record: dict[str, Any]) -> WindowSettled:
    return WindowSettled(record["station_id"], truth_from_json(record))


def _missed(record: dict[str, Any]) -> RowsMissed:
    missed = Missed(record["part"], hour_of_isoformat(record["since"]), hour_of_isoformat(record["at"]), record["why"])
    return RowsMissed(record["station_id"], missed)


_READERS: Mapping[str, Callable[[dict[str, Any]], Finding]] = {
    "alarm": _alarm,
    "window": _window,
    "operation": _operation,
    "truth": _settled,
    "missed": _missed,
}


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


def settled_sentence(truth: WindowTruth) -> str:
    """Return what a window's truth says, in one line."""
    how = "its truth is in" if truth.complete else f"its time is over, {truth.final.n} of {truth.n_rows} hours have a truth"
    covered = truth.coverage["all"]
    parts = [f"RMSE {truth.final.rmse:.3f} {UNITS[TARGET]} of {truth.final.n} truths"] if truth.final.n else []
    if truth.late:
        known = f"{truth.known.rmse:.3f} of {truth.known.n}" if truth.known.n else "nothing"
        parts.append(f"{known} as known when it closed")
    if not math.isnan(truth.estimated_rmse):
        parts.append(f"{truth.estimated_rmse:.3f} expected")
    parts += [f"{covered.held} of {covered.n} inside their intervals"] if covered.n else []
    return f"{truth.kind} window up to {isoformat(truth.end_hour)} is final: {how}; {', '.join(parts) or 'nothing measured'}"
