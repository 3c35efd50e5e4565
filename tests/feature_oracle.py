"""The oracle of the features: the declarations, carried out one after another over a whole grid of hours.

It knows nothing of plans, terms or kept nodes: each call of the vocabulary of ``airquality.model.history`` computes an
array, and every node of the tree of sums is computed for every hour. The product's features have its bits.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airquality.model.channels import CALIBRATED, LOG_FLOORS, LOG_TARGET
from airquality.model.features import FAMILIES
from airquality.network.current import NETWORK
from airquality.records import HISTORY_HOURS

Floats = NDArray[np.float64]

_WEATHER = tuple(column.short for column in NETWORK.of_role("weather"))
_SAME_HOUR_LAGS = tuple(range(24, HISTORY_HOURS + 1, 24))


def rows(values: Floats, hours: NDArray[np.int64], positions: NDArray[np.intp]) -> Floats:
    """The feature rows at ``positions`` of a gap-free grid of hours, as ``airquality.model.features.rows`` returns them."""
    with np.errstate(invalid="ignore", over="ignore"):
        history: Any = WholeGrid(values, hours, positions)
        return np.stack([column for family in FAMILIES for column in family.compute(history)], axis=1)  # type: ignore[misc]


class WholeGrid:
    """The 168 hours before each requested row, and the hour itself, by channel.

    Args:
        values: Gap-free hour grid of raw values, shape ``(n_hours, len(RAW_COLUMNS))``, NaN where missing.
        hours: The hour (see ``airquality.records``) of each requested row, shape ``(n_rows,)``.
        positions: The grid index of each requested row, shape ``(n_rows,)``, each at least 168.
    """

    def __init__(self, values: Floats, hours: NDArray[np.int64], positions: NDArray[np.intp]) -> None:
        self.hours = hours
        self._positions = positions
        channels = _channels(values)
        self._index = {channel: index for index, channel in enumerate(channels)}
        self._table = np.array(list(channels.values()))
        self._missing = np.isnan(self._table)
        self._windows: dict[int, tuple[Floats, Floats]] = {}

    def now(self, channel: str) -> Floats:
        """Return the channel at hour t, shape ``(n_rows,)``; none of what the target makes: that is the truth."""
        return self._row(self._table, channel)[self._positions]

    def lag(self, channel: str, hours: int) -> Floats:
        """Return the channel ``hours`` (at least 1) before each row, shape ``(n_rows,)``."""
        return self._row(self._table, channel)[self._positions - hours]

    def last(self, channel: str) -> Floats:
        """Return the most recent measured value before each row; NaN if the 168 hours hold none."""
        return self._row(self._last_values, channel)

    def mean(self, channel: str, window: int) -> Floats:
        """Return the mean of the window's measured values; NaN if none."""
        return self._row(self._window(window)[1], channel)

    def count(self, channel: str, window: int) -> Floats:
        """Return how many hours of the window were measured."""
        return self._row(self._window(window)[0], channel)

    def std(self, channel: str, window: int) -> Floats:
        """Return the population standard deviation of the window, to about 1e-7; NaN below two values.

        The channel must have its square beside it.
        """
        mean, mean_square = self.mean(channel, window), self.mean(f"{channel}_squared", window)
        std = np.sqrt(np.maximum(mean_square - mean * mean, 0.0))
        return np.where(self.count(channel, window) < 2, np.nan, std)

    def highest(self, channel: str, window: int) -> Floats:
        """Return the window's largest value; NaN if none."""
        return self._extreme(channel, window, np.fmax)

    def lowest(self, channel: str, window: int) -> Floats:
        """Return the window's smallest value; NaN if none."""
        return self._extreme(channel, window, np.fmin)

    def _extreme(self, channel: str, window: int, pick: np.ufunc) -> Floats:
        level = window.bit_length() - 1  # two spans of this length cover the window, overlapping
        span = _doublings(self._row(self._table, channel), pick)[level]
        extreme: Floats = pick(span[self._positions - (1 << level)], span[self._positions - window])
        return extreme

    def wave(self, cycle: str, wave: str) -> Floats:
        """Return the sine or cosine of the place of hour t in a cycle of the calendar."""
        days = self.hours // 24
        month = days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64) % 12
        phase, period = {"hour": (self.hours % 24, 24), "weekday": ((days + 3) % 7, 7), "month": (month, 12)}[cycle]
        waves: Floats = getattr(np, wave)(2 * np.pi * np.arange(period) / period)
        of_hours: Floats = waves[phase]
        return of_hours

    @property
    def base_level(self) -> Floats:
        """The base in the unit of the target."""
        level: Floats = np.exp(self.base)
        return level

    def same_hour(self, channel: str) -> Floats:
        """Return the mean over the same hour of the last seven days; NaN if none was measured."""
        return self._row(self._same_hour_means, channel)

    def calibrated(self, name: str, ratio: Floats) -> Floats:
        """Return the target's log of hour t as sensor ``name`` tells it, given its log ratio to that sensor."""
        return CALIBRATED[name] * self.now(f"log_{name}") + ratio

    @cached_property
    def base(self) -> Floats:
        """The target's log of hour t as the last known ratios tell it; where no sensor reports, as its own past does.

        NaN only where the 168 hours hold no target at all.
        """
        base = _mean_of([self.calibrated(name, self.last(f"ratio_{name}")) for name in CALIBRATED])
        past = _mean_of([self.last(LOG_TARGET), self.same_hour(LOG_TARGET)])
        return np.where(np.isnan(base), past, base)

    def _row(self, table: Floats, channel: str) -> Floats:
        row: Floats = table[self._index[channel]]
        return row

    @cached_property
    def _last_values(self) -> Floats:
        hours = np.arange(self._table.shape[1])
        newest = np.maximum.accumulate(np.where(self._missing, -1, hours), axis=1)[:, self._positions - 1]
        values = np.take_along_axis(self._table, newest, axis=1)
        return np.where(self._positions - newest <= HISTORY_HOURS, values, np.nan)

    @cached_property
    def _same_hour_means(self) -> Floats:
        return _mean_of([self._table[:, self._positions - hours] for hours in _SAME_HOUR_LAGS])

    @cached_property
    def _doubled(self) -> tuple[list[Floats], list[Floats]]:
        known = np.where(self._missing, 0.0, 1.0)
        return _doublings(known, np.add), _doublings(np.where(self._missing, 0.0, self._table), np.add)

    def _window(self, window: int) -> tuple[Floats, Floats]:
        """Return count and mean of the window's measured values, each of shape ``(n_channels, n_rows)``."""
        if window not in self._windows:
            counts, sums = (self._sum(doubled, window) for doubled in self._doubled)
            self._windows[window] = counts, _divide(sums, counts)
        return self._windows[window]

    def _sum(self, doubled: list[Floats], window: int) -> Floats:
        """Return the sum over the window, added up by its binary digits: a tree that is the same for every row."""
        first = self._positions
        total = np.zeros((len(self._table), len(first)))
        for level, sums in enumerate(doubled):
            if window >> level & 1:
                first = first - (1 << level)
                total = total + sums[:, first]
        return total


