"""The calibrated detectors of a consumer: the stations' rows in, alarm events out, and each station's memory.

Without a calibration there are no detectors: nothing is judged hour by hour, and :attr:`Detectors.why_off` says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from airquality.ground.errors import UsageError
from airquality.monitoring import calibration
from airquality.monitoring.alarms import Event
from airquality.monitoring.calibration import Calibration
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

    def judge(self, arrived: Mapping[str, Sequence[Reading]]) -> dict[str, list[Event]]:
        """Judge accepted rows, ascending in time by station; return the events of each station that has any."""
        if self._watch is None:
            return {}
        for station_id, readings in arrived.items():
            if station_id not in self._watch:
                self._begin(station_id, readings[0].hour)
        return self._watch.observe({station_id: _table(readings) for station_id, readings in arrived.items()})

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


def _table(readings: Sequence[Reading]) -> tuple[Any, Any]:
    hours = np.array([reading.hour for reading in readings], dtype=np.int64)
    return hours, np.array([reading.values for reading in readings], dtype=np.float64).reshape(-1, len(RAW_COLUMNS))
