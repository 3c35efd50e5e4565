"""Put the monitoring of a station together, judge many stations at once, and hand closed windows to the report process.

A station's monitoring is made of components (``airquality/monitoring/component.py``): its detectors, then its windows. Per
accepted row, in event order and before its transaction commits::

    service.judge([(station, readings), ...])     # the rows of a batch, all stations together
    found = station.update(row)                   # row by row

and after the commit ``service.submit(windows, stations)``, and now and then ``service.poll()``. Neither ``judge`` nor
``update`` reads a clock or does I/O, so a station replayed from its last snapshot arrives at the same windows, verdicts and
counts. Reports are made elsewhere and later. What is due of them lies in the reports folder, a moment after it was
submitted: a station may be snapshotted only while ``station.reports.outstanding`` is 0.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from airquality.ground.errors import ContractError, UsageError
from airquality.ground.settings import Settings
from airquality.ground.typed import Document, restored
from airquality.incoming import Operation
from airquality.metrics import ConsumerMetrics
from airquality.model.features import PLAN
from airquality.model.rings import Rings
from airquality.monitoring.alarms import STATION, Event, OpenAlarms
from airquality.monitoring.assurance import DEADLINE_HOURS, Assurance, AssuranceState
from airquality.monitoring.component import Component
from airquality.monitoring.detectors import Detectors, DetectorsState, StationDetectors
from airquality.monitoring.drift import Judge, Window, load_judge
from airquality.monitoring.failures import Failures
from airquality.monitoring.listed import LABELS, label_of
from airquality.monitoring.registry import components
from airquality.monitoring.windows import WINDOWS, Windows, WindowsState
from airquality.records import Reading, Served, isoformat
from airquality.reports.child import OpenWriter, evidently_writer
from airquality.reports.cores import IdleCores
from airquality.reports.due import DueFolder, Job, ReportResult
from airquality.reports.ledger import LedgerState, ReportLedger
from airquality.reports.makers import ReportMakers
from airquality.reports.queue import ReportQueue
from airquality.reports.summary import Owner, Part, PartitionFigures, SummaryFile, merge
from airquality.stream.latest import Latest
from airquality.stream.station import INTERVALS, Off, Station
from airquality.truth import interval_calibration
from airquality.truth.interval_calibration import IntervalCalibration
from feature_buffer import BufferState, FeatureBuffer

#: Model versions without a reference that are remembered with the offsets; the oldest are long out of every window.
MAX_NOTED = 8
#: The component that judges hour by hour, whose rows are judged for many stations together.
HOURLY = "hourly"

logger = logging.getLogger(__name__)


class Stations:
    """Opens stations: anew, or from the documents of their snapshots.

    Args:
        judge: Judges their windows.
        detectors: Judge their hours.
        intervals: What the intervals of their predictions are made of; None: they have none.
        deadline_hours: How many hours after its end a window waits for its truth.
        failures: Counts the parts that fail.
    """

    def __init__(
        self,
        judge: Judge,
        detectors: Detectors,
        intervals: IntervalCalibration | None = None,
        deadline_hours: int = DEADLINE_HOURS,
        failures: Failures | None = None,
    ) -> None:
        self.judge = judge
        self.detectors = detectors
        self.intervals = intervals
        self.deadline_hours = deadline_hours
        self.failures = failures or Failures()
        self._rings = Rings(PLAN)  # one for all stations, so that the rows of a batch are computed together

    def open(self, station_id: str, saved: Document | None = None) -> Station:
        """Return a station; raises ``KeyError``, ``TypeError`` or ``ValueError`` if its document is of another release."""
        if saved is None:
            parts, windows, assurance = self._detectors(station_id, {}), self._windows(station_id, {}), self._assurance({})
            reports, alarms = ReportLedger(), OpenAlarms()
            return Station(station_id, FeatureBuffer(self._rings), parts, windows, reports, alarms, assurance, self.failures)
        return Station(
            station_id,
            FeatureBuffer.from_state(restored(BufferState, saved["buffer"]), self._rings),
            self._detectors(station_id, saved["detectors"]),
            self._windows(station_id, saved),
            ReportLedger.from_state(station_id, restored(LedgerState, saved["reports"]), self.judge),
            OpenAlarms(restored(Event, event) for event in saved["alarms"]),
            self._assurance(saved),
            self.failures,
            {part: restored(Off, off) for part, off in saved.get("off", {}).items()},
            restored(Latest, saved.get("latest", {})),
        )

    def _windows(self, station_id: str, saved: Document) -> Windows:
        if saved.get("windows") is None:  # they failed, and what they remembered could not be saved
            return Windows(station_id, self.judge)
        return Windows.from_state(station_id, restored(WindowsState, saved["windows"]), self.judge)

    def _assurance(self, saved: Document) -> Assurance:
        if saved.get("assurance") is None:  # a snapshot from before there was one, or what it remembered could not be saved
            return Assurance(self.intervals, self.deadline_hours)
        state = restored(AssuranceState, saved["assurance"])
        return Assurance.from_state(state, self.intervals, self.deadline_hours)

    def _detectors(self, station_id: str, saved: Document) -> dict[str, Component]:
        hourly = restored(DetectorsState, saved[HOURLY]) if HOURLY in saved else None
        parts: dict[str, Component] = {HOURLY: self.detectors.open(station_id, hourly)}
        for kind in components():  # one that is new since the snapshot begins with the next row
            known = kind.name in saved
            parts[kind.name] = kind.from_state(restored(kind.State, saved[kind.name])) if known else kind()
        return parts

    def close(self, station: Station) -> None:
        """Let go of what is held for a station beside itself."""
        self.detectors.close(_hourly(station))

    def judge_hours(self, arrived: Sequence[tuple[Station, Sequence[Reading | Operation]]]) -> None:
        """Judge accepted rows and do what operators decided, in each station's order, all stations together."""
        self.detectors.judge({_hourly(station): items for station, items in arrived})


