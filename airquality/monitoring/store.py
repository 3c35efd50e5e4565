"""What one detector remembers of many stations: tables by slot, the hours and days of each and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airquality.monitoring.daily import whole_days
from airquality.monitoring.detector import Detector, Recent
from airquality.monitoring.network import N_NODES
from airquality.monitoring.rows import MISSING

#: The tables of days that follow from no other.
_BY_DAY = ("days", "counts", "baseline", "carried")


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

    def _in_order(self, newest: int) -> NDArray[np.intp]:
        """Return where the hours that end with ``newest`` stand, the oldest first."""
        return np.asarray((newest + 1 + np.arange(self.detector.hours)) % self.detector.hours)

    def _add_up_hours(self, slot: int, newest: int) -> None:
        if not self.detector.windows:
            return
        values = self.recent[slot, self._in_order(newest)]
        present = values != MISSING
        filled = np.where(present, values, 0)
        for index, hours in enumerate(self.detector.windows):
            self.sums[slot, index] = filled[-hours:].sum(axis=0, dtype=self.sums.dtype)
            self.sum_counts[slot, index] = present[-hours:].sum(axis=0)

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
        tables = self._totals(slot, newest) if self.detector.windows else {"recent": self.recent[slot].copy()}
        tables |= {name: getattr(self, name)[slot].copy() for name in _BY_DAY}
        return {f"{self.detector.name}.{name}": table for name, table in tables.items() if table.size}

    def _totals(self, slot: int, newest: int) -> dict[str, NDArray[Any]]:
        order = self._in_order(newest)
        values = self.recent[slot, order]
        present = np.asarray(values != MISSING)
        present[0] = False  # once the next hour comes no window holds the oldest
        totals, counts = np.empty(values.shape, dtype=self.sums.dtype), np.empty(values.shape, dtype=np.uint8)
        totals[order] = np.where(present, values, 0).cumsum(axis=0, dtype=totals.dtype)
        counts[order] = present.cumsum(axis=0, dtype=np.uint8)
        return {"recent": totals, "recent_counts": counts}

    def restore(self, slot: int, newest: int, state: Mapping[str, Any]) -> None:
        """Put back what :meth:`state` returned."""
        windowed, name = bool(self.detector.windows), self.detector.name
        if windowed:
            order = self._in_order(newest)
            totals, counts = (np.diff(state[f"{name}.{table}"][order], axis=0) for table in ("recent", "recent_counts"))
            self.recent[slot, order[0]] = MISSING
            self.recent[slot, order[1:]] = np.where(counts, totals, MISSING)
            self._add_up_hours(slot, newest)
        for table in _BY_DAY if windowed else ("recent", *_BY_DAY):
            own = getattr(self, table)[slot]
            if own.size:
                own[...] = state[f"{name}.{table}"]
        self.add_up_days(slot)


def grow(table: NDArray[Any], n_slots: int, nothing: float) -> None:
    """Make room in a table for ``n_slots`` stations; a large one is not copied. No view of it may outlive a step."""
    before = len(table)
    table.resize((n_slots, *table.shape[1:]), refcheck=False)
    table[before:] = nothing
