"""The life of an alarm: opened by a statistic above its threshold, closed when the sensor is right again."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from airquality.monitoring.detector import Cell
from airquality.monitoring.network import GROUPS, NODE_COLUMNS, UNITS
from airquality.monitoring.registry import hour_by_hour
from airquality.records import RAW_COLUMNS, isoformat

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: An alarm closes after so many hours in which its evidence was gone.
CALM_HOURS = 24
#: Evidence is gone below this share of the threshold: windows of a day or less, and longer ones.
_CALM_QUICK, _CALM_SLOW = 0.5, 0.6
_QUICK_HOURS = 24
#: A statistic this close to its threshold belongs to the fault it later raises.
RISING = 0.5
#: How often the size of an open alarm is looked at, and by what factor it must have changed to be said.
SIZE_HOURS, _SIZE_FACTOR = 24, 1.5
#: What an alarm names that is about all of a station.
STATION = "station"
_NONE: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Event:
    """Something an alarm did. Hours are event time; ``size`` is NaN where there is none.

    ``column`` is a column or, where only a group is known, the group's names joined by a slash. ``by`` is who acknowledged
    or closed the alarm, empty where nobody did, and ``by_at`` after which hour.
    """

    kind: Literal["opened", "changed", "closed"]
    detector: str
    column: str
    at: int
    since: int
    size: float
    unit: str
    by: str = ""
    by_at: int = 0

    @property
    def alarm(self) -> tuple[str, str]:
        """Which alarm of its station it is: a column has one of the hour-by-hour detectors, and one of each other."""
        return "" if self.detector in hour_by_hour() else self.detector, self.column

    @property
    def is_shift(self) -> bool:
        """Whether the size is how far the column is off, up or down; else it is a value, a height or a count."""
        judge = hour_by_hour().get(self.detector)
        return judge is not None and judge.is_shift

    @property
    def takes_effect(self) -> float:
        """The hour from which it holds: what an operator did, after all that the row of its hour says."""
        return self.at + 0.5 * bool(self.by)

    def to_json(self) -> dict[str, Any]:
        """Return the event as it is printed."""
        return {
            "event": self.kind,
            "detector": self.detector,
            "column": self.column,
            "at": isoformat(self.at),
            "since": isoformat(self.since),
            "size": None if math.isnan(self.size) else float(f"{self.size:.4g}"),
            "unit": self.unit,
            **({"by": self.by, "by_at": isoformat(self.by_at)} if self.by else {}),
        }


class OpenAlarms:
    """The alarms that are open, each as it was last said: a fold of events."""

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self._open = {event.alarm: event for event in events}

    def take(self, event: Event) -> None:
        """Take in the next event."""
        if event.kind == "closed":
            self._open.pop(event.alarm, None)
            return
        self._open[event.alarm] = event

    def by_column(self) -> tuple[Event, ...]:
        """Return the latest event of each open alarm, by column."""
        return tuple(sorted(self._open.values(), key=lambda event: (event.column, event.detector)))

    def state(self) -> tuple[Event, ...]:
        """Return what the alarms come back from, in the order in which they opened."""
        return tuple(self._open.values())

    def __contains__(self, alarm: tuple[str, str]) -> bool:
        return alarm in self._open


@dataclass(slots=True)
class Alarm:
    """An open alarm. ``peaks`` holds the largest excess of every cell of its columns since it opened, by cell index.

    ``by`` is who acknowledged it after hour ``by_at``, empty until somebody does.
    """

    column: str
    detector: str
    cell: int
    opened: int
    since: int
    size: float
    calm_hours: int = 0
    by: str = ""
    by_at: int = 0
    peaks: dict[int, float] = field(default_factory=dict)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that may be wrong."""
        return GROUPS.get(self.column, (self.column,))

    def event(self, kind: Literal["opened", "changed", "closed"], at: int) -> Event:
        """Return what is said of the alarm now."""
        judge = hour_by_hour().get(self.detector)
        unit = (judge.size_unit if judge else "") or UNITS.get(self.column, "")
        return Event(kind, self.detector, self.column, at, self.since, self.size, unit, self.by, self.by_at)

    def state(self) -> dict[str, Any]:
        """Return the alarm as JSON values without NaN."""
        size = None if math.isnan(self.size) else self.size
        return {**asdict(self), "size": size, "peaks": [[cell, peak] for cell, peak in self.peaks.items()]}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Alarm:
        """Return the alarm whose state this is."""
        size = math.nan if state["size"] is None else state["size"]
        return cls(**{**state, "size": size, "peaks": {int(cell): peak for cell, peak in state["peaks"]}})


