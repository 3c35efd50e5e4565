"""The loop over the partitions one member of the consumer group owns: one row in, one accounted outcome out.

Poll, parse, buffer, predict, publish, commit, observe. Predictions, snapshots, dead letters and offsets of a poll batch are
one Kafka transaction, so a crash at any point loses and repeats nothing; the next start restores state from Kafka alone.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from airquality.ground.errors import AirQualityError, Unavailable
from airquality.ground.settings import Settings
from airquality.metrics import ConsumerMetrics
from airquality.model.client import PredictionClient
from airquality.records import RowAnswer
from airquality.reports.summary import PartitionFigures
from airquality.stream.account import Counts
from airquality.stream.console import Console
from airquality.stream.dead_letters import dead_letter
from airquality.stream.identity import Refused
from airquality.stream.kafka_io import Record
from airquality.stream.partition import Batch, PartitionState
from airquality.stream.patience import Patience
from airquality.stream.restore import Restorer
from airquality.stream.station import Monitoring, OpenStation
from airquality.stream.transactions import Message, Ownership, Poll, Position, TransactionalStream

POLL_SECONDS = 0.25
SUMMARY_SECONDS = 5.0
LAG_SECONDS = 5.0
#: How long a stop writes snapshots: Docker kills 10 s after it asked.
STOP_SECONDS = 4.0

T = TypeVar("T")

logger = logging.getLogger("consumer")


class Stopped(AirQualityError):
    """The run had to end while it waited; nothing of the batch at hand has been published, and no summary written."""


def stopped_without_kafka(error: Unavailable) -> Stopped:
    """Return what a run says that has to end while Kafka is away."""
    return Stopped(
        f"stopped while Kafka could not be used ({error}): what was committed stays committed, "
        "the other rows wait in Kafka for the next start"
    )


class PartitionLost(Exception):
    """The group took a partition away while its rows waited for the prediction service; its new owner reads them again."""


@dataclass
class Limits:
    """When to stop by oneself, and whether to go on with a loss. They hold for a run, however many workers it takes.

    ``stopped`` is set by SIGINT and SIGTERM, ``taken`` counts committed records, ``started`` is monotonic seconds.
    """

    max_records: float = math.inf
    timeout_seconds: float = math.inf
    idle_exit_seconds: float = math.inf
    accept_loss: bool = False
    stopped: bool = False
    taken: int = 0
    started: float = field(default_factory=time.monotonic)

    @property
    def bounded(self) -> bool:
        """Whether the run ends by itself."""
        return min(self.max_records, self.timeout_seconds, self.idle_exit_seconds) < math.inf

    def out_of_time(self, now: float) -> bool:
        """Whether a stop was asked for, or the time is up."""
        return self.stopped or now - self.started > self.timeout_seconds


class Worker:
    """One member of the consumer group: the partitions it owns, and the loop over them.

    After any exception from :meth:`run` the worker is not to be used again: open another, whose state comes from Kafka.
    """

    def __init__(
        self,
        settings: Settings,
        stream: TransactionalStream,
        client: PredictionClient,
        monitoring: Monitoring,
        open_station: OpenStation,
        metrics: ConsumerMetrics,
        console: Console,
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._stream = stream
        self._client = client
        self._monitoring = monitoring
        self._restorer = Restorer(settings, stream.position, open_station, monitoring, clock, limits.accept_loss)
        self._metrics = metrics
        self._console = console
        self._limits = limits
        self._clock = clock
        self._partitions: dict[int, PartitionState] = {}
        self._patience = Patience(limits.taken > 0, clock)
        self._gained: set[int] = set()  # assigned, not restored yet
        self._ownership = Ownership()
        self._refusal: Refused | None = None
        self._summarised = self._measured = -math.inf
        self._behind = 0
        self._active = self._clock()  # when rows or partitions last came

    def run(self) -> None:
        """Consume until a limit is reached or a stop is asked for; leave a summary and, if there is time, no backlog."""
        limits = self._limits
        self._monitoring.require_calibrated_for(self._waiting_for_service(self._client.check))
        self._active = self._clock()
        while limits.taken < limits.max_records and not limits.out_of_time(self._clock()):
            if self._clock() - self._active > limits.idle_exit_seconds:
                break
            limits.taken += self._step(min(self._settings.max_poll_records, limits.max_records - limits.taken))
            self._housekeeping()
        self._finish()

    @property
    def counts(self) -> Counts:
        """What became of every row of the owned partitions, as committed."""
        total = Counts()
        for state in self._partitions.values():
            total.add(state.counts)
        return total

    def release(self) -> None:
        """Let go of every station."""
        for state in self._partitions.values():
            state.release()

    def _step(self, max_records: float) -> int:
        if self._monitoring.saturated:  # reports are far behind: wait for them rather than drop one
            self._keep_membership()
            self._active = self._clock()  # rows may wait: nobody looked
            return 0
        polled = self._stream.poll(POLL_SECONDS, int(max_records))
        self._take(polled)
        news = bool(polled.records or self._gained)
        for partition in sorted(self._gained & self._ownership.partitions):  # not while the group still rebalances
            self._gained.discard(partition)
            self._restore(partition)
        if self._refusal:  # what is there is saved first
            self._finish()
            raise self._refusal
        if polled.records:
            started = self._clock()
            self._process(polled.records)
            self._metrics.transactions.observe(self._clock() - started)
        else:
            self._commit({}, self._settings.snapshot_offsets, self._settings.snapshot_seconds)
        if news or not self._partitions:
            self._active = self._clock()  # after the work: waiting for a service is not idling
        return sum(map(len, polled.records.values()))

    def _keep_membership(self) -> None:
        self._take(self._stream.keep_membership(POLL_SECONDS))

    def _take(self, polled: Poll) -> None:
        """Let go of the partitions that were lost, before anything else is written; those gained are restored later."""
        self._ownership = polled.ownership
        for partition in polled.lost & set(self._partitions):
            self._partitions.pop(partition).release()
            self._restorer.release(partition)
        self._gained = (self._gained - polled.lost) | polled.gained

    def _process(self, records: dict[int, list[Record]]) -> None:
        batches = {}
        for partition, rows in records.items():
            if partition in self._partitions:  # not lost while an earlier one waited for the service
                with suppress(PartitionLost):
                    batches[partition] = self._partitions[partition].apply(rows, partial(self._predict, partition))
        batches = {partition: batch for partition, batch in batches.items() if partition in self._partitions}
        self._commit(batches, self._settings.snapshot_offsets, self._settings.snapshot_seconds)
        for partition, batch in batches.items():
            self._observe(batch, self._partitions[partition])

    def _commit(self, batches: dict[int, Batch], snapshot_offsets: int, snapshot_seconds: float) -> bool:
        """Publish what came of the batches and the snapshots that are due in one transaction; return whether any was due."""
        messages: list[Message] = []
        positions: dict[int, Position] = {}
        for partition, state in self._partitions.items():
            due = state.due_snapshots(snapshot_offsets, snapshot_seconds)
            if partition not in batches and not due and not state.dirty:
                continue
            messages += self._published(batches.get(partition, Batch()), partition)
            messages += [
                Message(self._settings.state_topic, partition, snapshot.key, snapshot.value, snapshot.headers)
                for snapshot in due
            ]
            positions[partition] = Position(state.next_offset, state.note().encode())
        if not positions:
            return False
        offsets = self._stream.commit(messages, positions, self._ownership)
        for partition in positions:
            self._partitions[partition].dirty = False
        for message, offset in zip(messages, offsets, strict=True):
            if message.topic == self._settings.pred_topic:
                self._partitions[message.partition].pred_offset = offset + 1
            elif message.topic == self._settings.dlq_topic:
                self._partitions[message.partition].dlq_offset = offset + 1
        return any(message.topic == self._settings.state_topic for message in messages)

    def _published(self, batch: Batch, partition: int) -> list[Message]:
        predictions = [
            Message(self._settings.pred_topic, partition, prediction.station_id.encode(), prediction.to_bytes())
            for prediction in batch.predictions
        ]
        findings = [
            Message(self._settings.events_topic, partition, finding.station_id.encode(), finding.to_bytes())
            for finding in batch.findings
        ]
        return predictions + findings + [dead_letter(letter, self._settings) for letter in batch.dead_letters]

    def _predict(self, partition: int, matrix: NDArray[np.float64], _: Sequence[int]) -> list[RowAnswer]:
        return self._waiting_for_service(lambda: self._client.predict(matrix), partition)

    def _waiting_for_service(self, ask: Callable[[], T], partition: int | None = None) -> T:
        """Return what the prediction service answers, however long it is away; offsets are not advanced meanwhile.

        Raises:
            Stopped: a stop was asked for meanwhile, or the time was up.
            AirQualityError: no waiting mends it.
            PartitionLost: the group took ``partition``, whose rows wait, away meanwhile.
        """
        while True:
            try:
                answer = ask()
            except AirQualityError as error:
                pause = self._patience.pause_seconds(error)
                logger.warning("%s; no row is lost, trying again in %.1f s", error, pause)
                self._metrics.paused.set(1)
                self._hold(pause, partition)
            else:
                self._metrics.paused.set(0)
                self._patience.has_worked = True
                return answer

    def _hold(self, seconds: float, partition: int | None) -> None:
        """Wait in the group without taking records."""
        until = self._clock() + seconds
        while self._clock() < until:
            if self._limits.out_of_time(self._clock()):
                raise Stopped(
                    "stopped while the prediction service did not answer: what was published stays published, "
                    "the other rows wait in Kafka for the next start"
                )
            self._keep_membership()
            if partition is not None and partition not in self._partitions:
                logger.info("partition %d went to another consumer while its rows waited", partition)
                raise PartitionLost
            self._measure_lag()

    def _restore(self, partition: int) -> None:
        try:
            restored = self._restorer.restore(partition)
        except Refused as error:
            self._refusal = error
            return
        self._refusal = self._refusal or restored.refusal
        state = self._partitions[partition] = restored.state
        self._metrics.kafka_answered.set_to_current_time()
        self._metrics.lost_rows.inc(restored.rows_lost)
        self._stream.start(partition, state.next_offset)
        self._monitoring.submit(restored.windows)
        self._console.resume(self.counts)
        logger.info("partition %d: restored %d stations at offset %d", partition, len(state.stations), state.next_offset)

    def _observe(self, batch: Batch, state: PartitionState) -> None:
        self._monitoring.submit(batch.windows)
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
        for prediction in batch.predictions:
            self._metrics.stations.show_prediction(prediction.station_id, prediction.prediction)
        if batch.predictions:
            self._metrics.last_prediction.set_to_current_time()
        self._console.show(batch, state)

    def _housekeeping(self) -> None:
        """Collect finished reports; now and then refresh the lag and the summary."""
        self._console.show_reports(self._monitoring.poll())
        self._measure_lag()
        self._console.show_life(self.counts, self._behind, self._monitoring.backlog)
        if self._clock() - self._summarised >= SUMMARY_SECONDS:
            self._summarised = self._clock()
            self._summarise()

    def _measure_lag(self) -> None:
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
        self._behind = sum(lags.values())
        for partition, lag in lags.items():
            self._metrics.lag.labels(partition).set(lag)

    def _summarise(self) -> None:
        if self._partitions:  # without any there is nothing to tell, and what an owner wrote before stays
            self._monitoring.write_summary(
                {
                    partition: PartitionFigures(state.counts.summary(), state.stations)
                    for partition, state in self._partitions.items()
                }
            )

    def _finish(self) -> None:
        """Leave nothing half done: unless a stop was asked for, wait for the reports and snapshot every station.

        Raises:
            Stopped: Kafka does not answer, so that nothing can be saved and nobody knows what rows wait.
        """
        try:
            self._stream.lag()
        except Unavailable as error:
            raise stopped_without_kafka(error) from error
        if self._limits.stopped:
            logger.info("stopping: the last snapshots are written; a second signal ends the process at once")
        with tqdm(total=self._monitoring.backlog, desc="writing reports", unit="report", disable=None) as bar:
            while self._monitoring.backlog and not self._limits.stopped:
                self._keep_membership()
                self._housekeeping()
                bar.update(bar.total - self._monitoring.backlog - bar.n)
        until = self._clock() + (STOP_SECONDS if self._limits.stopped else math.inf)
        while self._commit({}, snapshot_offsets=0, snapshot_seconds=0.0) and self._clock() < until:
            continue  # what is not saved by then is replayed at the next start
        self._console.show_reports(self._monitoring.poll())
        self._console.show_end(self._monitoring.backlog)
        self.counts.check()
        self._summarise()
