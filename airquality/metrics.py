"""Every Prometheus metric, defined once. The registry is injected, and label children exist from the start, so zero shows.

Six names are fixed (``prediction_latency``, ``prediction_value``, ``missing_values_count``, ``inference_errors_total``,
``kafka_messages_consumed_total``, ``predictions_total``); every other name begins with ``air_quality_``, so that it
cannot collide on a Prometheus that watches more than this system. HELP says the unit where the name does not.
"""

from __future__ import annotations

import math
import re
from collections import Counter as Counts
from collections.abc import Iterable, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, GCCollector, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.metrics import MetricWrapperBase

from airquality.incoming import OPERATION_KINDS, TRUTH_OUTCOMES
from airquality.records import DEAD_LETTER_REASONS, TARGET, TARGET_UNIT

#: The gauge of each station's latest prediction, named after its unit.
STATION_PREDICTION = f"air_quality_station_prediction_{re.sub(r'[^0-9a-zA-Z]+', '_', TARGET_UNIT).strip('_')}"
#: Seconds. A cached one-row call takes 1-3 ms, a batch of 500 about 20 ms; the rest is what must be noticed.
LATENCY_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
INFERENCE_ERRORS = ("invalid_request", "model_not_loaded", "upload", "internal")
REPORT_KINDS = ("daily", "weekly")
REPORT_RESULTS = ("generated", "failed")
#: Stations with series of their own on a consumer, some 30 each, unless a setting says otherwise.
NAMED_STATIONS = 200
OTHER_STATIONS = "other"
#: What can become of a row: the law is rows in = the sum of these.
OUTCOMES = (
    ("warmup", ""),
    ("prediction", ""),
    ("duplicate", ""),
    *(("dead_letter", reason) for reason in DEAD_LETTER_REASONS),
    *(("truth", outcome) for outcome in TRUTH_OUTCOMES),
    *(("operation", kind) for kind in OPERATION_KINDS),
)


