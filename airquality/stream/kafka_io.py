"""What every client of Kafka here needs, with every setting on purpose: connections, topics, reading to the end.

Defaults of the client that would lose or repeat rows are overridden here and nowhere else: auto-commit, reset to latest,
reading uncommitted records.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic
from kafka.errors import KafkaError, TopicAlreadyExistsError

from airquality.ground import log
from airquality.ground.errors import AirQualityError, ContractError, Unavailable, UsageError
from airquality.ground.settings import Settings, read_settings

DAY_MS = 24 * 3600 * 1000
#: What each topic is for decides how long it keeps what. State is compacted: its last record a station is all it needs;
#: small, short segments let the cleaner keep the restart short.
TOPIC_CONFIGS: dict[str, dict[str, str]] = {
    "raw": {"retention.ms": str(90 * DAY_MS)},
    "pred": {"retention.ms": str(365 * DAY_MS)},
    "dlq": {"retention.ms": str(365 * DAY_MS)},
    "state": {
        "cleanup.policy": "compact",
        "min.cleanable.dirty.ratio": "0.1",
        "segment.ms": str(DAY_MS),
        "segment.bytes": str(16 * 1024 * 1024),
    },
}
CONNECT_TIMEOUT_MS = 15_000
TOPIC_SECONDS = 10.0
#: How long reading a partition to its end may stand still: longer than a dead worker's transaction can hold it up.
STALL_SECONDS = 60.0

logger = logging.getLogger(__name__)


class Record(NamedTuple):
    """One record of a topic, bytes untouched.

    ``timestamp_ms`` is Kafka's: milliseconds since 1970 (UTC), of the broker where the topic says ``LogAppendTime``, of the
    producer where it says ``CreateTime``; negative where the record has none.
    """

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp_ms: int = -1
    headers: tuple[tuple[str, bytes], ...] = ()


def topic_names(settings: Settings) -> dict[str, str]:
    """Return the name of each topic by its role."""
    return {
        "raw": settings.raw_topic,
        "pred": settings.pred_topic,
        "state": settings.state_topic,
        "dlq": settings.dlq_topic,
    }


def ensure_topics(settings: Settings) -> None:
    """Create the topics that do not exist; existing ones stay as they are.

    Raises:
        Unavailable: no broker answers.
    """
    if settings.kafka_api_version:  # librdkafka's mock has no controller to ask: it makes a topic when a producer names it
        with kafka_errors_as_unavailable(settings), closing(KafkaProducer(**connection(settings))) as producer:
            for name in topic_names(settings).values():
                producer.partitions_for(name)
        return
    with kafka_errors_as_unavailable(settings), closing(KafkaAdminClient(**connection(settings))) as admin:
        for role, name in topic_names(settings).items():
            topic = NewTopic(name, settings.topic_partitions, 1, topic_configs=TOPIC_CONFIGS[role])
            try:
                admin.create_topics([topic], timeout_ms=CONNECT_TIMEOUT_MS)
                logger.info("created topic %s with %d partitions", name, settings.topic_partitions)
            except TopicAlreadyExistsError:
                continue


def partitions(settings: Settings, topic: str) -> list[int]:
    """Return the topic's partitions; raises ``ContractError`` if there is no such topic, ``Unavailable`` if no broker."""
    deadline = time.monotonic() + TOPIC_SECONDS
    with kafka_errors_as_unavailable(settings), closing(_reader(settings, "read_uncommitted")) as client:
        while not (found := client.partitions_for_topic(topic)):  # a topic made a moment ago may not have spread yet
            if time.monotonic() > deadline:
                raise ContractError(f"there is no topic {topic}: run python -m airquality topics")
            time.sleep(0.1)
    return sorted(found)


def idempotent_producer(settings: Settings) -> KafkaProducer:
    """Return a producer whose retries never write a record twice; raises ``Unavailable`` if no broker answers."""
    with kafka_errors_as_unavailable(settings):
        return KafkaProducer(**connection(settings), acks="all", enable_idempotence=True, linger_ms=5, batch_size=64 * 1024)


