"""Everything that speaks to Kafka, with every setting on purpose: topics, the producer, the transactional stream.

Defaults of the client that would lose or repeat rows are overridden here and nowhere else: auto-commit, reset to latest,
reading uncommitted records. A partition of the prediction and state topics holds what came of the same partition of the raw
topic, so the owner of one is the only writer of the others. See KIP-98 and KIP-447 for what the transactions promise.
"""

from __future__ import annotations

import argparse
import faulthandler
import logging
import os
import sys
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kafka import (
    ConsumerRebalanceListener,
    KafkaAdminClient,
    KafkaConsumer,
    KafkaProducer,
    OffsetAndMetadata,
    TopicPartition,
)
from kafka.admin import NewTopic
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
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
SESSION_TIMEOUT_MS = 10_000
TRANSACTION_TIMEOUT_MS = 20_000
CONNECT_TIMEOUT_MS = 15_000
TOPIC_SECONDS = 10.0
#: How long reading a partition to its end may stand still: longer than a dead worker's transaction can hold it up.
STALL_SECONDS = 60.0

logger = logging.getLogger(__name__)


class Record(NamedTuple):
    """One record of a topic, bytes untouched."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Message:
    """One record to publish; ``partition`` is that of the raw record it came of."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Position:
    """Where a group stands in a partition: the next offset, and the note that was committed with it."""

    offset: int
    note: str


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
        with _told(settings), closing(KafkaProducer(**_connection(settings))) as producer:
            for name in topic_names(settings).values():
                producer.partitions_for(name)
        return
    with _told(settings), closing(KafkaAdminClient(**_connection(settings))) as admin:
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
    with _told(settings), closing(_reader(settings, "read_uncommitted")) as client:
        while not (found := client.partitions_for_topic(topic)):  # a topic made a moment ago may not have spread yet
            if time.monotonic() > deadline:
                raise ContractError(f"there is no topic {topic}: run python -m airquality topics")
            time.sleep(0.1)
    return sorted(found)


def idempotent_producer(settings: Settings) -> KafkaProducer:
    """Return a producer whose retries never write a record twice; raises ``Unavailable`` if no broker answers."""
    with _told(settings):
        return KafkaProducer(**_connection(settings), acks="all", enable_idempotence=True, linger_ms=5, batch_size=64 * 1024)


def _connection(settings: Settings) -> dict[str, Any]:
    connection: dict[str, Any] = {
        "bootstrap_servers": settings.kafka_bootstrap_servers.split(","),
        "bootstrap_timeout_ms": CONNECT_TIMEOUT_MS,
        "reconnect_backoff_max_ms": 2_000,
    }
    if settings.kafka_api_version:
        connection["api_version"] = tuple(int(part) for part in settings.kafka_api_version.split("."))
    return connection


@contextmanager
def _told(settings: Settings) -> Iterator[None]:
    """Turn the client's errors into ``Unavailable``: the broker is the one service whose absence waiting can mend."""
    try:
        yield
    except KafkaError as error:
        raise Unavailable(
            f"Kafka at {settings.kafka_bootstrap_servers}: {type(error).__name__}: {error}. "
            f"Is a broker running there? KAFKA_BOOTSTRAP_SERVERS says where to look."
        ) from error


class _Assignment(ConsumerRebalanceListener):  # type: ignore[misc]
    """Notes which partitions came and went since it was last asked."""

    def __init__(self) -> None:
        self.gained: set[int] = set()
        self.lost: set[int] = set()

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self.gained |= {partition.partition for partition in assigned}

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        self._drop({partition.partition for partition in revoked})

    def on_partitions_lost(self, lost: Iterable[TopicPartition]) -> None:
        self._drop({partition.partition for partition in lost})

    def _drop(self, partitions: set[int]) -> None:
        self.gained -= partitions
        self.lost |= partitions

    def take(self) -> tuple[set[int], set[int]]:
        taken = self.lost, self.gained
        self.gained, self.lost = set(), set()
        return taken


@dataclass
class Poll:
    """What one poll brought: partitions lost, partitions gained (in that order), and records by partition."""

    lost: set[int] = field(default_factory=set)
    gained: set[int] = field(default_factory=set)
    records: dict[int, list[Record]] = field(default_factory=dict)


