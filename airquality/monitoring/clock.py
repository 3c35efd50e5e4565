"""Clock: does a sensor follow the others better some hours earlier or later than now?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airquality.monitoring.detector import Cell, Memory, Recent
from airquality.monitoring.network import N_NODES, NODES, VIEWS, Bools, avoiding
from airquality.monitoring.relations import Relations
from airquality.monitoring.rows import CARRIED_ROWS, CHANNEL_SCALE, MISSING, Floats, Ints, Rows, predicted, to_fixed

#: Hours by which the node (positive: late) or the others (negative) are held back.
_LAGS = (0, *range(1, 7), 9, 12, *range(-1, -7, -1), -9, -12)
_WINDOW_DAYS = (3, 7)
#: Errors and squared errors are summed in units of 1/4096: the channels' own, less ten bits.
_ERROR_SCALE, _ERROR_BITS = 4096.0, 10
#: Beyond that an error is an error: the first hours of a step in one column must not look like a late clock in another.
_CLIP_SD = 3.0
#: The squares of such errors, summed over the longest window, still fit 32 bits.
_LARGEST_ERROR = 55 * 4096
_N_LAGS = len(_LAGS)
#: Hours that each window needs, (windows, 1).
_LEAST_COUNTS = 12 * np.array(_WINDOW_DAYS)[:, np.newaxis]
#: Rows judged at a time, so that what is computed for them stays in the processor's cache.
_BLOCK_ROWS = 32
_LATE, _EARLY = (np.maximum(lags, 0)[:, np.newaxis] for lags in (_LAGS, np.negative(_LAGS)))


class Clock:
    """Log ratio of the error's variance now and at the best other lag, over the last 3 and 7 calendar days.

    Windows are whole days and the current one, so that only daily sums need to be kept for 17 lags.
    """

    name = "clock"
    says = "is late or early against the other sensors"
    is_shift = True
    size_unit = "h"
    hours = 12
    channels = 2 * N_NODES
    day_channels = 2 * _N_LAGS * N_NODES
    dtype: type = np.int32
    period = 1
    windows: tuple[int, ...] = ()
    days = max(_WINDOW_DAYS)
    day_windows: tuple[int, ...] = _WINDOW_DAYS
    day_dtype: type = np.int32
    baseline = False
    day_nodes: Ints | None = np.tile(np.arange(N_NODES), 2 * _N_LAGS)

    def __init__(self, relations: Relations) -> None:
        largest = np.minimum(_CLIP_SD * relations.plain_sd * _ERROR_SCALE, _LARGEST_ERROR)
        self._largest = largest.astype(np.int64).reshape(-1, 1, 1)
        self.cells = tuple(
            Cell("clock", node.column, 24 * days, floor=0.1, weight=0.1) for days in _WINDOW_DAYS for node in NODES
        )

    def columns_of(self, column: str) -> Sequence[int]:
        """Return the node and its prediction."""
        node = [index for index, node in enumerate(NODES) if node.column == column]
        return [*node, *(N_NODES + index for index in node)]

    def observe(self, rows: Rows, recent: Recent) -> NDArray[Any]:
        """Return each node and its prediction, both missing in an hour without all device channels."""
        channels = rows.channels[:, CARRIED_ROWS:]
        predictions = predicted(channels, rows.relations.plain) + rows.relations.plain_intercept.T.ravel()
        by_view = predictions.reshape(*predictions.shape[:-1], VIEWS, N_NODES)
        middle = np.sort(by_view, axis=-2)[..., VIEWS // 2, :]
        both = np.concatenate([channels[..., :N_NODES], middle], axis=-1)
        both[np.isnan(channels).any(axis=-1)] = np.nan
        return to_fixed(both, CHANNEL_SCALE)

    def daily(self, rows: Rows, recent: Recent) -> tuple[Ints, Bools]:
        """Return error and squared error at every lag, ``(stations, n, 2 lags and nodes)``."""
        hours = self.hours + np.arange(rows.n_new)
        y = recent.all[:, :N_NODES, hours - _EARLY]  # (station, node, lag, row)
        p = recent.all[:, N_NODES:, hours - _LATE]
        known = (y != MISSING) & (p != MISSING)
        errors = (y.astype(np.int64) - p) >> _ERROR_BITS
        errors = np.where(known, np.minimum(np.maximum(errors, -self._largest), self._largest), 0)
        flat, there = _by_row(errors.astype(self.day_dtype)), _by_row(known)
        squares = np.multiply(flat, flat, dtype=np.int64) >> 12
        return np.concatenate([flat, squares], axis=-1, dtype=self.day_dtype, casting="same_kind"), np.tile(there, 2)

    def statistics(self, rows: Rows, memory: Memory) -> Floats:
        """Return the log ratio by window and node; below 0 where the present hour fits best."""
        n_rows = memory.today.shape[0] * rows.n_new
        ratio = np.empty((n_rows, len(_WINDOW_DAYS), N_NODES))
        for start in range(0, n_rows, _BLOCK_ROWS):
            block = slice(start, start + _BLOCK_ROWS)
            variance = _variances(rows, memory, block)
            np.divide(variance[..., 0, :], _least(variance[..., 1:, :]), out=ratio[block])
        out: Floats = np.log(ratio).reshape(-1, rows.n_new, len(self.cells))
        witnesses = avoiding(memory.wrong).sum(axis=1)
        out[..., np.tile(witnesses <= VIEWS // 2, len(_WINDOW_DAYS))] = np.nan  # the middle prediction may be a wrong one
        return out

    @staticmethod
    def own_fault(values: Floats) -> str:
        """Delay a sensor by six hours."""
        values[6:, NODES[1].index] = values[:-6, NODES[1].index].copy()
        return NODES[1].column

    def size(self, rows: Rows, memory: Memory, cell: int) -> Floats:
        """Return by how many hours the sensor is late (negative: early)."""
        index, node = divmod(cell, N_NODES)
        variance = _variances(rows, memory, slice(None))[:, index, :, node]
        best = np.argmin(np.nan_to_num(variance, nan=np.inf), axis=-1)
        return np.asarray(np.array(_LAGS, dtype=np.float64)[best].reshape(-1, rows.n_new))


def _variances(rows: Rows, memory: Memory, block: slice) -> Floats:
    """Return ``(rows, windows, lags, nodes)`` of a block of all stations' rows, NaN with fewer than half of the hours."""
    half = _N_LAGS * N_NODES
    sums, counts = memory.last_days_of(rows, block, half)
    known = counts >= _LEAST_COUNTS
    n = np.maximum(counts, 1).astype(np.float64)
    mean, variance = sums[..., :half] / n, sums[..., half:] / n
    mean *= mean
    mean /= _ERROR_SCALE
    variance -= mean
    np.maximum(variance, 1.0, out=variance)
    variance[~known] = np.nan
    return variance.reshape(*variance.shape[:2], _N_LAGS, N_NODES)


def _least(variances: Floats) -> Floats:
    """Return the least over the lags, ``(..., nodes)`` of ``(..., lags, nodes)``; halves at a time, as each is one run."""
    while variances.shape[-2] > 1:
        half = variances.shape[-2] // 2
        variances = np.minimum(variances[..., :half, :], variances[..., half:, :])
    return variances[..., 0, :]


def _by_row(table: NDArray[Any]) -> NDArray[Any]:
    """Return ``(stations, n, lags and nodes)`` of ``(stations, nodes, lags, n)``."""
    return np.ascontiguousarray(table.transpose(0, 3, 2, 1)).reshape(len(table), table.shape[3], -1)
