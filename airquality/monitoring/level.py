"""Level: has a sensor moved against all the others?

Each node is predicted from the other channels by seven views, each leaving another channel out, and by two kinds of
relation. It counts only as far as *every* view agrees: a faulty predictor cannot accuse a healthy sensor, because one of the
views does without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airquality.monitoring.detector import SUMMED_DAYS, Cell, Memory, Recent
from airquality.monitoring.network import CHANNELS, N_CHANNELS, N_GASES, N_NODES, NODES, VIEWS, Bools, predicts_without
from airquality.monitoring.relations import HOURLY_PENALTY, LEVEL_WINDOWS, SCALED_PENALTY, Relations, ridge
from airquality.monitoring.rows import CARRIED_ROWS, CHANNEL_SCALE, Floats, Ints, Rows, bits_of, to_fixed

#: A channel's mean is comparable only if it covers nearly the same hours as the others'.
_LEAST_SHARE = 0.9
#: Rows judged at a time, so that what is computed for them stays in the processor's cache.
_BLOCK_ROWS = 64
_N_WINDOWS = len(LEVEL_WINDOWS)
#: Values each window needs, (windows, 1).
_LEAST_VALUES = np.array(LEVEL_WINDOWS)[:, np.newaxis] // 3
_NODES = np.arange(N_NODES)
#: The columns that a view can do without; what else is wrong makes no other views, of which each set costs 5 ms.
_COLUMNS = frozenset(channel.column for channel in CHANNELS)


@dataclass(frozen=True, slots=True, eq=False)
class _Views:
    """All views of all nodes while some columns are known to be wrong: they, and one more, are left out.

    ``coefficients`` ``(channels, kinds and views, 1, windows and nodes)``; ``needed`` the channels each uses, as bits.
    """

    coefficients: Floats
    needed: Ints

    @classmethod
    def without(cls, wrong: frozenset[str], relations: Relations) -> _Views:
        predicts = predicts_without(wrong)
        scaled = np.array([ridge(moments, SCALED_PENALTY, predicts) for moments in relations.scaled_moments])
        hourly = np.repeat(ridge(relations.hourly_moments, HOURLY_PENALTY, predicts)[np.newaxis], _N_WINDOWS, axis=0)
        hourly[:, N_GASES:] = scaled[:, N_GASES:]  # weather: the hour-by-hour relation knows less than the scaled one
        both = np.stack([hourly, scaled])  # (kind, window, node, view, channel)
        by_channel = np.ascontiguousarray(both.transpose(4, 0, 3, 1, 2))
        needed = np.tile(bits_of(predicts).T[:, np.newaxis, np.newaxis, :], (2, 1, _N_WINDOWS, 1))
        return cls(by_channel.reshape(N_CHANNELS, 2 * VIEWS, 1, _N_WINDOWS * N_NODES), needed)


class Level:
    """Consensus of the views on the mean over 8 to 168 h minus the baseline."""

    name = "level"
    says = "is off the level the other sensors tell"
    is_shift = True
    size_unit = ""
    hours = max(LEVEL_WINDOWS)
    channels = day_channels = N_CHANNELS
    dtype: type = np.int64
    period = 1
    windows: tuple[int, ...] = LEVEL_WINDOWS
    days = SUMMED_DAYS
    day_windows: tuple[int, ...] = ()
    day_dtype: type = np.int64
    baseline = True
    day_nodes: Ints | None = None

    def __init__(self, relations: Relations) -> None:
        self.cells = tuple(
            Cell("level", node.column, hours, sign) for sign in (1, -1) for hours in LEVEL_WINDOWS for node in NODES
        )
        self._relations = relations
        self._views: dict[frozenset[str], _Views] = {}

    def columns_of(self, column: str) -> Sequence[int]:
        """Return the column's channel."""
        return [index for index, channel in enumerate(CHANNELS) if channel.column == column]

    def observe(self, rows: Rows, recent: Recent) -> NDArray[Any]:
        """Return the channels without their rhythm, in fixed point."""
        return to_fixed(rows.levels[:, CARRIED_ROWS:], CHANNEL_SCALE)

    def daily(self, rows: Rows, recent: Recent) -> tuple[Ints, Bools]:
        """Return the same, to be summed."""
        return recent.filled

    def statistics(self, rows: Rows, memory: Memory) -> Floats:
        """Return the smallest shift up, then the smallest shift down, that any view sees, by window and node."""
        (shifts, own), views = self._shifts(rows, memory), self._views_without(memory.wrong)
        n_rows = len(own)
        up, down = np.empty((n_rows, _N_WINDOWS * N_NODES)), np.empty((n_rows, _N_WINDOWS * N_NODES))
        for start in range(0, n_rows, _BLOCK_ROWS):
            block = slice(start, start + _BLOCK_ROWS)
            residuals, blind = _residuals(shifts[:, block], own[block], views)
            up[block] = (
                np.min(residuals, axis=0, initial=np.inf, where=~blind) if blind is not None else residuals.min(axis=0)
            )
            down[block] = -(
                np.max(residuals, axis=0, initial=-np.inf, where=~blind) if blind is not None else residuals.max(axis=0)
            )
        both = np.concatenate([up, down], axis=1)
        both[np.isinf(both)] = np.nan
        return both.reshape(*memory.today.shape[:2], len(self.cells))

    @staticmethod
    def own_fault(values: Floats) -> str:
        """Double a sensor."""
        values[:, NODES[0].index] *= 2.0
        return NODES[0].column

    def size(self, rows: Rows, memory: Memory, cell: int) -> Floats:
        """Return the shift the views see in the middle: degrees and per cent as they are, sensors in their own unit."""
        residuals, blind = _residuals(*self._shifts(rows, memory), self._views_without(memory.wrong))
        column = cell % (_N_WINDOWS * N_NODES)
        window, node = divmod(column, N_NODES)
        seen = residuals[..., column] if blind is None else np.where(blind[..., column], np.nan, residuals[..., column])
        shift = np.asarray(_median(seen)).reshape(memory.today.shape[:2])
        if not NODES[node].log:
            return shift
        sums, counts = memory.recent.window_sums
        usual = rows.relations.rhythm[:, node].mean()
        mean = np.exp(sums[..., window, node] / np.maximum(counts[..., window, node], 1) / CHANNEL_SCALE + usual)
        return np.asarray(mean * (1.0 - np.exp(-shift)))

    def _views_without(self, wrong: frozenset[str]) -> _Views:
        known = wrong & _COLUMNS
        if known not in self._views:
            self._views[known] = _Views.without(known, self._relations)
        return self._views[known]

    def _shifts(self, rows: Rows, memory: Memory) -> tuple[Floats, Floats]:
        """Return means minus baselines ``(channels, rows, windows and nodes)``, and each node's own ``(rows, the same)``."""
        sums, counts = memory.recent.window_sums
        least = np.maximum(_LEAST_VALUES, _LEAST_SHARE * counts.max(axis=-1, keepdims=True))
        means = np.where(counts >= least, sums / np.maximum(counts, 1) / CHANNEL_SCALE, np.nan)
        baseline = memory.baseline / CHANNEL_SCALE  # (station, midnight, node, channel)
        own = means[..., :N_NODES] - baseline[..., _NODES, _NODES][:, rows.day_of_row, np.newaxis]
        by_channel = np.ascontiguousarray(baseline.transpose(3, 0, 1, 2))[:, :, rows.day_of_row, np.newaxis]
        shifts = np.ascontiguousarray(means.transpose(3, 0, 1, 2))[..., np.newaxis] - by_channel
        return shifts.reshape(N_CHANNELS, -1, _N_WINDOWS * N_NODES), own.reshape(-1, _N_WINDOWS * N_NODES)


