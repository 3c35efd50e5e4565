"""The calibrated detectors of a consumer: the stations' rows in, alarm events out, and each station's memory.

Rows of many stations are judged together, because that is ten times as fast as one by one; each station then takes what was
found row by row, from a component of its own. Without a calibration there are no detectors: nothing is judged hour by hour,
and :attr:`Detectors.why_off` says why.
"""

from __future__ import annotations

import itertools
import logging
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from airquality.ground.errors import ContractError, UsageError
from airquality.incoming import Operation
from airquality.monitoring import calibration
from airquality.monitoring.alarms import Event
from airquality.monitoring.calibration import Calibration
from airquality.monitoring.component import Row
from airquality.monitoring.maintenance import Maintenance
from airquality.monitoring.network import RULE_COLUMNS
from airquality.monitoring.rows import Floats, Ints
from airquality.monitoring.watch import Watch
from airquality.records import RAW_COLUMNS, Reading

logger = logging.getLogger(__name__)

_NOTHING: Sequence[Event] = ()


@dataclass(frozen=True, slots=True, eq=False)
class DetectorsState:
    """What the detectors remember of a station, at most 64 KiB, and the calibration it belongs to; empty while off."""

    basis: str = ""
    memory: Mapping[str, Any] = field(default_factory=dict)


class StationDetectors:
    """One station's detectors; a component. Its rows are judged by :meth:`Detectors.judge` before they are taken in."""

    def __init__(self, station_id: str, detectors: Detectors) -> None:
        self.station_id = station_id
        self._detectors = detectors
        self._found: list[Sequence[Event]] = []  # in each item that was judged and is not taken in yet

    def __str__(self) -> str:
        return self.station_id

    def expect(self, found: Iterable[Sequence[Event]]) -> None:
        """Keep what was found in each of the rows and operations that are taken in next."""
        self._found.extend(found)

    def update(self, row: Row) -> Sequence[Event]:
        """Return what was found in the row, and in the hours without a row before it."""
        return self._found.pop(0) if self._found else _NOTHING

    def operate(self, operation: Operation) -> Sequence[Event]:
        """Return what the operation changed."""
        return self._found.pop(0) if self._found else _NOTHING

    def learning(self, hour: int) -> Mapping[str, int]:
        """Return the columns whose level cannot be judged at ``hour`` yet, and from when each can be, at the earliest."""
        return self._detectors.learning(self, hour)

    def state(self) -> DetectorsState:
        """Return what is remembered; raises ``ContractError`` while something that was judged is not taken in."""
        if self._found:
            raise ContractError(f"{self.station_id}: {len(self._found)} rows were judged and are not taken in yet")
        return self._detectors.state(self)


#: What was found in each of a station's items.
Found = Mapping[StationDetectors, list[Sequence[Event]]]


