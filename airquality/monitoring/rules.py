"""Exact rules: what a healthy device never does, as far as its history knows. They need no model of the air."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airquality.monitoring.detector import Cell, Memory, Recent, windows_over
from airquality.monitoring.network import GROUPS, NODES, RULE_COLUMNS, Bools
from airquality.monitoring.relations import Relations
from airquality.monitoring.rows import MISSING, Floats, Ints, Rows
from airquality.monitoring.twins import TWINS, expected
from airquality.records import DEVICE_COLUMNS, RAW_COLUMNS

_DEVICE = [RAW_COLUMNS.index(name) for name in DEVICE_COLUMNS]
_WATCHED = [RAW_COLUMNS.index(name) for name in RULE_COLUMNS]
_N_DEVICE, _N_WATCHED = len(_DEVICE), len(_WATCHED)
_TWINS = [RAW_COLUMNS.index(twin.column) for twin in TWINS]

#: Breaks of an identity within so many hours that are an alarm.
_BREAKS, _BREAK_HOURS = 2, 48
_LOST_HOURS = 24
#: Device columns that must report for the loss of another to count: most of them.
_REPORTING = (_N_DEVICE + 1) // 2
_CLIP_DAYS = (3, 7)
_COARSE_HOURS, _COARSE_VALUES = 48, 24
_HOURS_BACK = np.arange(_COARSE_HOURS, dtype=np.float32)
_LONGEST_RUN = 8


@dataclass(frozen=True, slots=True, eq=False)
class Limits:
    """What history never did; a statistic of 1 is at the limit.

    ``stuck`` ``(watched columns,)``: hours of one value, infinite where history's runs are too long to count. ``missing``
    ``(device columns,)``: hours of 24 without a value while the others report. ``clipped`` ``(2 windows, top and bottom,
    device columns)``: times the window's extreme occurs. ``distinct`` ``(device columns,)``: the least share of different
    values in 48 h. ``identity`` ``(twins,)``: departures as multiples of their tolerance.
    """

    stuck: Floats
    missing: Floats
    clipped: Floats
    distinct: Floats
    identity: Floats

    @classmethod
    def unit(cls) -> Limits:
        """Return limits of 1, with which the statistics are the counts and shares themselves."""
        clipped = np.ones((len(_CLIP_DAYS), 2, _N_DEVICE))
        return cls(np.ones(_N_WATCHED), np.ones(_N_DEVICE), clipped, np.ones(_N_DEVICE), np.ones(len(TWINS)))

    def arrays(self) -> dict[str, Floats]:
        """Return the limits by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


class _Rule:
    """What all rules share: no daily sums, no baseline."""

    name: str
    says: str
    channels: int
    cells: tuple[Cell, ...]
    period = 1
    windows: tuple[int, ...] = ()
    days = day_channels = 0
    day_windows: tuple[int, ...] = ()
    day_dtype: type = np.int64
    baseline = False
    day_nodes: Ints | None = None
    dtype: type = np.int32

    def __init__(self, relations: Relations, limits: Limits) -> None:
        self._limits = limits

    def columns_of(self, column: str) -> Sequence[int]:
        """Return the column's own, where the rule remembers one number a column."""
        named = (GROUPS.get(cell.column, (cell.column,)) for cell in self.cells[: self.channels])
        return [index for index, columns in enumerate(named) if column in columns]

    def daily(self, rows: Rows, recent: Recent) -> tuple[Ints, Bools]:
        """Return nothing."""
        nothing = np.zeros((*recent.new.shape[:2], 0), dtype=np.int64)
        return nothing, nothing.astype(bool)


class Identity(_Rule):
    """A computed column that does not follow from its sources."""

    name = "identity"
    says = "contradict each other"
    is_shift = True
    size_unit = ""
    hours = _BREAK_HOURS
    channels = len(TWINS)
    windows = (_BREAK_HOURS,)
    cells = tuple(Cell("identity", twin.group, _BREAK_HOURS, exact=True) for twin in TWINS)

    def observe(self, rows: Rows, recent: Recent) -> NDArray[Any]:
        """Return 1 for a break, 0 for none, ``(stations, n, twins)``."""
        difference, tolerance = _departures(rows.new, rows.relations)
        broken = np.abs(difference) > tolerance * self._limits.identity
        return np.where(np.isnan(difference), MISSING, broken).astype(np.int32)

    def statistics(self, rows: Rows, memory: Memory) -> Floats:
        """Return breaks in 48 h, over two."""
        return np.asarray(memory.recent.window_sums[0][:, :, 0] / _BREAKS)

    @staticmethod
    def own_fault(values: Floats) -> str:
        """Let a computed column read too much."""
        values[:, _TWINS[-1]] *= 1.5
        return TWINS[-1].group

    def size(self, rows: Rows, memory: Memory, cell: int) -> Floats:
        """Return the computed column minus what it should be, in its unit; 0 in an hour without a break."""
        return np.nan_to_num(_departures(rows.new, rows.relations)[0][..., cell])


