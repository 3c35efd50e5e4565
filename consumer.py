"""Consume the raw topic: arguments, signals, wiring, exit code. The loop is ``airquality/stream/worker.py``."""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

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
from airquality.stream.console import Console, accounted
from airquality.stream.exposition import exposed, health_page, metrics_page
from airquality.stream.health import Health
from airquality.stream.partition import Counts
from airquality.stream.patience import Patience
from airquality.stream.station import OpenStation, StationParts
from airquality.stream.transactions import TransactionalStream
from airquality.stream.worker import Limits, Stopped, Worker
from feature_buffer import FeatureBuffer
from monitoring_service import MonitoringService

#: A health check that waits longer than this for the prediction service calls it away.
HEALTH_TIMEOUT_SECONDS = 2.0

#: After a failure, closing the connections and the report process may take this long.
CLOSE_SECONDS = 30.0

logger = logging.getLogger("consumer")


def station_opener(monitoring: MonitoringService) -> OpenStation:
    """Return the factory of stations, whose monitors live in ``monitoring``."""

    def open_station(station_id: str, state: Mapping[str, Any] | None) -> StationParts:
        if state is None:
            return StationParts(FeatureBuffer(), monitoring.monitor(station_id))
        return StationParts(FeatureBuffer.from_state(state["buffer"]), monitoring.monitor(station_id, state["monitor"]))

    return open_station


def run(settings: Settings, limits: Limits) -> Counts:
    """Run workers until a limit is reached, opening a new one whenever a service comes back from an absence.

    Raises:
        AirQualityError: a service was never there, or two parts of the system disagree.
    """
    registry = CollectorRegistry()
    metrics = ConsumerMetrics(registry)
    expose_process(registry)
    console = Console(lambda line: print(line, flush=True))
    closed = Closing(CLOSE_SECONDS)
    with closed, _exposed(settings, registry), MonitoringService.open(settings, metrics) as monitoring:
        patience = Patience(clock=time.monotonic)
        with closed.watched():
            _ensure_topics(settings, patience, limits)
            while True:
                try:
                    return _work(settings, monitoring, metrics, console, limits)
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
            raise Stopped(
                f"stopped while Kafka could not be used ({error}): what was committed stays committed, "
                "the other rows wait in Kafka for the next start"
            )
        time.sleep(min(0.1, until - now))


def _work(
    settings: Settings, monitoring: MonitoringService, metrics: ConsumerMetrics, console: Console, limits: Limits
) -> Counts:
    transport = Transport(settings.api_url, settings.api_timeout_seconds)
    with closing(transport), closing(TransactionalStream(settings)) as stream:
        client = PredictionClient(transport)
        worker = Worker(settings, stream, client, monitoring, station_opener(monitoring), metrics, console, limits)
        try:
            worker.run()
            return worker.counts
        finally:
            worker.release()


@contextmanager
def _exposed(settings: Settings, registry: CollectorRegistry) -> Iterator[int]:
    """Serve ``/metrics`` and ``/health`` while entered, and yield the port."""
    with closing(Transport(settings.api_url, HEALTH_TIMEOUT_SECONDS)) as transport:  # its own: it has other threads
        health = Health(registry, PredictionClient(transport).check)
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
    p = command.parser("consumer.py", _DESCRIPTION, _EXAMPLES)
    p.add_argument("--max-records", type=int, metavar="N", help="stop after N records")
    p.add_argument("--timeout-seconds", type=float, metavar="S", help="stop after that time")
    p.add_argument("--idle-exit-seconds", type=float, metavar="S", help="stop once no record has come for that time")
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
    print(f"{counts.rows_in} rows in = {accounted(counts)}; summary in {settings.reports_dir / SUMMARY_NAME}", flush=True)


if __name__ == "__main__":
    leave(main)