class ApiMetrics:
    """What the prediction service exposes on its ``/metrics``."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.latency = Histogram(
            "prediction_latency",
            "Time to answer one prediction request, in seconds.",
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.value = Gauge("prediction_value", f"Latest predicted {TARGET}, in {TARGET_UNIT}.", registry=registry)
        self.missing = Gauge("missing_values_count", "Missing features of the latest predicted row.", registry=registry)
        self.missing_total = Counter(
            "air_quality_missing_features", "Missing features of all predicted rows together.", registry=registry
        )
        self.errors = Counter(
            "inference_errors", "Prediction requests that failed, by reason.", ["reason"], registry=registry
        )
        self.predictions = Counter("predictions", "Rows predicted; one request may hold many.", registry=registry)
        self.registry_unreachable = Gauge(
            "air_quality_registry_unreachable",
            "1 while the registry gives no champion that may serve; the version loaded before is served.",
            registry=registry,
        )
        self.model = Gauge(
            "air_quality_model_info", "1 for the model version being served.", ["name", "version"], registry=registry
        )
        _touch(self.errors, ((reason,) for reason in INFERENCE_ERRORS))


class ConsumerMetrics:
    """What the consumer exposes on its own ``/metrics``; of ``named_stations`` stations each by its name."""

    def __init__(self, registry: CollectorRegistry, named_stations: int = NAMED_STATIONS) -> None:
        self._define_rows(registry)
        self._define_state(registry)
        self._define_monitoring(registry)
        self.stations = StationMetrics(registry, named_stations)

    def _define_rows(self, registry: CollectorRegistry) -> None:
        self.consumed = Counter(
            "kafka_messages_consumed", "Records consumed from the raw topic and committed.", registry=registry
        )
        self.outcomes = Counter(
            "air_quality_rows",
            "Committed records by outcome; reason: why a dead letter, what became of a late truth, which operation.",
            ["outcome", "reason"],
            registry=registry,
        )
        self.lost_rows = Counter(
            "air_quality_lost_rows", "Rows given up on purpose: a loss that was accepted at a start.", registry=registry
        )
        self.last_prediction = Gauge(
            "air_quality_last_prediction_timestamp_seconds",
            "Unix time of the latest committed prediction.",
            registry=registry,
        )
        _touch(self.outcomes, OUTCOMES)

    def _define_state(self, registry: CollectorRegistry) -> None:
        self.lag = Gauge(
            "air_quality_consumer_lag_records",
            "Records of the raw topic not yet consumed.",
            ["partition"],
            registry=registry,
        )
        self.paused = Gauge(
            "air_quality_consumer_paused", "1 while the consumer waits for the prediction service.", registry=registry
        )
        self.kafka_answered = Gauge(
            "air_quality_kafka_answered_timestamp_seconds",
            "Unix time when Kafka last answered this consumer, 0 before.",
            registry=registry,
        )
        self.refused = Gauge(
            "air_quality_consumer_refused",
            "1 while the consumer leaves partitions unread because going on would lose or repeat rows; its log says which.",
            registry=registry,
        )
        self.transactions = Histogram(
            "air_quality_transaction_duration_seconds",
            "Time of one poll batch, from records to commit.",
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )

    def _define_monitoring(self, registry: CollectorRegistry) -> None:
        self.reports_total = Counter(
            "air_quality_reports", "Finished report windows.", ["kind", "result"], registry=registry
        )
        self.baseline_rmse = Gauge(
            "air_quality_baseline_rmse", f"RMSE on the reference, in {TARGET_UNIT}.", registry=registry
        )
        self.report_backlog = Gauge(
            "air_quality_report_backlog", "Closed windows whose page is not written yet.", registry=registry
        )
        self.evidence_backlog = Gauge(
            "air_quality_evidence_backlog", "Reports that still wait for Evidently's part.", registry=registry
        )
        self.evidence_processes = Gauge(
            "air_quality_evidence_processes", "Processes that draw Evidently's parts now.", registry=registry
        )
        self.detectors_off = Gauge(
            "air_quality_detectors_off",
            "1 while nothing is judged hour by hour: the detectors are not calibrated, or failed. The log says which.",
            registry=registry,
        )
        self.parts_off = Gauge(
            "air_quality_monitoring_parts_off",
            "Stations for which a part of the monitoring failed and is off until the next start. Predictions go on.",
            ["part"],
            registry=registry,
        )
        self.model_uncalibrated = Gauge(
            "air_quality_model_uncalibrated",
            "1 while windows are judged against a reference of another model than the one that predicts.",
            registry=registry,
        )
        self.summary_failures = Counter(
            "air_quality_unwritten_summaries", "Times the monitoring summary could not be written.", registry=registry
        )
        _touch(self.reports_total, ((kind, result) for kind in REPORT_KINDS for result in REPORT_RESULTS))

    def name_parts(self, parts: Iterable[str]) -> None:
        """Show from the start, as 0, for how many stations each part of the monitoring is off."""
        _touch(self.parts_off, ((part,) for part in parts))


class GroupMetrics:
    """What ``python -m airquality lag`` exposes: the consumer group as the broker knows it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.lag = Gauge(
            "air_quality_group_lag_records",
            "Records of the raw topic after the offset that the group has committed; none where the broker does not answer.",
            ["partition"],
            registry=registry,
        )
        self.members = Gauge(
            "air_quality_group_members",
            "Consumers in the group now; NaN while the broker does not answer.",
            registry=registry,
        )
        self.kafka_answered = Gauge(
            "air_quality_kafka_answered_timestamp_seconds",
            "Unix time when Kafka last answered this program, 0 before.",
            registry=registry,
        )