def _alarm_and_column(event: Event) -> tuple[str, str]:
    """Return under which label and column the metrics show an open alarm; the column is empty if it is of none."""
    label, (family, _, column) = label_of(event), event.column.partition(":")
    return label, column if label == family else "" if event.column == STATION else event.column


def _intervals(settings: Settings) -> IntervalCalibration | None:
    """Return the calibration of intervals, None where there is none, which is said."""
    try:
        return interval_calibration.load(settings.dataset_dir)
    except UsageError as error:
        logger.warning("%s", error)
        return None


def _hourly(station: Station) -> StationDetectors:
    part = station.detectors[HOURLY]
    assert isinstance(part, StationDetectors)
    return part


class MonitoringService:
    """Open stations, judge their rows, and see to the reports of their windows.

    A context manager: leaving it closes it. All methods are for one thread and none but ``close`` waits.
    """

    def __init__(
        self,
        settings: Settings,
        judge: Judge,
        metrics: ConsumerMetrics,
        open_writer: OpenWriter | None = None,
        clock: Callable[[], float] = time.monotonic,
        detectors: Detectors | None = None,
        intervals: IntervalCalibration | None = None,
        idle_cores: Callable[[Iterable[int]], int] | None = None,
    ) -> None:
        hourly = detectors or Detectors(None, why_off="none were given")
        self._failures = Failures(self._show_failure)
        self._stations = Stations(judge, hourly, intervals, settings.truth_deadline_hours, self._failures)
        self._metrics = metrics
        self._owner = Owner(
            settings.consumer_group, settings.raw_topic, judge.calibration.data_source, judge.calibration.baseline
        )
        self._summary = SummaryFile(settings.reports_dir)
        self._started = False
        self._hours_failed = ""  # why the hourly detectors are off, where they failed in this process
        self._calibrated_version = ""  # the served one, if the reference is of its model
        self._summary_error = ""  # why the summary could not be written, as it was last said
        self._ledgers: dict[ReportLedger, None] = {}  # in the order in which their stations were opened
        writer = open_writer or functools.partial(evidently_writer, settings)
        due = DueFolder(settings.reports_dir)
        makers = ReportMakers(due, writer, settings.report_timeout_seconds)
        self._reports = ReportQueue(due, makers, metrics, lambda: list(self._ledgers), clock, idle_cores or IdleCores())
        metrics.stations.alarm_labels = LABELS
        metrics.name_parts([*(kind.name for kind in components()), WINDOWS, INTERVALS])
        metrics.baseline_rmse.set(judge.calibration.baseline.rmse)
        metrics.detectors_off.set(bool(self._stations.detectors.why_off))

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
        return cls(settings, judge, metrics, detectors=detectors, intervals=_intervals(settings))

    def begin(self, served: Served, *, goes_on: bool) -> None:
        """Begin with the model that is served.

        Args:
            served: What it says of itself.
            goes_on: Whether the group has published predictions before. Then they go on, whatever the model.

        Raises:
            ContractError: nothing was predicted yet, and the reference is not of this model: the set-up is not finished.
        """
        if not (goes_on or self._started):
            self._stations.judge.calibration.require_made_for(served)
        self._started = True
        self.note_served(served)

    def note_served(self, served: Served) -> None:
        """Note that another model predicts; its windows say so where the reference is not of it. Predictions go on."""
        judge = self._stations.judge
        try:
            judge.calibration.require_made_for(served)
        except ContractError as error:
            self._calibrated_version = ""
            judge.uncalibrated.add(served.version)
            self._metrics.model_uncalibrated.set(1)
            logger.error("%s; predictions go on, and until then verdicts and intervals compare with another model", error)
        else:
            self._calibrated_version = served.version
            judge.uncalibrated.discard(served.version)
            self._metrics.model_uncalibrated.set(0)

    @property
    def uncalibrated(self) -> tuple[str, ...]:
        """The newest model versions whose predictions are judged against another model's reference, oldest first."""
        return tuple(sorted(self._stations.judge.uncalibrated, key=lambda version: (len(version), version)))[-MAX_NOTED:]

    def recall_uncalibrated(self, versions: Iterable[str]) -> None:
        """Remember versions that a process before this one was not calibrated for: their rows may be in open windows."""
        self._stations.judge.uncalibrated.update(set(versions) - {self._calibrated_version})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def backlog(self) -> int:
        """How much of reports is neither made nor failed yet: pages, and Evidently's parts of those that are there."""
        return len(self._reports)

    def open_station(self, station_id: str, saved: Document | None = None) -> Station:
        """Return a station, from the document of its snapshot if there is one, and have made what is due of its reports."""
        station = self._stations.open(station_id, saved)
        self._ledgers[station.reports] = None
        self._reports.open(station.reports, station_id)
        self._metrics.stations.open(station_id)
        self.show_alarms([station])
        return station

    def forget(self, station: Station) -> None:
        """Let go of a station that this consumer no longer owns, with its waiting windows: its new owner replays them."""
        self._stations.close(station)
        self._failures.forget(station.station_id)
        self._reports.forget(station.reports)
        self._ledgers.pop(station.reports, None)
        self._metrics.stations.forget(station.station_id)

    def judge(self, arrived: Sequence[tuple[Station, Sequence[Reading | Operation]]]) -> None:
        """Judge accepted rows, and do what operators decided, in each station's order; see ``Detectors.judge``.

        Monitoring never stops predictions: detectors that fail are off for the rest of this process, which is said once.
        """
        try:
            self._stations.judge_hours(arrived)
        except Exception as error:  # a fault of theirs would otherwise end the consumer at every start
            logger.exception("the detectors failed and are off until the next start; predictions go on")
            self._switch_hours_off(f"{type(error).__name__}: {error}")
        if self._hours_failed:
            for station, items in arrived:
                hours = [item.hour for item in items if isinstance(item, Reading)]
                if hours:
                    station.note_off(HOURLY, self._hours_failed, hours[0])

    def _switch_hours_off(self, why: str) -> None:
        self._hours_failed = why
        self._stations.detectors.switch_off(why)
        self._metrics.detectors_off.set(1)

    def _show_failure(self, part: str, n_stations: int, why: str) -> None:
        """Show for how many stations a part is off. The hourly detectors share one memory: they are off for all."""
        if part != HOURLY:
            self._metrics.parts_off.labels(part).set(n_stations)
        elif n_stations:
            self._switch_hours_off(why)

    def submit(self, windows: Iterable[Job], stations: Mapping[str, Station]) -> None:
        """Queue closed and settled windows for their reports, after what made them so is committed. Never blocks."""
        changed: dict[str, Station] = {}
        for window in windows:
            station = changed[window.station_id] = stations[window.station_id]
            if isinstance(window, Window):
                self._count(window)
            if isinstance(window, Window) or window.changes_page:
                self._reports.put(station.reports, window)
        for station in changed.values():
            self._show_windows(station)
        self._reports.show()

    def show_alarms(self, stations: Iterable[Station]) -> None:
        """Show which alarms are open."""
        for station in stations:
            self._metrics.stations.show_alarms(station.station_id, map(_alarm_and_column, station.alarms.by_column()))

    def show(self, stations: Iterable[Station]) -> None:
        """Show of stations that were brought back what the process before this one showed."""
        for station in stations:
            latest, shown, newest_hour = station.latest, self._metrics.stations, station.buffer.newest_hour
            if newest_hour is not None and latest.arrived_ms >= 0:  # else the next row says
                shown.show_row(station.station_id, latest.arrived_ms, newest_hour)
            if latest.prediction:
                shown.show_prediction(station.station_id, *latest.prediction)
            self._show_windows(station)
            self.show_alarms([station])

    def poll(self) -> list[ReportResult]:
        """Return the reports that have ended since the last call, counted in their stations' ledgers."""
        return self._reports.poll()

    def close(self) -> None:
        """End those who make reports, at once; what is still due is made after the next start."""
        self._reports.close()

    def _show_windows(self, station: Station) -> None:
        """Show a station's latest windows, and what their truth says of the latest that are final."""
        shown, station_id, latest = self._metrics.stations, station.station_id, station.latest
        for kind, window in latest.windows.items():
            shown.show_window(station_id, kind, window.rmse, window.estimated_rmse)
        for window in sorted(latest.windows.values(), key=lambda window: window.end_hour)[-1:]:
            age_hours = self._stations.detectors.age_hours(window.end_hour)
            shown.show_hourly(station_id, learning=window.n_learning, thresholds_age_hours=age_hours)
        for kind, final in latest.finals.items():
            shown.show_final(station_id, kind, final.rmse, final.delay_hours, final.estimate_error)
            shown.show_coverage(station_id, kind, final.coverage)

    def _count(self, window: Window) -> None:
        verdict, kind = window.verdict, window.kind.name
        self._metrics.stations.count_window(window.station_id, kind, drifted=verdict.drifted)
        columns = [column.column for column in (*verdict.columns, verdict.prediction) if column.drifted]
        logger.debug(  # what is not as usual is the console's to say
            "%s window of %s up to %s: drift in %s; missing %s; RMSE %.3f of %d truths",
            kind,
            window.station_id,
            isoformat(window.end_hour),
            ", ".join(columns) or "nothing",
            ", ".join(verdict.missing) or "nothing",
            verdict.performance.rmse,
            verdict.performance.n,
        )

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
        hours_off = self._stations.detectors.why_off
        off = [*([hours_off] if hours_off else []), *self._failures.sentences]
        owner = replace(self._owner, detectors_off="; ".join(off), uncalibrated=self.uncalibrated)
        return [Part.of(owner, partition, figures) for partition, figures in sorted(owned.items())]
