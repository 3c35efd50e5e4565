"""Run workers one after the other until a limit is reached, and expose what they count: the consumer below its door."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager

from prometheus_client import CollectorRegistry

from airquality.ground import log
from airquality.ground.errors import Refused, Unavailable
from airquality.ground.program import Closing
from airquality.ground.settings import Settings
from airquality.metrics import ConsumerMetrics, expose_process
from airquality.model.client import PredictionClient
from airquality.model.transport import Transport
from airquality.stream import heap, kafka_io
from airquality.stream.account import Counts
from airquality.stream.console import Console
from airquality.stream.exposition import exposed, health_page, metrics_page
from airquality.stream.health import Health
from airquality.stream.limits import Limits, stopped_without_kafka
from airquality.stream.patience import Patience
from airquality.stream.ports import Monitoring
from airquality.stream.reader import KafkaReader
from airquality.stream.shadows import with_shadows
from airquality.stream.transactions import TransactionalStream
from airquality.stream.worker import Worker

#: A health check that waits longer than this for the prediction service calls it away.
HEALTH_TIMEOUT_SECONDS = 2.0

REFUSAL_LINE_SECONDS = 60.0
#: After a failure, closing the connections and the report process may take this long.
CLOSE_SECONDS = 30.0

logger = logging.getLogger("consumer")


#: Opens the monitoring service, which is above this package.
OpenMonitoring = Callable[[Settings, ConsumerMetrics], AbstractContextManager[Monitoring]]


def run(settings: Settings, limits: Limits, open_monitoring: OpenMonitoring) -> Counts:
    """Run workers until a limit is reached, opening a new one whenever a service comes back from an absence.

    Args:
        settings: Of the whole run.
        limits: When it ends by itself.
        open_monitoring: Opens the monitoring service; it is closed at the end.

    Raises:
        AirQualityError: a service was never there, or two parts of the system disagree.
    """
    heap.map_large_arrays()
    registry = CollectorRegistry()
    metrics = ConsumerMetrics(registry, settings.metrics_stations)
    expose_process(registry)
    console = Console(log.speaker("consumer", settings.log_format))
    closed = Closing(CLOSE_SECONDS)
    with closed, _exposed(settings, registry), open_monitoring(settings, metrics) as monitoring:
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


def _work(settings: Settings, monitoring: Monitoring, metrics: ConsumerMetrics, console: Console, limits: Limits) -> Counts:
    transport = Transport(settings.api_url, settings.api_timeout_seconds, settings.api_key)
    with closing(transport), closing(TransactionalStream(settings)) as stream:
        worker = Worker(
            settings,
            stream,
            KafkaReader(settings),
            with_shadows(PredictionClient(transport)),
            monitoring,
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
