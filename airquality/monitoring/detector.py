"""What a detector is: what it remembers of each hour, and the statistics it makes of that.

A detector declares how many hours of which numbers it needs and whether it needs their daily sums; the bank keeps them, for
all stations at once. Its statistics are a pure function of what is remembered, so nothing depends on how the stream was cut.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from airquality.monitoring.network import NODE_COLUMNS, Bools
from airquality.monitoring.rows import MISSING, Floats, Ints, Rows

#: Days whose sums are kept where a detector has a baseline: the current one and those the baseline needs.
SUMMED_DAYS = 36


@dataclass(frozen=True, slots=True)
class Cell:
    """One statistic of one column; it says its column is wrong where it exceeds the cell's threshold.

    ``column`` is what an alarm names. ``sign`` is +1 or -1 where a direction is judged, else 0. ``exact`` marks rules whose
    limit is known, not bought from a false-alarm budget. ``floor`` is the least a bought threshold may be, ``weight`` the
    cell's share of the budget.
    """

    detector: str
    column: str
    hours: int
    sign: int = 0
    exact: bool = False
    floor: float = 0.0
    weight: float = 1.0

    @property
    def name(self) -> str:
        """A unique name, for the calibration file and for messages."""
        return f"{self.detector}:{self.column}:{self.hours}h{'-+'[self.sign > 0] if self.sign else ''}"

    @property
    def family(self) -> tuple[str, int, int]:
        """Cells that differ by their column alone."""
        return self.detector, self.hours, self.sign

    @property
    def node(self) -> int:
        """The statistical node, -1 for a column that rules alone name."""
        return NODE_COLUMNS.index(self.column) if self.column in NODE_COLUMNS else -1


@dataclass(frozen=True, eq=False)
class Recent:
    """The hours a detector remembers of several stations, followed by the new ones.

    ``table`` holds all stations' values: where ``windows`` of hours are summed as ``(slots, hours, channels)``, else as
    ``(slots, channels, hours)``. An hour stands at itself modulo their number, so that a new one moves none of the others.
    ``sums`` and ``counts`` ``(slots, windows, channels)`` are those of each window as of the last hour that is remembered.
    ``new`` is ``(stations, n, channels)``, as observed. With a ``period`` of 24 h each day keeps its last hour's values
    alone.
    """

    table: NDArray[Any]
    sums: NDArray[Any]
    counts: NDArray[np.uint8]
    slots: NDArray[np.intp]
    first_hour: int
    new: NDArray[Any]
    windows: tuple[int, ...] = ()
    period: int = 1

    def of(self, station: int) -> Recent:
        """Return one station's part."""
        part = slice(station, station + 1)
        return replace(self, slots=self.slots[part], new=self.new[part])

    # ---- where values are remembered ----

    def followed_by(self, new: NDArray[Any]) -> NDArray[Any]:
        """Return the remembered hours, the oldest first, and ``new`` ones, ``(stations, channels, hours + n)``.

        ``new`` ``(stations, n, channels)`` may be of the first channels alone.
        """
        n_channels, n_hours = new.shape[2], self.table.shape[2]
        oldest = ((self.first_hour - 1) // self.period + 1) % n_hours
        held = self.table.take(self.slots, axis=0)  # whole stations: one piece of memory each
        parts = [held[:, :n_channels, oldest:], held[:, :n_channels, :oldest], new.transpose(0, 2, 1)]
        out = np.empty((len(new), n_channels, n_hours + new.shape[1]), dtype=self.table.dtype)
        return np.concatenate(parts, axis=2, out=out)

    @functools.cached_property
    def all(self) -> NDArray[Any]:
        """The remembered hours and the new ones, ``(stations, channels, hours + n)``."""
        return self.followed_by(self.new)

    def last(self, hours: int) -> NDArray[Any]:
        """Return the last ``hours`` as of each new row, ``(stations, channels, n, hours)``; a view."""
        return windows_over(self.all, hours, self.new.shape[1])

    # ---- where windows are summed ----

    @functools.cached_property
    def filled(self) -> tuple[NDArray[Any], Bools]:
        """The new values, 0 where there is none, and whether there is one."""
        present = np.asarray(self.new != MISSING)
        return np.where(present, self.new, 0), present

    @functools.cached_property
    def window_sums(self) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        """Sums and counts over each of the windows as of each new row, ``(stations, n, windows, channels)``.

        Whole numbers: what enters a window is added to its sum before, and what leaves it is taken away.
        """
        values, present = self.filled
        leaving = np.stack([self._leaving(hours) for hours in self.windows], axis=2)
        known = np.asarray(leaving != MISSING)
        sums = np.subtract(values[:, :, np.newaxis], np.where(known, leaving, 0), dtype=self.sums.dtype)
        counts = np.subtract(present.view(np.uint8)[:, :, np.newaxis], known.view(np.uint8))  # may wrap around, and back
        sums[:, 0] += self.sums.take(self.slots, axis=0)
        counts[:, 0] += self.counts.take(self.slots, axis=0)
        if len(sums[0]) > 1:
            np.cumsum(sums, axis=1, out=sums)
            np.cumsum(counts, axis=1, out=counts)
        return sums, counts

    def _leaving(self, hours: int) -> NDArray[Any]:
        """Return the values ``hours`` before each new row, ``(stations, n, channels)``."""
        n_new = self.new.shape[1]
        old = self._taken(hours, min(hours, n_new))
        return old if hours >= n_new else np.concatenate([old, self.new[:, : n_new - hours]], axis=1)

    def _taken(self, back: int, n_hours: int) -> NDArray[Any]:
        """Return ``n_hours`` remembered values, the first of them ``back`` hours before the first new row."""
        begin = (self.first_hour - back) % self.table.shape[1]
        over = begin + n_hours - self.table.shape[1]
        if over <= 0:
            return np.asarray(self.table[self.slots, begin : begin + n_hours])
        return np.concatenate([self.table[self.slots, begin:], self.table[self.slots, :over]], axis=1)


def windows_over(series: NDArray[Any], hours: int, n_rows: int) -> NDArray[Any]:
    """Return the last ``hours`` as of each of the last ``n_rows``, a view ``(stations, channels, n, hours)``.

    Args:
        series: ``(stations, channels, at least hours + n - 1)``, in one piece of memory.
        hours: The windows' length.
        n_rows: How many windows.
    """
    station, channel, hour = series.strides
    skipped = series.shape[2] - n_rows - hours + 1
    shape, strides = (*series.shape[:2], n_rows, hours), (station, channel, hour, hour)
    return np.ndarray(shape, series.dtype, series, skipped * hour, strides)


@dataclass(frozen=True, eq=False)
class Memory:
    """What the bank remembers for one detector and several stations, with the new rows at the end.

    ``today`` and ``today_counts``, ``(stations, n, day channels)``, are the sums since midnight as of each new row; ``days``
    and ``day_counts``, ``(stations, days, day channels)``, those of each day, the last of them that of the last new row.
    ``past`` and ``past_counts``, ``(stations, midnights + 1, windows, day channels)``, are the sums of the whole days of
    each of the detector's ``day_windows``, by ``Rows.day_of_row``. ``baseline`` is ``(stations, midnights + 1, ...)``, too;
    empty for a detector without one. ``wrong`` columns are known to be and judge nothing.
    """

    recent: Recent
    days: Ints
    day_counts: Ints
    today: Ints
    today_counts: Ints
    past: Ints
    past_counts: Ints
    baseline: Floats
    wrong: frozenset[str]

    def of(self, station: int) -> Memory:
        """Return one station's part."""
        part = slice(station, station + 1)
        names = [field.name for field in fields(self) if field.name not in ("recent", "wrong")]
        return replace(self, recent=self.recent.of(station), **{name: getattr(self, name)[part] for name in names})

    def last_days(self, rows: Rows) -> tuple[Ints, Ints]:
        """Return sums and counts over the days of each window, the last of them the day so far.

        ``(stations, n, windows, day channels)``.
        """
        day = rows.day_of_row
        sums = self.today[:, :, np.newaxis] + self.past[:, day]
        return sums, self.today_counts[:, :, np.newaxis] + self.past_counts[:, day]

    def last_days_of(self, rows: Rows, block: slice, n_counts: int) -> tuple[Floats, Ints]:
        """Return the same of a block of all stations' rows, ``(rows, windows, day channels)``; of the first counts alone."""
        station, row = np.divmod(np.arange(len(self.today) * rows.n_new)[block], rows.n_new)
        day = rows.day_of_row[row]
        sums = self.past[station, day] + self.today[station, row][:, np.newaxis]
        counts = self.past_counts[station, day, :, :n_counts] + self.today_counts[station, row, np.newaxis, :n_counts]
        return sums.astype(np.float64), counts


class Detector(Protocol):
    """One kind of evidence.

    ``hours`` rows of ``channels`` numbers are remembered (with a ``period`` of 24, the last of each day), as ``dtype`` or,
    where sums over ``windows`` of hours are used, as 32-bit numbers beside these sums, which are of ``dtype``; and ``days``
    daily sums of ``day_channels``. ``day_windows`` are the windows, in days and the current one included, whose sums the
    statistics use; these fit ``day_dtype``, too. ``baseline`` says whether there is one; ``day_nodes`` for each day channel
    whose good days it is made of, None where each node has a baseline of all channels.
    """

    name: str
    #: What its alarm says, after the name of the column.
    says: str
    #: Whether its size is how far the column is off, up or down; else it is a value, a height or a count.
    is_shift: bool
    #: The unit of its size, empty where it is the column's own.
    size_unit: str
    cells: tuple[Cell, ...]
    hours: int
    channels: int
    dtype: type
    windows: tuple[int, ...]
    period: int
    days: int
    day_windows: tuple[int, ...]
    day_channels: int
    day_dtype: type
    day_nodes: Ints | None
    baseline: bool

    def columns_of(self, column: str) -> Sequence[int]:
        """Return which of the remembered channels are forgotten once a column is right again."""

    def observe(self, rows: Rows, recent: Recent) -> NDArray[Any]:
        """Return what is to be remembered of each new row, ``(stations, n, channels)``; ``recent`` holds those before."""

    def daily(self, rows: Rows, recent: Recent) -> tuple[Ints, Bools]:
        """Return what is to be summed by day, and whether there is a value: both ``(stations, n, day channels)``."""

    def statistics(self, rows: Rows, memory: Memory) -> Floats:
        """Return ``(stations, n, cells)``, NaN where a cell cannot be judged."""

    def size(self, rows: Rows, memory: Memory, cell: int) -> Floats:
        """Return how large the fault is in each new row by ``cell``, in the column's unit, ``(stations, n)``."""

    @staticmethod
    def own_fault(values: Floats) -> str:
        """Put into clean rows, ``(n, columns)``, a fault that this detector notices, and return what its alarm names."""