@dataclass(frozen=True, eq=False)
class Places:
    """Which cells speak of which column, prepared once for a suite."""

    cells: tuple[Cell, ...]
    #: Each cell's column.
    names: tuple[str, ...]
    by_column: dict[str, Ints]
    #: Statistical cells sorted by node, and where each node's begin.
    by_node: Ints
    node_starts: Ints

    @classmethod
    def of(cls, cells: tuple[Cell, ...]) -> Places:
        """Sort ``cells`` by what they speak of."""
        names = dict.fromkeys(cell.column for cell in cells)
        nodes = np.array([len(NODE_COLUMNS) if cell.exact else cell.node for cell in cells])
        order = np.argsort(nodes, kind="stable")
        order = order[nodes[order] < len(NODE_COLUMNS)]
        return cls(
            cells=cells,
            names=tuple(cell.column for cell in cells),
            by_column={name: np.flatnonzero([cell.column == name for cell in cells]) for name in names},
            by_node=order,
            node_starts=np.searchsorted(nodes[order], np.arange(len(NODE_COLUMNS))),
        )

    def cells_about(self, columns: Collection[str]) -> Ints:
        """Return the cells that speak of one of ``columns``, alone or in a group."""
        names = [name for name in self.by_column if name in columns or set(GROUPS.get(name, ())) & set(columns)]
        return np.concatenate([self.by_column[name] for name in names] or [np.zeros(0, dtype=np.int64)])

    def node_excess(self, excess: Floats) -> Floats:
        """Return the largest statistical excess of each node, ``(..., nodes)``, 0 where none is known."""
        return np.asarray(np.maximum.reduceat(np.nan_to_num(excess[..., self.by_node]), self.node_starts, axis=-1))


