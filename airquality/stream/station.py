"""One station: its buffer, its detectors, its windows, the account of its reports, and since when a snapshot holds them.

A :class:`Station` is the only thing that is kept by station id. Its detectors are components (see
``airquality.monitoring.component``) in the order in which they are named; the windows come last, so that a window knows what
the detectors had open at its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from airquality.incoming import LateTruth, Operation
from airquality.model import features
from airquality.monitoring.alarms import Event, OpenAlarms
from airquality.monitoring.assurance import Assurance, AssuranceState
from airquality.monitoring.component import (
    Buffer,
    Component,
    Found,
    Learns,
    Refusal,
    Row,
    TakesOperations,
    TakesRefusals,
    TakesTime,
    TakesTruths,
)
from airquality.monitoring.drift import Window
from airquality.monitoring.windows import Windows, WindowsState
from airquality.records import HISTORY_HOURS
from airquality.reports.ledger import LedgerState, ReportLedger
from airquality.reports.summary import StationFigures

#: Features are computed over this many hours of grids at a time: 30 MB. Where truths come between rows, each row has a grid.
MAX_GRID_HOURS = 8_192


@dataclass(frozen=True, slots=True)
class Unsaved:
    """The oldest record that changed a station and is in no snapshot: where it is, and since when (monotonic seconds)."""

    offset: int
    pred_offset: int
    dlq_offset: int
    since: float
    newest: int = 0  # the partition's newest hour before it


@dataclass(frozen=True, slots=True, eq=False)
class StationState:
    """Everything held for one station, as of a raw offset."""

    station_id: str
    group: str
    offset: int
    buffer: object
    detectors: Mapping[str, object]
    windows: WindowsState
    reports: LedgerState
    alarms: tuple[Event, ...]
    assurance: AssuranceState


class Station:
    """Everything held for one station.

    Args:
        station_id: Its name.
        buffer: Its recent hours.
        detectors: Its detectors by name; components that see every accepted row.
        windows: Its windows, which see what the detectors found in the row.
        reports: The account of its reports.
        alarms: What is open.
        assurance: Its intervals, and what truth made of its predictions.
    """

    def __init__(
        self,
        station_id: str,
        buffer: Buffer,
        detectors: Mapping[str, Component],
        windows: Windows,
        reports: ReportLedger,
        alarms: OpenAlarms,
        assurance: Assurance,
    ) -> None:
        self.station_id = station_id
        self.buffer = buffer
        self.detectors = detectors
        self.windows = windows
        self.reports = reports
        self.alarms = alarms
        self.assurance = assurance
        #: Kafka timestamp of its first row.
        self.since_ms = -1
        #: The raw offset up to which its last snapshot holds it, -1 without one.
        self.saved_offset = -1
        self.saved = False
        self.unsaved: Unsaved | None = None
        # Asked for every row, so sorted out once: telling a protocol takes as long as a component takes to see a row.
        self._timed = [part for part in detectors.values() if isinstance(part, TakesTime)]
        self._learning_parts = [part for part in detectors.values() if isinstance(part, Learns)]

    def update(self, row: Row) -> list[Found]:
        """Take in an accepted row and return what was found: alarm events, and windows that closed."""
        events = self._detected(row)
        found: list[Found] = [*events]
        found += self.windows.update(Row(row.reading, row.predicted, tuple(events), self._learning(row.reading.hour)))
        return self._said([*found, *self._heard(self.assurance.update(row))])

    def take_truth(self, truth: LateTruth) -> list[Found]:
        """Take in a truth that came late and filled its hour; return what was found."""
        parts = (part for part in self._parts() if isinstance(part, TakesTruths))
        return self._said(self._heard(found for part in parts for found in part.take_truth(truth)))

    def operate(self, operation: Operation) -> list[Found]:
        """Do what an operator decided and return what it opened, changed or closed."""
        parts = (part for part in self._parts() if isinstance(part, TakesOperations))
        return self._said(self._heard(event for part in parts for event in part.operate(operation)))

    def take_refusal(self, refusal: Refusal) -> list[Found]:
        """Take in a reading of the station that was refused; return what was found."""
        parts = (part for part in self._parts() if isinstance(part, TakesRefusals))
        return self._said(self._heard(event for part in parts for event in part.take_refusal(refusal)))

    def pass_time(self, newest: int) -> list[Found]:
        """Notice that the partition's newest hour is ``newest`` now; return what was found."""
        return self._said(self._heard(event for part in self._timed for event in part.pass_time(newest)))

    def note_newest(self, newest: int) -> None:
        """Note the newest hour of the partition as of the station's latest row."""
        for part in self._timed:
            part.note_newest(newest)

    @property
    def newest_then(self) -> int:
        """The newest hour of the partition when the station's latest row came, -1 before its first."""
        return max((part.newest_then for part in self._timed), default=-1)

    def _parts(self) -> tuple[Component, ...]:
        return (*self.detectors.values(), self.windows, self.assurance)

    def _heard(self, found: Iterable[Found]) -> list[Found]:
        """Let the windows know the alarms of what was found after the latest row."""
        heard = list(found)
        self.windows.hear([each for each in heard if isinstance(each, Event)])
        return heard

    def _said(self, said: list[Found]) -> list[Found]:
        """Keep account of what was found: alarms, and reports that are to be made or made anew."""
        for each in said:
            if isinstance(each, Event):
                self.alarms.take(each)
            elif isinstance(each, Window) or each.late:
                self.reports.outstanding += 1
        return said

    def _detected(self, row: Row) -> list[Event]:
        events = [found for part in self.detectors.values() for found in part.update(row) if isinstance(found, Event)]
        return events if len(events) < 2 else sorted(events, key=lambda event: event.at)

    def _learning(self, hour: int) -> tuple[tuple[str, int], ...]:
        return tuple(item for part in self._learning_parts for item in part.learning(hour).items())

    def state(self, group: str, offset: int) -> StationState:
        """Return everything held, as of raw ``offset``; only while no report is outstanding."""
        return StationState(
            station_id=self.station_id,
            group=group,
            offset=offset,
            buffer=self.buffer.state(),
            detectors={name: part.state() for name, part in self.detectors.items()},
            windows=self.windows.state(),
            reports=self.reports.state(),
            alarms=self.alarms.state(),
            assurance=self.assurance.state(),
        )

    def figures(self) -> StationFigures:
        """Return what the summary says of the station."""
        return StationFigures(
            station_id=self.station_id,
            model_version=self.windows.model_version,
            reports={
                "generated": dict(self.reports.generated),
                "failed": dict(self.reports.failed),
                "drifted": dict(self.windows.drifted),
                "empty": dict(self.windows.empty),
            },
            errors=self.windows.errors.merged(self.assurance.late_errors),
            alarms=self.alarms.by_column(),
        )


def take_features(buffers: Sequence[Buffer]) -> NDArray[np.float64]:
    """Take the waiting feature rows of many stations at once: by buffer, each in the order of its readings.

    Returns:
        Shape ``(n_ready, len(features.NAMES))``.
    """
    grids, hours, positions, start = [], [], [], 0
    for grid, ready in _taken(buffers):
        positions += [start + index for index, _ in ready]
        hours += [hour for _, hour in ready]
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


def _taken(buffers: Sequence[Buffer]) -> Iterator[tuple[NDArray[np.float64], list[tuple[int, int]]]]:
    return (taken for buffer in buffers if (taken := buffer.take())[1])