class Stuck(_Rule):
    """The same value hour after hour, longer than ever in the history."""

    name = "stuck"
    says = "is stuck at {size}"
    is_shift = False
    size_unit = ""
    hours = 1
    channels = 2 * _N_WATCHED
    dtype: type = np.float64
    cells = tuple(Cell("stuck", column, 1, exact=True) for column in RULE_COLUMNS)

    def columns_of(self, column: str) -> Sequence[int]:
        """Return the column's value and its run."""
        return _twice(super().columns_of(column), _N_WATCHED)

    def observe(self, rows: Rows, recent: Recent) -> NDArray[Any]:
        """Return the values, and for how many hours each has been the same."""
        values, before = rows.new[..., _WATCHED], recent.all.transpose(0, 2, 1)
        same = values == np.concatenate([before[..., :_N_WATCHED], values[:, :-1]], axis=1)
        at = np.arange(1.0, rows.n_new + 1)[:, np.newaxis]
        began = np.maximum.accumulate(np.where(same, 0.0, at), axis=1)  # 0: before these rows
        run = np.where(began > 0, at - began + 1, at + before[..., _N_WATCHED:])
        return np.concatenate([values, np.where(np.isnan(values), 0.0, np.minimum(run, _LONGEST_RUN + 1.0))], axis=-1)

    def statistics(self, rows: Rows, memory: Memory) -> Floats:
        """Return the length of the run that ends with each row, over its limit."""
        return np.asarray(memory.recent.new[..., _N_WATCHED:] / self._limits.stuck)

    @staticmethod
    def own_fault(values: Floats) -> str:
        """Hold a sensor at one value."""
        values[:, NODES[3].index] = 1500.0
        return NODES[3].column

    def size(self, rows: Rows, memory: Memory, cell: int) -> Floats:
        """Return the value the column is stuck at."""
        return np.asarray(memory.recent.new[..., cell])


class Missing(_Rule):
    """A column without a value while the device's others report, in more of 24 hours than ever."""

    name = "missing"
    says = "is missing while the others report, {size}"
    is_shift = False
    size_unit = "h of 24"
    hours = _LOST_HOURS
    channels = _N_DEVICE
    windows = (_LOST_HOURS,)
    cells = tuple(Cell("missing", column, _LOST_HOURS, exact=True) for column in DEVICE_COLUMNS)

    def observe(self, rows: Rows, recent: Recent) -> NDArray[Any]:
        """Return 1 for an hour lost, else 0."""
        missing = np.isnan(rows.new[..., _DEVICE])
        reporting = (~missing).sum(axis=-1, keepdims=True) >= _REPORTING
        return np.asarray(missing & reporting, dtype=np.int32)

    def statistics(self, rows: Rows, memory: Memory) -> Floats:
        """Return hours lost of the last 24, over their limit."""
        return np.asarray(memory.recent.window_sums[0][:, :, 0] / self._limits.missing)

    @staticmethod
    def own_fault(values: Floats) -> str:
        """Lose every fifth hour of a column."""
        values[::5, _TWINS[0]] = np.nan
        return TWINS[0].column

    def size(self, rows: Rows, memory: Memory, cell: int) -> Floats:
        """Return hours lost of the last 24."""
        return np.asarray(memory.recent.window_sums[0][:, :, 0, cell], dtype=np.float64)


