"""What the detectors remember of many stations, and their statistics for new rows, many stations at a time.

The statistics of an hour are a function of what is remembered, all of it whole numbers or copied values, so they are the
same, bit for bit, for a row alone and in a batch, for one station and among a thousand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airquality.monitoring import learning
from airquality.monitoring.daily import by_day, sliding, whole_days
from airquality.monitoring.detector import Detector, Memory
from airquality.monitoring.network import N_NODES, NODE_COLUMNS, Bools
from airquality.monitoring.relations import BASELINE_DAYS, BASELINE_LAG_DAYS, BASELINE_VALUES
from airquality.monitoring.rows import CARRIED_ROWS, Floats, Ints, Rows
from airquality.monitoring.store import Store, grow
from airquality.monitoring.suite import Suite
from airquality.records import RAW_COLUMNS

#: More new rows than that are judged in several steps: no day they complete may enter a baseline within the step.
STEP_HOURS = 168
#: Raised by a release that reads the same tables in another way: its stations learn anew.
MEMORY_VERSION = 1
_FLAGS = N_NODES + 1  # the nodes and the analyser


@dataclass(frozen=True, eq=False)
class Step:
    """New rows of several stations with what every detector makes of them; :meth:`Bank.keep` takes any number of them in."""

    slots: NDArray[np.intp]
    rows: Rows
    memories: tuple[Memory, ...]
    statistics: Floats


class Bank:
    """The memories of all stations. A station has a slot; hours enter it in order and without gaps.

    Invariant: what a slot holds follows from its rows alone.
    """

    def __init__(self, suite: Suite, n_slots: int = 1) -> None:
        self.suite = suite
        self._stores = [Store(detector, n_slots) for detector in suite.detectors]
        self._last_rows = np.full((n_slots, CARRIED_ROWS, len(RAW_COLUMNS)), np.nan)
        #: Per day and node, whether the day is left out of the node's baseline because the node was wrong on it.
        self._bad = np.zeros((n_slots, _days(suite), _FLAGS), dtype=bool)
        self._has_bad = [False] * n_slots  # what follows from _bad, for a quick look
        self._hour = np.full(n_slots, -1, dtype=np.int64)

    @property
    def n_slots(self) -> int:
        """How many stations there is room for."""
        return len(self._hour)

    def grow(self, n_slots: int) -> None:
        """Make room for ``n_slots`` stations."""
        for store in self._stores:
            store.grow(n_slots)
        self._has_bad += [False] * (n_slots - self.n_slots)
        grow(self._last_rows, n_slots, np.nan)
        grow(self._bad, n_slots, nothing=False)
        grow(self._hour, n_slots, -1)

    def clear(self, slot: int) -> None:
        """Forget everything about a station."""
        self.restore(slot, Bank(self.suite).state(0))

    def hour(self, slot: int) -> int:
        """Return the last hour taken in, -1 if there is none."""
        return int(self._hour[slot])

    # ---- judging ----

    def look(self, slots: Sequence[int], first_hour: int, values: Floats, wrong: frozenset[str] = frozenset()) -> Step:
        """Return the statistics of new rows; nothing is remembered yet.

        Args:
            slots: Stations, each at most once, whose next hour is ``first_hour`` (or that are empty).
            first_hour: The hour of the first row.
            values: ``(stations, n, 13)``, n at most ``STEP_HOURS``.
            wrong: Columns of these stations that are known to be wrong, and judge no others.
        """
        at = np.asarray(slots, dtype=np.intp)
        rows = Rows(np.concatenate([self._last_rows[at], values], axis=1), first_hour, self.suite.relations)
        memories = tuple(self._memory(store, at, rows, wrong) for store in self._stores)
        pairs = zip(self.suite.detectors, memories, strict=True)
        statistics = np.concatenate([detector.statistics(rows, memory) for detector, memory in pairs], axis=-1)
        return Step(at, rows, memories, statistics)

    def _memory(self, store: Store, at: NDArray[np.intp], rows: Rows, wrong: frozenset[str]) -> Memory:
        detector, before = store.detector, store.recent_of(at, rows.first_hour)
        recent = replace(before, new=detector.observe(rows, before))
        if not detector.days:
            nothing = np.zeros((len(at), rows.n_new, 0), dtype=np.int64)
            return Memory(recent, nothing, nothing, nothing, nothing, nothing, nothing, np.empty((len(at), 0)), wrong)
        sums, present = detector.daily(rows, recent)
        if not rows.day_of_row[-1]:  # the day goes on: its baseline is known, and whole days are as they were
            today = store.days[at, -1:] + sums.cumsum(axis=1, dtype=detector.day_dtype)
            today_counts = store.counts[at, -1:] + present.cumsum(axis=1, dtype=np.int8)
            past, past_counts = store.past[at, np.newaxis], store.past_counts[at, np.newaxis]
            baseline = store.baseline[at, np.newaxis]
            return Memory(recent, sums, sums, today, today_counts, past, past_counts, baseline, wrong)
        days, today = by_day(store.days[at], sums, rows.day_of_row)
        counts, today_counts = by_day(store.counts[at], present, rows.day_of_row)
        n_days, baseline = int(rows.day_of_row[-1]) + 1, np.empty((len(at), 0))
        if detector.baseline:
            baseline = self._baseline(store, at, days, counts, n_days)
        past, past_counts = (whole_days(table, detector.day_windows, n_days) for table in (days, counts))
        return Memory(recent, days, counts, today, today_counts, past, past_counts, baseline, wrong)

    def _baseline(self, store: Store, at: NDArray[np.intp], days: Ints, counts: Ints, n_days: int) -> Floats:
        """Return the baseline of each day, ``(stations, n_days, [nodes,] day channels)``; carried where good days lack."""
        detector = store.detector
        known = detector.days - BASELINE_LAG_DAYS - 1 + n_days  # the last day that any of these baselines needs
        bad = np.pad(self._bad[at], ((0, 0), (0, n_days), (0, 0)))[:, :known]
        table, n, has_bad = days[:, :known], counts[:, :known], bool(bad.any())
        if detector.day_nodes is None:
            table, n = table[:, :, np.newaxis], n[:, :, np.newaxis]
        if has_bad:
            skip = bad[..., :N_NODES, np.newaxis] if detector.day_nodes is None else bad[..., detector.day_nodes]
            table, n = np.where(skip, 0, table), np.where(skip, 0, n)
        sums, values = sliding(table), sliding(n)
        means = np.where(values >= BASELINE_VALUES, sums / np.maximum(values, 1), np.nan)
        means = np.broadcast_to(means, (len(at), n_days, *store.carried.shape[1:]))
        return self._carried(store, at, means.copy(), bad) if has_bad else means

    def _carried(self, store: Store, at: NDArray[np.intp], means: Floats, bad: Bools) -> Floats:
        """Fill the days whose baseline has too few good days with the last one that had enough."""
        detector = store.detector
        faulty = np.stack([bad[:, i : i + BASELINE_DAYS].any(axis=1) for i in range(means.shape[1])], axis=1)
        faulty = faulty[..., :N_NODES, np.newaxis] if detector.day_nodes is None else faulty[..., detector.day_nodes]
        own = _own(means, detector)
        last = store.carried[at]
        for day in range(means.shape[1]):
            lacking = np.isnan(own[:, day])
            means[:, day] = np.where(lacking & faulty[:, day], last, means[:, day])
            last = np.where(lacking, last, means[:, day])
        return means

    # ---- remembering ----

    def keep(self, step: Step, stations: Sequence[int], n_rows: int) -> None:
        """Remember the first ``n_rows`` of ``step`` for some of its ``stations``, by their place in its ``slots``."""
        chosen = np.asarray(stations, dtype=np.intp)
        at = step.slots[chosen]
        midnights = int(step.rows.day_of_row[n_rows - 1])
        for store, memory in zip(self._stores, step.memories, strict=True):
            detector = store.detector
            store.write(memory.recent, chosen, n_rows)
            if detector.days and step.rows.day_of_row[-1]:
                store.past[at] = memory.past[chosen, midnights]
                store.past_counts[at] = memory.past_counts[chosen, midnights]
                store.days[at] = memory.days[chosen, midnights : midnights + detector.days]
                store.counts[at] = memory.day_counts[chosen, midnights : midnights + detector.days]
            if detector.days:
                store.days[at, -1] = memory.today[chosen, n_rows - 1]
                store.counts[at, -1] = memory.today_counts[chosen, n_rows - 1]
            if detector.baseline and step.rows.day_of_row[-1]:
                now = memory.baseline[chosen, midnights]
                store.baseline[at] = now
                lacking = np.isnan(_own(now[:, np.newaxis], detector)[:, 0])
                store.carried[at] = np.where(lacking, store.carried[at], now)
        self._last_rows[at] = step.rows.values[chosen, n_rows : n_rows + CARRIED_ROWS]
        for slot in at.tolist() if midnights else ():
            if self._has_bad[slot]:
                self._bad[slot] = np.pad(self._bad[slot], ((0, midnights), (0, 0)))[midnights:]
                self._has_bad[slot] = bool(self._bad[slot].any())
        self._hour[at] = step.rows.first_hour + n_rows - 1

    def leave_out(self, slot: int, node: int, since_hour: int, until_hour: int) -> None:
        """Leave the days of these hours, inclusive, out of the node's baseline; only the last eight are not yet in it."""
        last = until_hour // 24
        n_days = min(max(last - since_hour // 24, 0) + 1, BASELINE_LAG_DAYS)
        stop = self._bad.shape[1] - (self.hour(slot) // 24 - last)
        self._bad[slot, stop - n_days : stop, node] = True
        self._has_bad[slot] = True

    def healing(self, slot: int, first_hour: int) -> frozenset[int]:
        """Return the nodes that were wrong on a day that the baselines of the day of ``first_hour`` reach back to.

        They are judged again, by their good days, but those days make them no witness against others.
        """
        if not self._has_bad[slot]:
            return frozenset()
        midnights = first_hour // 24 - self.hour(slot) // 24
        bad = self._bad[slot, max(midnights, 0) : self._bad.shape[1] - BASELINE_LAG_DAYS + midnights]
        return frozenset(np.flatnonzero(bad.any(axis=0)).tolist())

    def has_bad_days(self, slot: int) -> bool:
        """Whether any remembered day is left out of a baseline."""
        return self._has_bad[slot]

    def learn_anew(self, slot: int, node: int) -> None:
        """Leave all days so far out of the node's baseline and forget its recent hours: its level is a new one."""
        self._bad[slot, :, node] = self._has_bad[slot] = True
        for store, detector in zip(self._stores, self.suite.detectors, strict=True):
            if detector.baseline and detector.day_nodes is None and node < N_NODES:
                store.carried[slot, node] = store.baseline[slot, node] = np.nan
            elif detector.baseline and detector.day_nodes is not None:
                store.carried[slot, detector.day_nodes == node] = np.nan
                store.baseline[slot, detector.day_nodes == node] = np.nan
        self.forget_recent(slot, NODE_COLUMNS[node], 0)

    def forget_recent(self, slot: int, column: str, hours: int) -> None:
        """Forget all but the last ``hours`` of a column: they were wrong, and the sensor is right again."""
        self.forget_hours(slot, column, 0, self.hour(slot) - hours)

    def forget_hours(self, slot: int, column: str, first: int, last: int) -> None:
        """Forget a column's hours ``first`` to ``last``, inclusive; daily sums stay."""
        for store in self._stores:
            store.forget_hours(slot, column, first, last, self.hour(slot))

    def forget_days(self, slot: int, column: str, first: int, last: int) -> None:
        """Forget a column's sums of the days of the hours ``first`` to ``last``, inclusive."""
        today = self.hour(slot) // 24
        for store, detector in zip(self._stores, self.suite.detectors, strict=True):
            begin, end = (max(detector.days + day - today, 0) for day in (first // 24 - 1, last // 24))
            for index in _day_channels(detector, column) if detector.days else ():
                store.days[slot, begin:end, index] = store.counts[slot, begin:end, index] = 0
            store.add_up_days(slot)

    def without_baseline(self, slot: int) -> frozenset[str]:
        """Return the columns that a detector cannot compare with a baseline yet."""
        baselines = [store.baseline[slot][np.newaxis, np.newaxis] for store in self._stores]
        return learning.columns_of(self._lacking(baselines)[0, 0])

    def lacking(self, step: Step) -> Bools:
        """Return which flags lack a baseline, ``(stations, midnights + 1, nodes and analyser)``, by ``Rows.day_of_row``."""
        baselines = [memory.baseline for memory in step.memories]
        if not any(np.isnan(baseline).any() for baseline in baselines):  # of most stations most of the time
            return np.zeros((len(step.slots), int(step.rows.day_of_row[-1]) + 1, _FLAGS), dtype=bool)
        return self._lacking(baselines)

    def _lacking(self, baselines: Sequence[Floats]) -> Bools:
        pairs = zip(self.suite.detectors, baselines, strict=True)
        return learning.lacking([(d.day_nodes, _own(baseline, d)) for d, baseline in pairs if d.baseline])

    # ---- state ----

    def state(self, slot: int) -> dict[str, Any]:
        """Return everything remembered of a station: numbers and arrays, at most 64 KiB."""
        hour = self.hour(slot)
        tables = {name: table for store in self._stores for name, table in store.state(slot, hour).items()}
        return {"hour": hour, "rows": self._last_rows[slot].copy(), "bad": self._bad[slot].copy(), **tables}

    def restore(self, slot: int, state: Mapping[str, Any]) -> None:
        """Put back what :meth:`state` returned."""
        self._hour[slot] = state["hour"]
        self._last_rows[slot] = state["rows"]
        self._bad[slot] = state["bad"]
        self._has_bad[slot] = bool(self._bad[slot].any())
        for store in self._stores:
            store.restore(slot, self.hour(slot), state)


def layout_hash(suite: Suite) -> str:
    """Return the SHA-256 of what a memory is made of; another suite cannot go on with it."""
    tables = Bank(suite).state(0).items()
    shapes = [(name, str(table.dtype), table.shape) for name, table in tables if isinstance(table, np.ndarray)]
    cells = [cell.name for cell in suite.cells]
    return hashlib.sha256(repr((MEMORY_VERSION, shapes, cells, RAW_COLUMNS)).encode()).hexdigest()


def _day_channels(detector: Detector, column: str) -> Sequence[int]:
    """Return which of a detector's daily sums are of the column."""
    if detector.day_nodes is None:
        return detector.columns_of(column)
    nodes = [NODE_COLUMNS.index(column)] if column in NODE_COLUMNS else []
    return [int(index) for index in np.flatnonzero(np.isin(detector.day_nodes, nodes))]


def _days(suite: Suite) -> int:
    return max(detector.days for detector in suite.detectors)


def _own(means: Floats, detector: Detector) -> Floats:
    """Return, in the shape of the baselines, each node's own mean: it decides whether the node has a baseline."""
    if detector.day_nodes is not None:
        return means
    nodes = np.arange(N_NODES)
    return means[:, :, nodes, nodes][..., np.newaxis]


def statistics_of(suite: Suite, hours: Ints, values: Floats, wrong: frozenset[str] = frozenset()) -> Floats:
    """Return all statistics of consecutive rows of one station that starts cold, ``(n, cells)``.

    Args:
        suite: The detectors.
        hours: ``(n,)``.
        values: ``(n, 13)``.
        wrong: Columns that are known to be wrong.
    """
    bank, parts = Bank(suite), []
    for start in range(0, len(hours), STEP_HOURS):
        step = bank.look([0], int(hours[start]), values[np.newaxis, start : start + STEP_HOURS], wrong)
        bank.keep(step, [0], step.rows.n_new)
        parts.append(step.statistics[0])
    return np.concatenate(parts)
