"""What the consumer's metrics say of a batch, and of how far behind it is."""

from __future__ import annotations

import math
from collections.abc import Callable

from airquality.ground.errors import Unavailable
from airquality.metrics import ConsumerMetrics
from airquality.stream.batch import Batch
from airquality.stream.ports import Stream

LAG_SECONDS = 5.0


class Gauges:
    """Shows committed batches and, now and then, the lag."""

    def __init__(self, metrics: ConsumerMetrics, stream: Stream, clock: Callable[[], float]) -> None:
        self._metrics = metrics
        self._stream = stream
        self._clock = clock
        self._measured = -math.inf
        #: Rows of the owned partitions that waited in Kafka when that was last asked.
        self.behind = 0

    def show(self, batch: Batch) -> None:
        """Count what became of a committed batch."""
        self._metrics.consumed.inc(batch.counts.rows_in)
        outcomes = (
            ("warmup", batch.counts.warmup),
            ("prediction", batch.counts.predictions),
            ("duplicate", batch.counts.duplicates),
        )
        for outcome, count in outcomes:
            self._metrics.outcomes.labels(outcome, "").inc(count)
        by_reason = (
            ("dead_letter", batch.counts.dead_letters),
            ("truth", batch.counts.truths),
            ("operation", batch.counts.operations),
        )
        for outcome, reasons in by_reason:
            for reason, count in reasons.items():
                self._metrics.outcomes.labels(outcome, reason).inc(count)
        self._show_latest(batch)

    def _show_latest(self, batch: Batch) -> None:
        """Show the latest of each station, or of those together that have no series of their own."""
        stations = self._metrics.stations
        predictions = {stations.series_of(prediction.station_id): prediction for prediction in batch.predictions}
        for latest in predictions.values():
            stations.show_prediction(latest.station_id, latest.prediction, latest.lower, latest.upper)
        if predictions:
            self._metrics.last_prediction.set_to_current_time()
        arrivals = {stations.series_of(station_id): arrival for station_id, arrival in batch.arrivals.items()}
        for reading, record in arrivals.values():
            stations.show_row(reading.station_id, record.timestamp_ms, reading.hour)

    def measure_lag(self) -> None:
        """Now and then ask how far behind this worker is, of the partitions it owns now and no others."""
        if self._clock() - self._measured < LAG_SECONDS:
            return
        try:
            lags = self._stream.lag()
        except Unavailable:  # a figure is no reason to begin anew: the client finds its broker again by itself
            return
        finally:
            self._measured = self._clock()
        self._metrics.kafka_answered.set_to_current_time()
        self._metrics.lag.clear()
        self.behind = sum(lags.values())
        for partition, lag in lags.items():
            self._metrics.lag.labels(partition).set(lag)