class Clipped(_Rule):
    """The largest or smallest value of 3 or 7 days occurs more often than it ever did: the signal is cut off there.

    Windows are calendar days, the current one so far, so that each day's extremes are all that is kept.
    """

    name = "clipped"
    says = "is cut off at {size}"
    is_shift = False
    size_unit = ""
    hours = max(_CLIP_DAYS)
    period = 24
    channels = 4 * _N_DEVICE
    dtype: type = np.float32
    cells = tuple(
        Cell("clipped", column, 24 * days, sign, exact=True)
        for days in _CLIP_DAYS
        for sign in (1, -1)
        for column in DEVICE_COLUMNS
    )

    def columns_of(self, column: str) -> Sequence[int]:
        """Return the column's extremes and how often each occurred."""
        own = DEVICE_COLUMNS.index(column) if column in DEVICE_COLUMNS else -1
        return [own + part * _N_DEVICE for part in range(4)] if own >= 0 else []

    def observe(self, rows: Rows, recent: Recent) -> NDArray[Any]:
        """Return the day's largest value and largest negative value so far, then how often each has occurred."""
        values = rows.new[..., _DEVICE].astype(np.float32)
        signed = np.concatenate([values, -values], axis=-1)
        edges = [0, *(np.flatnonzero(np.diff(rows.day_of_row)) + 1).tolist(), rows.n_new]
        before = np.where(rows.day_of_row[0], np.float32(np.nan), recent.all[..., -1])  # today so far
        found = []
        for begin, end in itertools.pairwise(edges):
            found.append(_running_extreme(signed[:, begin:end], before))
            before = np.full_like(before, np.nan)
        return found[0] if len(found) == 1 else np.concatenate(found, axis=1)

    def statistics(self, rows: Rows, memory: Memory) -> Floats:
        """Return how often the extreme occurs, over its limit."""
        extreme, times = self._extremes(rows, memory)
        share = np.where(np.isnan(extreme), np.nan, times) / self._limits.clipped.reshape(len(_CLIP_DAYS), 2 * _N_DEVICE)
        return share.reshape(*share.shape[:2], len(self.cells))

    @staticmethod
    def own_fault(values: Floats) -> str:
        """Cut a sensor's upper values off."""
        index = NODES[4].index
        values[:, index] = np.minimum(values[:, index], np.nanquantile(values[:, index], 0.7))
        return NODES[4].column

    def size(self, rows: Rows, memory: Memory, cell: int) -> Floats:
        """Return the value the column is cut off at."""
        extreme = self._extremes(rows, memory)[0]
        return np.asarray(self.cells[cell].sign * extreme.reshape(*extreme.shape[:2], -1)[..., cell], dtype=np.float64)

    def _extremes(self, rows: Rows, memory: Memory) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return each window's largest value and largest negative value, and how often each occurs.

        Both are ``(stations, n, windows, two by column)``.
        """
        now, day = memory.recent.new[:, :, np.newaxis], rows.day_of_row
        ends = np.flatnonzero(np.diff(day)).tolist()  # the last rows of days that ended
        days = memory.recent.followed_by(memory.recent.new[:, ends])
        if ends and not day[0]:  # the first of them ended the day that is remembered last
            days = np.delete(days, self.hours - 1, axis=2)
        todays = range(self.hours - 1, self.hours + int(day[-1]))
        past = np.concatenate([_largest_before(todays, days, window) for window in _CLIP_DAYS], axis=2)[:, day]
        half = 2 * _N_DEVICE
        extreme = np.fmax(now[..., :half], past[..., :half])
        times = (np.where(part[..., :half] == extreme, part[..., half:], 0.0) for part in (now, past))
        return extreme, next(times) + next(times)


class Coarse(_Rule):
    """Fewer different values in 48 h than ever: the column is rounded, or repeats itself."""

    name = "coarse"
    says = "has lost resolution: {size}"
    is_shift = False
    size_unit = "values in 48 h"
    hours = _COARSE_HOURS
    channels = 2 * _N_DEVICE
    dtype: type = np.float32
    cells = tuple(Cell("coarse", column, _COARSE_HOURS, exact=True) for column in DEVICE_COLUMNS)

    def columns_of(self, column: str) -> Sequence[int]:
        """Return the column's value and its age."""
        return _twice([index for index, cell in enumerate(self.cells) if cell.column == column], _N_DEVICE)

    def observe(self, rows: Rows, recent: Recent) -> NDArray[Any]:
        """Return the values, and for each how many hours ago it was last seen (48: not since)."""
        values = rows.new[..., _DEVICE].astype(np.float32)
        windows = windows_over(recent.followed_by(values), _COARSE_HOURS, rows.n_new)
        same = windows[..., -2::-1] == windows[..., -1:]  # from the latest hour before to the earliest
        latest = same.argmax(axis=-1)
        seen = same[..., 0] | (latest > 0)
        age = np.where(seen, latest + 1, _COARSE_HOURS).transpose(0, 2, 1).astype(np.float32)
        return np.concatenate([values, np.where(np.isnan(values), np.float32(np.nan), age)], axis=-1)

    def statistics(self, rows: Rows, memory: Memory) -> Floats:
        """Return the least share of different values over the share seen."""
        distinct, known = self._counts(rows, memory)
        share = distinct / np.maximum(known, 1)
        return np.where(known >= _COARSE_VALUES, self._limits.distinct / np.maximum(share, 1e-6), np.nan)

    @staticmethod
    def own_fault(values: Floats) -> str:
        """Round a sensor to hundreds."""
        index = NODES[2].index
        values[:, index] = np.round(values[:, index], -2)
        return NODES[2].column

    def size(self, rows: Rows, memory: Memory, cell: int) -> Floats:
        """Return the number of different values in 48 h."""
        return np.asarray(self._counts(rows, memory)[0][..., cell])

    def _counts(self, rows: Rows, memory: Memory) -> tuple[Floats, Floats]:
        """Return different values and values, counting each value where the window first sees it."""
        ages = memory.recent.last(_COARSE_HOURS)[:, _N_DEVICE:]
        distinct, known = _count(ages > _HOURS_BACK), _count(ages > 0)
        return distinct.transpose(0, 2, 1).astype(np.float64), known.transpose(0, 2, 1).astype(np.float64)


