"""The place of an hour in the cycles of the calendar."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_HOURS_A_WEEK = 168
#: After so many days the calendar repeats.
_DAYS_OF_400_YEARS = 146_097
_FUNCTIONS = {"sin": np.sin, "cos": np.cos}
#: The cycles, and the waves that are known of each.
CYCLES = ("hour", "weekday", "month")
WAVES = tuple((cycle, wave) for cycle in CYCLES for wave in _FUNCTIONS)


def waves(hours: NDArray[np.int64]) -> Floats:
    """Return the waves of the hours, shape ``(n, len(WAVES))``.

    >>> waves(np.array([6])).round(3).tolist()[0][:2]
    [1.0, 0.0]
    """
    months = _MONTHS.take(hours // 24, mode="wrap")
    return np.concatenate([_WEEK.take(hours % _HOURS_A_WEEK, axis=0), _YEAR.take(months, axis=0)], axis=1)


def _cycle(period: int) -> Floats:
    """Return sine and cosine of every phase of a cycle, shape ``(period, 2)``."""
    angles = 2 * np.pi * np.arange(period) / period
    return np.stack([function(angles) for function in _FUNCTIONS.values()], axis=1)


def _week() -> Floats:
    """Return the waves of hour and weekday for every hour of the week that began at 1970-01-01T00, a Thursday."""
    hours = np.arange(_HOURS_A_WEEK)
    return np.concatenate([_cycle(24)[hours % 24], _cycle(7)[(hours // 24 + 3) % 7]], axis=1)  # Monday is 0


def _months() -> NDArray[np.int8]:
    """Return the month, from 0, of each day of 400 years from 1970 on; through datetime64, whose arithmetic is exact."""
    days = np.arange(_DAYS_OF_400_YEARS).view("datetime64[D]")
    return (days.astype("datetime64[M]").view(np.int64) % 12).astype(np.int8)


_WEEK, _YEAR, _MONTHS = _week(), _cycle(12), _months()
