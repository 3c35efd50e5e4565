"""Consume the raw topic in a group, and commit what came of it in one transaction a batch.

A partition of the prediction and state topics holds what came of the same partition of the raw topic, so the owner of one is
the only writer of the others. See KIP-98 and KIP-447 for what the transactions promise.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field

from kafka import ConsumerRebalanceListener, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor

from airquality.ground.errors import ContractError
from airquality.ground.settings import Settings
from airquality.stream import kafka_io
from airquality.stream.kafka_io import Record, connection, kafka_errors_as_unavailable, record_of

SESSION_TIMEOUT_MS = 10_000
TRANSACTION_TIMEOUT_MS = 20_000

logger = logging.getLogger(__name__)


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
        with (
            kafka_errors_as_unavailable(settings),
            ExitStack() as opened,
        ):  # what was opened before a failure is closed again
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
            **connection(self._settings),
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
            **connection(self._settings),
            transactional_id=f"{self._settings.consumer_group}-{self._settings.consumer_instance_id or uuid.uuid4()}",
            transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
            acks="all",
            linger_ms=1,
            batch_size=256 * 1024,
        )

    def poll(self, timeout_seconds: float, max_records: int) -> Poll:
        """Wait for records, at most ``timeout_seconds``; also where rebalances happen."""
        with kafka_errors_as_unavailable(self._settings):
            polled = self._consumer.poll(timeout_ms=int(timeout_seconds * 1000), max_records=max_records)
        lost, gained = self._assignment.take()
        records = {partition.partition: [record_of(consumed) for consumed in batch] for partition, batch in polled.items()}
        return Poll(lost, gained, records)

    def keep_membership(self) -> bool:
        """Stay in the group without taking records; return whether the assignment is still the same.

        If it is not, the next :meth:`poll` says how.
        """
        paused = self._consumer.assignment()
        self._consumer.pause(*paused)
        try:
            with kafka_errors_as_unavailable(self._settings):
                polled = self._consumer.poll(timeout_ms=0)
            for partition, records in polled.items():  # of a partition that came in this very call: taken back
                self._consumer.seek(partition, records[0].offset)
        finally:
            self._consumer.resume(*(paused & self._consumer.assignment()))
        return not (self._assignment.gained or self._assignment.lost)

    def position(self, partition: int) -> Position:
        """Return where the group stands in a raw partition; waits until no transaction leaves that in doubt."""
        raw = TopicPartition(self._settings.raw_topic, partition)
        with kafka_errors_as_unavailable(self._settings), self._watched("committed"):
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
        with kafka_errors_as_unavailable(self._settings), self._watched("transaction"):
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
        with kafka_errors_as_unavailable(self._settings):
            ends = self._consumer.end_offsets(list(self._consumer.assignment()))
            return {tp.partition: max(0, end - self._consumer.position(tp)) for tp, end in ends.items()}

    def close(self) -> None:
        """Leave the group and drop the connections; an open transaction is left to the broker's abort."""
        self._producer.close(timeout=1)
        self._consumer.close(autocommit=False, timeout_ms=5_000)

    def _check_partitions(self) -> None:
        counts = {
            name: len(kafka_io.partitions(self._settings, name)) for name in kafka_io.topic_names(self._settings).values()
        }
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
