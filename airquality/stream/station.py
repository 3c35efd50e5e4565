"""What one station is made of, as the stream sees it: a buffer, a monitor, and one factory that opens both.

The buffer and the monitor are modules of their own beside the package; it knows them by these protocols only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from airquality.incoming import LateTruth, Operation, TruthOutcome
from airquality.model import features
from airquality.monitoring.alarms import Event
from airquality.monitoring.drift import Window
from airquality.records import HISTORY_HOURS, Outcome, Reading, Served
from airquality.reports.process import ReportResult
from airquality.reports.summary import PartitionFigures

#: Features are computed over this many hours of grids at a time: 30 MB. Where truths come between rows, each row has a grid.
MAX_GRID_HOURS = 8_192


class Buffer(Protocol):
    """The recent hours of one station; see ``feature_buffer.FeatureBuffer``."""

    warmed_hours: int
    newest_hour: int | None

    def push(self, reading: Reading, kafka_hour: int | None = None) -> Outcome:
        """Accept one reading in the order of the stream; raises ``InvalidRecord`` if it cannot be."""

    def fill(self, truth: LateTruth) -> TruthOutcome:
        """Let a late truth fill its hour, in the order of the stream."""

    def take(self) -> tuple[NDArray[np.float64], list[tuple[int, int]]]:
        """Return hours, ``(n_hours, n_columns)``, and the ``(grid index, hour)`` of each ready reading, in order."""

    def state(self) -> dict[str, Any]:
        """Return everything the buffer holds."""


#: Judges accepted rows hour by hour, and does what operators decided between them, in the order of each station; returns
#: each station's alarm events, each with the place of the row or operation it comes from.
Judge = Callable[[Mapping[str, Sequence[Reading | Operation]]], Mapping[str, Sequence[tuple[int, Event]]]]


class Monitor(Protocol):
    """The windows, errors and alarms of one station; see ``monitoring_service.StationMonitor``."""

    outstanding: int

    def take_events(self, events: Sequence[Event]) -> None:
        """Take in what the detectors found in rows up to those that are observed next."""

    def observe(self, reading: Reading, prediction: float, model_version: str) -> list[Window]:
        """Take in one predicted row and return the windows it closed."""

    def take_verdict_events(self) -> list[Event]:
        """Return what the verdicts of closed windows opened and closed since the last call."""

    def state(self) -> dict[str, Any]:
        """Return everything the monitor holds; only while ``outstanding`` is 0."""


@dataclass(frozen=True, slots=True)
class StationParts:
    """A station's buffer and monitor."""

    buffer: Buffer
    monitor: Monitor


#: Opens a station by its id: anew, or from the ``buffer`` and ``monitor`` of its snapshot.
OpenStation = Callable[[str, Mapping[str, Any] | None], StationParts]


class Monitoring(Protocol):
    """What the stream tells the monitoring service; see ``monitoring_service.MonitoringService``."""

    @property
    def backlog(self) -> int:
        """Windows whose report is neither made nor failed yet."""

    @property
    def saturated(self) -> bool:
        """Whether so many windows wait that no more rows should be taken."""

    def judge(self, arrived: Mapping[str, Sequence[Reading | Operation]]) -> Mapping[str, Sequence[tuple[int, Event]]]:
        """Judge accepted rows hour by hour; see :data:`Judge`."""

    def submit(self, windows: Iterable[Window]) -> None:
        """Queue closed windows for their reports, once the rows that closed them are committed."""

    def poll(self) -> Iterable[ReportResult]:
        """Collect the reports that have ended."""

    def forget(self, station_id: str) -> None:
        """Let go of a station that this consumer no longer owns."""

    def require_calibrated_for(self, served: Served) -> None:
        """Raise ``ContractError`` unless the monitoring was calibrated for the served model."""

    def write_summary(self, owned: Mapping[int, PartitionFigures]) -> None:
        """Write the summary, with what the consumer counted."""


def take_features(buffers: Sequence[Buffer]) -> NDArray[np.float64]:
    """Take the waiting feature rows of many stations at once: by buffer, each in the order of its readings.

    Returns:
        Shape ``(n_ready, len(features.NAMES))``.
    """
    grids, hours, positions, start = [], [], [], 0
    for buffer in buffers:
        grid, ready = buffer.take()
        positions += [start + index for index, _ in ready]
        hours += [hour for _, hour in ready]
        if ready:
            grids.append(grid)
            start += len(grid)
    if not grids:
        return np.empty((0, len(features.NAMES)))
    return _rows_in_pieces(np.concatenate(grids), np.array(hours, dtype=np.int64), np.array(positions, dtype=np.intp))


def _rows_in_pieces(grid: NDArray[np.float64], hours: NDArray[np.int64], positions: NDArray[np.intp]) -> NDArray[np.float64]:
    """Compute the feature rows, whose positions ascend, from at most :data:`MAX_GRID_HOURS` at a time: memory is bounded."""
    pieces, first = [], 0
    while first < len(positions):
        start = positions[first] - HISTORY_HOURS
        end = int(np.searchsorted(positions, start + MAX_GRID_HOURS))
        piece = slice(first, end)
        pieces.append(features.rows(grid[start : start + MAX_GRID_HOURS], hours[piece], positions[piece] - start))
        first = end
    return np.concatenate(pieces)
