"""Between which shares the coverage of intervals stays while nothing is wrong.

Coverage is the share of truths inside their intervals, remembered: half forgotten after :data:`MEMORY_TRUTHS` of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from airquality.truth.intervals import COVERAGE

#: How far coverage may leave what it did in history.
MARGIN = 0.04
#: After how many truths the memory is half forgotten: some four days of hourly truth.
MEMORY_TRUTHS = 100.0
#: The weight of the latest truth.
FORGET: float = 1.0 - 0.5 ** (1.0 / MEMORY_TRUTHS)


@dataclass(frozen=True, slots=True)
class Band:
    """Between which shares coverage stays while nothing is wrong."""

    low: float
    high: float

    def calm(self) -> Band:
        """Return the band in which an alarm closes."""
        return Band((self.low + COVERAGE) / 2, (self.high + COVERAGE) / 2)

    def holds(self, share: float) -> bool:
        """Whether a coverage is inside."""
        return self.low <= share <= self.high


def band_of(inside: Iterable[bool]) -> Band:
    """Return the band around what the coverage of history was, truth by truth."""
    share, low, high = COVERAGE, COVERAGE, COVERAGE
    for each in inside:
        share += FORGET * (each - share)
        low, high = min(low, share), max(high, share)
    return Band(max(0.0, low - MARGIN), min(1.0, high + MARGIN))
