"""Noise and spikes: does a sensor jump from hour to hour in ways the others do not follow?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airquality.monitoring.detector import SUMMED_DAYS, Cell, Memory, Recent, windows_over
from airquality.monitoring.network import N_GASES, N_NODES, NODES, VIEWS, Bools, avoiding
from airquality.monitoring.relations import Relations
from airquality.monitoring.rows import Floats, Ints, Rows, to_fixed

_NOISE_WINDOWS = (6, 24)
#: Values each window needs, (windows, 1).
_LEAST_VALUES = np.array(_NOISE_WINDOWS)[:, np.newaxis] // 3
_SPIKE_HOURS = 72
#: Squared differences are kept in units of 1/4096 of their usual mean; beyond 512 times that, more is not needed.
_SQUARE_SCALE, _LARGEST_SQUARE = 4096.0, 512.0
_SPIKE_SCALE = 65536.0
_NODE_OF_CHANNEL = np.tile(np.arange(N_NODES), VIEWS)


class Noise:
    """Mean squared hourly change of the residual over 6 and 24 h, against its baseline, in the view that sees least."""

    name = "noise"
    says = "is noisier than it was, by {size}"
    is_shift = False
    size_unit = ""
    hours = max(_NOISE_WINDOWS)
    channels = day_channels = VIEWS * N_NODES
    dtype: type = np.int32
    period = 1
    windows: tuple[int, ...] = _NOISE_WINDOWS
    days = SUMMED_DAYS
    day_windows: tuple[int, ...] = ()
    day_dtype: type = np.int32
    baseline = True
    day_nodes: Ints | None = _NODE_OF_CHANNEL

    def __init__(self, relations: Relations) -> None:
        self.cells = tuple(Cell("noise", node.column, hours) for hours in _NOISE_WINDOWS for node in NODES)

    def columns_of(self, column: str) -> Sequence[int]:
        """Return the node's views."""
        return [at for at, node in enumerate(_NODE_OF_CHANNEL) if NODES[node].column == column]

    def observe(self, rows: Rows, recent: Recent) -> NDArray[Any]:
        """Return the squared differences, ``(stations, n, views and nodes)``."""
        return to_fixed(np.minimum(rows.differences[:, 1:] ** 2, _LARGEST_SQUARE), _SQUARE_SCALE)

    def daily(self, rows: Rows, recent: Recent) -> tuple[Ints, Bools]:
        """Return the same, to be summed."""
        return recent.filled

    def statistics(self, rows: Rows, memory: Memory) -> Floats:
        """Return half the log ratio of mean squares, that is the log ratio of amplitudes."""
        least = _least(self._ratios(rows, memory), avoiding(memory.wrong))
        return np.asarray(0.5 * np.log(least.reshape(*least.shape[:2], len(self.cells))))

    @staticmethod
    def own_fault(values: Floats) -> str:
        """Add noise to a weather column."""
        node = NODES[N_GASES]
        values[:, node.index] += np.random.default_rng(3).normal(0, 15, len(values))
        return node.column

    def size(self, rows: Rows, memory: Memory, cell: int) -> Floats:
        """Return the sd of the noise that was added, in the column's unit."""
        index, node = divmod(cell, N_NODES)
        ratio = _least(self._ratios(rows, memory), avoiding(memory.wrong))[..., index, node]
        excess = np.sqrt(np.maximum(ratio - 1.0, 0.0) / 2.0) * rows.relations.difference_sd[node]
        usual = np.exp(rows.relations.rhythm[:, node].mean()) if NODES[node].log else 1.0
        return np.asarray(excess * usual)

    def _ratios(self, rows: Rows, memory: Memory) -> Floats:
        """Return mean squares over their baselines, ``(stations, n, windows, views, nodes)``."""
        sums, counts = memory.recent.window_sums
        mean = np.where(counts >= _LEAST_VALUES, sums / np.maximum(counts, 1), np.nan)
        baseline = memory.baseline[:, rows.day_of_row, np.newaxis]
        ratio = np.maximum(mean, 1.0) / np.maximum(baseline, 1.0)
        return ratio.reshape(*ratio.shape[:3], VIEWS, N_NODES)


class Spike:
    """The second-largest jump in 72 h that was taken back in the next hour, in the view that sees least."""

    name = "spike"
    says = "has spikes of {size}"
    is_shift = False
    size_unit = ""
    hours = _SPIKE_HOURS
    channels = N_NODES
    dtype: type = np.int32
    period = 1
    windows: tuple[int, ...] = ()
    days = day_channels = 0
    day_windows: tuple[int, ...] = ()
    day_dtype: type = np.int64
    baseline = False
    day_nodes: Ints | None = None

    def __init__(self, relations: Relations) -> None:
        self.cells = tuple(Cell("spike", node.column, _SPIKE_HOURS, weight=0.1) for node in NODES)

    def columns_of(self, column: str) -> Sequence[int]:
        """Return the node's spikes."""
        return [index for index, node in enumerate(NODES) if node.column == column]

    def observe(self, rows: Rows, recent: Recent) -> NDArray[Any]:
        """Return the size of the spike an hour ago, 0 for none, ``(stations, n, nodes)``."""
        before, after = rows.differences[:, :-1], rows.differences[:, 1:]
        returned = np.where(before * after < 0, np.minimum(np.abs(before), np.abs(after)), 0.0)
        returned[np.isnan(before) | np.isnan(after)] = np.inf
        least = returned.reshape(*returned.shape[:2], VIEWS, N_NODES).min(axis=2)
        least[np.isinf(least)] = np.nan
        return to_fixed(np.minimum(least, 1000.0), _SPIKE_SCALE)

    def daily(self, rows: Rows, recent: Recent) -> tuple[Ints, Bools]:
        """Return nothing: a spike needs no baseline."""
        nothing = np.zeros((*recent.new.shape[:2], 0), dtype=np.int64)
        return nothing, nothing.astype(bool)

    def statistics(self, rows: Rows, memory: Memory) -> Floats:
        """Return the second-largest spike in sd, ``(stations, n, nodes)``; 0 where there is none."""
        return self._second_largest(rows, memory) / _SPIKE_SCALE

    @staticmethod
    def own_fault(values: Floats) -> str:
        """Put a spike into every twentieth hour of a sensor."""
        values[5::20, NODES[3].index] *= 1.8
        return NODES[3].column

    def size(self, rows: Rows, memory: Memory, cell: int) -> Floats:
        """Return the height of the second-largest spike in the column's unit."""
        height = self._second_largest(rows, memory)[..., cell] / _SPIKE_SCALE * rows.relations.difference_sd[cell]
        return np.asarray(height * (np.exp(rows.relations.rhythm[:, cell].mean()) if NODES[cell].log else 1.0))

    def _second_largest(self, rows: Rows, memory: Memory) -> Floats:
        windows = windows_over(np.maximum(memory.recent.all, 0), _SPIKE_HOURS, rows.n_new).copy()
        np.put_along_axis(windows, windows.argmax(axis=-1, keepdims=True), 0, axis=-1)
        second: NDArray[Any] = windows.max(axis=-1)
        return second.transpose(0, 2, 1).astype(np.float64)


def _least(by_view: Floats, views: Bools) -> Floats:
    """Return the smallest ``(..., nodes)`` of ``(..., views, nodes)`` over the views that know and may."""
    usable = ~np.isnan(by_view) & views.T
    least = np.where(usable, by_view, np.inf).min(axis=-2)
    return np.where(np.isinf(least), np.nan, least)