class Detectors:
    """The detectors of all stations of one process, or none, where they are not calibrated."""

    def __init__(self, fitted: Calibration | None, budget: float = 1.0, why_off: str = "") -> None:
        self.why_off = why_off
        self._fitted = fitted
        self._watch: Watch[StationDetectors] | None = None if fitted is None else fitted.watch(budget)
        self._basis = "" if fitted is None else fitted.identity
        self._has_dropped = False

    @classmethod
    def load(cls, folder: Path, budget: float) -> Self:
        """Return the detectors calibrated in ``folder``, or none where the calibration is absent or says why it is off.

        Raises:
            ContractError: it is not what was written.
        """
        try:
            return cls(calibration.load(folder), budget)
        except UsageError as error:
            return cls(None, why_off=str(error))

    def open(self, station_id: str, state: DetectorsState | None = None) -> StationDetectors:
        """Return a station's component, from its state if there is one.

        The memory of another calibration is of no use: it is dropped, and the log says so.
        """
        station = StationDetectors(station_id, self)
        if state is not None and self._watch is not None and state.memory:
            if state.basis == self._basis:
                self._watch.restore(station, state.memory)
            else:
                self._drop(station)
        return station

    def _drop(self, station: StationDetectors) -> None:
        if not self._has_dropped:
            logger.warning(
                "%s and others: what their detectors remember is of another calibration and is dropped: levels are judged "
                "again after some 17 days of rows, and alarms that are open now stay so until they are reset",
                station,
            )
        self._has_dropped = True

    def close(self, station: StationDetectors) -> None:
        """Let go of a station."""
        if self._watch is not None:
            self._watch.forget(station)

    def judge(self, arrived: Mapping[StationDetectors, Sequence[Reading | Operation]]) -> None:
        """Judge accepted rows and do what operators decided, in the order of each station.

        An operation takes effect after the rows before it and before those after it, and its events say by whom. Each
        station's component then returns what was found, item by item.
        """
        if self._watch is None:
            return
        found: Found = {station: [_NOTHING] * len(items) for station, items in arrived.items()}
        at = dict.fromkeys(arrived, 0)
        while at:
            self._judge_rows(self._watch, arrived, at, found)
            for station, index in list(at.items()):
                if index == len(arrived[station]):
                    del at[station]
                    continue
                operation = arrived[station][index]
                assert isinstance(operation, Operation)
                found[station][index] = [*found[station][index], *_operate(self._watch, station, operation)]
                at[station] = index + 1
        for station, by_item in found.items():
            station.expect(by_item)

    def _judge_rows(
        self,
        watch: Watch[StationDetectors],
        arrived: Mapping[StationDetectors, Sequence[Reading | Operation]],
        at: dict[StationDetectors, int],
        found: Found,
    ) -> None:
        """Judge each station's rows from place ``at`` on, up to its next operation or the end, and move ``at`` there."""
        rows = {station: _rows_from(arrived[station], begin) for station, begin in at.items()}
        rows = {station: part for station, part in rows.items() if part}
        for station, part in rows.items():
            if station not in watch:
                self._begin(watch, station, part[0].hour)
        events = watch.observe(_tables(rows))
        for station, of_station in events.items():
            hours, begin = [row.hour for row in rows[station]], at[station]
            for event in of_station:
                index = begin + bisect_left(hours, event.at)
                found[station][index] = [*found[station][index], event]
        for station, part in rows.items():
            at[station] += len(part)

    def learning(self, station: StationDetectors, hour: int) -> dict[str, int]:
        """Return what a station still learns at ``hour``, of the latest it has; see :meth:`Watch.learning`."""
        return self._watch.learning(station, hour) if self._watch is not None and station in self._watch else {}

    def age_hours(self, hour: int) -> int | None:
        """Return how old the thresholds are at ``hour``, in the station's own time; None while there are none."""
        return None if self._watch is None or self._fitted is None else max(hour - self._fitted.last_hour, 0)

    def switch_off(self, why: str) -> None:
        """Judge nothing more in this process; what was remembered is let go."""
        self._watch, self.why_off = None, why

    def _begin(self, watch: Watch[StationDetectors], station: StationDetectors, hour: int) -> None:
        """Begin a station with what the calibrated history remembered, if its first row follows it; else cold."""
        assert self._fitted is not None
        if hour == self._fitted.last_hour + 1:
            watch.restore_memory(station, self._fitted.seed, self._fitted.first_hour)

    def state(self, station: StationDetectors) -> DetectorsState:
        """Return what is remembered of a station."""
        if self._watch is None or station not in self._watch:
            return DetectorsState()
        return DetectorsState(self._basis, self._watch.state(station))


def _operate(watch: Watch[StationDetectors], station: StationDetectors, operation: Operation) -> list[Event]:
    """Do what an operator decided; of a station without rows there is nothing to decide."""
    if station not in watch:
        return []
    if operation.kind == "maintenance":
        return watch.maintain(station, Maintenance.of(operation), operation.by)
    columns = RULE_COLUMNS if operation.column is None else (operation.column,)
    do = watch.reset if operation.kind == "reset" else watch.acknowledge
    return do(station, columns, operation.by)


def _rows_from(items: Sequence[Reading | Operation], begin: int) -> list[Reading]:
    """Return the rows from ``begin`` on, up to the next operation."""
    rows: list[Reading] = []
    for item in itertools.islice(items, begin, None):
        if not isinstance(item, Reading):
            break
        rows.append(item)
    return rows


def _tables(rows: Mapping[StationDetectors, Sequence[Reading]]) -> dict[StationDetectors, tuple[Ints, Floats]]:
    """Return the hours and values of each station's rows: views of one table, which costs a fleet less than many do."""
    flat = [row for part in rows.values() for row in part]
    hours = np.array([row.hour for row in flat], dtype=np.int64)
    values = np.array([row.values for row in flat], dtype=np.float64).reshape(-1, len(RAW_COLUMNS))
    edges = itertools.pairwise(itertools.accumulate(map(len, rows.values()), initial=0))
    return {station: (hours[begin:end], values[begin:end]) for station, (begin, end) in zip(rows, edges, strict=True)}
