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
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np

from airquality.ground.errors import ContractError
from airquality.ground.settings import Settings
from airquality.incoming import Operation
from airquality.metrics import ConsumerMetrics
from airquality.monitoring.alarms import Event
from airquality.monitoring.detectors import Detectors
from airquality.monitoring.drift import DAILY, KINDS, MIN_TRUTHS, WEEKLY, Judge, Window, WindowKind, load_judge
from airquality.monitoring.performance import ErrorSums
from airquality.records import RAW_COLUMNS, Reading, Served, isoformat
from airquality.reports.process import OpenWriter, ReportProcess, ReportResult, evidently_writer
from airquality.reports.summary import Part, PartitionFigures, SummaryFile, merge

#: Above this many unfinished windows the consumer should stop polling until reports have caught up.
MAX_BACKLOG = 10_000
#: Seconds between two attempts at a report that failed; doubled as long as they fail.
RETRY_SECONDS = (30.0, 900.0)
#: Failed windows that are kept for each station while it is owned.
MAX_UNMADE = 100
#: Hours of failed windows that a snapshot holds, so that their reports are made again after a restart, too: about 40 KB.
SAVED_UNMADE_HOURS = 2 * WEEKLY.hours

logger = logging.getLogger(__name__)


def _per_kind() -> dict[str, int]:
    return {kind.name: 0 for kind in KINDS}


class StationMonitor:
    """The open windows, running error, alarms and report counters of one station.

    Windows are event time, anchored at the station's first prediction: window *i* of a kind covers the hours
    ``anchor + i*H`` to ``anchor + (i+1)*H - 1``. It closes with its last hour's row, or with the first later one.
    """

    def __init__(self, station_id: str, judge: Judge, detectors: Detectors) -> None:
        self.station_id = station_id
        self._detectors = detectors
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
        #: Failed windows, oldest first, whose reports are to be made once the cause is gone.
        self.unmade: deque[Window] = deque()
        self.model_version = ""
        self._judge = judge
        self._last_hour: int | None = None
        self._ends: dict[str, int] = {}  # last hour of the open window of each kind
        self._n_rows = 0  # rows of the open week, which holds the open day
        self._hours = np.empty(WEEKLY.hours, dtype=np.int64)
        self._values = np.empty((WEEKLY.hours, len(RAW_COLUMNS)))
        self._predictions = np.empty(WEEKLY.hours)
        self._versions: list[str] = []
        #: The detectors' alarms that are open as of the last hour, by column.
        self.detected: dict[str, Event] = {}
        self._coming: deque[Event] = deque()  # what the detectors found in rows that are not observed yet
        self._verdict_events: list[Event] = []
        #: By window kind: what the latest windows raise, and the first hour of the window since which they do.
        self._raised: dict[str, dict[str, int]] = {kind.name: {} for kind in KINDS}

    def take_events(self, events: Sequence[Event]) -> None:
        """Take in what the detectors found, in event order, in rows up to those that are observed next."""
        self._coming.extend(events)

    def take_verdict_events(self) -> list[Event]:
        """Return what the daily verdicts opened and closed since the last call."""
        taken, self._verdict_events = self._verdict_events, []
        return taken

    def _follow(self, hour: float) -> None:
        """Keep which of the detectors' alarms are open as of ``hour``."""
        while self._coming and self._coming[0].takes_effect <= hour:
            event = self._coming.popleft()
            if event.kind == "closed":
                self.detected.pop(event.column, None)
            else:
                self.detected[event.column] = event

    def observe(self, reading: Reading, prediction: float, model_version: str) -> list[Window]:
        """Take in one predicted row and return the windows it closed, shorter ones first.

        Args:
            reading: The row; its hour must be later than any observed before.
            prediction: Its prediction.
            model_version: The version that made it.

        Raises:
            ContractError: the row is not later than the last one.
        """
        hour = reading.hour
        if self._last_hour is None:
            self._ends = {kind.name: hour + kind.hours - 1 for kind in KINDS}
        elif hour <= self._last_hour:
            raise ContractError(f"{self.station_id}: {isoformat(hour)} is not later than the last row observed")
        self._follow(self._ends[DAILY.name])
        closed = self._close_until(hour - 1)
        self._append(reading, prediction, model_version)
        self._follow(hour)
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
        verdict = self._judge.judge(kind, values, predictions)
        raised = self._raised[kind.name] = verdict.raised_since(self._raised[kind.name], end - kind.hours + 1)
        return Window(
            station_id=self.station_id,
            kind=kind,
            end_hour=end,
            hours=self._hours[rows].copy(),
            values=values,
            predictions=predictions,
            model_version=", ".join(dict.fromkeys(self._versions[rows])),
            verdict=verdict,
            since=raised,
            alarms=tuple(self.detected[column] for column in sorted(self.detected)),
        )

    def _take_verdict(self, window: Window) -> None:
        self.drifted[window.kind.name] += window.verdict.drifted
        if window.kind is not DAILY:
            return
        for alarm, raised in window.verdict.alarms().items():
            since = self.alarms.get(alarm)
            if raised and since is None:
                self.alarms[alarm] = window.end_hour
                self._verdict_events.append(_verdict_event("opened", alarm, window.end_hour, window.start_hour))
            elif not raised and since is not None:
                del self.alarms[alarm]
                self._verdict_events.append(_verdict_event("closed", alarm, window.end_hour, since))

    def take_result(self, result: ReportResult) -> None:
        """Count the end of one of this station's windows."""
        (self.generated if result.result == "generated" else self.failed)[result.kind] += 1
        self.outstanding -= 1

    def take_remade(self, window: Window) -> None:
        """Count the report of a window that had failed and was made after all."""
        self.unmade.remove(window)
        self.failed[window.kind.name] -= 1
        self.generated[window.kind.name] += 1

    def state(self) -> dict[str, Any]:
        """Return everything :meth:`from_state` needs: JSON values without NaN, and numpy arrays; under 90 KB.

        Raises:
            ContractError: windows are outstanding, so the report counters do not yet tell the end of this station's rows.
        """
        if self.outstanding:
            raise ContractError(f"{self.station_id}: {self.outstanding} windows are outstanding; no snapshot may be taken")
        self._follow(math.inf)
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
            "detected": [event.state() for event in self.detected.values()],
            "detectors": self._detectors.state(self.station_id),
            "raised": {kind: dict(since) for kind, since in self._raised.items()},
            "unmade": [window.to_state() for window in _newest(self.unmade, SAVED_UNMADE_HOURS)],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any], judge: Judge, detectors: Detectors) -> StationMonitor:
        """Return the monitor whose :meth:`state` this is; it goes on exactly as that one would have."""
        monitor = cls(state["station_id"], judge, detectors)
        detectors.restore(monitor.station_id, state["detectors"])
        events = [Event.from_state(event) for event in state["detected"]]
        monitor.detected = {event.column: event for event in events}
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
        monitor._raised = {kind: dict(since) for kind, since in state["raised"].items()}
        monitor.unmade = deque(Window.from_state(monitor.station_id, saved, judge) for saved in state["unmade"])
        return monitor


