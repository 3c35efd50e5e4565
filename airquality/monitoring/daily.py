"""Sums by day of many stations: whole numbers, so that a sum does not depend on what it is made of."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airquality.monitoring.relations import BASELINE_DAYS
from airquality.monitoring.rows import Ints


def by_day(days: NDArray[Any], values: NDArray[Any], day_of_row: Ints) -> tuple[Ints, NDArray[Any]]:
    """Return the sums of each day, those of new days appended, and the running sum of the day as of each row.

    The running sums are of the days' own type: a day fits it, and they are by far the largest table of a batch.
    """
    running = np.empty(values.shape, dtype=days.dtype)
    n_midnights, n_days = int(day_of_row[-1]), days.shape[1]
    starts = np.searchsorted(day_of_row, np.arange(n_midnights + 2)).tolist()
    sums = np.zeros((len(days), n_days + n_midnights, days.shape[2]), dtype=np.int64)
    sums[:, :n_days] = days
    for midnight in range(int(day_of_row[0]), n_midnights + 1):
        today = slice(starts[midnight], starts[midnight + 1])
        np.cumsum(values[:, today], axis=1, dtype=days.dtype, out=running[:, today])
        if not midnight:  # the day goes on
            running[:, today] += days[:, -1:]
        sums[:, n_days - 1 + midnight] = running[:, today.stop - 1]
    return sums, running


def whole_days(days: NDArray[Any], windows: Sequence[int], n_days: int) -> Ints:
    """Return the sums of the whole days of each window that ends with one of the last ``n_days``.

    ``(stations, n_days, windows, day channels)``; a window counts the day it ends with, which is not whole.
    """
    out = np.empty((len(days), n_days, len(windows), days.shape[2]), dtype=np.int64)
    for day, (index, window) in itertools.product(range(n_days), enumerate(windows)):
        end = days.shape[1] - n_days + day
        out[:, day, index] = days[:, end - window + 1 : end].sum(axis=1, dtype=np.int64)
    return out


def sliding(table: Ints) -> Ints:
    """Return sums over every 28 consecutive days, ``(stations, n_days, ...)``."""
    total = np.cumsum(table, axis=1)
    first = total[:, BASELINE_DAYS - 1 : BASELINE_DAYS]
    return np.concatenate([first, total[:, BASELINE_DAYS:] - total[:, :-BASELINE_DAYS]], axis=1)
