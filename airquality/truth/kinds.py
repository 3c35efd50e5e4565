"""The lengths of window whose inputs and errors are judged."""

from __future__ import annotations

from dataclasses import dataclass

from airquality.records import DAILY_HOURS, WEEKLY_HOURS


@dataclass(frozen=True, slots=True)
class WindowKind:
    """A length of window; daily and weekly differ by these two values and by nothing else."""

    name: str
    hours: int

    @property
    def min_values(self) -> int:
        """Values a column needs to be judged: half the window's hours."""
        return self.hours // 2


DAILY = WindowKind("daily", DAILY_HOURS)
WEEKLY = WindowKind("weekly", WEEKLY_HOURS)
KINDS = (DAILY, WEEKLY)
KIND_BY_NAME = {kind.name: kind for kind in KINDS}