class TransactionalStream:
    """Consume the raw topic in a group, and commit what came of it in one transaction a batch.

    Not for threads. After any error of :meth:`commit` the outcome is unknown: close it, open another, restore state.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._assignment = _Assignment()
        with _told(settings), ExitStack() as opened:  # what was opened before a failure is closed again
            self._check_partitions()
            self._consumer = opened.enter_context(closing(self._open_consumer()))
            self._producer = opened.enter_context(closing(self._open_producer()))
            with self._watched("init_transactions"):
                self._producer.init_transactions()
            self._consumer.topics()  # a subscription made while the first metadata are under way waits five minutes
            self._consumer.subscribe([settings.raw_topic], listener=self._assignment)
            opened.pop_all()

    def _open_consumer(self) -> KafkaConsumer:
        return KafkaConsumer(
            **_connection(self._settings),
            group_id=self._settings.consumer_group,
            group_instance_id=self._settings.consumer_instance_id,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            partition_assignment_strategy=(CooperativeStickyAssignor,),
            session_timeout_ms=SESSION_TIMEOUT_MS,
            max_poll_records=self._settings.max_poll_records,
            fetch_max_wait_ms=50,
            max_partition_fetch_bytes=4 * 1024 * 1024,
        )

    def _open_producer(self) -> KafkaProducer:
        return KafkaProducer(
            **_connection(self._settings),
            transactional_id=f"{self._settings.consumer_group}-{self._settings.consumer_instance_id or uuid.uuid4()}",
            transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
            acks="all",
            linger_ms=1,
            batch_size=256 * 1024,
        )

    def poll(self, timeout_seconds: float, max_records: int) -> Poll:
        """Wait for records, at most ``timeout_seconds``; also where rebalances happen."""
        with _told(self._settings):
            polled = self._consumer.poll(timeout_ms=int(timeout_seconds * 1000), max_records=max_records)
        lost, gained = self._assignment.take()
        records = {
            partition.partition: [Record(r.partition, r.offset, r.key, r.value) for r in batch]
            for partition, batch in polled.items()
        }
        return Poll(lost, gained, records)

    def keep_membership(self) -> bool:
        """Stay in the group without taking records; return whether the assignment is still the same.

        If it is not, the next :meth:`poll` says how.
        """
        paused = self._consumer.assignment()
        self._consumer.pause(*paused)
        try:
            with _told(self._settings):
                polled = self._consumer.poll(timeout_ms=0)
            for partition, records in polled.items():  # of a partition that came in this very call: taken back
                self._consumer.seek(partition, records[0].offset)
        finally:
            self._consumer.resume(*(paused & self._consumer.assignment()))
        return not (self._assignment.gained or self._assignment.lost)

    def position(self, partition: int) -> Position:
        """Return where the group stands in a raw partition; waits until no transaction leaves that in doubt."""
        raw = TopicPartition(self._settings.raw_topic, partition)
        with _told(self._settings), self._watched("committed"):
            committed = self._consumer.committed(raw, metadata=True)
            start = self._consumer.beginning_offsets([raw])[raw]
        if committed is None or committed.offset < 0:
            return Position(start, "")
        return Position(committed.offset, committed.metadata or "")

    def commit(self, messages: Iterable[Message], positions: Mapping[int, Position]) -> list[int]:
        """Publish ``messages`` and move the group to ``positions``, all or nothing.

        Returns:
            The offset of each message, in order.

        Raises:
            Unavailable: the outcome is unknown, or another worker owns the partitions now.
        """
        offsets = {
            TopicPartition(self._settings.raw_topic, partition): OffsetAndMetadata(position.offset, position.note, -1)
            for partition, position in positions.items()
        }
        with _told(self._settings), self._watched("transaction"):
            self._producer.begin_transaction()
            sent = [
                self._producer.send(m.topic, value=m.value, key=m.key, headers=list(m.headers), partition=m.partition)
                for m in messages
            ]
            self._producer.send_offsets_to_transaction(offsets, self._consumer.group_metadata())
            self._producer.commit_transaction()
            return [future.get(timeout=self._settings.watchdog_seconds).offset for future in sent]

    def lag(self) -> dict[int, int]:
        """Return, by partition, how many offsets of the raw topic lie between this consumer and the end."""
        with _told(self._settings):
            ends = self._consumer.end_offsets(list(self._consumer.assignment()))
            return {tp.partition: max(0, end - self._consumer.position(tp)) for tp, end in ends.items()}

    def close(self) -> None:
        """Leave the group and drop the connections; an open transaction is left to the broker's abort."""
        self._producer.close(timeout=1)
        self._consumer.close(autocommit=False, timeout_ms=5_000)

    def _check_partitions(self) -> None:
        counts = {name: len(partitions(self._settings, name)) for name in topic_names(self._settings).values()}
        if len(set(counts.values())) != 1:
            raise ContractError(f"the topics must have equal numbers of partitions, found {counts}")

    @contextmanager
    def _watched(self, what: str) -> Iterator[None]:
        """End the process if the block takes longer than ``watchdog_seconds``: these client calls have no timeout."""
        seconds = self._settings.watchdog_seconds
        timer = threading.Timer(seconds, _end_process, (what, seconds))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


def _end_process(what: str, seconds: float) -> None:
    logger.critical(
        "%s did not return within %g s: ending this process; its state is in Kafka, start it again", what, seconds
    )
    faulthandler.dump_traceback(all_threads=True)
    os._exit(1)


def read(
    settings: Settings, topic: str, partition: int, start: int | None = None, stop: int | None = None
) -> Iterator[Record]:
    """Yield a partition's committed records from ``start`` (None: the oldest) up to ``stop`` (None: today's end), exclusive.

    The end is the last record written, committed or not: while a transaction is open before it, this waits for its outcome.

    Raises:
        Unavailable: no broker answers, or nothing moved for a minute.
    """
    assigned = TopicPartition(topic, partition)
    with _told(settings), closing(_reader(settings, "read_uncommitted")) as client:
        end = client.end_offsets([assigned])[assigned] if stop is None else stop
        oldest = client.beginning_offsets([assigned])[assigned]
    with _told(settings), closing(_reader(settings, "read_committed")) as client:
        client.assign([assigned])
        client.seek(assigned, oldest if start is None else max(start, oldest))
        moved = time.monotonic()
        while (position := client.position(assigned)) < end:
            for record in client.poll(timeout_ms=200).get(assigned, ()):
                if record.offset < end:
                    yield Record(partition, record.offset, record.key, record.value)
            if client.position(assigned) > position:
                moved = time.monotonic()
            elif time.monotonic() - moved > STALL_SECONDS:
                raise Unavailable(f"{topic}-{partition} stands still at {position} of {end}: a transaction is open there")


def end_offset(settings: Settings, topic: str, partition: int) -> int:
    """Return the offset the next record of the partition gets."""
    assigned = TopicPartition(topic, partition)
    with _told(settings), closing(_reader(settings, "read_uncommitted")) as client:
        return int(client.end_offsets([assigned])[assigned])


def _reader(settings: Settings, isolation_level: str) -> KafkaConsumer:
    return KafkaConsumer(
        **_connection(settings),
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
