"""The detectors at work: rows of many stations in, alarm events out.

``Watch.observe`` takes what arrived, however it was cut, and returns the events of each station; ``state`` and ``restore``
carry one station from process to process. Nothing here reads a clock or does I/O.
"""

from __future__ import annotations

import functools
import itertools
from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from airquality.ground.errors import ContractError
from airquality.monitoring.alarms import CALM_HOURS, RISING, Alarm, Book, Event, Floats, Ints, Places
from airquality.monitoring.bank import STEP_HOURS, Bank, Step
from airquality.monitoring.learning import Learning, columns_of
from airquality.monitoring.maintenance import MAX_SPANS, Maintenance, columns_at, cut_at_work
from airquality.monitoring.network import GROUPS, NODE_COLUMNS, suspects
from airquality.monitoring.store import grow
from airquality.monitoring.suite import Suite
from airquality.records import RAW_COLUMNS, isoformat

#: After so long a silence the station starts anew: no baseline reaches across it.
FORGOTTEN_HOURS = 36 * 24
_NONE: frozenset[str] = frozenset()
#: A watch grows by such a share of its stations, at least by a few: what is free takes as much memory as what is not.
_MORE_SLOTS, _LEAST_SLOTS = 32, 4
#: Where the wrong columns change in the middle of a step, the rows after that are judged again. So the next step is this
#: many times as long as the change was away, and at least so many rows; a step costs what some 70 rows do beside its rows.
_STRIDE_FACTOR, _LEAST_STRIDE = 3, 24

#: What tells stations apart: a name, or whatever owns the station; its ``str`` is shown.
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True, eq=False)
class Thresholds:
    """Limits of all cells. ``alone`` ``(cells,)``; ``beside`` ``(nodes, cells)``: while an alarm is open on a node.

    An infinite limit turns a cell off.
    """

    alone: Floats
    beside: Floats

    def given(self, wrong: frozenset[str]) -> Floats:
        """Return the limits that hold while the columns ``wrong`` are named by alarms."""
        nodes = suspects(wrong)
        return np.max(self.beside[nodes], axis=0) if nodes else self.alone


@dataclass(slots=True)
class _Station:
    slot: int
    book: Book
    first_hour: int = -1
    learning: Learning = field(default_factory=Learning)
    spans: tuple[Maintenance, ...] = ()
    stride: int = STEP_HOURS  # rows that are judged at once; nothing but time depends on it


