from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from airquality.ground.errors import ContractError, Unavailable
from airquality.metrics import ConsumerMetrics
from airquality.stream.health import KAFKA_SILENT_SECONDS, Health

NOW = 1_000_000.0


def consumer(answered: float) -> tuple[CollectorRegistry, ConsumerMetrics]:
    registry = CollectorRegistry()
    metrics = ConsumerMetrics(registry)
    metrics.kafka_answered.set(answered)
    return registry, metrics


def test_health_with_everything_there_has_no_fault() -> None:
    registry, _ = consumer(NOW - KAFKA_SILENT_SECONDS)
    assert Health(registry, lambda: None, lambda: NOW).faults() == []


def test_health_of_a_silent_kafka_says_for_how_long() -> None:
    registry, _ = consumer(NOW - 42)
    assert Health(registry, lambda: None, lambda: NOW).faults() == ["Kafka has not answered for 42 s; no row is lost"]


def test_health_before_kafka_answered_says_so() -> None:
    registry, _ = consumer(0)
    assert Health(registry, lambda: None, lambda: NOW).faults() == ["Kafka has not answered yet"]


@pytest.mark.parametrize("error", [Unavailable("the API is away"), ContractError("another release")])
def test_health_of_an_api_that_is_of_no_use_says_why(error: Exception) -> None:
    def ask() -> None:
        raise error

    registry, _ = consumer(NOW)
    assert Health(registry, ask, lambda: NOW).faults() == [str(error)]


def test_health_of_a_refused_consumer_points_at_its_log() -> None:
    registry, metrics = consumer(NOW)
    metrics.refused.set(1)
    (fault,) = Health(registry, lambda: None, lambda: NOW).faults()
    assert "leaves partitions unread" in fault
