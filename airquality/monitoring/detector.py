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
class Memory:
    """What the bank remembers for one detector and several stations, with the new rows at the end.

    ``recent`` is ``(stations, hours + n, channels)``. ``today`` and ``today_counts``, ``(stations, n, day channels)``, are
    the sums since midnight as of each new row. ``days`` and ``day_counts``, ``(stations, days, day channels)``, are those of
    each day, the last of them that of the last new row. ``baseline`` is ``(stations, midnights + 1, ...)``, by
    ``Rows.day_of_row``; empty for a detector without one. ``wrong`` columns are known to be and judge nothing.
    """

    recent: NDArray[Any]
    days: Ints
    day_counts: Ints
    today: Ints
    today_counts: Ints
    baseline: Floats
    wrong: frozenset[str]

    def of(self, station: int) -> Memory:
        """Return one station's part."""
        part = slice(station, station + 1)
        tables = {field.name: getattr(self, field.name)[part] for field in fields(self) if field.name != "wrong"}
        return replace(self, **tables)

    @functools.cached_property
    def _filled(self) -> tuple[NDArray[Any], Bools]:
        present = np.asarray(self.recent != MISSING)
        return np.where(present, self.recent, 0), present

    @functools.cached_property
    def _totals(self) -> tuple[Ints, Ints]:
        """Running sums and counts along the hours, from which any window's follow exactly."""
        values, present = self._filled
        return np.cumsum(values, axis=1, dtype=np.int64), np.cumsum(present, axis=1, dtype=np.int64)

    def window_sums(self, hours: int) -> tuple[Ints, Ints]:
        """Return sums and counts over the last ``hours`` as of each new row, ``(stations, n, channels)``."""
        n_new = self.today.shape[1]
        if n_new == 1:  # whole numbers: adding them up directly gives the same, and sooner
            values, present = self._filled
            sums = values[:, -hours:].sum(axis=1, keepdims=True, dtype=np.int64)
            return sums, present[:, -hours:].sum(axis=1, keepdims=True, dtype=np.int64)
        (sums, counts), begin = self._totals, self.recent.shape[1] - n_new - hours
        end = begin + hours
        return sums[:, end:] - sums[:, begin : begin + n_new], counts[:, end:] - counts[:, begin : begin + n_new]

    def last_days(self, days: int, rows: Rows) -> tuple[Ints, Ints]:
        """Return sums and counts over the day so far and the ``days - 1`` before it, ``(stations, n, day channels)``."""
        if not rows.day_of_row[-1]:
            whole = slice(self.days.shape[1] - days, -1)
            sums = self.today + self.days[:, whole].sum(axis=1, dtype=np.int64)[:, np.newaxis]
            return sums, self.today_counts + self.day_counts[:, whole].sum(axis=1, dtype=np.int64)[:, np.newaxis]
        sums, counts = self.today.copy(), self.today_counts.copy()
        today = self.days.shape[1] - int(rows.day_of_row[-1]) - 1
        for midnight in range(int(rows.day_of_row[0]), int(rows.day_of_row[-1]) + 1):
            at, whole = rows.day_of_row == midnight, slice(today + midnight - days + 1, today + midnight)
            sums[:, at] += self.days[:, whole].sum(axis=1)[:, np.newaxis]
            counts[:, at] += self.day_counts[:, whole].sum(axis=1)[:, np.newaxis]
        return sums, counts


class Detector(Protocol):
    """One kind of evidence.

    ``hours`` rows of ``channels`` numbers are remembered, and ``days`` daily sums of ``day_channels``. ``baseline`` says
    whether there is one; ``day_nodes`` for each day channel whose good days it is made of, None where each node has a
    baseline of all channels. Statistics look back ``recent_days``, the current one included.
    """

    name: str
    cells: tuple[Cell, ...]
    hours: int
    channels: int
    dtype: type
    days: int
    recent_days: int
    day_channels: int
    day_dtype: type
    day_nodes: Ints | None
    baseline: bool

    def columns_of(self, column: str) -> Sequence[int]:
        """Return which of the remembered channels are forgotten once a column is right again."""

    def observe(self, rows: Rows, recent: NDArray[Any]) -> NDArray[Any]:
        """Return what is to be remembered of each new row, ``(stations, n, channels)``; ``recent`` holds those before."""

    def daily(self, rows: Rows, recent: NDArray[Any]) -> tuple[Ints, Bools]:
        """Return what is to be summed by day, and whether there is a value: both ``(stations, n, day channels)``."""

    def statistics(self, rows: Rows, memory: Memory) -> Floats:
        """Return ``(stations, n, cells)``, NaN where a cell cannot be judged."""

    def size(self, rows: Rows, memory: Memory, cell: int) -> Floats:
        """Return how large the fault is in each new row by ``cell``, in the column's unit, ``(stations, n)``."""