class StationMetrics:
    """What the consumer exposes of each station it owns. All methods cost the same however many stations there are.

    The first ``named`` stations have series of their own; the others share one called ``other``, which holds
    their alarms together and, of figures, the latest.
    """

    def __init__(self, registry: CollectorRegistry, named: int = NAMED_STATIONS) -> None:
        self.prediction = Gauge(
            STATION_PREDICTION, f"Latest predicted {TARGET}, in {TARGET_UNIT}.", ["station"], registry=registry
        )
        self.alarms = Gauge(
            "air_quality_open_alarms",
            "Alarms open now, by what they are about; column where it is one, or several where it cannot be known which.",
            ["station", "alarm", "column"],
            registry=registry,
        )
        self.last_row = Gauge(
            "air_quality_station_last_row_timestamp_seconds",
            "Unix time at which Kafka took in the station's latest accepted row.",
            ["station"],
            registry=registry,
        )
        self.last_hour = Gauge(
            "air_quality_station_last_hour_timestamp_seconds",
            "The hour of the station's latest accepted row as a Unix time, its station time read as UTC.",
            ["station"],
            registry=registry,
        )
        self.rmse = Gauge(
            "air_quality_window_rmse",
            f"RMSE of the latest closed window, in {TARGET_UNIT}.",
            ["station", "kind"],
            registry=registry,
        )
        self.windows = Counter("air_quality_windows", "Windows judged.", ["station", "kind"], registry=registry)
        self.drifted = Counter(
            "air_quality_drift_windows", "Windows whose drift verdict is true.", ["station", "kind"], registry=registry
        )
        self.thresholds_age = Gauge(
            "air_quality_thresholds_age_seconds",
            "Event time between the end of the calibrated history and the station's latest closed window, in seconds.",
            ["station"],
            registry=registry,
        )
        self.learning = Gauge(
            "air_quality_learning_columns", "Columns whose level cannot be judged yet.", ["station"], registry=registry
        )
        self._define_assurance(registry)
        #: What an alarm can be about: a label for each, set by whoever knows the detectors.
        self.alarm_labels: Sequence[str] = ()
        self._max_named = named
        self._named: set[str] = set()
        self._open: dict[str, Counts[tuple[str, str]]] = {}  # alarms and their columns, by station

    def _define_assurance(self, registry: CollectorRegistry) -> None:
        self.estimated_rmse = Gauge(
            "air_quality_window_estimated_rmse",
            f"RMSE expected of the latest closed window before its truth, in {TARGET_UNIT}.",
            ["station", "kind"],
            registry=registry,
        )
        self.final_rmse = Gauge(
            "air_quality_window_final_rmse",
            f"RMSE of the latest window whose truth is final, in {TARGET_UNIT}.",
            ["station", "kind"],
            registry=registry,
        )
        self.estimate_error = Gauge(
            "air_quality_estimate_error_ratio",
            "How far the expected RMSE was from the final one so far, as a share of it.",
            ["station", "kind"],
            registry=registry,
        )
        self.coverage = Gauge(
            "air_quality_interval_coverage_ratio",
            "Share of the latest final window's truths inside their 90 % interval; by level of the prediction and state.",
            ["station", "kind", "group"],
            registry=registry,
        )
        self.label_delay = Gauge(
            "air_quality_label_delay_seconds",
            "How late the truths of the latest final window came on average, in event time; 0: in their rows.",
            ["station", "kind"],
            registry=registry,
        )
        self.interval = Gauge(
            "air_quality_station_interval",
            f"90 % interval of the latest prediction, in {TARGET_UNIT}.",
            ["station", "bound"],
            registry=registry,
        )
        self._assured = (
            *(self.interval, self.estimated_rmse, self.final_rmse),
            *(self.estimate_error, self.coverage, self.label_delay),
        )

    def open(self, station_id: str) -> None:
        """Begin to show a station, so that its zeros are there before anything happens."""
        if station_id in self._open:
            return
        self._open[station_id] = Counts()
        if len(self._named) < self._max_named:
            self._named.add(station_id)
        station = self.series_of(station_id)
        _touch(self.alarms, ((station, alarm, "") for alarm in self.alarm_labels))
        _touch(self.windows, ((station, kind) for kind in REPORT_KINDS))
        _touch(self.drifted, ((station, kind) for kind in REPORT_KINDS))

    def forget(self, station_id: str) -> None:
        """Show nothing more of a station that this consumer no longer owns."""
        if station_id not in self._open:
            return
        self.show_alarms(station_id, ())
        del self._open[station_id]
        if station_id in self._named:
            self._named.remove(station_id)
            for metric in (*self._figures, *self._assured, self.alarms, self.rmse, self.windows, self.drifted):
                metric.remove_by_labels({"station": station_id})

    @property
    def _figures(self) -> tuple[Gauge, ...]:
        return self.prediction, self.last_row, self.last_hour, self.thresholds_age, self.learning

    def show_hourly(self, station_id: str, *, learning: int, thresholds_age_hours: int | None) -> None:
        """Show what the hour-by-hour detectors can judge: columns still learned, and how old the thresholds are, if any."""
        station = self.series_of(station_id)
        self.learning.labels(station).set(learning)
        if thresholds_age_hours is not None:
            self.thresholds_age.labels(station).set(3600 * thresholds_age_hours)

    def show_prediction(self, station_id: str, value: float, lower: float = math.nan, upper: float = math.nan) -> None:
        """Show a station's latest prediction, and its interval if it has one."""
        station = self.series_of(station_id)
        self.prediction.labels(station).set(value)
        if not math.isnan(lower):
            self.interval.labels(station, "lower").set(lower)
            self.interval.labels(station, "upper").set(upper)

    def show_final(self, station_id: str, kind: str, rmse: float, delay_hours: float, estimate_error: float) -> None:
        """Show what a window's truth says, now that it is final; NaN where there is nothing to show."""
        labels = self.series_of(station_id), kind
        self.label_delay.labels(*labels).set(0.0 if math.isnan(delay_hours) else 3600 * delay_hours)
        for metric, value in ((self.final_rmse, rmse), (self.estimate_error, estimate_error)):
            if not math.isnan(value):
                metric.labels(*labels).set(value)

    def show_coverage(self, station_id: str, kind: str, shares: Mapping[str, float]) -> None:
        """Show by group which share of a final window's truths lies inside the intervals; NaN where there are none."""
        for group, share in shares.items():
            if not math.isnan(share):
                self.coverage.labels(self.series_of(station_id), kind, group).set(share)

    def show_row(self, station_id: str, arrived_ms: int, hour: int) -> None:
        """Show when Kafka took in a station's latest row, and which hour it was of.

        Args:
            station_id: The station.
            arrived_ms: Milliseconds since 1970; negative where Kafka does not say, which means now.
            hour: Hours since 1970.
        """
        station = self.series_of(station_id)
        if arrived_ms < 0:
            self.last_row.labels(station).set_to_current_time()
        else:
            self.last_row.labels(station).set(arrived_ms / 1000)
        self.last_hour.labels(station).set(3600 * hour)

    def show_alarms(self, station_id: str, alarms: Iterable[tuple[str, str]]) -> None:
        """Show the alarms a station has open now: each one of ``alarm_labels`` and its column, empty if it is of none."""
        before, now = self._open[station_id], Counts(alarms)
        self._open[station_id] = now
        for alarm in before.keys() | now.keys():
            self.alarms.labels(self.series_of(station_id), *alarm).inc(now[alarm] - before[alarm])

    def count_window(self, station_id: str, kind: str, *, drifted: bool) -> None:
        """Count a window that was judged."""
        station = self.series_of(station_id)
        self.windows.labels(station, kind).inc()
        self.drifted.labels(station, kind).inc(drifted)

    def show_window(self, station_id: str, kind: str, rmse: float, estimated_rmse: float) -> None:
        """Show the error of a closed window, and the one expected before its truth, in the target's unit; NaN: not known."""
        for metric, value in ((self.rmse, rmse), (self.estimated_rmse, estimated_rmse)):
            if not math.isnan(value):
                metric.labels(self.series_of(station_id), kind).set(value)

    def series_of(self, station_id: str) -> str:
        """Return the label under which a station is shown."""
        return station_id if station_id in self._named else OTHER_STATIONS


def expose_process(registry: CollectorRegistry) -> None:
    """Add what every program can say of itself: ``process_*`` (memory, CPU, descriptors, start time) and ``python_*``."""
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)


def _touch(metric: MetricWrapperBase, children: Iterable[tuple[str, ...]]) -> None:
    for labels in children:
        metric.labels(*labels)
