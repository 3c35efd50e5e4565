"""What a broker is to the programs that use one, and the one that needs nothing: librdkafka's mock cluster."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from airquality.ground.errors import Unavailable

#: The newest protocol kafka-python may speak to librdkafka's mock cluster, which claims more than it can do.
MOCK_API_VERSION = "2.3"

Kind = Literal["external", "real", "mock"]


@dataclass
class Broker:
    """A broker to talk to, and what the user should know about it; leaving its ``with`` block closes it."""

    kind: Kind
    bootstrap_servers: str
    #: One line: which broker this is, and why it is not a better one.
    description: str
    #: What ``Settings.kafka_api_version`` must be for this broker; None lets the client ask.
    api_version: str | None = None

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables by which programs find this broker."""
        version = {"KAFKA_API_VERSION": self.api_version} if self.api_version else {}
        return {"KAFKA_BOOTSTRAP_SERVERS": self.bootstrap_servers, **version}

    def wait(self) -> None:
        """Wait until the broker ends by itself, which only a real one can do; Ctrl-C interrupts."""
        threading.Event().wait()

    def close(self) -> None:
        """Give back what was started for this broker; a second call does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class MockBroker(Broker):
    """librdkafka's mock cluster: it lives in this process and as long as this object; other processes reach it over TCP."""

    def __init__(self, why: str) -> None:
        """Start the cluster; ``why`` says in a few words why it is not a real broker."""
        self._cluster: Any = _mock_cluster()
        (broker,) = self._cluster.list_topics(timeout=10).brokers.values()
        super().__init__(
            "mock",
            f"{broker.host}:{broker.port}",
            f"Broker: librdkafka mock cluster in this process ({why}); it stores no offsets, fences nobody and compacts "
            "nothing, so a run cannot resume",
            MOCK_API_VERSION,
        )

    def close(self) -> None:
        """End the cluster; its records are gone."""
        if self._cluster is not None:
            self._cluster.close()
            self._cluster = None


def _mock_cluster() -> Any:
    try:
        from confluent_kafka import Producer
    except ImportError as error:
        raise Unavailable(f"no mock cluster either: confluent-kafka cannot be imported ({error})") from error
    # log_level 3 silences the banner about ignored bootstrap servers: the description says it better.
    return Producer({"test.mock.num.brokers": 1, "log_level": 3})