def _running_extreme(values: NDArray[Any], before: NDArray[Any]) -> NDArray[Any]:
    """Return the maximum so far in each row of one day, then how often it has occurred, ``(stations, n, two by column)``.

    Args:
        values: ``(stations, n, columns)``.
        before: The day's maximum and its occurrences before these rows, ``(stations, two by column)``; NaN for none.
    """
    top, times = before[:, np.newaxis, : values.shape[2]], before[:, np.newaxis, values.shape[2] :]
    running = np.fmax.accumulate(np.concatenate([top, values], axis=1), axis=1)
    extreme, last = running[:, 1:], running[:, :-1]
    so_far = np.where(np.isnan(times), 0.0, times) + (values == extreme).cumsum(axis=1, dtype=np.float32)
    larger_ones = np.maximum.accumulate(np.where(extreme > last, so_far - 1.0, 0.0), axis=1)
    return np.concatenate([extreme, so_far - larger_ones], axis=-1, dtype=np.float32, casting="same_kind")


def _largest_before(todays: range, days: NDArray[Any], window: int) -> NDArray[Any]:
    """Return the largest values of a window's whole days, then how often each occurs.

    ``(stations, todays, 1, two by column)``.

    Args:
        todays: The places in ``days`` of the days that windows end with.
        days: Each day's largest values, then their occurrences, ``(stations, two by column, days)``.
        window: Days, the last one included.
    """
    half, out = days.shape[1] // 2, []
    for today in todays:
        largest, times = days[:, :half, today - window + 1 : today], days[:, half:, today - window + 1 : today]
        top = largest[..., 0]
        for day in range(1, largest.shape[2]):  # a handful, each of all stations at once
            top = np.fmax(top, largest[..., day])
        n_times = sum(np.where(largest[..., day] == top, times[..., day], 0.0) for day in range(largest.shape[2]))
        out.append(np.concatenate([top, n_times], axis=1))
    return np.stack(out, axis=1)[:, :, np.newaxis]


def _count(flags: Bools) -> NDArray[np.uint8]:
    """Return how many are set along the last axis, at most 255."""
    return np.asarray(np.add.reduce(flags.view(np.uint8), axis=-1, dtype=np.uint8))


def _twice(channels: Sequence[int], n_columns: int) -> list[int]:
    """Return the channels of each column, and those of the second number remembered of it."""
    return [*channels, *(n_columns + index for index in channels)]


def limits_of(statistics: Floats, cells: Sequence[Cell], values: Floats, relations: Relations) -> Limits:
    """Return the limits that a history stays below.

    Args:
        statistics: ``(n, cells)``, made of it with unit limits.
        cells: The cells of the rules.
        values: The history, ``(n, columns)``.
        relations: Fitted to it.
    """
    difference, tolerance = _departures(values, relations)
    departure = np.nanmax(np.abs(difference) / tolerance, axis=0, initial=0.0)

    def most(rule: type[_Rule], share: float = 0.0) -> Floats:
        columns = [index for index, cell in enumerate(cells) if cell.detector == rule.name]
        return np.array([np.nanmax(statistics[:, index], initial=share) for index in columns])

    clipped = most(Clipped).reshape(len(_CLIP_DAYS), 2, _N_DEVICE)
    least = np.array([4.0, 5.0]).reshape(-1, 1, 1)
    return Limits(
        stuck=np.where(most(Stuck) <= _LONGEST_RUN, np.maximum(most(Stuck) + 1, 3.0), np.inf),
        missing=most(Missing) + 1,
        clipped=np.maximum(clipped + 2, least),
        distinct=0.75 / np.maximum(most(Coarse), 1.0),
        identity=np.maximum(1.25 * departure, 1.0),
    )


def _departures(values: Floats, relations: Relations) -> tuple[Floats, Floats]:
    """Return computed columns minus what their sources give, and how far off they may be, ``(..., twins)``."""
    computed, tolerances = expected(relations.twins, relations.twin_ranges, values)
    return values[..., _TWINS] - computed, tolerances
