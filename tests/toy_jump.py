"""A component of a station as somebody might add one: a column that jumps up by two fifths within an hour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from airquality.monitoring.alarms import Event
from airquality.monitoring.component import Refusal, Row
from airquality.records import RAW_COLUMNS, Reading

_INDEX = RAW_COLUMNS.index("PT08.S1(CO)")


@dataclass(frozen=True, slots=True)
class JumpState:
    last: float = 0.0


class Jump:
    name: ClassVar[str] = "jump"
    says: ClassVar[str] = "jumps by {size}"
    advice: ClassVar[str] = "Look at {column}."
    weight: ClassVar[float] = 1.0
    State: ClassVar[type] = JumpState

    def __init__(self, state: JumpState = JumpState()) -> None:
        self._last = state.last

    def update(self, row: Row) -> list[Event]:
        value, before, hour = row.reading.values[_INDEX], self._last, row.reading.hour
        self._last = before if value != value else value
        if not before or not value > 1.4 * before:
            return []
        size, column = value / before, RAW_COLUMNS[_INDEX]
        return [Event(kind, self.name, column, hour, hour, size, "") for kind in ("opened", "closed")]

    def state(self) -> JumpState:
        return JumpState(self._last)

    @classmethod
    def from_state(cls, state: JumpState) -> Self:
        return cls(state)

    @staticmethod
    def own_fault(readings: Sequence[Reading]) -> list[Reading | Refusal]:
        return [*readings[:20]]
