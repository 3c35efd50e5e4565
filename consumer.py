"""Consume the raw topic: arguments, signals, wiring, exit code. The loop is ``airquality/stream/worker.py``."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

import requests
from prometheus_client import CollectorRegistry

from airquality.ground import log
from airquality.ground.errors import AirQualityError, Unavailable, UsageError
from airquality.ground.settings import Settings, read_settings
from airquality.metrics import ConsumerMetrics, expose_process
from airquality.model.client import PredictionClient
<<<<<<< HEAD
from airquality.stream import kafka_io
from airquality.stream.console import Console, accounted
from airquality.stream.exposition import exposed, health_page, metrics_page
from airquality.stream.health import Health
from airquality.stream.partition import Counts
from airquality.stream.station import OpenStation, StationParts
from airquality.stream.transactions import TransactionalStream
from airquality.stream.worker import BACKOFF_SECONDS, Limits, Stopped, Worker
from feature_buffer import FeatureBuffer
from monitoring_service import SUMMARY_NAME, MonitoringService
=======
from airquality.monitoring.drift import Window
from airquality.records import HISTORY_HOURS, Prediction, isoformat
from airquality.reports.summary import SUMMARY_NAME
from airquality.stream import kafka_io
from airquality.stream.kafka_io import Message, Position, Record, TransactionalStream
from monitoring_service import MonitoringService, PartitionFigures
from partition_state import Batch, Counts, DeadLetter, Note, PartitionState
>>>>>>> b2a64b9 (Reports folder, summary and calibration each have one home: what is not ours is skipped, two consumers add up, another model's reference is refused)

#: A health check that waits longer than this for the prediction service calls it away.
HEALTH_TIMEOUT_SECONDS = 2.0

logger = logging.getLogger("consumer")


def station_opener(monitoring: MonitoringService) -> OpenStation:
    """Return the factory of stations, whose monitors live in ``monitoring``."""

    def open_station(station_id: str, state: Mapping[str, Any] | None) -> StationParts:
        if state is None:
            return StationParts(FeatureBuffer(), monitoring.monitor(station_id))
        return StationParts(FeatureBuffer.from_state(state["buffer"]), monitoring.monitor(station_id, state["monitor"]))

<<<<<<< HEAD
    return open_station
=======
@dataclass
class Limits:
    """When to stop by oneself; infinite by default. They hold for a run, however many workers it takes.

    ``stopped`` is set by SIGINT and SIGTERM, ``taken`` counts committed records, ``started`` is monotonic seconds.
    """

    max_records: float = math.inf
    timeout_seconds: float = math.inf
    idle_exit_seconds: float = math.inf
    stopped: bool = False
    taken: int = 0
    started: float = field(default_factory=time.monotonic)

    def out_of_time(self, now: float) -> bool:
        """Whether a stop was asked for, or the time is up."""
        return self.stopped or now - self.started > self.timeout_seconds


class Console:
    """The lines a person follows: every row when live, every hundredth when catching up."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._predictions = 0
        self._waiting: set[str] = set()

    def resume(self, counts: Counts) -> None:
        """Go on counting from what was committed before."""
        self._predictions = counts.predictions

    def show(self, batch: Batch, state: PartitionState) -> None:
        """Print what became of a committed batch."""
        live = batch.counts.rows_in <= LIVE_RECORDS
        self._show_warmup(batch, state, live)
        closed = list(batch.windows)
        for prediction in batch.predictions:
            self._predictions += 1
            reports = _queued(closed, prediction)
            if live or reports or self._predictions % LINE_EVERY_ROWS == 0:
                line = f"Prediction {self._predictions}: CO(GT) = {prediction.prediction:.2f}"
                self._write(" | ".join([line, *reports]))
        self._show_refused(batch)

    def _show_warmup(self, batch: Batch, state: PartitionState, live: bool) -> None:
        if batch.warming:
            self._waiting.add(batch.warming.station_id)
            warmed = state.stations[batch.warming.station_id].buffer.warmed_hours
            if live or warmed % WARMUP_LINE_EVERY_ROWS == 0 or batch.counts.warmup >= WARMUP_LINE_EVERY_ROWS:
                self._write(f"Waiting for warmup... ({warmed}/{HISTORY_HOURS} rows)")
        started = self._waiting & {prediction.station_id for prediction in batch.predictions}
        for _ in started:
            self._write("Warmup complete! Starting inference...")
        self._waiting -= started

    def _show_refused(self, batch: Batch) -> None:
        for station_id in sorted({reading.station_id for reading in batch.duplicates}):
            repeated = [reading.hour for reading in batch.duplicates if reading.station_id == station_id]
            self._write(
                f"{station_id}: already predicted up to {isoformat(max(repeated))}; {len(repeated)} duplicates ignored"
            )
        for letter in batch.dead_letters:
            self._write(f"Dead letter ({letter.error.reason}) at offset {letter.record.offset}: {letter.error}")


