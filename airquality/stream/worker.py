"""The loop over the partitions one member of the consumer group owns: one row in, one accounted outcome out.

Poll, parse, buffer, predict, publish, commit, observe. Predictions, snapshots, dead letters and offsets of a poll batch are
one Kafka transaction, so a crash at any point loses and repeats nothing; the next start restores state from Kafka alone.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress

from tqdm import tqdm

from airquality.events import Finding
from airquality.ground.errors import Refused, Unavailable
from airquality.ground.settings import Settings
from airquality.metrics import ConsumerMetrics
from airquality.stream import collector
from airquality.stream.account import Counts
from airquality.stream.batch import Batch
from airquality.stream.commits import Commits
from airquality.stream.console import Console
from airquality.stream.gauges import Gauges
from airquality.stream.kafka_io import Record
from airquality.stream.limits import Limits, stopped_without_kafka
from airquality.stream.outage import PartitionLost, PatientService
from airquality.stream.partition import PartitionState
from airquality.stream.patience import Patience
from airquality.stream.ports import Monitoring, Reader, Service, Stream
from airquality.stream.refused_partitions import RefusedPartitions
from airquality.stream.restore import Restorer
from airquality.stream.transactions import Ownership, Poll

POLL_SECONDS = 0.25
#: How often the summary is written; less often where that would take more than this share of the time, as with thousands
#: of stations, all of which it looks at; and at least so often: one slow write on a busy machine is no reason to be silent.
SUMMARY_SECONDS, SUMMARY_SHARE, SUMMARY_MOST_SECONDS = 5.0, 0.01, 30.0
#: How much later it may be than that while every poll brings rows, which would wait for it.
SUMMARY_BUSY_SECONDS = 15.0
#: How long a stop writes snapshots: Docker kills 10 s after it asked.
STOP_SECONDS = 4.0
#: How long a run that ends by itself asks a Kafka that does not answer.
END_SECONDS, END_PAUSE_SECONDS = 30.0, 1.0

logger = logging.getLogger("consumer")


class Worker:
    """One member of the consumer group: the partitions it owns, and the loop over them.

    After any exception from :meth:`run` the worker is not to be used again: open another, whose state comes from Kafka.
    """

    def __init__(
        self,
        settings: Settings,
        stream: Stream,
        reader: Reader,
        service: Service,
        monitoring: Monitoring,
        metrics: ConsumerMetrics,
        console: Console,
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._stream = stream
        self._monitoring = monitoring
        self._metrics = metrics
        self._console = console
        self._limits = limits
        self._clock = clock
        self._commits = Commits(settings, stream)
        self._gauges = Gauges(metrics, stream, clock)
        self._restorer = Restorer(settings, reader, stream, monitoring.open_station, monitoring, clock, limits.accept_loss)
        patience = Patience(limits.taken > 0, clock)
        self._service = PatientService(
            service, patience, metrics, limits, clock, self._pass_a_moment, monitoring.note_served
        )
        self._partitions: dict[int, PartitionState] = {}
        self._gained: set[int] = set()  # assigned, not restored yet
        self._ownership = Ownership()
        self._refusal: Refused | None = None
        self._refused = RefusedPartitions(metrics, clock)
        self._summary_due = -math.inf
        self._active = self._clock()  # when rows or partitions last came

    def run(self) -> None:
        """Consume until a limit is reached or a stop is asked for; leave a summary and, if there is time, no backlog."""
        limits = self._limits
        self._monitoring.begin(self._service.check(), goes_on=self._restorer.has_predicted())
        self._active = self._clock()
        while limits.taken < limits.max_records and not limits.out_of_time(self._clock()):
            if self._clock() - self._active > limits.idle_exit_seconds:
                break
            taken = self._step(min(self._settings.max_poll_records, limits.max_records - limits.taken))
            limits.taken += taken
            self._housekeeping(busy=taken > 0)
        self._finish()
        if self._refused.first:
            raise self._refused.first

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
        polled = self._stream.poll(POLL_SECONDS, int(max_records))
        self._take(polled)
        news = bool(polled.records or self._gained)
        if ready := self._gained & self._ownership.partitions:  # not while the group still rebalances
            self._restore_all(sorted(ready))
        if refusal := self._why_to_end():  # what is there is saved first
            self._finish()
            raise refusal
        if polled.records:
            started = self._clock()
            self._process(polled.records)
            self._metrics.transactions.observe(self._clock() - started)
        else:
            self._commits.commit(self._partitions, {}, self._ownership)
        if news or not self._partitions:
            self._active = self._clock()  # after the work: waiting for a service is not idling
        return sum(map(len, polled.records.values()))

    def _why_to_end(self) -> Refused | None:
        """Return why this consumer must not go on; one that runs until it is stopped goes on with what it may read."""
        if self._refusal or self._limits.bounded or not (self._partitions or self._gained):
            return self._refusal or self._refused.first
        return None

    def _pass_a_moment(self) -> frozenset[int]:
        """Stay in the group without taking records; return the partitions that are still owned."""
        self._take(self._stream.keep_membership(POLL_SECONDS))
        self._gauges.measure_lag()
        return frozenset(self._partitions)

    def _take(self, polled: Poll) -> None:
        """Let go of the partitions that were lost, before anything else is written; those gained are restored later."""
        self._ownership = polled.ownership
        lost = polled.lost & set(self._partitions)
        for partition in lost:
            self._partitions.pop(partition).release()
            self._restorer.release(partition)
        if lost:
            collector.let_go()
        self._refused.drop(polled.lost)
        self._gained = (self._gained - polled.lost) | polled.gained

    def _process(self, records: dict[int, list[Record]]) -> None:
        batches = {}
        for partition, rows in records.items():
            if partition in self._partitions:  # not lost while an earlier one waited for the service
                with suppress(PartitionLost):
                    batches[partition] = self._partitions[partition].apply(rows, self._service)
        batches = {partition: batch for partition, batch in batches.items() if partition in self._partitions}
        self._commits.commit(self._partitions, batches, self._ownership)
        for partition, batch in batches.items():
            self._observe(batch, self._partitions[partition])

    def _observe(self, batch: Batch, state: PartitionState) -> None:
        """Show what was committed, and have the reports of its windows made."""
        self._monitoring.submit([*batch.windows, *batch.settled], state.stations)
        self._show_alarms(batch.findings, state)
        self._gauges.show(batch)
        self._console.show(batch, state)

    def _show_alarms(self, findings: Iterable[Finding], state: PartitionState) -> None:
        changed = dict.fromkeys(finding.station_id for finding in findings)
        self._monitoring.show_alarms([state.stations[station_id] for station_id in changed])

    def _restore_all(self, partitions: Collection[int]) -> None:
        with collector.restoring():
            for partition in partitions:
                self._gained.discard(partition)
                self._restore(partition, partitions)

    def _restore(self, partition: int, together: Collection[int]) -> None:
        try:
            restored = self._restorer.restore(partition, together)
        except Refused as error:
            self._refused.add(partition, error)
            return
        self._refusal = self._refusal or restored.refusal
        state = self._partitions[partition] = restored.state
        self._metrics.kafka_answered.set_to_current_time()
        self._metrics.lost_rows.inc(restored.rows_lost)
        self._stream.start(partition, state.next_offset)
        self._monitoring.submit(restored.windows, state.stations)
        self._monitoring.show(state.stations.values())
        self._console.resume(self.counts)
        logger.info("partition %d: restored %d stations at offset %d", partition, len(state.stations), state.next_offset)

    def _housekeeping(self, *, busy: bool = False) -> None:
        """Collect finished reports; now and then refresh the lag and the summary."""
        self._console.show_reports(self._monitoring.poll())
        self._gauges.measure_lag()
        self._refused.say()
        self._console.show_life(self.counts, len(self._partitions), self._gauges.behind, self._monitoring.backlog)
        if (began := self._clock()) >= self._summary_due + (SUMMARY_BUSY_SECONDS if busy else 0.0):
            self._summarise()
            pause = (self._clock() - began) / SUMMARY_SHARE
            self._summary_due = began + min(max(SUMMARY_SECONDS, pause), SUMMARY_MOST_SECONDS)

    def _summarise(self) -> None:
        if self._partitions:  # without any there is nothing to tell, and what an owner wrote before stays
            self._monitoring.write_summary({partition: state.figures() for partition, state in self._partitions.items()})

    def _finish(self) -> None:
        """Leave nothing half done: unless a stop was asked for, wait for the reports and snapshot every station.

        Raises:
            Stopped: Kafka does not answer, so that nothing can be saved and nobody knows what rows wait.
        """
        self._require_kafka()
        if self._limits.stopped:
            logger.info("stopping: the last snapshots are written; a second signal ends the process at once")
        with tqdm(total=self._monitoring.backlog, desc="writing reports", unit="report", disable=None) as bar:
            while self._monitoring.backlog and not self._limits.stopped:
                self._pass_a_moment()
                self._housekeeping()
                bar.update(bar.total - self._monitoring.backlog - bar.n)
        until = self._clock() + (STOP_SECONDS if self._limits.stopped else math.inf)
        while self._save_all() and self._clock() < until:
            continue  # what is not saved by then is replayed at the next start
        self._console.show_reports(self._monitoring.poll())
        self._console.show_end(self._monitoring.backlog)
        self._monitoring.close()  # else one of them may hold the folder while the last summary is due
        self.counts.check()
        self._summarise()

    def _require_kafka(self) -> None:
        """Ask Kafka until it answers: for a while where the run ends by itself, no longer than a stop may take else."""
        began = self._clock()
        while True:
            try:
                self._stream.lag()
                return
            except Unavailable as error:
                if self._clock() - began >= (STOP_SECONDS if self._limits.stopped else END_SECONDS):
                    raise stopped_without_kafka(error) from error
                logger.warning("%s; asking again before the end", error)
                time.sleep(END_PAUSE_SECONDS)

    def _save_all(self) -> bool:
        """Snapshot stations, as many as one transaction takes; return whether any was left to save."""
        return self._commits.commit(self._partitions, {}, self._ownership, snapshot_offsets=0, snapshot_seconds=0.0)
