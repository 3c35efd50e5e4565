"""Topics of a test's own on a real broker, and what is done with them."""

from __future__ import annotations

from contextlib import closing

from airquality.ground.settings import Settings
from airquality.stream import kafka_io
from airquality.stream.transactions import Ownership, TransactionalStream
from lab.waiting import PATIENCE_SECONDS, wait_until


def topics(bootstrap_servers: str, name: str) -> Settings:
    """Return settings of topics with two partitions each, made on the broker, and of a group."""
    made = Settings(
        kafka_bootstrap_servers=bootstrap_servers,
        raw_topic=f"{name}.raw",
        pred_topic=f"{name}.pred",
        state_topic=f"{name}.state",
        dlq_topic=f"{name}.dlq",
        events_topic=f"{name}.events",
        consumer_group=name,
        topic_partitions=2,
    )
    kafka_io.ensure_topics(made)
    return made


def send(settings: Settings, partition: int, *values: bytes) -> None:
    with closing(kafka_io.idempotent_producer(settings)) as producer:
        for value in values:
            producer.send(settings.raw_topic, key=b"roof", value=value, partition=partition).get(timeout=PATIENCE_SECONDS)


def take(stream: TransactionalStream, n_records: int) -> dict[int, list[bytes | None]]:
    """Poll until so many records have come, starting every partition that is gained at its beginning."""
    taken: dict[int, list[bytes | None]] = {}

    def enough() -> bool:
        polled = stream.poll(0.2, 100)
        for partition in polled.gained:
            stream.start(partition, 0)
        for partition, records in polled.records.items():
            taken.setdefault(partition, []).extend(record.value for record in records)
        return sum(map(len, taken.values())) >= n_records

    wait_until(enough, f"{n_records} records")
    return taken


def owned(stream: TransactionalStream, n_partitions: int) -> Ownership:
    """Poll until so many partitions are owned, and return what may be committed."""
    polled = stream.poll(0.2, 100)

    def enough() -> bool:
        nonlocal polled
        polled = stream.poll(0.2, 100)
        return len(polled.ownership.partitions) == n_partitions

    wait_until(enough, f"{n_partitions} partitions")
    return polled.ownership