def _doublings(values: Floats, pick: np.ufunc) -> list[Floats]:
    """Return, for each power of two up to 128, ``pick`` over that many hours beginning at each hour of the last axis.

    Each entry depends on the hours it covers and on nothing else, so its bits do not depend on where the grid begins.
    """
    levels = [values]
    for level in range(HISTORY_HOURS.bit_length() - 1):
        widest, span = levels[-1], 1 << level
        levels.append(pick(widest[..., span:], widest[..., :-span]))
    return levels


def _channels(values: Floats) -> dict[str, Floats]:
    raw = {column.short: np.ascontiguousarray(values[:, NETWORK.index(column.name)]) for column in NETWORK.inputs}
    channels = {short: raw[short] for short in _WEATHER}
    for name, floor in LOG_FLOORS.items():
        channels[f"log_{name}"] = np.log(np.maximum(raw[name], floor))
    for name, exponent in CALIBRATED.items():
        channels[f"ratio_{name}"] = channels[LOG_TARGET] - exponent * channels[f"log_{name}"]
    channels[f"{LOG_TARGET}_squared"] = channels[LOG_TARGET] ** 2
    return channels


def _divide(numerator: Floats, denominator: Floats) -> Floats:
    return np.divide(numerator, denominator, out=np.full_like(numerator, np.nan), where=denominator > 0)


def _mean_of(parts: list[Floats]) -> Floats:
    """Return the mean of the parts that are known, added in their order; NaN where none is."""
    total, count = np.zeros_like(parts[0]), np.zeros_like(parts[0])
    for part in parts:
        known = ~np.isnan(part)
        total += np.where(known, part, 0.0)
        count += known
    return _divide(total, count)
