"""Consume the raw topic: arguments, signals, wiring, exit code. The loop is ``airquality/stream/worker.py``."""

from __future__ import annotations

import argparse
import logging
import math
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

from prometheus_client import CollectorRegistry

from airquality.ground import command, log
from airquality.ground.errors import Unavailable
from airquality.ground.program import Closing, leave, stop_on_signals
from airquality.ground.settings import Settings, read_settings
from airquality.metrics import ConsumerMetrics, expose_process
from airquality.model.client import PredictionClient
from airquality.model.transport import Transport
from airquality.reports.summary import SUMMARY_NAME
from airquality.stream import kafka_io
from airquality.stream.account import Counts
from airquality.stream.console import Console, accounted
from airquality.stream.exposition import exposed, health_page, metrics_page
from airquality.stream.health import Health
from airquality.stream.identity import Refused
from airquality.stream.limits import Limits, stopped_without_kafka
from airquality.stream.patience import Patience
from airquality.stream.reader import KafkaReader
from airquality.stream.shadows import with_shadows
from airquality.stream.transactions import TransactionalStream
from airquality.stream.worker import Worker
from monitoring_service import MonitoringService

#: A health check that waits longer than this for the prediction service calls it away.
HEALTH_TIMEOUT_SECONDS = 2.0

REFUSAL_LINE_SECONDS = 60.0
#: After a failure, closing the connections and the report process may take this long.
CLOSE_SECONDS = 30.0

logger = logging.getLogger("consumer")


def run(settings: Settings, limits: Limits) -> Counts:
    """Run workers until a limit is reached, opening a new one whenever a service comes back from an absence.

    Raises:
        AirQualityError: a service was never there, or two parts of the system disagree.
    """
    registry = CollectorRegistry()
    metrics = ConsumerMetrics(registry, settings.metrics_stations)
    expose_process(registry)
    console = Console(log.speaker("consumer", settings.log_format))
    closed = Closing(CLOSE_SECONDS)
    with closed, _exposed(settings, registry), MonitoringService.open(settings, metrics) as monitoring:
        patience = Patience(clock=time.monotonic)
        with closed.watched():
            _ensure_topics(settings, patience, limits)
            while True:
                try:
                    return _work(settings, monitoring, metrics, console, limits)
                except Refused as error:
                    if not limits.bounded and not sys.stderr.isatty():  # a supervisor would only start it again, for ever
                        _stay_refused(error, metrics, limits)
                    raise
                except Unavailable as error:
                    _await_kafka(patience.pause_seconds(error), error, limits)


def _ensure_topics(settings: Settings, patience: Patience, limits: Limits) -> None:
    """Make the topics. Without Kafka that fails at once, unless a supervisor would only start this program again."""
    while True:
        try:
            return kafka_io.ensure_topics(settings)
        except Unavailable as error:
            if not settings.consumer_waits_for_kafka:
                raise
            _await_kafka(patience.pause_seconds(error), error, limits)


def _await_kafka(seconds: float, error: Unavailable, limits: Limits) -> None:
    """Pause before the next worker; raises ``Stopped`` where the run has to end before Kafka is back."""
    logger.warning("%s; no row is lost, starting over from Kafka in %.1f s", error, seconds)
    until = time.monotonic() + seconds
    while (now := time.monotonic()) < until or limits.out_of_time(now):
        if limits.out_of_time(now):
            raise stopped_without_kafka(error)
        time.sleep(min(0.1, until - now))


def _stay_refused(error: Refused, metrics: ConsumerMetrics, limits: Limits) -> None:
    """Stay up without partitions until a stop is asked for, saying why once a minute."""
    metrics.refused.set(1)
    said = -math.inf
    while not limits.stopped:
        if time.monotonic() - said >= REFUSAL_LINE_SECONDS:
            said = time.monotonic()
            logger.error("refused: %s. This consumer takes no partitions until it is started again", error)
        time.sleep(0.2)


def _work(
    settings: Settings, monitoring: MonitoringService, metrics: ConsumerMetrics, console: Console, limits: Limits
) -> Counts:
    transport = Transport(settings.api_url, settings.api_timeout_seconds, settings.api_key)
    with closing(transport), closing(TransactionalStream(settings)) as stream:
        worker = Worker(
            settings,
            stream,
            KafkaReader(settings),
            with_shadows(PredictionClient(transport)),
            monitoring,
            monitoring.open_station,
            metrics,
            console,
            limits,
        )
        try:
            worker.run()
            return worker.counts
        finally:
            worker.release()


@contextmanager
def _exposed(settings: Settings, registry: CollectorRegistry) -> Iterator[int]:
    """Serve ``/metrics`` and ``/health`` while entered, and yield the port."""
    own = Transport(settings.api_url, HEALTH_TIMEOUT_SECONDS, settings.api_key)  # the exposition's threads use it
    with closing(own) as transport:
        health = Health(registry, PredictionClient(transport).check)
        pages = {"/metrics": lambda: metrics_page(registry), "/health": lambda: health_page(health.faults())}
        with exposed(settings.consumer_metrics_host, settings.consumer_metrics_port, pages) as port:
            yield port


_DESCRIPTION = """\
Consume readings, predict each hour, publish the predictions, and make daily and weekly reports.

Every row of the raw topic becomes exactly one of: warm-up, prediction, duplicate, dead letter. Runs until stopped unless
stated otherwise. Settings are environment variables: KAFKA_BOOTSTRAP_SERVERS (localhost:9092), API_URL
(http://localhost:8000), CONSUMER_GROUP, CONSUMER_METRICS_PORT (8001), CONSUMER_METRICS_HOST
(this machine and Docker's bridge), REPORTS_DIR and more (airquality/ground/settings.py).
"""
_EXAMPLES = """\
examples:
  python consumer.py                          run until Ctrl-C
  python consumer.py --idle-exit-seconds 10   catch up, write the reports, exit
  CONSUMER_INSTANCE_ID=a python consumer.py   one of several that share the stations; restarts take over at once

A consumer refuses to go on where offset, snapshots, predictions and topics do not belong together, and says which loss that
would be. A bounded run, or one on a terminal, then exits 1; any other stays up without partitions
(air_quality_consumer_refused is 1), so that a restart policy makes no crash loop. See docs/decisions/delivery-and-state.md.

exit status: 0 done or stopped on request, 1 failure or refusal, 2 wrong usage
"""


def _parser() -> argparse.ArgumentParser:
    p = command.parser("consumer.py", _DESCRIPTION, _EXAMPLES)
    p.add_argument("--max-records", type=int, metavar="N", help="stop after N records")
    p.add_argument("--timeout-seconds", type=float, metavar="S", help="stop after that time")
    p.add_argument("--idle-exit-seconds", type=float, metavar="S", help="stop once no record has come for that time")
    p.add_argument(
        "--accept-loss",
        action="store_true",
        help="go on where rows or state are gone for good, which is refused otherwise; the rows lost are counted",
    )
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 0 done, 1 failure, 2 usage."""
    args = _parser().parse_args(argv)
    return command.run("consumer.py", lambda: _consume(args))


def _consume(args: argparse.Namespace) -> None:
    limits = Limits(**{name: value for name, value in vars(args).items() if value is not None})
    stop_on_signals(lambda: setattr(limits, "stopped", True))
    settings = read_settings()
    log.configure(settings.log_level, settings.log_format)
    counts = run(settings, limits)
    say = log.speaker("consumer", settings.log_format)
    say(f"{counts.rows_in} rows in = {accounted(counts)}; summary in {settings.reports_dir / SUMMARY_NAME}")


if __name__ == "__main__":
    leave(main)
