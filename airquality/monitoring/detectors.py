"""The calibrated detectors of a consumer: the stations' rows in, alarm events out, and each station's memory.

Without a calibration there are no detectors: nothing is judged hour by hour, and :attr:`Detectors.why_off` says why.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from airquality.ground.errors import UsageError
from airquality.incoming import Operation
from airquality.monitoring import calibration
from airquality.monitoring.alarms import Event
from airquality.monitoring.calibration import Calibration
from airquality.monitoring.maintenance import Maintenance
from airquality.monitoring.network import RULE_COLUMNS
from airquality.records import RAW_COLUMNS, Reading


class Detectors:
    """The detectors of all stations of one process, or none, where they are not calibrated."""

    def __init__(self, fitted: Calibration | None, budget: float = 1.0, why_off: str = "") -> None:
        self.why_off = why_off
        self._fitted = fitted
        self._watch = None if fitted is None else fitted.watch(budget)
        self._basis = "" if fitted is None else f"{fitted.identity} at {budget:g}"

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

    def judge(self, arrived: Mapping[str, Sequence[Reading | Operation]]) -> dict[str, list[tuple[int, Event]]]:
        """Judge accepted rows and do what operators decided, in the order of each station.

        An operation takes effect after the rows before it and before those after it, and its events say by whom.

        Returns:
            Of each station that has any: its events, each with the place of the row or operation it comes from.
        """
        events: dict[str, list[tuple[int, Event]]] = defaultdict(list)
        at = dict.fromkeys(arrived, 0)
        while at:
            self._judge_rows(arrived, at, events)
            for station_id, index in list(at.items()):
                if index == len(arrived[station_id]):
                    del at[station_id]
                    continue
                operation = arrived[station_id][index]
                assert isinstance(operation, Operation)
                events[station_id] += [(index, event) for event in self._operate(operation)]
                at[station_id] = index + 1
        return {station_id: found for station_id, found in events.items() if found}

    def learning(self, station_id: str) -> dict[str, int]:
        """Return the columns whose level cannot be judged yet, and from which hour each can be, at the earliest."""
        return self._watch.learning(station_id) if self._watch is not None and station_id in self._watch else {}

    def _judge_rows(
        self,
        arrived: Mapping[str, Sequence[Reading | Operation]],
        at: dict[str, int],
        events: dict[str, list[tuple[int, Event]]],
    ) -> None:
        """Judge each station's rows from place ``at`` on, up to its next operation or the end, and move ``at`` there."""
        rows = {station_id: _rows_from(arrived[station_id], begin) for station_id, begin in at.items()}
        for station_id, begin in list(at.items()):
            at[station_id] = begin + len(rows[station_id])
        for station_id, found in self._observe({name: part for name, part in rows.items() if part}).items():
            hours, begin = [row.hour for row in rows[station_id]], at[station_id] - len(rows[station_id])
            events[station_id] += [(begin + bisect_left(hours, event.at), event) for event in found]

    def _observe(self, arrived: Mapping[str, Sequence[Reading]]) -> dict[str, list[Event]]:
        if self._watch is None:
            return {}
        for station_id, readings in arrived.items():
            if station_id not in self._watch:
                self._begin(station_id, readings[0].hour)
        return self._watch.observe({station_id: _table(readings) for station_id, readings in arrived.items()})

    def _operate(self, operation: Operation) -> list[Event]:
        """Do what an operator decided; of a station without rows there is nothing to decide."""
        watch, station_id = self._watch, operation.station_id
        if watch is None or station_id not in watch:
            return []
        if operation.kind == "maintenance":
            return watch.maintain(station_id, Maintenance.of(operation), operation.by)
        columns = RULE_COLUMNS if operation.column is None else (operation.column,)
        do = watch.reset if operation.kind == "reset" else watch.acknowledge
        return do(station_id, columns, operation.by)

    def switch_off(self, why: str) -> None:
        """Judge nothing more in this process; what was remembered is let go."""
        self._watch, self.why_off = None, why

    def _begin(self, station_id: str, hour: int) -> None:
        """Begin a station with what the calibrated history remembered, if its first row follows it; else cold."""
        assert self._watch is not None
        assert self._fitted is not None
        if hour == self._fitted.last_hour + 1:
            self._watch.restore_memory(station_id, self._fitted.seed, self._fitted.first_hour)

    def state(self, station_id: str) -> dict[str, Any]:
        """Return what is remembered of a station, for its snapshot; empty where nothing is."""
        if self._watch is None or station_id not in self._watch:
            return {}
        return {"basis": self._basis, **self._watch.state(station_id)}

    def restore(self, station_id: str, state: Mapping[str, Any]) -> None:
        """Go on with a station where :meth:`state` was taken; another calibration's memory is of no use and is dropped."""
        self.forget(station_id)
        if self._watch is not None and state.get("basis") == self._basis:
            self._watch.restore(station_id, state)

    def forget(self, station_id: str) -> None:
        """Let go of a station."""
        if self._watch is not None:
            self._watch.forget(station_id)


def _rows_from(items: Sequence[Reading | Operation], begin: int) -> list[Reading]:
    """Return the rows from ``begin`` on, up to the next operation."""
    rest = itertools.islice(items, begin, None)
    return [item for item in itertools.takewhile(lambda item: isinstance(item, Reading), rest) if isinstance(item, Reading)]


def _table(readings: Sequence[Reading]) -> tuple[Any, Any]:
    hours = np.array([reading.hour for reading in readings], dtype=np.int64)
    return hours, np.array([reading.values for reading in readings], dtype=np.float64).reshape(-1, len(RAW_COLUMNS))
