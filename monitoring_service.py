"""Window predictions, judge closed windows, keep the alarms, and hand the windows to the report process.

Per predicted row, in event order and before its transaction commits::

    windows = service.monitor(station_id).observe(reading, prediction, model_version)

after the commit ``service.submit(windows)``, and now and then ``service.poll()``. ``observe`` reads no clock and does no
I/O, so a station replayed from its last snapshot arrives at the same windows, verdicts and counts. Reports are made
elsewhere and later: a station may be snapshotted only while ``monitor.outstanding`` is 0, which keeps the report
counters inside the snapshot exact.
"""

from __future__ import annotations

import functools
import itertools
import json
import logging
import math
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from types import TracebackType
from typing import Any, Self

import numpy as np

from airquality.ground.errors import ContractError
from airquality.ground.files import write_atomically
from airquality.ground.settings import Settings
from airquality.metrics import ConsumerMetrics
from airquality.monitoring.drift import (
    DAILY,
    KINDS,
    MIN_TRUTHS,
    WEEKLY,
    ErrorSums,
    Judge,
    Window,
    WindowKind,
    load_judge,
)
from airquality.records import RAW_COLUMNS, Reading, isoformat
from airquality.reports.process import OpenWriter, ReportProcess, ReportResult, evidently_writer

SUMMARY_NAME = "monitoring_summary.json"
#: Above this many unfinished windows the consumer should stop polling until reports have caught up.
MAX_BACKLOG = 10_000

logger = logging.getLogger(__name__)


def _per_kind() -> dict[str, int]:
    return {kind.name: 0 for kind in KINDS}


