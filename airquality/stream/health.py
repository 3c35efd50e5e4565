"""Whether a consumer can do its work now, in words: what its container's health check says."""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry

from airquality.ground.errors import AirQualityError

#: The worker asks Kafka every 5 s, also while it waits for the prediction service.
KAFKA_SILENT_SECONDS = 20.0


class Health:
    """Judge by the consumer's own metrics, and by asking the prediction service.

    Args:
        registry: The one that holds the consumer's metrics.
        ask_api: Raise an :class:`AirQualityError` unless the prediction service is of use; must have a deadline.
        clock: Unix time.
    """

    def __init__(
        self, registry: CollectorRegistry, ask_api: Callable[[], object], clock: Callable[[], float] = time.time
    ) -> None:
        self._registry = registry
        self._ask_api = ask_api
        self._clock = clock

    def faults(self) -> list[str]:
        """Return what keeps this consumer from predicting, a sentence each; empty if nothing does."""
        return [fault for fault in (self._refused(), self._kafka(), self._api()) if fault]

    def _refused(self) -> str:
        refused = self._registry.get_sample_value("air_quality_consumer_refused")
        return (
            "this consumer leaves partitions unread, or it would lose or repeat rows: its log says which" if refused else ""
        )

    def _kafka(self) -> str:
        answered = self._registry.get_sample_value("air_quality_kafka_answered_timestamp_seconds")
        if not answered:
            return "Kafka has not answered yet"
        silence = self._clock() - answered
        return f"Kafka has not answered for {silence:.0f} s; no row is lost" if silence > KAFKA_SILENT_SECONDS else ""

    def _api(self) -> str:
        try:
            self._ask_api()
        except AirQualityError as error:
            return str(error)
        return ""
