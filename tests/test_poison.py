"""Whatever a producer can put into the raw topic of a real broker ends as a counted outcome, its neighbours unharmed."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

import pytest
from confluent_kafka import Producer
from kafka import KafkaProducer
from kafka.record import default_records
from prometheus_client import CollectorRegistry

from airquality.ground.settings import Settings
from airquality.metrics import ConsumerMetrics
from airquality.records import MAX_RECORD_BYTES, Reading
from airquality.stream import kafka_io
from airquality.stream.account import Counts
from airquality.stream.batches import MAX_BATCH_BYTES
from airquality.stream.console import Console
from airquality.stream.limits import Limits
from airquality.stream.reader import KafkaReader
from airquality.stream.transactions import TransactionalStream
from airquality.stream.worker import Worker
from lab.waiting import PATIENCE_SECONDS
from tests.simulated_kafka import Monitors, reading
from tests.worker_rig import Service

pytestmark = pytest.mark.broker

START = 307_668


def good(hour: int, station: int = 0) -> Reading:
    return reading(station, START + hour)


def consume(settings: Settings, n_records: int) -> Worker:
    """Run a worker over a real broker, with a service and monitors that need no process, until so many records are in."""
    monitors = Monitors()
    with closing(TransactionalStream(settings)) as stream:
        worker = Worker(
            settings,
            stream,
            KafkaReader(settings),
            Service(),
            monitors,
            ConsumerMetrics(CollectorRegistry()),
            Console(lambda _: None),
            Limits(max_records=n_records, timeout_seconds=120.0),
        )
        worker.run()
    return worker


def produce(settings: Settings, codec: str | None, *records: tuple[bytes | None, bytes | None]) -> None:
    """Send records as any client may: in one batch, compressed as asked."""
    with closing(
        KafkaProducer(
            bootstrap_servers=settings.kafka_bootstrap_servers,
            compression_type=codec,
            max_request_size=2 * MAX_BATCH_BYTES,
            linger_ms=50,
        )
    ) as producer:
        sent = [producer.send(settings.raw_topic, key=key, value=value, partition=0) for key, value in records]
        for future in sent:
            future.get(timeout=PATIENCE_SECONDS)


def dead_letters(settings: Settings) -> Iterator[Mapping[str, Any]]:
    for record in kafka_io.read(settings, settings.dlq_topic, 0):
        yield {name: (text or b"").decode() for name, text in record.headers} | {"key": record.key, "value": record.value}


@pytest.mark.parametrize("codec", [None, "gzip", "snappy", "lz4", "zstd"])
def test_consume_neighbours_of_poison_are_predicted_whatever_the_codec(settings: Settings, codec: str | None) -> None:
    rows = [(b"station_0", good(hour).to_bytes()) for hour in range(170)]
    huge = b"x" * (900_000 if codec is None else 10_000_000)
    poison: list[tuple[bytes | None, bytes | None]] = [
        (None, b""),
        (b"station_0", None),
        (b"station_0", b"\xff" * 1000),
        (b"station_0", huge),
        (b"k" * 200_000, b"{}"),
        (b"station_0", reading(0, START + 800_000).to_bytes()),
    ]
    produce(settings, codec, *rows[:169], *poison, rows[169])
    worker = consume(settings, len(rows) + len(poison))
    refused = {"malformed": 3, "oversize": 2, "future": 1}
    assert worker.counts == Counts(rows_in=176, warmup=168, predictions=2, dead_letters=refused)
    letters = list(dead_letters(settings))
    assert [letter["source_offset"] for letter in letters] == [str(169 + index) for index in range(len(poison))]
    assert letters[3]["value_bytes"] == str(len(huge))
    assert len(letters[3]["value"]) < MAX_RECORD_BYTES


def test_consume_a_record_with_neither_key_nor_value_is_a_dead_letter(settings: Settings) -> None:
    with closing(Producer({"bootstrap.servers": settings.kafka_bootstrap_servers})) as producer:  # ours cannot send one
        producer.produce(settings.raw_topic, partition=0)
        producer.flush(30)
    produce(settings, None, (b"station_0", good(0).to_bytes()))
    assert consume(settings, 2).counts.dead_letters == {"malformed": 1}
    [letter] = dead_letters(settings)
    assert (letter["key"], letter["value"], letter["value_null"]) == (None, b"", "true")


class Latin1(str):
    """A header's name as a client may send it that knows nothing of UTF-8."""

    def encode(self, *_: str) -> bytes:
        return str.encode(self, "latin-1")


def two_members(payload: bytes) -> bytes:
    """Compress as the broker reads it, and the client does not."""
    return gzip.compress(payload[:100]) + gzip.compress(payload[100:])


def test_consume_batches_the_client_cannot_read_stop_nothing(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    produce(settings, None, (b"station_0", good(0).to_bytes()))
    with closing(KafkaProducer(bootstrap_servers=settings.kafka_bootstrap_servers)) as producer:
        value = good(1).to_bytes()
        producer.send(settings.raw_topic, key=b"station_0", value=value, headers=[(Latin1("größe"), b"1")], partition=0)
        producer.send(settings.raw_topic, key=b"station_0", value=b"{", headers=[("\0unread", b"")], partition=0)
    produce(settings, "zstd", (b"station_0", b"\0" * (MAX_BATCH_BYTES + 1)))
    with monkeypatch.context() as patch:
        patch.setattr(default_records, "gzip_encode", two_members)
        produce(settings, "gzip", *((b"station_0", good(hour).to_bytes()) for hour in (2, 3, 4)))
    assert consume(settings, 7).counts == Counts(rows_in=7, warmup=5, dead_letters={"malformed": 1, "oversize": 1})
    named, unread = dead_letters(settings)
    assert (named["key"], named["value"], "value_unread" in named) == (b"station_0", b"{", False)
    assert (unread["value"], unread["value_unread"], unread["source_offset"]) == (b"", "true", "3")