def _verdict_event(kind: Literal["opened", "closed"], alarm: str, at: int, since: int) -> Event:
    return Event(kind, DAILY.name, alarm, at, since, math.nan, "")


_COUNTERS = ("generated", "failed", "drifted", "empty")


def _newest(windows: Iterable[Window], hours: int) -> list[Window]:
    """Return the newest windows that span at most ``hours`` together, oldest first."""
    oldest_first = list(windows)
    spans = itertools.accumulate(window.kind.hours for window in reversed(oldest_first))
    n_windows = sum(span <= hours for span in spans)
    return oldest_first[len(oldest_first) - n_windows :]


@dataclass(frozen=True, slots=True)
class _Ticket:
    """An unfinished window, whose monitor waits for its end; ``again`` where its report has failed before."""

    monitor: StationMonitor
    window: Window
    again: bool = False


class MonitoringService:
    """Own the stations' monitors, the windows waiting for a report, and the report process.

    A context manager: leaving it ends the report process at once; call :meth:`close` first to let it finish.
    All methods are for one thread and none but ``close`` waits.
    """

    def __init__(
        self,
        settings: Settings,
        judge: Judge,
        metrics: ConsumerMetrics,
        open_writer: OpenWriter | None = None,
        clock: Callable[[], float] = time.monotonic,
        detectors: Detectors | None = None,
    ) -> None:
        self._settings = settings
        self._judge = judge
        self._detectors = detectors or Detectors(None, why_off="none were given")
        self._metrics = metrics
        self._clock = clock
        self._summary = SummaryFile(settings.reports_dir)
        self._summary_error = ""  # why the summary could not be written, as it was last said
        self._retry_at, self._retry_pause = -math.inf, RETRY_SECONDS[0]
        writer = open_writer or functools.partial(evidently_writer, settings)
        self._process = ReportProcess(writer, settings.report_queue_size, settings.report_timeout_seconds)
        self._monitors: dict[str, StationMonitor] = {}
        self._waiting: deque[tuple[int, Window]] = deque()
        self._tickets: dict[int, _Ticket] = {}
        self._next_ticket = itertools.count()
        metrics.baseline_rmse.set(judge.calibration.baseline.rmse)
        metrics.detectors_off.set(bool(self._detectors.why_off))

    @classmethod
    def open(cls, settings: Settings, metrics: ConsumerMetrics) -> Self:
        """Return a service judging by ``reference.csv`` and its calibration in ``settings.dataset_dir``.

        Raises:
            UsageError: either file is absent; the message says how to make it.
            ContractError: they cannot be read, or do not belong together.
        """
        judge, detectors = load_judge(settings.dataset_dir), Detectors.load(settings.dataset_dir, settings.pages_a_month)
        if detectors.why_off:
            logger.warning("nothing is judged hour by hour: %s", detectors.why_off)
        return cls(settings, judge, metrics, detectors=detectors)

    def require_calibrated_for(self, served: Served) -> None:
        """Raise ``ContractError`` unless the reference was predicted by the twin of the model that is served."""
        self._judge.calibration.require_made_for(served)

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
        if state is None:
            monitor = StationMonitor(station_id, self._judge, self._detectors)
        else:
            monitor = StationMonitor.from_state(state, self._judge, self._detectors)
        self._monitors[station_id] = monitor
        self._metrics.stations.open(station_id)
        self._show_alarms(monitor)
        return monitor

    def forget(self, station_id: str) -> None:
        """Let go of a station that this consumer no longer owns, with its waiting windows: its new owner replays them."""
        monitor = self._monitors.pop(station_id, None)
        if monitor is None:
            return
        self._detectors.forget(station_id)
        self._tickets = {number: ticket for number, ticket in self._tickets.items() if ticket.monitor is not monitor}
        self._waiting = deque((number, window) for number, window in self._waiting if number in self._tickets)
        self._metrics.stations.forget(station_id)

    def judge(self, arrived: Mapping[str, Sequence[Reading | Operation]]) -> Mapping[str, Sequence[tuple[int, Event]]]:
        """Judge accepted rows, and do what operators decided, in each station's order; see ``Detectors.judge``.

        Monitoring never stops predictions: detectors that fail are off for the rest of this process, which is said once.
        """
        try:
            return self._detectors.judge(arrived)
        except Exception as error:  # a fault of theirs would otherwise end the consumer at every start
            logger.exception("the detectors failed and are off until the next start; predictions go on")
            self._detectors.switch_off(f"{type(error).__name__}: {error}")
            self._metrics.detectors_off.set(1)
            return {}

    def submit(self, windows: Iterable[Window]) -> None:
        """Queue closed windows for their reports, after the rows that closed them are committed. Never blocks."""
        for window in windows:
            monitor = self._monitors[window.station_id]
            self._queue(_Ticket(monitor, window))
            self._show(window)
            self._show_alarms(monitor)
        self._feed()

    def _queue(self, ticket: _Ticket) -> None:
        number = next(self._next_ticket)
        self._tickets[number] = ticket
        self._waiting.append((number, ticket.window))

    def poll(self) -> list[ReportResult]:
        """Return the reports that have ended since the last call, counted in their stations' monitors.

        Failed reports are made again one at a time, the oldest first, at growing intervals until one succeeds.
        """
        results = self._take(self._process.results())
        if self._clock() >= self._retry_at and not any(ticket.again for ticket in self._tickets.values()):
            self._retry()
        return results

    def _retry(self) -> None:
        failed = next((monitor for monitor in self._monitors.values() if monitor.unmade), None)
        self._retry_at = self._clock() + self._retry_pause
        if failed is not None:
            self._queue(_Ticket(failed, failed.unmade[0], again=True))
            self._feed()

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
        for number, result in results:
            ticket = self._tickets.pop(number, None)
            if ticket is None:  # its station was let go
                continue
            if ticket.again:
                self._take_again(ticket, result)
            else:
                self._take_first(ticket, result)
            taken.append(result)
        self._feed()
        return taken

    def _take_first(self, ticket: _Ticket, result: ReportResult) -> None:
        ticket.monitor.take_result(result)
        self._metrics.reports_total.labels(result.kind, result.result).inc()
        if result.result == "failed":
            self._keep_unmade(ticket.monitor, ticket.window)

    def _keep_unmade(self, monitor: StationMonitor, window: Window) -> None:
        monitor.unmade.append(window)
        self._retry_at = min(max(self._retry_at, self._clock()), self._clock() + self._retry_pause)
        if len(monitor.unmade) > MAX_UNMADE:
            lost = monitor.unmade.popleft()
            logger.warning("the report of %s up to %s is given up", lost.station_id, isoformat(lost.end_hour))

    def _take_again(self, ticket: _Ticket, result: ReportResult) -> None:
        if result.result == "failed":
            ticket.monitor.unmade.rotate(-1)  # another one may work
            self._retry_pause = min(2 * self._retry_pause, RETRY_SECONDS[1])
            return
        ticket.monitor.take_remade(ticket.window)
        self._metrics.reports_total.labels(result.kind, result.result).inc()
        self._retry_at, self._retry_pause = self._clock(), RETRY_SECONDS[0]

    def _feed(self) -> None:
        while self._waiting:
            self._process.not_offered = len(self._waiting) - 1
            if not self._process.offer(*self._waiting[0]):
                self._process.not_offered += 1
                break
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
        families = [alarm.partition(":")[0] for alarm in monitor.alarms]
        self._metrics.stations.show_alarms(monitor.station_id, [*families, *("sensor" for _ in monitor.detected)])

    def write_summary(self, owned: Mapping[int, PartitionFigures]) -> None:
        """Write ``monitoring_summary.json``, over all partitions of the group, after the figures of those owned here.

        A disk that is full, or a folder that cannot be written, is said once and counted: predictions go on.
        """
        if not owned:
            return
        try:
            self._summary.write(self._parts(owned))
        except OSError as error:
            self._metrics.summary_failures.inc()
            if str(error) != self._summary_error:
                self._summary_error = str(error)
                logger.error("the summary cannot be written (%s); predictions go on without it", error)
        else:
            if self._summary_error:
                logger.info("the summary is written again")
            self._summary_error = ""

    def summary(self, owned: Mapping[int, PartitionFigures]) -> dict[str, Any]:
        """Return what ``monitoring_summary.json`` holds when nobody else owns partitions of the group."""
        return merge(self._parts(owned))

    def _parts(self, owned: Mapping[int, PartitionFigures]) -> list[Part]:
        return [self._part(partition, figures) for partition, figures in sorted(owned.items())]

    def _part(self, partition: int, figures: PartitionFigures) -> Part:
        monitors = [self._monitors[name] for name in sorted(figures.station_ids) if name in self._monitors]
        errors = ErrorSums()
        for monitor in monitors:
            errors.merge(monitor.errors)
        return Part(
            group=self._settings.consumer_group,
            topic=self._settings.raw_topic,
            partition=partition,
            data_source=self.data_source,
            baseline=self._judge.calibration.baseline,
            model_versions=tuple(dict.fromkeys(monitor.model_version for monitor in monitors if monitor.model_version)),
            counts=figures.counts,
            reports={name: _total(getattr(monitor, name) for monitor in monitors) for name in _COUNTERS},
            errors=errors,
            alarms=tuple(
                {"station_id": monitor.station_id, "alarm": alarm, "since": isoformat(since)}
                for monitor in monitors
                for alarm, since in sorted(monitor.alarms.items())
            )
            + tuple(
                {"station_id": monitor.station_id, "alarm": f"{event.detector}:{event.column}", **_shown(event)}
                for monitor in monitors
                for event in monitor.detected.values()
            ),
        )


def _shown(event: Event) -> dict[str, Any]:
    """Return what the summary says of an alarm of the detectors."""
    return {name: value for name, value in event.to_json().items() if name in ("since", "column", "size", "unit")}


def _total(counters: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total = _per_kind()
    for counter in counters:
        for kind, count in counter.items():
            total[kind] += count
    return total
