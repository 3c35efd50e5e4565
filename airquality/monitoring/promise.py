"""What the hour-by-hour detectors promise, as their calibration says: for the pages, without loading the detectors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from airquality.monitoring.calibration import DEFAULT_BUDGET, DETECTORS_NAME, STALE_HOURS, SmallestShift
from airquality.records import hour_of_isoformat

#: Windows, in hours, whose smallest visible shifts are shown: about a day, and a week or as long as there is.
_SOON_HOURS, _LATE_HOURS = 24, 168


@dataclass(frozen=True, slots=True)
class Promise:
    """What is promised, or why the detectors are off.

    ``last_hour`` is the last of the calibrated history. ``held_out`` and ``nested`` are false pages a month for at most
    ``budget``; ``smallest`` holds a column's shifts, the shortest window first, at the usual budget.
    """

    why_off: str = ""
    last_hour: int = 0
    budget: float = DEFAULT_BUDGET
    held_out: float = 0.0
    nested: float = 0.0
    smallest: Mapping[str, tuple[SmallestShift, ...]] | None = None

    @classmethod
    def read(cls, folder: Path, budget: float) -> Self:
        """Return what the calibration in ``folder`` promises for at most ``budget`` pages a month."""
        path = folder / DETECTORS_NAME
        try:
            document = json.loads(path.read_bytes())
            if not document["calibrated"]:
                return cls(why_off=str(document["reason"]))
            return cls._of(document, budget)
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            return cls(why_off=f"{path.name} is absent or cannot be read ({type(error).__name__})")

    @classmethod
    def _of(cls, document: Mapping[str, Any], budget: float) -> Self:
        bought = [purchase for purchase in document["budgets"] if purchase["budget"] <= budget][-1]
        return cls(
            last_hour=hour_of_isoformat(document["last_hour"]),
            budget=bought["budget"],
            held_out=bought["held_out_per_month"],
            nested=bought["nested_per_month"],
            smallest={
                column: tuple(SmallestShift(*shift) for shift in shifts)
                for column, shifts in document["smallest_shifts"].items()
            },
        )

    def age_hours(self, hour: int) -> int:
        """Return how many hours of a station's own time the thresholds are old at ``hour``; 0 within their history."""
        return max(hour - self.last_hour, 0)

    def is_stale(self, hour: int) -> bool:
        """Whether the thresholds are too old for rows of ``hour``."""
        return self.age_hours(hour) > STALE_HOURS

    def within(self, column: str) -> tuple[SmallestShift | None, SmallestShift | None]:
        """Return what is seen of a column within about a day, and within about a week; None where nothing is."""
        shifts = (self.smallest or {}).get(column, ())
        soon = [shift for shift in shifts if shift.hours <= _SOON_HOURS]
        late = [shift for shift in shifts if shift.hours > _SOON_HOURS]
        week = min(late, key=lambda shift: abs(shift.hours - _LATE_HOURS), default=None)
        return (soon[-1] if soon else None), week