class Book:
    """The open alarms of one station, judged row by row.

    ``excess`` is a row's statistics over their thresholds, ``(cells,)``, NaN where a cell cannot be judged.
    """

    def __init__(self, places: Places) -> None:
        self._places = places
        self.open: dict[str, Alarm] = {}

    @property
    def wrong(self) -> frozenset[str]:
        """Columns that an open alarm names, alone or in a group."""
        return frozenset(column for alarm in self.open.values() for column in alarm.columns) if self.open else _NONE

    def about(self, columns: Collection[str]) -> list[Alarm]:
        """Return the open alarms that name one of ``columns``, alone or in a group."""
        return [alarm for alarm in self.open.values() if set(alarm.columns) & set(columns)]

    def close(self, alarm: Alarm, hour: int, by: str) -> Event:
        """Close an alarm because ``by`` says so."""
        del self.open[alarm.column]
        return replace(alarm.event("closed", hour), by=by, by_at=hour)

    def acknowledge(self, alarm: Alarm, hour: int, by: str) -> Event:
        """Mark an alarm as seen; it stays open."""
        alarm.by, alarm.by_at = by, hour
        return alarm.event("changed", hour)

    def update(self, hour: int, excess: Floats, known: NDArray[np.bool_], rising: Ints, sizes: Any) -> list[Event]:
        """Judge one row; return what happened.

        Args:
            hour: Its hour.
            excess: See the class.
            known: Which columns have a value in this row, ``(13,)``.
            rising: For each cell the hour since which it has been above half of its threshold, ``(cells,)``.
            sizes: Returns the size of the fault in this row by a cell.
        """
        events = self._follow(hour, excess, known, sizes)
        closed = {event.column for event in events if event.kind == "closed"}
        loud: list[int] = np.flatnonzero(excess >= 1.0).tolist()
        new = [cell for cell in loud if (name := self._places.names[cell]) not in self.open and name not in closed]
        for cell in (self._exact(new, closed) or self._statistical(new, excess)) if new else ():
            events += self._name(hour, cell, int(min(rising[cell], hour)), sizes)
        self._keep_peaks(loud, excess)
        return events

    def _exact(self, new: Sequence[int], closed: set[str]) -> list[int]:
        """Return the exact cells among the ``new`` that say something, one per column."""
        named: dict[str, int] = {}
        for cell in new:
            column = self._places.names[cell]
            if self._places.cells[cell].exact and not self._explained(column, closed):
                named.setdefault(column, cell)
        columns = {part for column in named if column not in GROUPS for part in (column,)}
        return [cell for column, cell in named.items() if not columns & set(GROUPS.get(column, ()))]

    def _explained(self, column: str, closed: set[str]) -> bool:
        """Whether a group's break is explained by an alarm on one of its columns, open or just closed."""
        return any(part in self.open or part in closed for part in GROUPS.get(column, ()))

    def _statistical(self, new: Sequence[int], excess: Floats) -> list[int]:
        """Return the statistical cell among the ``new`` that exceeds most, if there is one."""
        cells = self._places.cells
        able = [cell for cell in new if not cells[cell].exact]
        return [min(able, key=lambda cell: (-excess[cell], cells[cell].node, cell))] if able else []

    def _name(self, hour: int, cell: int, since: int, sizes: Any) -> list[Event]:
        kind = self._places.cells[cell]
        group = next((name for name, parts in GROUPS.items() if name in self.open and kind.column in parts), None)
        if group is not None:
            alarm = self.open.pop(group)
            since = min(since, alarm.since)
            named = replace(alarm, column=kind.column, detector=kind.detector, cell=cell, since=since, size=sizes(cell))
            self.open[kind.column] = named
            return [alarm.event("closed", hour), named.event("opened", hour)]
        alarm = Alarm(kind.column, kind.detector, cell, hour, since, sizes(cell))
        self.open[kind.column] = alarm
        return [alarm.event("opened", hour)]

    def _keep_peaks(self, loud: Sequence[int], excess: Floats) -> None:
        for cell in loud:
            alarm = self.open.get(self._places.names[cell])
            if alarm is not None:
                alarm.peaks[cell] = max(alarm.peaks.get(cell, 0.0), float(excess[cell]))

    def _cells(self, alarm: Alarm) -> list[int]:
        return [int(cell) for cell in self._places.by_column.get(alarm.column, ())]

    def _follow(self, hour: int, excess: Floats, known: NDArray[np.bool_], sizes: Any) -> list[Event]:
        events = []
        for alarm in list(self.open.values()):
            calm = self._calm(alarm, excess, known)
            if calm is not None:
                alarm.calm_hours = alarm.calm_hours + 1 if calm else 0
            if alarm.calm_hours >= CALM_HOURS:
                del self.open[alarm.column]
                events.append(alarm.event("closed", hour))
            elif (hour - alarm.opened) % SIZE_HOURS == 0:
                events += self._resize(alarm, hour, excess, sizes)
        return events

    def _calm(self, alarm: Alarm, excess: Floats, known: NDArray[np.bool_]) -> bool | None:
        """Whether the evidence that opened and kept the alarm is gone in this row; None if the row cannot tell."""
        limits = self._calm_limits(alarm)
        if any(excess[cell] >= limit for cell, limit in limits.items()):
            return False
        unknown = any(math.isnan(excess[cell]) for cell in limits)
        reporting = all(known[RAW_COLUMNS.index(column)] for column in alarm.columns)
        return True if reporting and not unknown else None

    def _calm_limits(self, alarm: Alarm) -> dict[int, float]:
        """Return the cells that kept the alarm open, and below which excess their evidence is gone.

        Cells of a day or less answer for longer ones, which remember the fault for days after its end.
        """
        cells = self._places.cells
        quick = [cell for cell in alarm.peaks if cells[cell].hours <= _QUICK_HOURS]
        share = _CALM_QUICK if quick else _CALM_SLOW
        return {cell: 1.0 if cells[cell].exact else share for cell in quick or alarm.peaks}

    def _resize(self, alarm: Alarm, hour: int, excess: Floats, sizes: Any) -> list[Event]:
        same = [cell for cell in self._cells(alarm) if self._places.cells[cell].detector == alarm.detector]
        best = max(same, key=lambda cell: float(np.nan_to_num(excess[cell])), default=alarm.cell)
        if not excess[best] >= 1.0:
            return []
        size = sizes(best)
        before, now = abs(alarm.size), abs(size)
        if (
            math.isnan(size)
            or (size * alarm.size > 0 and before / _SIZE_FACTOR < now < before * _SIZE_FACTOR)
            or before == now
        ):
            return []
        alarm.size, alarm.cell = size, best
        return [alarm.event("changed", hour)]