def connection(settings: Settings) -> dict[str, Any]:
    """Return the arguments every client connects with."""
    connection: dict[str, Any] = {
        "bootstrap_servers": settings.kafka_bootstrap_servers.split(","),
        "bootstrap_timeout_ms": CONNECT_TIMEOUT_MS,
        "reconnect_backoff_max_ms": 2_000,
    }
    if settings.kafka_api_version:
        connection["api_version"] = tuple(int(part) for part in settings.kafka_api_version.split("."))
    return connection


@contextmanager
def kafka_errors_as_unavailable(settings: Settings) -> Iterator[None]:
    """Turn the client's errors into ``Unavailable``: the broker is the one service whose absence waiting can mend."""
    try:
        yield
    except KafkaError as error:
        raise Unavailable(
            f"Kafka at {settings.kafka_bootstrap_servers}: {type(error).__name__}: {error}. "
            f"Is a broker running there? KAFKA_BOOTSTRAP_SERVERS says where to look."
        ) from error


def read(
    settings: Settings, topic: str, partition: int, start: int | None = None, stop: int | None = None
) -> Iterator[Record]:
    """Yield a partition's committed records from ``start`` (None: the oldest) up to ``stop`` (None: today's end), exclusive.

    The end is the last record written, committed or not: while a transaction is open before it, this waits for its outcome.

    Raises:
        Unavailable: no broker answers, or nothing moved for a minute.
    """
    assigned = TopicPartition(topic, partition)
    with kafka_errors_as_unavailable(settings), closing(_reader(settings, "read_uncommitted")) as client:
        end = client.end_offsets([assigned])[assigned] if stop is None else stop
        oldest = client.beginning_offsets([assigned])[assigned]
    with kafka_errors_as_unavailable(settings), closing(_reader(settings, "read_committed")) as client:
        client.assign([assigned])
        client.seek(assigned, oldest if start is None else max(start, oldest))
        moved = time.monotonic()
        while (position := client.position(assigned)) < end:
            for record in client.poll(timeout_ms=200).get(assigned, ()):
                if record.offset < end:
                    yield record_of(record)
            if client.position(assigned) > position:
                moved = time.monotonic()
            elif time.monotonic() - moved > STALL_SECONDS:
                raise Unavailable(f"{topic}-{partition} stands still at {position} of {end}: a transaction is open there")


def record_of(consumed: Any) -> Record:
    """Return the client's record as ours."""
    return Record(
        consumed.partition, consumed.offset, consumed.key, consumed.value, consumed.timestamp, tuple(consumed.headers)
    )


def end_offset(settings: Settings, topic: str, partition: int) -> int:
    """Return the offset the next record of the partition gets."""
    assigned = TopicPartition(topic, partition)
    with kafka_errors_as_unavailable(settings), closing(_reader(settings, "read_uncommitted")) as client:
        return int(client.end_offsets([assigned])[assigned])


def _reader(settings: Settings, isolation_level: str) -> KafkaConsumer:
    return KafkaConsumer(
        **connection(settings),
        isolation_level=isolation_level,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        check_crcs=not settings.kafka_api_version,  # librdkafka's mock changes later batches without mending their checksums
        fetch_max_wait_ms=50,
        max_partition_fetch_bytes=8 * 1024 * 1024,
        max_poll_records=2_000,
    )


def main(argv: list[str] | None = None) -> int:
    """Create the topics; 0 done, 1 failure, 2 usage."""
    p = argparse.ArgumentParser(
        prog="python -m airquality topics",
        description="Create the four topics where they are missing. KAFKA_BOOTSTRAP_SERVERS says where, "
        "TOPIC_PARTITIONS how many partitions (more of them let more consumers share the stations).",
    )
    p.parse_args(argv)
    try:
        settings = read_settings()
        log.configure(settings.log_level, settings.log_format)
        ensure_topics(settings)
    except AirQualityError as error:
        print(f"topics: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    print(f"topics ready at {settings.kafka_bootstrap_servers}: {', '.join(topic_names(settings).values())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
