"""Ratio: does the analyser of the target read more or less than the sensors say it should, over days to weeks?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airquality.monitoring.detector import SUMMED_DAYS, Cell, Memory, Recent
from airquality.monitoring.network import ANALYSER, ANALYSER_NODE, ANALYSER_PREDICTS, ANALYSER_VIEWS, Bools
from airquality.monitoring.relations import Relations
from airquality.monitoring.rows import CARRIED_ROWS, Floats, Ints, Rows, bits_of, to_fixed
from airquality.network.declaration import LEAST_VIEWS

_WINDOW_DAYS = (3, 7, 14)
#: What each prediction uses, as bits.
_NEEDED = bits_of(ANALYSER_PREDICTS)
#: Hours with the target that each window needs, (windows, 1).
_LEAST_COUNTS = 8 * np.array(_WINDOW_DAYS)[:, np.newaxis]
_SCALE, _LARGEST = 4096.0, 500.0


class Ratio:
    """Consensus of the views of the target on log(sum measured / sum predicted) minus its baseline.

    Windows are the last 3, 7 and 14 calendar days, the current one so far, so that daily sums are all that is kept.
    """

    name = "ratio"
    says = "no longer fits the sensors"
    is_shift = True
    size_unit = ""
    hours = 0
    channels = day_channels = 2 * ANALYSER_VIEWS
    dtype: type = np.int32
    period = 1
    windows: tuple[int, ...] = ()
    days = SUMMED_DAYS
    day_windows: tuple[int, ...] = _WINDOW_DAYS
    day_dtype: type = np.int32
    baseline = True
    day_nodes: Ints | None = np.full(2 * ANALYSER_VIEWS, ANALYSER_NODE)

    def __init__(self, relations: Relations) -> None:
        self.cells = tuple(
            Cell("ratio", ANALYSER.column, 24 * days, sign, weight=3.0) for sign in (1, -1) for days in _WINDOW_DAYS
        )

    def columns_of(self, column: str) -> Sequence[int]:
        """Return nothing: whole days are left out of the baseline instead."""
        return ()

    def observe(self, rows: Rows, recent: Recent) -> NDArray[Any]:
        """Return the target and each prediction of it, missing unless both are known, ``(stations, n, 2 views)``."""
        relations = rows.relations
        inputs = np.concatenate([rows.channels[:, CARRIED_ROWS:], rows.analysers[..., 1:]], axis=-1)
        missing = np.isnan(inputs)
        filled = np.where(missing, 0.0, inputs)
        total = np.repeat(relations.analyser_rhythm.T[rows.hours % 168][np.newaxis], len(inputs), axis=0)
        for index, coefficients in enumerate(relations.analyser.T):
            total += coefficients * filled[..., index, np.newaxis]
        lacks = (bits_of(missing)[..., np.newaxis] & _NEEDED) != 0
        actual = np.exp(rows.analysers[..., :1])
        predictions = np.where(lacks | np.isnan(actual), np.nan, np.minimum(np.exp(np.minimum(total, 10.0)), _LARGEST))
        paired = np.where(np.isnan(predictions), np.nan, np.minimum(actual, _LARGEST))
        return to_fixed(np.concatenate([paired, predictions], axis=-1), _SCALE)

    def daily(self, rows: Rows, recent: Recent) -> tuple[Ints, Bools]:
        """Return the same, to be summed."""
        return recent.filled

    def statistics(self, rows: Rows, memory: Memory) -> Floats:
        """Return the smallest rise, then the smallest fall, that any prediction sees, by window."""
        baseline = _log_ratio(memory.baseline)[:, rows.day_of_row, np.newaxis]
        sums, counts = memory.last_days(rows)
        shift = _log_ratio(np.where(counts >= _LEAST_COUNTS, sums, np.nan)) - baseline  # (station, row, window, view)
        known = ~np.isnan(shift)
        enough = known.sum(axis=-1) >= LEAST_VIEWS
        up, down = np.where(known, shift, np.inf).min(axis=-1), np.where(known, -shift, np.inf).min(axis=-1)
        return np.where(np.concatenate([enough, enough], axis=-1), np.concatenate([up, down], axis=-1), np.nan)

    @staticmethod
    def own_fault(values: Floats) -> str:
        """Let the analyser read three times too much."""
        values[:, ANALYSER.index] *= 3.0
        return ANALYSER.column

    def size(self, rows: Rows, memory: Memory, cell: int) -> Floats:
        """Return how much too high the target is read, in its unit (negative: too low)."""
        sign, index = 1 - 2 * (cell // len(_WINDOW_DAYS)), cell % len(_WINDOW_DAYS)
        shift = sign * self.statistics(rows, memory)[..., cell]
        sums, counts = memory.last_days(rows)
        mean = sums[..., index, 0] / np.maximum(counts[..., index, 0], 1) / _SCALE
        return np.asarray(mean * (1.0 - np.exp(-shift)))


def _log_ratio(sums: Floats) -> Floats:
    """Return log(sum measured / sum predicted), NaN where there is none."""
    actual, predicted = sums[..., :ANALYSER_VIEWS], sums[..., ANALYSER_VIEWS:]
    known = ~np.isnan(actual) & (predicted > 0) & (actual > 0)
    return np.where(known, np.log(np.where(known, actual, 1.0) / np.where(known, predicted, 1.0)), np.nan)
