"""The registered components of a station in the lab, row by row, beside the detectors that judge every hour."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from airquality.monitoring import registry
from airquality.monitoring.alarms import Event
from airquality.monitoring.component import Row, StationDetector
from airquality.records import Reading


class Components:
    """One of each component that is registered, and the events they make of a station's rows."""

    def __init__(self, parts: Sequence[StationDetector] | None = None) -> None:
        self._parts = [kind() for kind in registry.components()] if parts is None else parts

    def observe(self, hours: NDArray[np.int64], values: NDArray[np.float64]) -> list[Event]:
        """Take in the next rows, ``(n,)`` hours and ``(n, 13)`` values, and return what was found."""
        rows = [Row(Reading("", hour, tuple(row))) for hour, row in zip(hours.tolist(), values.tolist(), strict=True)]
        found = [each for row in rows for part in self._parts for each in part.update(row)]
        return [each for each in found if isinstance(each, Event)]

    def copy(self) -> Components:
        """Return the same components, which go on by themselves."""
        kinds = zip(registry.components(), self._parts, strict=True)
        return Components([kind.from_state(part.state()) for kind, part in kinds])
