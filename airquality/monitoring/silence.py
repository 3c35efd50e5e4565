"""A station that sends nothing, and one whose rows all come too late: what only the order of rows can tell.

Both are components of a station. Silence is event time: the hours between a station's rows, or, while it sends none at all,
the hours by which the newest row of its partition has moved on since. Nothing reads a clock, so a replay finds the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from airquality.incoming import Operation
from airquality.monitoring.alarms import STATION, Event
from airquality.monitoring.component import Refusal, Row
from airquality.monitoring.maintenance import MAX_SPANS, Maintenance, hours_outside
from airquality.records import Reading

#: Hours without a row after which a station's silence is an event.
SILENCE_HOURS = 6
#: So many rows in a row that are older than one that was accepted are an event.
LATE_ROWS = 6


@dataclass(frozen=True, slots=True)
class SilenceState:
    """The last accepted hour (-1: none), the newest hour of the partition then, whether the alarm is open, maintenance."""

    last_hour: int = -1
    newest_then: int = -1
    open: bool = False
    spans: tuple[Maintenance, ...] = ()


class Silence:
    """No row of a station for six hours of event time."""

    name: ClassVar[str] = "silence"
    says: ClassVar[str] = "sent no rows"
    advice: ClassVar[str] = "Check the station's power and line, and whether its rows reach the raw topic."
    weight: ClassVar[float] = 5.0
    State: ClassVar[type] = SilenceState

    def __init__(self, state: SilenceState = SilenceState()) -> None:
        self._last_hour, self._newest_then, self._open, self._spans = (
            state.last_hour,
            state.newest_then,
            state.open,
            state.spans,
        )

    @property
    def newest_then(self) -> int:
        """The newest hour of the partition when the station's last row came, -1 before its first."""
        return self._newest_then

    def update(self, row: Row) -> list[Event]:
        """Return the silence before the row, opened and closed, or closed where it had been opened by others' rows."""
        hour, last = row.reading.hour, self._last_hour
        events = []
        if last >= 0:
            gap = hour - last - 1
            if not self._open and gap >= SILENCE_HOURS and self._outside(gap) >= SILENCE_HOURS:
                events.append(self._opened())
                self._open = True
            if self._open:
                events.append(self._closed(hour))
        self._last_hour, self._open = hour, False
        return events

    def note_newest(self, newest: int) -> None:
        """Note the newest hour of the partition as of the station's latest row."""
        self._newest_then = newest

    def pass_time(self, newest: int) -> list[Event]:
        """Return the silence that begins to show because the partition's newest hour is ``newest`` now."""
        passed = newest - self._newest_then
        if self._open or self._last_hour < 0 or passed < SILENCE_HOURS or self._outside(passed) < SILENCE_HOURS:
            return []
        self._open = True
        return [self._opened()]

    def operate(self, operation: Operation) -> list[Event]:
        """Keep when somebody works on the whole station: silence then is none."""
        if operation.kind == "maintenance" and operation.column is None:
            kept = [span for span in self._spans if span.last > self._last_hour]
            self._spans = tuple([*kept, Maintenance.of(operation)][-MAX_SPANS:])
        return []

    def _outside(self, hours: int) -> int:
        return hours_outside(self._spans, self._last_hour + 1, self._last_hour + hours)

    def _opened(self) -> Event:
        last = self._last_hour
        return Event("opened", self.name, STATION, last + SILENCE_HOURS, last + 1, float(SILENCE_HOURS), "h")

    def _closed(self, hour: int) -> Event:
        """Return the end of the silence; rows that were only delivered late end it no earlier than it was said."""
        last, said = self._last_hour, self._last_hour + SILENCE_HOURS
        return Event("closed", self.name, STATION, max(hour, said), last + 1, float(max(hour, said + 1) - last - 1), "h")

    def state(self) -> SilenceState:
        """Return what is remembered."""
        return SilenceState(self._last_hour, self._newest_then, self._open, self._spans)

    @classmethod
    def from_state(cls, state: SilenceState) -> Self:
        """Return the component whose :meth:`state` this is."""
        return cls(state)

    @staticmethod
    def own_fault(readings: Sequence[Reading]) -> list[Reading | Refusal]:
        """Return the readings with six hours missing."""
        return [*readings[:20], *readings[20 + SILENCE_HOURS :]]


@dataclass(frozen=True, slots=True)
class LatenessState:
    """How many late rows came since the last accepted one, whose hour ``last_hour`` is, -1 before the first."""

    n_late: int = 0
    last_hour: int = -1


class Lateness:
    """Six rows in a row that are older than one that was accepted: a clock that is behind, or a line that repeats."""

    name: ClassVar[str] = "late"
    says: ClassVar[str] = "sends rows that are older than its newest one"
    advice: ClassVar[str] = "They are dead letters. Check the station's clock, and whether an old file is sent in its name."
    weight: ClassVar[float] = 4.0
    State: ClassVar[type] = LatenessState

    def __init__(self, state: LatenessState = LatenessState()) -> None:
        self._n_late, self._last_hour = state.n_late, state.last_hour

    def update(self, row: Row) -> list[Event]:
        """Return the alarm's end, if it is open: a row was accepted."""
        hour, n_late, last = row.reading.hour, self._n_late, self._last_hour
        self._n_late, self._last_hour = 0, hour
        return [Event("closed", self.name, STATION, hour, last, float(n_late), "rows")] if n_late >= LATE_ROWS else []

    def take_refusal(self, refusal: Refusal) -> list[Event]:
        """Count a row that came late, and return the alarm it opens."""
        if refusal.reason != "late":
            return []
        self._n_late += 1
        if self._n_late != LATE_ROWS:
            return []
        return [Event("opened", self.name, STATION, self._last_hour, self._last_hour, float(LATE_ROWS), "rows")]

    def state(self) -> LatenessState:
        """Return what is remembered."""
        return LatenessState(self._n_late, self._last_hour)

    @classmethod
    def from_state(cls, state: LatenessState) -> Self:
        """Return the component whose :meth:`state` this is."""
        return cls(state)

    @staticmethod
    def own_fault(readings: Sequence[Reading]) -> list[Reading | Refusal]:
        """Return the readings with late ones between them."""
        return [*readings[:20], *(Refusal(reading, "late") for reading in readings[:LATE_ROWS]), *readings[20:]]


def silences(hours: Sequence[int]) -> list[Event]:
    """Return the silences between rows of these ``hours``, ascending, of one station alone."""
    silence = Silence()
    return [event for hour in hours for event in silence.update(Row(Reading("", hour, ())))]
