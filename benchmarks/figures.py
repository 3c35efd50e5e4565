"""A figure: what the rounds of a run measured of one thing, as its median and its range."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One value a round, in ``unit``."""

    unit: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The value in the middle."""
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        """The smallest value."""
        return min(self.values)

    @property
    def high(self) -> float:
        """The largest value."""
        return max(self.values)

    def __str__(self) -> str:
        """Return the median with its unit, and the range where there is one.

        >>> str(Figure("rows/s", (1200.0, 1000.0, 1100.0))), str(Figure("s", (0.25,)))
        ('1,100 rows/s (1,000 to 1,200)', '0.25 s')
        """
        said = f"{shown(self.median)} {self.unit}".rstrip()
        return said if len(self.values) == 1 else f"{said} ({shown(self.low)} to {shown(self.high)})"


def ratio(over: Sequence[float], under: Sequence[float]) -> Figure:
    """Return the ratios of two contenders round by round: what disturbed a round disturbed both.

    >>> ratio([2.0, 9.0], [4.0, 10.0]).values
    (0.5, 0.9)
    """
    return Figure("", tuple(a / b for a, b in zip(over, under, strict=True)))


def shown(value: float) -> str:
    """Return a number with three significant digits, large ones whole.

    >>> [shown(value) for value in (12345.6, 123.4, 12.34, 0.1234)]
    ['12,346', '123', '12.3', '0.123']
    """
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