def _residuals(shifts: Floats, own: Floats, views: _Views) -> tuple[Floats, Bools | None]:
    """Return ``(2 views, rows, windows and nodes)``, and where a view cannot judge (None: nowhere)."""
    missing = np.isnan(shifts)
    blind = None
    if missing.any():
        bits = (missing * (1 << np.arange(N_CHANNELS)).reshape(-1, 1, 1)).sum(axis=0).reshape(-1, _N_WINDOWS, N_NODES)
        lacks = (bits[np.newaxis] & views.needed) != 0
        blind = (lacks | np.isnan(own).reshape(1, -1, _N_WINDOWS, N_NODES)).reshape(2 * VIEWS, *own.shape)
        shifts, own = np.where(missing, 0.0, shifts), np.nan_to_num(own)
    residuals = np.repeat(own[np.newaxis], 2 * VIEWS, axis=0)
    explained = np.empty_like(residuals)
    for coefficients, shift in zip(views.coefficients, shifts, strict=True):
        np.multiply(coefficients, shift, out=explained)
        residuals -= explained
    return residuals, blind


def _median(values: Floats) -> Floats:
    """Return the median over the first axis of what is not NaN; NaN where there is nothing."""
    ordered = np.sort(values, axis=0)
    n_known = (~np.isnan(values)).sum(axis=0)
    low = np.take_along_axis(ordered, (np.maximum(n_known - 1, 0) // 2)[np.newaxis], axis=0)[0]
    high = np.take_along_axis(ordered, (np.maximum(n_known, 1) // 2)[np.newaxis], axis=0)[0]
    return np.where(n_known > 0, (low + high) / 2, np.nan)
