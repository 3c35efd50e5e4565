"""What one detector remembers of many stations: tables by slot, the hours and days of each and what follows from them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airquality.monitoring.daily import whole_days
from airquality.monitoring.detector import Detector, Recent
from airquality.monitoring.network import N_NODES
from airquality.monitoring.rows import MISSING

#: The tables of days that follow from no other.
_BY_DAY: tuple[str, ...] = ("days", "counts", "baseline", "carried")


class Store:
    """One detector's memory of all stations. Every table begins with the slots.

    Attributes:
        detector: Whose memory it is.
        recent: The hours, each at itself modulo their number; as in :class:`airquality.monitoring.detector.Recent`.
        sums, sum_counts: What follows from the hours: sums over each of the detector's windows.
        days, counts: Sums by day and how many values each has, the current day last.
        past, past_counts: What follows from the days: sums of the whole days of each window.
        baseline: Of the day of the last row.
        carried: The last baseline that enough good days had.
    """

    def __init__(self, detector: Detector, n_slots: int) -> None:
        self.detector = detector
        kind = np.dtype(np.int32 if detector.windows else detector.dtype)
        hours = (detector.hours, detector.channels) if detector.windows else (detector.channels, detector.hours)
        sums = (n_slots, len(detector.windows), detector.channels)
        days, past = ((n_slots, n, detector.day_channels) for n in (detector.days, len(detector.day_windows)))
        fits_a_byte = 24 * max(detector.day_windows, default=0) <= np.iinfo(np.uint8).max
        own = (N_NODES, detector.day_channels) if detector.day_nodes is None else (detector.day_channels,)
        means = (n_slots, *(own if detector.baseline else (0,)))
        self._missing = MISSING if kind.kind == "i" else np.nan
        self.recent: NDArray[Any] = np.full((n_slots, *hours), self._missing, dtype=kind)
        self.sums: NDArray[Any] = np.zeros(sums, dtype=detector.dtype)
        self.sum_counts = np.zeros(sums, dtype=np.uint8)
        self.days: NDArray[Any] = np.zeros(days, dtype=detector.day_dtype)
        self.counts = np.zeros(days, dtype=np.int8)
        self.past: NDArray[Any] = np.zeros(past, dtype=detector.day_dtype)
        self.past_counts: NDArray[Any] = np.zeros(past, dtype=np.uint8 if fits_a_byte else np.int16)
        self.baseline = np.full(means, np.nan)
        self.carried = np.full(means, np.nan)

    def grow(self, n_slots: int) -> None:
        """Make room for ``n_slots`` stations."""
        grow(self.recent, n_slots, self._missing)
        for table in (self.sums, self.sum_counts, self.days, self.counts, self.past, self.past_counts):
            grow(table, n_slots, 0)
        for means in (self.baseline, self.carried):
            grow(means, n_slots, np.nan)

    # ---- hours ----

    def recent_of(self, slots: NDArray[np.intp], first_hour: int) -> Recent:
        """Return the remembered hours of some stations, with none after them yet."""
        nothing: NDArray[Any] = np.empty((len(slots), 0, self.detector.channels), dtype=self.recent.dtype)
        windows, period = self.detector.windows, self.detector.period
        return Recent(self.recent, self.sums, self.sum_counts, slots, first_hour, nothing, windows, period)

    def write(self, recent: Recent, chosen: NDArray[np.intp], n_rows: int) -> None:
        """Write the first ``n_rows`` of new hours, as many as are remembered, over the oldest.

        Args:
            recent: Of several stations, with their new hours.
            chosen: Whose hours are written, by their place among those stations.
            n_rows: How many hours.
        """
        detector = self.detector
        if not detector.hours:
            return
        kept = slice(max(n_rows - detector.hours * detector.period, 0), n_rows)
        slots = recent.slots[chosen]
        at = (recent.first_hour + np.arange(kept.start, n_rows)) // detector.period % detector.hours
        if detector.windows:
            sums, counts = recent.window_sums
            self.recent[slots[:, np.newaxis], at] = recent.new[chosen, kept]
            self.sums[slots], self.sum_counts[slots] = sums[chosen, n_rows - 1], counts[chosen, n_rows - 1]
        else:
            self.recent[slots[:, np.newaxis], :, at] = recent.new[chosen, kept]

    def forget_hours(self, slot: int, column: str, first: int, last: int, newest: int) -> None:
        """Forget a column's hours ``first`` to ``last``, inclusive, of a station whose last hour is ``newest``."""
        detector = self.detector
        oldest = newest // detector.period - detector.hours + 1
        begin, end = max(first // detector.period, oldest), min(last, newest) // detector.period
        if begin > end:
            return
        forgotten = np.arange(begin, end + 1) % detector.hours
        for index in detector.columns_of(column):
            if detector.windows:
                self.recent[slot, forgotten, index] = self._missing
            else:
                self.recent[slot, index, forgotten] = self._missing
        self._add_up_hours(slot, newest)

    def _add_up_hours(self, slot: int, newest: int) -> None:
        if self.detector.windows:
            order = _in_order(self.detector.hours, newest)
            self._put_totals(slot, order, *self._totals(slot, order))

    def _totals(self, slot: int, order: NDArray[np.intp]) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        """Return running totals and counts of the hours in their order; the oldest is left out, as no next row needs it."""
        values = self.recent[slot, order]
        present = np.asarray(values != MISSING)
        present[0] = False
        return np.where(present, values, 0).cumsum(axis=0, dtype=self.sums.dtype), present.cumsum(axis=0, dtype=np.uint8)

    def _put_totals(self, slot: int, order: NDArray[np.intp], totals: NDArray[Any], counts: NDArray[np.uint8]) -> None:
        """Let the hours, and what follows from them, be those of running totals in their order, wherever these begin."""
        recent, begins = self.recent[slot], _begins(self.detector.hours, self.detector.windows)
        recent[order[0]] = MISSING
        recent[order[1:]] = np.where(counts[1:] != counts[:-1], totals[1:] - totals[:-1], MISSING)
        self.sums[slot], self.sum_counts[slot] = totals[-1] - totals[begins], counts[-1] - counts[begins]

    # ---- days ----

    def add_up_days(self, slot: int) -> None:
        """Make what follows from the days."""
        windows = self.detector.day_windows
        for past, days in ((self.past, self.days), (self.past_counts, self.counts)) if windows else ():
            past[slot] = whole_days(days[slot][np.newaxis], windows, 1)[0, 0]

    # ---- state ----

    def state(self, slot: int, newest: int) -> dict[str, NDArray[Any]]:
        """Return what a station whose last hour is ``newest`` remembers, without what follows from it, by table.

        Hours whose windows are summed are running totals there, as they are in the seed of a calibration.
        """
        tables = self._placed_totals(slot, newest) if self.detector.windows else {"recent": self.recent[slot].copy()}
        tables |= {name: getattr(self, name)[slot].copy() for name in _BY_DAY}
        return {f"{self.detector.name}.{name}": table for name, table in tables.items() if table.size}

    def _placed_totals(self, slot: int, newest: int) -> dict[str, NDArray[Any]]:
        order = _in_order(self.detector.hours, newest)
        ordered = dict(zip(("recent", "recent_counts"), self._totals(slot, order), strict=True))
        placed = {name: np.empty_like(table) for name, table in ordered.items()}
        for name, table in ordered.items():
            placed[name][order] = table
        return placed

    def restore(self, slot: int, newest: int, state: Mapping[str, Any]) -> None:
        """Put back what :meth:`state` returned."""
        name, tables = self.detector.name, _BY_DAY
        if self.detector.windows:
            order = _in_order(self.detector.hours, newest)
            self._put_totals(slot, order, state[f"{name}.recent"][order], state[f"{name}.recent_counts"][order])
        else:
            tables = ("recent", *_BY_DAY)
        for table in tables:
            own = getattr(self, table)[slot]
            if own.size:
                own[...] = state[f"{name}.{table}"]
        self.add_up_days(slot)


@functools.cache
def _begins(n_hours: int, windows: tuple[int, ...]) -> list[int]:
    """Return where the total before each window stands, among the totals in their order."""
    return [max(n_hours - 1 - hours, 0) for hours in windows]


def _in_order(n_hours: int, newest: int) -> NDArray[np.intp]:
    """Return where the hours that end with ``newest`` stand, the oldest first."""
    return _rotated(n_hours, newest % n_hours)


@functools.cache
def _rotated(n_hours: int, last: int) -> NDArray[np.intp]:
    return np.asarray((last + 1 + np.arange(n_hours)) % n_hours)


def grow(table: NDArray[Any], n_slots: int, nothing: float) -> None:
    """Make room in a table for ``n_slots`` stations; a large one is not copied. No view of it may outlive a step."""
    before = len(table)
    table.resize((n_slots, *table.shape[1:]), refcheck=False)
    table[before:] = nothing