class StationMonitor:
    """The open windows, running error, alarms and report counters of one station.

    Windows are event time, anchored at the station's first prediction: window *i* of a kind covers the hours
    ``anchor + i*H`` to ``anchor + (i+1)*H - 1``. It closes with its last hour's row, or with the first later one.
    """

    def __init__(self, station_id: str, judge: Judge) -> None:
        self.station_id = station_id
        #: Windows closed whose report has neither been made nor failed yet. Take no snapshot while it is not 0.
        self.outstanding = 0
        self.errors = ErrorSums()
        self.generated = _per_kind()
        self.failed = _per_kind()
        #: Windows whose verdict is data drift or prediction drift.
        self.drifted = _per_kind()
        #: Windows that passed without a single prediction: no report is made of nothing.
        self.empty = _per_kind()
        #: Open alarms and the last hour of the window that raised each.
        self.alarms: dict[str, int] = {}
        self.model_version = ""
        self._judge = judge
        self._last_hour: int | None = None
        self._ends: dict[str, int] = {}  # last hour of the open window of each kind
        self._n_rows = 0  # rows of the open week, which holds the open day
        self._hours = np.empty(WEEKLY.hours, dtype=np.int64)
        self._values = np.empty((WEEKLY.hours, len(RAW_COLUMNS)))
        self._predictions = np.empty(WEEKLY.hours)
        self._versions: list[str] = []

    def observe(self, reading: Reading, prediction: float, model_version: str) -> list[Window]:
        """Take in one predicted row and return the windows it closed, shorter ones first.

        Args:
            reading: The row; its hour must be later than any observed before.
            prediction: Its prediction in mg/m3.
            model_version: The version that made it.

        Raises:
            ContractError: the row is not later than the last one.
        """
        hour = reading.hour
        if self._last_hour is None:
            self._ends = {kind.name: hour + kind.hours - 1 for kind in KINDS}
        elif hour <= self._last_hour:
            raise ContractError(f"{self.station_id}: {isoformat(hour)} is not later than the last row observed")
        closed = self._close_until(hour - 1)
        self._append(reading, prediction, model_version)
        # Hour-by-hour detectors are to be updated here: each row is seen once, in order; their state joins state().
        closed += self._close_until(hour)
        self.outstanding += len(closed)
        return closed

    def _append(self, reading: Reading, prediction: float, model_version: str) -> None:
        row = self._n_rows
        self._hours[row] = reading.hour
        self._values[row] = reading.values
        self._predictions[row] = prediction
        self._versions.append(model_version)
        self._n_rows = row + 1
        self._last_hour = reading.hour
        self.model_version = model_version
        if not math.isnan(reading.actual):
            self.errors.add(prediction, reading.actual)

    def _close_until(self, hour: int) -> list[Window]:
        """Close every window whose last hour is ``hour`` or earlier; the rows at hand all lie in the first of each kind."""
        if hour < self._ends[DAILY.name]:  # days nest in weeks, so no week ends before its last day
            return []
        closed = [window for kind in KINDS if (window := self._close(kind, hour)) is not None]
        for window in closed:
            self._take_verdict(window)
        return closed

    def _close(self, kind: WindowKind, hour: int) -> Window | None:
        end = self._ends[kind.name]
        n_passed = (hour - end) // kind.hours + 1
        if n_passed <= 0:
            return None
        window = self._window(kind, end)
        self._ends[kind.name] = end + n_passed * kind.hours
        self.empty[kind.name] += n_passed - (window is not None)
        if kind is WEEKLY:
            self._n_rows = 0
            self._versions.clear()
        return window

    def _window(self, kind: WindowKind, end: int) -> Window | None:
        first = int(np.searchsorted(self._hours[: self._n_rows], end - kind.hours + 1))
        rows = slice(first, self._n_rows)
        if first == self._n_rows:
            return None
        values, predictions = self._values[rows].copy(), self._predictions[rows].copy()
        return Window(
            station_id=self.station_id,
            kind=kind,
            end_hour=end,
            hours=self._hours[rows].copy(),
            values=values,
            predictions=predictions,
            model_version=", ".join(dict.fromkeys(self._versions[rows])),
            verdict=self._judge.judge(kind, values, predictions),
        )

    def _take_verdict(self, window: Window) -> None:
        self.drifted[window.kind.name] += window.verdict.drifted
        if window.kind is not DAILY:
            return
        for alarm, raised in window.verdict.alarms().items():
            if raised:
                self.alarms.setdefault(alarm, window.end_hour)
            else:
                self.alarms.pop(alarm, None)

    def take_result(self, result: ReportResult) -> None:
        """Count the end of one of this station's windows."""
        (self.generated if result.result == "generated" else self.failed)[result.kind] += 1
        self.outstanding -= 1

    def state(self) -> dict[str, Any]:
        """Return everything :meth:`from_state` needs: JSON values without NaN, and numpy arrays; under 40 KB.

        Raises:
            ContractError: windows are outstanding, so the report counters do not yet tell the end of this station's rows.
        """
        if self.outstanding:
            raise ContractError(f"{self.station_id}: {self.outstanding} windows are outstanding; no snapshot may be taken")
        rows = slice(0, self._n_rows)
        return {
            "station_id": self.station_id,
            "model_version": self.model_version,
            "last_hour": self._last_hour,
            "ends": dict(self._ends),
            "hours": self._hours[rows].copy(),
            "values": self._values[rows].copy(),
            "predictions": self._predictions[rows].copy(),
            "versions": list(self._versions),
            "errors": asdict(self.errors),
            **{name: dict(getattr(self, name)) for name in _COUNTERS},
            "alarms": dict(self.alarms),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any], judge: Judge) -> StationMonitor:
        """Return the monitor whose :meth:`state` this is; it goes on exactly as that one would have."""
        monitor = cls(state["station_id"], judge)
        monitor.model_version = state["model_version"]
        monitor._last_hour = state["last_hour"]
        monitor._ends = dict(state["ends"])
        n_rows = monitor._n_rows = len(state["hours"])
        monitor._hours[:n_rows] = state["hours"]
        monitor._values[:n_rows] = state["values"]
        monitor._predictions[:n_rows] = state["predictions"]
        monitor._versions = list(state["versions"])
        monitor.errors = ErrorSums(**state["errors"])
        for name in _COUNTERS:
            setattr(monitor, name, dict(state[name]))
        monitor.alarms = dict(state["alarms"])
        return monitor