class Watch(Generic[K]):
    """The detectors and alarms of many stations. For one thread."""

    def __init__(self, suite: Suite, thresholds: Thresholds) -> None:
        self._suite = suite
        self._thresholds = thresholds
        self._places = Places.of(suite.cells)
        self._bank = Bank(suite)
        # By slot and cell: the hour since which the statistic has been above half of its threshold, 0 if it is not.
        self._rising: NDArray[np.int32] = np.zeros((1, len(suite.cells)), dtype=np.int32)
        self._stations: dict[K, _Station] = {}
        self._free = [0]

    def __contains__(self, station_id: object) -> bool:
        return station_id in self._stations

    def forget(self, station_id: K) -> None:
        """Drop a station, as when its partition is revoked."""
        station = self._stations.pop(station_id, None)
        if station is not None:
            self._bank.clear(station.slot)
            self._rising[station.slot] = 0
            self._free.append(station.slot)

    def open_alarms(self, station_id: K) -> list[Alarm]:
        """Return the station's open alarms, the oldest first."""
        return sorted(self._stations[station_id].book.open.values(), key=lambda alarm: (alarm.opened, alarm.column))

    def learning(self, station_id: K, hour: int | None = None) -> dict[str, int]:
        """Return the columns whose level is still learned at ``hour`` (None: now), and from when each can be judged.

        Noise and the ratio wait with the level; rules judge from the first row on, spikes and clocks within days.
        """
        station = self._stations[station_id]
        return station.learning.at(self._bank.hour(station.slot) if hour is None else hour)

    def reset(self, station_id: K, columns: Collection[str], by: str) -> list[Event]:
        """Close the alarms of columns whose sensors were repaired or replaced, and learn the columns' levels anew."""
        station = self._stations[station_id]
        hour = self._bank.hour(station.slot)
        events = [station.book.close(alarm, hour, by) for alarm in station.book.about(columns)]
        for column in columns:
            self._bank.forget_recent(station.slot, column, 0)
            self._bank.forget_days(station.slot, column, 0, hour)
        self._rising[station.slot, self._places.cells_about(columns)] = 0
        for node in _nodes_of(columns):
            self._bank.learn_anew(station.slot, node)
        named = {NODE_COLUMNS[node] for node in _nodes_of(columns)}
        station.learning = station.learning.changed(hour + 1, station.learning.columns | named, named)
        return events

    def acknowledge(self, station_id: K, columns: Collection[str], by: str) -> list[Event]:
        """Mark the open alarms of columns as seen by somebody; they stay open."""
        station = self._stations[station_id]
        hour = self._bank.hour(station.slot)
        return [station.book.acknowledge(alarm, hour, by) for alarm in station.book.about(columns)]

    def maintain(self, station_id: K, span: Maintenance, by: str) -> list[Event]:
        """Neither judge nor learn from the hours of a span; of hours already judged, close what opened in them."""
        station = self._stations[station_id]
        hour = self._bank.hour(station.slot)
        if span.last > hour:
            station.spans = (*station.spans, span)[-MAX_SPANS:]
        if span.first > hour:
            return []
        for column in sorted(span.columns):
            self._bank.forget_hours(station.slot, column, span.first, min(span.last, hour))
            self._bank.forget_days(station.slot, column, span.first, min(span.last, hour))
        alarms = [alarm for alarm in station.book.about(span.columns) if span.first <= alarm.opened <= span.last]
        return [station.book.close(alarm, hour, by) for alarm in alarms]

    def state(self, station_id: K) -> dict[str, Any]:
        """Return all that is known of a station: JSON values and numpy arrays, at most 64 KiB."""
        station = self._stations[station_id]
        return {
            **self._bank.state(station.slot),
            "rising": self._rising[station.slot].copy(),
            "first_hour": station.first_hour,
            "learning": station.learning.state(),
            "maintenance": [span.state() for span in station.spans],
            "alarms": [alarm.state() for alarm in station.book.open.values()],
        }

    def restore(self, station_id: K, state: Mapping[str, Any]) -> None:
        """Go on with a station exactly where :meth:`state` was taken."""
        station = self._station(station_id)
        self._bank.restore(station.slot, state)
        self._rising[station.slot] = state["rising"]
        station.first_hour = int(state["first_hour"])
        station.learning = Learning.from_state(state["learning"])
        station.spans = tuple(Maintenance.from_state(span) for span in state["maintenance"])
        alarms = [Alarm.from_state(alarm) for alarm in state["alarms"]]
        station.book.open = {alarm.column: alarm for alarm in alarms}

    def restore_memory(self, station_id: K, memory: Mapping[str, Any], first_hour: int) -> None:
        """Begin a station with what another, or the calibrated history, remembered at its end; it has no alarms."""
        station = self._station(station_id)
        self._bank.restore(station.slot, memory)
        station.first_hour = first_hour
        station.learning = Learning().changed(self._bank.hour(station.slot), self._bank.without_baseline(station.slot))

    def _station(self, station_id: K) -> _Station:
        if station_id not in self._stations:
            if not self._free:
                self._grow()
            self._stations[station_id] = _Station(self._free.pop(), Book(self._places))
        return self._stations[station_id]

    def _grow(self) -> None:
        before = self._bank.n_slots
        n_slots = before + max(before // _MORE_SLOTS, _LEAST_SLOTS)
        self._free = list(range(n_slots - 1, before - 1, -1))
        grow(self._rising, n_slots, 0)
        self._bank.grow(n_slots)

    def observe(self, arrived: Mapping[K, tuple[Ints, Floats]]) -> dict[K, list[Event]]:
        """Judge new rows and return the events of each station that has any, in event order.

        Args:
            arrived: Per station its rows' hours ``(n,)``, ascending and later than any before, and values ``(n, 13)``.

        Raises:
            ContractError: rows are not later than the last one.
        """
        events: dict[K, list[Event]] = defaultdict(list)
        waiting: dict[K, list[tuple[int, Floats]]] = {}
        for station_id, (hours, values) in arrived.items():
            runs = self._runs(station_id, hours, values)
            if runs:
                waiting[station_id] = runs
        while waiting:
            self._round(waiting, events)
            waiting = {station_id: runs for station_id, runs in waiting.items() if runs}
        return dict(events)

    def _runs(self, station_id: K, hours: Ints, values: Floats) -> list[tuple[int, Floats]]:
        """Return the rows as runs of consecutive hours, short gaps filled with missing rows."""
        station = self._station(station_id)
        last = self._bank.hour(station.slot)
        if len(hours) == 1 and hours[0] == last + 1 and not station.spans:  # the usual case, told apart soonest
            return [(last + 1, values)]
        steps = np.diff(hours)
        if (steps <= 0).any() or (len(hours) and hours[0] <= last):
            raise ContractError(f"{station_id}: rows must be later than {isoformat(last)} and in ascending order")
        station.spans = tuple(span for span in station.spans if not len(hours) or span.last > last)
        runs: list[tuple[int, Floats]] = []
        edges = [0, *(np.flatnonzero(steps != 1) + 1).tolist(), len(hours)]
        for start, stop in itertools.pairwise(edges if len(hours) else ()):
            first, table = int(hours[start]), values[start:stop]
            gap = first - last - 1 if last >= 0 else 0
            if 0 < gap < FORGOTTEN_HOURS:
                table = np.concatenate([np.full((gap, len(RAW_COLUMNS)), np.nan), table])
                first -= gap
            last = int(hours[stop - 1])
            runs += cut_at_work(station.spans, first, table, STEP_HOURS)
        return runs

    def _round(self, waiting: dict[K, list[tuple[int, Floats]]], events: dict[K, list[Event]]) -> None:
        """Judge the next run of every station, stations with the same hours and wrong columns together."""
        groups: dict[tuple[int, int, frozenset[str], frozenset[str]], list[K]] = defaultdict(list)
        for station_id, runs in waiting.items():
            first, table = runs[0]
            station = self._stations[station_id]
            self._begin(station, first)
            if self._bank.has_bad_days(station.slot):
                table = self._until_change(station, runs)
            if len(table) > station.stride:
                runs[0:1] = [(first, table[: station.stride]), (first + station.stride, table[station.stride :])]
                table = runs[0][1]
            silenced = columns_at(station.spans, first) if station.spans else _NONE
            groups[first, len(table), self._wrong(station, first), silenced].append(station_id)
        for (first, n_rows, wrong, silenced), station_ids in groups.items():
            rows = np.concatenate([waiting[station_id].pop(0)[1] for station_id in station_ids])
            tables = rows.reshape(len(station_ids), n_rows, rows.shape[1])
            kept = self._judge(station_ids, first, tables, wrong, silenced, events)
            for station_id, n_kept, table in zip(station_ids, kept, tables, strict=True):
                self._stations[station_id].stride = _stride(n_kept, n_rows)
                if n_kept < n_rows:
                    waiting[station_id].insert(0, (first + n_kept, table[n_kept:]))

    def _until_change(self, station: _Station, runs: list[tuple[int, Floats]]) -> Floats:
        """Cut the next run at the midnight when other columns are witnesses; return what comes before."""
        first, table = runs[0]
        now = self._wrong(station, first)
        for n_rows in range(24 - first % 24, len(table), 24):
            if self._wrong(station, first + n_rows) != now:
                runs[0:1] = [(first, table[:n_rows]), (first + n_rows, table[n_rows:])]
                break
        return runs[0][1]

    def _wrong(self, station: _Station, first: int) -> frozenset[str]:
        """Return the columns that are no witnesses: those that alarms name, and those repaired a short while ago."""
        healing = self._bank.healing(station.slot, first)
        return station.book.wrong | {NODE_COLUMNS[node] for node in healing} if healing else station.book.wrong

    def _judge(
        self,
        station_ids: list[K],
        first: int,
        tables: Floats,
        wrong: frozenset[str],
        silenced: frozenset[str],
        events: dict[K, list[Event]],
    ) -> list[int]:
        """Judge rows up to the first after which other columns are wrong; return how many that were, per station."""
        stations = [self._stations[station_id] for station_id in station_ids]
        step = self._bank.look([station.slot for station in stations], first, tables, wrong)
        excess = step.statistics / self._thresholds.given(wrong)
        if silenced:
            excess[..., self._places.cells_about(silenced)] = np.nan
        rising = self._rising_since(stations, first, excess)
        loud: list[bool] = np.asarray(excess >= 1.0).any(axis=(1, 2)).tolist()  # type: ignore[assignment]
        kept = [tables.shape[1]] * len(stations)
        open_before = [tuple(station.book.open.values()) for station in stations]
        closed: dict[int, set[str]] = {}
        for index, station in enumerate(stations):
            if loud[index] or station.book.open:
                kept[index], happened, closed[index] = self._read(station, step, index, excess[index], rising[index])
                if happened:
                    events[station_ids[index]] += happened
        self._keep(stations, step, kept, rising, closed)
        self._leave_out(stations, step, kept, open_before)
        if step.rows.day_of_row[-1]:
            self._learn(stations, step, kept)
        for column in sorted(silenced):  # an hour of work is no hour lost
            for station, n_rows in zip(stations, kept, strict=True):
                self._bank.forget_hours(station.slot, column, first, first + n_rows - 1)
        return kept

    def _learn(self, stations: list[_Station], step: Step, kept: list[int]) -> None:
        """Note, midnight by midnight, which columns have nothing to be compared with."""
        lacking = self._bank.lacking(step)
        for index, station in enumerate(stations):
            if not (station.learning.columns or lacking[index].any()):
                continue
            for midnight in range(1, int(step.rows.day_of_row[kept[index] - 1]) + 1):
                hour = ((step.rows.first_hour - 1) // 24 + midnight) * 24
                station.learning = station.learning.changed(hour, columns_of(lacking[index, midnight]))

    def _begin(self, station: _Station, first: int) -> None:
        last = self._bank.hour(station.slot)
        if last >= 0 and first != last + 1:  # a silence longer than anything remembered
            self._bank.clear(station.slot)
            station.book.open.clear()
            self._rising[station.slot] = 0
            station.first_hour = -1
            station.learning = Learning()
        if station.first_hour < 0:
            station.first_hour = first
            station.learning = Learning().changed(first, NODE_COLUMNS)

    def _rising_since(self, stations: list[_Station], first: int, excess: Floats) -> Ints:
        """Return, per station, row and cell, the hour since which the cell has been above half of its threshold, else 0."""
        rising = np.zeros(excess.shape, dtype=np.int64)
        above = excess >= RISING
        cells = np.flatnonzero(above.any(axis=(0, 1)))  # a few of them
        if len(cells):
            hours, below = first + np.arange(excess.shape[1], dtype=np.int64), ~above[..., cells]
            before = self._rising[np.array([station.slot for station in stations])[:, np.newaxis], cells]
            last_below = np.maximum.accumulate(np.where(below, hours[:, np.newaxis], 0), axis=1)
            since = np.where(last_below > 0, last_below + 1, np.where(before > 0, before, first)[:, np.newaxis])
            rising[..., cells] = np.where(below, 0, since)
        return rising

    def _read(
        self, station: _Station, step: Step, index: int, excess: Floats, rising: Ints
    ) -> tuple[int, list[Event], set[str]]:
        """Go row by row until the set of wrong columns changes."""
        events: list[Event] = []
        before, wrong = set(station.book.open), station.book.wrong
        sizes: dict[int, Floats] = {}
        known = ~np.isnan(step.rows.new[index])
        busy = np.flatnonzero((excess >= 1.0).any(axis=1)) if not before else np.arange(len(excess))
        for row in busy.tolist():
            size = functools.partial(self._size, step, index, sizes, row)
            hour = step.rows.first_hour + row
            events += station.book.update(hour, excess[row], known[row], rising[row], size)
            if station.book.wrong != wrong or set(station.book.open) != before:
                closed = {event.column for event in events if event.kind == "closed"} - _narrowed(station.book)
                return row + 1, events, closed
        return len(excess), events, set()

    def _size(self, step: Step, index: int, sizes: dict[int, Floats], row: int, cell: int) -> float:
        if cell not in sizes:
            at = 0
            for detector, memory in zip(self._suite.detectors, step.memories, strict=True):
                if at <= cell < at + len(detector.cells):
                    part = step.rows.of(index)
                    sizes[cell] = detector.size(part, memory.of(index), cell - at)[0]
                at += len(detector.cells)
        return float(sizes[cell][row])

    def _keep(
        self, stations: list[_Station], step: Step, kept: list[int], rising: Ints, closed: dict[int, set[str]]
    ) -> None:
        by_length: dict[int, list[int]] = defaultdict(list)
        for index, n_rows in enumerate(kept):
            by_length[n_rows].append(index)
        for n_rows, indexes in by_length.items():
            self._bank.keep(step, indexes, n_rows)
            self._rising[[stations[index].slot for index in indexes]] = rising[indexes, n_rows - 1]
        for index, columns in closed.items():
            for column in columns:
                for part in GROUPS.get(column, (column,)):
                    self._bank.forget_recent(stations[index].slot, part, CALM_HOURS)

    def _leave_out(
        self, stations: list[_Station], step: Step, kept: list[int], open_before: list[tuple[Alarm, ...]]
    ) -> None:
        """Leave the days under an alarm out of its columns' baselines: as of the last row, or of the one before its end."""
        for station, n_rows, before in zip(stations, kept, open_before, strict=True):
            now = station.book.open
            if not (before or now):
                continue
            last = step.rows.first_hour + n_rows - 1
            ended = [(alarm, last - 1) for alarm in before if n_rows > 1 and now.get(alarm.column) is not alarm]
            for alarm, until in [*ended, *((alarm, last) for alarm in now.values())]:
                for node in _nodes_of(alarm.columns):
                    self._bank.leave_out(station.slot, node, alarm.since, until)


def _stride(n_kept: int, n_rows: int) -> int:
    """Return how many rows to judge next, after ``n_kept`` of ``n_rows`` stand: fewer where columns change often."""
    return min(max(_STRIDE_FACTOR * n_kept, _LEAST_STRIDE), STEP_HOURS) if n_kept < n_rows else STEP_HOURS


def _narrowed(book: Book) -> set[str]:
    """Return the groups of which one column is named now: their alarm went on under its name."""
    return {group for group, columns in GROUPS.items() if any(column in book.open for column in columns)}


def _nodes_of(columns: Iterable[str]) -> list[int]:
    return [NODE_COLUMNS.index(column) for column in columns if column in NODE_COLUMNS]