def _queued(closed: list[Window], prediction: Prediction) -> list[str]:
    """Take the windows that the prediction's row closed out of ``closed``, and return what is said of them."""
    here = [w for w in closed if w.station_id == prediction.station_id and w.end_hour <= prediction.hour]
    for window in here:
        closed.remove(window)
    return [f"{window.kind.name.capitalize()} report queued" for window in here]


class Worker:
    """One member of the consumer group: the partitions it owns, and the loop over them.

    After any exception from :meth:`run` the worker is not to be used again: open another, whose state comes from Kafka.
    """

    def __init__(
        self,
        settings: Settings,
        stream: TransactionalStream,
        client: PredictionClient,
        monitoring: MonitoringService,
        metrics: ConsumerMetrics,
        console: Console,
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._stream = stream
        self._client = client
        self._monitoring = monitoring
        self._metrics = metrics
        self._console = console
        self._limits = limits
        self._clock = clock
        self._partitions: dict[int, PartitionState] = {}
        self._summarised = self._measured = -math.inf
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
            self._stream.keep_membership()
            time.sleep(POLL_SECONDS)
            self._active = self._clock()  # rows may wait: nobody looked
            return 0
        polled = self._stream.poll(POLL_SECONDS, int(max_records))
        for partition in polled.lost & set(self._partitions):
            self._partitions.pop(partition).release()
        for partition in sorted(polled.gained - set(self._partitions)):
            self._restore(partition)
        if polled.records:
            started = self._clock()
            self._process(polled.records)
            self._metrics.transactions.observe(self._clock() - started)
        else:
            self._commit({}, self._settings.snapshot_offsets, self._settings.snapshot_seconds)
        if polled.records or polled.gained or not self._partitions:
            self._active = self._clock()  # after the work: waiting for a service is not idling
        return sum(map(len, polled.records.values()))

    def _process(self, records: dict[int, list[Record]]) -> None:
        batches = {partition: self._partitions[partition].apply(rows, self._predict) for partition, rows in records.items()}
        self._commit(batches, self._settings.snapshot_offsets, self._settings.snapshot_seconds)
        for partition, batch in batches.items():
            self._observe(batch, self._partitions[partition])

    def _commit(self, batches: dict[int, Batch], snapshot_offsets: int, snapshot_seconds: float) -> None:
        """Publish what came of the batches, and the snapshots that are due, in one transaction, if there is anything."""
        messages: list[Message] = []
        positions: dict[int, Position] = {}
        for partition, state in self._partitions.items():
            due = state.due_snapshots(snapshot_offsets, snapshot_seconds)
            if partition not in batches and not due:
                continue
            messages += self._published(batches.get(partition, Batch()), partition)
            messages += [
                Message(self._settings.state_topic, partition, station_id.encode(), snapshot)
                for station_id, snapshot in due.items()
            ]
            positions[partition] = Position(state.next_offset, state.note().encode())
        if not positions:
            return
        offsets = self._stream.commit(messages, positions)
        for message, offset in zip(messages, offsets, strict=True):
            if message.topic == self._settings.pred_topic:
                self._partitions[message.partition].pred_offset = offset + 1

    def _published(self, batch: Batch, partition: int) -> list[Message]:
        predictions = [
            Message(self._settings.pred_topic, partition, prediction.station_id.encode(), prediction.to_bytes())
            for prediction in batch.predictions
        ]
        return predictions + [dead_letter(letter, self._settings) for letter in batch.dead_letters]

    def _predict(self, matrix: NDArray[np.float64], _: Sequence[int]) -> list[tuple[float, str]]:
        return self._waiting_for_service(lambda: self._client.predict(matrix))

    def _waiting_for_service(self, ask: Callable[[], T]) -> T:
        """Return what the prediction service answers, however long it is away; its rows wait with their place kept.

        Raises:
            Stopped: a stop was asked for meanwhile, or the time was up.
            Unavailable: the group gave this worker's partitions to another meanwhile.
        """
        pause = BACKOFF_SECONDS[0]
        while True:
            try:
                answer = ask()
            except Unavailable as error:
                logger.warning("%s; no row is lost, trying again in about %.1f s", error, pause)
                self._metrics.paused.set(1)
                self._hold(pause * random.uniform(0.5, 1.5))
                pause = min(2 * pause, BACKOFF_SECONDS[1])
            else:
                self._metrics.paused.set(0)
                return answer

    def _hold(self, seconds: float) -> None:
        """Wait in the group without taking records."""
        until = self._clock() + seconds
        while self._clock() < until:
            if self._limits.out_of_time(self._clock()):
                raise Stopped
            if not self._stream.keep_membership() and self._partitions:
                raise Unavailable("the group's partitions were shared out anew while rows waited")
            self._measure_lag()
            time.sleep(POLL_SECONDS)

    def _restore(self, partition: int) -> None:
        settings, position = self._settings, self._stream.position(partition)
        note = Note.decode(position.note)
        pred_end = kafka_io.end_offset(settings, settings.pred_topic, partition)
        state = PartitionState(partition, position.offset, pred_end, self._monitoring, self._clock, settings.consumer_group)
        saved = kafka_io.read(settings, settings.state_topic, partition)
        rows, published = iter(()), iter(())  # type: Iterator[Record], Iterator[Record]
        if note.replay_offset is not None:
            rows = kafka_io.read(settings, settings.raw_topic, partition, note.replay_offset, position.offset)
            published = kafka_io.read(settings, settings.pred_topic, partition, note.pred_offset)
        windows = state.restore(note, saved, rows, published)
        self._partitions[partition] = state
        self._monitoring.submit(windows)
        self._console.resume(self.counts)
        logger.info("partition %d: restored %d stations at offset %d", partition, len(state.stations), position.offset)

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
        for reason, count in batch.counts.dead_letters.items():
            self._metrics.outcomes.labels("dead_letter", reason).inc(count)
        if batch.predictions:
            self._metrics.last_prediction.set_to_current_time()
        self._console.show(batch, state)

    def _housekeeping(self) -> None:
        """Collect finished reports; now and then refresh the lag and the summary."""
        self._monitoring.poll()
        self._measure_lag()
        if self._clock() - self._summarised >= SUMMARY_SECONDS:
            self._summarised = self._clock()
            self._summarise()

    def _measure_lag(self) -> None:
        """Now and then ask how far behind this worker is, of the partitions it owns now and no others."""
        if self._clock() - self._measured < LAG_SECONDS:
            return
        self._measured = self._clock()
        lags = self._stream.lag()
        self._metrics.lag.clear()
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
        """Leave nothing half done: unless a stop was asked for, wait for the reports and snapshot every station."""
        with tqdm(total=self._monitoring.backlog, desc="writing reports", unit="report", disable=None) as bar:
            while self._monitoring.backlog and not self._limits.stopped:
                self._stream.keep_membership()
                self._housekeeping()
                bar.update(bar.total - self._monitoring.backlog - bar.n)
                time.sleep(0.05)
        self._commit({}, snapshot_offsets=0, snapshot_seconds=0.0)
        self._monitoring.poll()
        self.counts.check()
        self._summarise()


def dead_letter(letter: DeadLetter, settings: Settings) -> Message:
    """Return the dead-letter record: the original bytes untouched, with headers that say what was wrong and where."""
    record, error = letter.record, letter.error
    headers = {
        "error_class": type(error).__name__,
        "error_message": str(error),
        "reason": error.reason,
        "stage": "order" if error.reason in ("conflict", "late") else "parse",
        "source_topic": settings.raw_topic,
        "source_partition": str(record.partition),
        "source_offset": str(record.offset),
    }
    encoded = tuple((name, text.encode(errors="backslashreplace")) for name, text in headers.items())
    return Message(settings.dlq_topic, record.partition, record.key, record.value, encoded)
>>>>>>> b2a64b9 (Reports folder, summary and calibration each have one home: what is not ours is skipped, two consumers add up, another model's reference is refused)


def run(settings: Settings, limits: Limits) -> Counts:
    """Run workers until a limit is reached, opening a new one whenever a service comes back from an absence.

    Raises:
        AirQualityError: a service was never there, or two parts of the system disagree.
    """
    registry = CollectorRegistry()
    metrics = ConsumerMetrics(registry)
    expose_process(registry)
    console = Console(lambda line: print(line, flush=True))
    with _exposed(settings, registry), MonitoringService.open(settings, metrics) as monitoring:
        kafka_io.ensure_topics(settings)
        pause = BACKOFF_SECONDS[0]
        while True:
            try:
                return _work(settings, monitoring, metrics, console, limits)
            except Unavailable as error:
                if limits.out_of_time(time.monotonic()):
                    return Counts()
                logger.warning("%s; starting over from Kafka in %.1f s", error, pause)
                time.sleep(pause)
                pause = min(2 * pause, BACKOFF_SECONDS[1])


def _work(
    settings: Settings, monitoring: MonitoringService, metrics: ConsumerMetrics, console: Console, limits: Limits
) -> Counts:
    with closing(TransactionalStream(settings)) as stream, requests.Session() as session:
        client = PredictionClient(settings.api_url, settings.api_timeout_seconds, session)
        worker = Worker(settings, stream, client, monitoring, station_opener(monitoring), metrics, console, limits)
        try:
            worker.run()
            return worker.counts
        except Stopped:
            return worker.counts
        finally:
            worker.release()


@contextmanager
def _exposed(settings: Settings, registry: CollectorRegistry) -> Iterator[int]:
    """Serve ``/metrics`` and ``/health`` while entered, and yield the port."""
    with requests.Session() as session:  # its own: the health page is made on another thread
        client = PredictionClient(settings.api_url, HEALTH_TIMEOUT_SECONDS, session)
        health = Health(registry, client.check)
        pages = {"/metrics": lambda: metrics_page(registry), "/health": lambda: health_page(health.faults())}
        with exposed(settings.consumer_metrics_host, settings.consumer_metrics_port, pages) as port:
            yield port


_DESCRIPTION = """\
Consume readings, predict CO(GT), publish the predictions, and make daily and weekly reports.

Every row of the raw topic becomes exactly one of: warm-up, prediction, duplicate, dead letter. Runs until stopped unless
told otherwise. Settings are environment variables: KAFKA_BOOTSTRAP_SERVERS (localhost:9092), API_URL
(http://localhost:8000), CONSUMER_GROUP, CONSUMER_METRICS_PORT (8001), CONSUMER_METRICS_HOST
(this machine and Docker's bridge), REPORTS_DIR and more (airquality/ground/settings.py).
"""
_EXAMPLES = """\
examples:
  python consumer.py                          run until Ctrl-C
  python consumer.py --idle-exit-seconds 10   catch up, write the reports, exit
  CONSUMER_INSTANCE_ID=a python consumer.py   one of several that share the stations; restarts take over at once

exit status: 0 done or stopped on request, 1 failure, 2 wrong usage
"""


def _parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        description=_DESCRIPTION, epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--max-records", type=int, metavar="N", help="stop after N records")
    p.add_argument("--timeout-seconds", type=float, metavar="S", help="stop after that time")
    p.add_argument("--idle-exit-seconds", type=float, metavar="S", help="stop once no record has come for that time")
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 0 done, 1 failure, 2 usage."""
    args = _parser().parse_args(argv)
    limits = Limits(**{name: value for name, value in vars(args).items() if value is not None})
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: setattr(limits, "stopped", True))
    try:
        settings = read_settings()
        log.configure(settings.log_level, settings.log_format)
        counts = run(settings, limits)
    except AirQualityError as error:
        print(f"consumer.py: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    print(f"{counts.rows_in} rows in = {accounted(counts)}; summary in {settings.reports_dir / SUMMARY_NAME}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