_COUNTERS = ("generated", "failed", "drifted", "empty")


class MonitoringService:
    """Own the stations' monitors, the windows waiting for a report, and the report process.

    A context manager: leaving it ends the report process at once; call :meth:`close` first to let it finish.
    All methods are for one thread and none but ``close`` waits.
    """

    def __init__(
        self, settings: Settings, judge: Judge, metrics: ConsumerMetrics, open_writer: OpenWriter | None = None
    ) -> None:
        self._judge = judge
        self._metrics = metrics
        self._summary_path = settings.reports_dir / SUMMARY_NAME
        writer = open_writer or functools.partial(evidently_writer, settings.reports_dir, settings.dataset_dir)
        self._process = ReportProcess(writer, settings.report_queue_size, settings.report_timeout_seconds)
        self._monitors: dict[str, StationMonitor] = {}
        self._waiting: deque[tuple[int, Window]] = deque()
        self._tickets: dict[int, StationMonitor] = {}  # every unfinished window's monitor
        self._next_ticket = itertools.count()
        metrics.baseline_rmse.set(judge.calibration.baseline.rmse)

    @classmethod
    def open(cls, settings: Settings, metrics: ConsumerMetrics) -> Self:
        """Return a service judging by ``reference.csv`` and its calibration in ``settings.dataset_dir``.

        Raises:
            UsageError: either file is absent; the message says how to make it.
        """
        return cls(settings, load_judge(settings.dataset_dir), metrics)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close(drain=False)

    @property
    def data_source(self) -> str:
        """Which data the reference was made of: ``uci`` or ``simulated``."""
        return self._judge.calibration.data_source

    @property
    def backlog(self) -> int:
        """Windows submitted whose report has neither been made nor failed yet."""
        return len(self._tickets)

    @property
    def saturated(self) -> bool:
        """Whether so many windows wait that the consumer should stop polling; nothing is ever dropped."""
        return self.backlog > MAX_BACKLOG

    def monitor(self, station_id: str, state: Mapping[str, Any] | None = None) -> StationMonitor:
        """Return a monitor for ``station_id``, from its snapshot if there is one, in place of any held before."""
        self.forget(station_id)
        monitor = StationMonitor(station_id, self._judge) if state is None else StationMonitor.from_state(state, self._judge)
        self._monitors[station_id] = monitor
        self._metrics.stations.open(station_id)
        self._show_alarms(monitor)
        return monitor

    def forget(self, station_id: str) -> None:
        """Let go of a station that this consumer no longer owns, with its waiting windows: its new owner replays them."""
        monitor = self._monitors.pop(station_id, None)
        if monitor is None:
            return
        self._tickets = {ticket: owner for ticket, owner in self._tickets.items() if owner is not monitor}
        self._waiting = deque((ticket, window) for ticket, window in self._waiting if ticket in self._tickets)
        self._metrics.stations.forget(station_id)

    def submit(self, windows: Iterable[Window]) -> None:
        """Queue closed windows for their reports, after the rows that closed them are committed. Never blocks."""
        for window in windows:
            ticket = next(self._next_ticket)
            monitor = self._tickets[ticket] = self._monitors[window.station_id]
            self._waiting.append((ticket, window))
            self._show(window)
            self._show_alarms(monitor)
        self._feed()

    def poll(self) -> list[ReportResult]:
        """Return the reports that have ended since the last call, counted in their stations' monitors."""
        return self._take(self._process.results())

    def close(self, *, drain: bool = True, deadline_seconds: float | None = None) -> list[ReportResult]:
        """End the report process, after the reports that are still due if ``drain``.

        Windows that are unfinished at the deadline are not lost: their stations have no snapshot after them, so the
        next start replays them.

        Returns:
            The reports that ended meanwhile.
        """
        finished: list[ReportResult] = []
        deadline = math.inf if deadline_seconds is None else time.monotonic() + deadline_seconds
        while drain and self._tickets and (left := deadline - time.monotonic()) > 0:
            finished += self._take(self._process.wait(min(left, 1.0)))
        if self._tickets:
            logger.warning("%d reports unfinished; they are made after the next start", len(self._tickets))
        self._process.close()
        return finished

    def _take(self, results: list[tuple[int, ReportResult]]) -> list[ReportResult]:
        taken = []
        for ticket, result in results:
            monitor = self._tickets.pop(ticket, None)
            if monitor is None:  # its station was let go
                continue
            monitor.take_result(result)
            self._metrics.reports_total.labels(result.kind, result.result).inc()
            taken.append(result)
        self._feed()
        return taken

    def _feed(self) -> None:
        while self._waiting and self._process.offer(*self._waiting[0]):
            self._waiting.popleft()
        self._metrics.report_backlog.set(len(self._tickets))

    def _show(self, window: Window) -> None:
        verdict, kind = window.verdict, window.kind.name
        enough = verdict.performance.n >= MIN_TRUTHS
        self._metrics.stations.show_window(
            window.station_id, kind, verdict.performance.rmse if enough else None, drifted=verdict.drifted
        )
        columns = [column.column for column in (*verdict.columns, verdict.prediction) if column.drifted]
        logger.log(
            logging.INFO if columns or verdict.degraded or verdict.missing else logging.DEBUG,
            "%s window of %s up to %s: drift in %s; missing %s; RMSE %.3f of %d truths",
            kind,
            window.station_id,
            isoformat(window.end_hour),
            ", ".join(columns) or "nothing",
            ", ".join(verdict.missing) or "nothing",
            verdict.performance.rmse,
            verdict.performance.n,
        )

    def _show_alarms(self, monitor: StationMonitor) -> None:
        self._metrics.stations.show_alarms(monitor.station_id, (alarm.partition(":")[0] for alarm in monitor.alarms))

    def write_summary(self, counts: Mapping[str, Any]) -> None:
        """Write ``monitoring_summary.json`` atomically.

        Args:
            counts: What the consumer knows: ``rows_in``, ``warmup``, ``predictions_total``, ``dead_letters`` by reason,
                ``duplicates``.
        """
        write_atomically(self._summary_path, (json.dumps(self.summary(counts), indent=2) + "\n").encode())

    def summary(self, counts: Mapping[str, Any]) -> dict[str, Any]:
        """Return what ``monitoring_summary.json`` holds, over all stations of this consumer; an undefined figure is null."""
        monitors = [self._monitors[station_id] for station_id in sorted(self._monitors)]
        errors = ErrorSums()
        for monitor in monitors:
            errors.merge(monitor.errors)
        versions = dict.fromkeys(monitor.model_version for monitor in monitors if monitor.model_version)
        return {
            "data_source": self.data_source,
            "model_version": ", ".join(versions),
            **counts,
            "reports_generated": _total(monitor.generated for monitor in monitors),
            "reports_failed": sum(_total(monitor.failed for monitor in monitors).values()),
            "drift_detected": _total(monitor.drifted for monitor in monitors),
            "windows_without_predictions": _total(monitor.empty for monitor in monitors),
            "performance": _without_nan(asdict(errors.performance())),
            "baseline": _without_nan(asdict(self._judge.calibration.baseline)),
            "open_alarms": [
                {"station_id": monitor.station_id, "alarm": alarm, "since": isoformat(since)}
                for monitor in monitors
                for alarm, since in sorted(monitor.alarms.items())
            ],
        }


def _total(counters: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total = _per_kind()
    for counter in counters:
        for kind, count in counter.items():
            total[kind] += count
    return total


def _without_nan(figures: Mapping[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(figure) else figure for name, figure in figures.items()}
