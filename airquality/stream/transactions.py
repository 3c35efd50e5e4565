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
from typing import NamedTuple, Self

from kafka import ConsumerRebalanceListener, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import KafkaError
from kafka.structs import ConsumerGroupMetadata, MemberState

from airquality.ground.errors import Refused, Unavailable
from airquality.ground.settings import Settings
from airquality.stream import kafka_io
from airquality.stream.kafka_io import Record, kafka_errors_as_unavailable, record_of

SESSION_TIMEOUT_MS = 10_000
TRANSACTION_TIMEOUT_MS = 20_000
#: The producer waits so long for a coordinator that is gone before it asks who took over. The cluster fences a lost broker
#: after 9 s; the client's own 30 s would be the longest silence of every consumer after each loss.
REQUEST_TIMEOUT_MS = 10_000
#: How soon new partitions, and another topic under the same name, are noticed.
METADATA_AGE_MS = 10_000
#: A figure that is asked for every few seconds may not hold up the loop, nor a stop, while a broker is away.
LAG_TIMEOUT_MS = 4_000
NO_MEMBERSHIP = ConsumerGroupMetadata()

logger = logging.getLogger(__name__)


class Message(NamedTuple):
    """One record to publish; ``partition`` is that of the raw record it came of."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


#: The offset after the last message that was written, by topic and partition.
Written = dict[tuple[str, int], int]


@dataclass(frozen=True, slots=True)
class Position:
    """The committed position of a group in a partition: the next offset, and the note that was committed with it."""

    offset: int
    note: str


@dataclass(frozen=True, slots=True)
class Ownership:
    """What this member may commit: the partitions assigned to it, and its membership as read together with them.

    The one place that decides it. kafka-python forgets generation and member id when the group puts a member out, and a
    broker accepts a transactional commit without them from anybody; it also rejoins silently, with a valid generation and
    other partitions. So neither is ever read at the time of a commit.
    """

    partitions: frozenset[int] = frozenset()
    membership: ConsumerGroupMetadata = NO_MEMBERSHIP

    @classmethod
    def read(cls, consumer: KafkaConsumer, before: Self) -> Self:
        """Return what ``consumer`` owns after a poll; while it rejoins, what of ``before`` it still holds.

        The broker refuses the membership of ``before`` once the group has gone on without this member.
        """
        membership = consumer.group_metadata()
        assigned = frozenset(partition.partition for partition in consumer.assignment())
        if membership.state != MemberState.STABLE:
            return cls(before.partitions & assigned, before.membership)
        return cls(assigned, membership)

    def require(self, partitions: Iterable[int]) -> None:
        """Raise ``Unavailable`` unless every one of ``partitions`` may be committed."""
        membership = self.membership
        if membership.generation_id < 0 or not membership.member_id:
            raise Unavailable(f"this consumer is no member of group {membership.group_id} now")
        foreign = sorted(set(partitions) - self.partitions)
        if foreign:
            raise Unavailable(f"partitions {foreign} are not assigned to this consumer now")


class _Assignment(ConsumerRebalanceListener):  # type: ignore[misc]
    """Notes which partitions came and went since it was last asked.

    A partition that comes is paused at its beginning until its state is restored: the client must neither fetch its records
    nor choose an offset for it.
    """

    def __init__(self) -> None:
        self.consumer: KafkaConsumer | None = None
        self.gained: set[int] = set()
        self.lost: set[int] = set()
        self.unstarted: set[TopicPartition] = set()

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        for partition in assigned:
            self.gained.add(partition.partition)
            self.unstarted.add(partition)
            if self.consumer is not None:
                self.consumer.seek(partition, 0)
                self.consumer.pause(partition)

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        self._drop(set(revoked))

    def on_partitions_lost(self, lost: Iterable[TopicPartition]) -> None:
        self._drop(set(lost))

    def _drop(self, partitions: set[TopicPartition]) -> None:
        self.unstarted -= partitions
        numbers = {partition.partition for partition in partitions}
        self.gained -= numbers
        self.lost |= numbers

    def take(self) -> tuple[set[int], set[int]]:
        taken = self.lost, self.gained
        self.gained, self.lost = set(), set()
        return taken


@dataclass
class Poll:
    """What one poll brought: partitions lost, partitions gained (in that order), records, and what may be committed now."""

    lost: set[int] = field(default_factory=set)
    gained: set[int] = field(default_factory=set)
    records: dict[int, list[Record]] = field(default_factory=dict)
    ownership: Ownership = field(default_factory=Ownership)


class TransactionalStream:
    """Consume the raw topic in a group, and commit what came of it in one transaction a batch.

    Not for threads. After any error of :meth:`commit` the outcome is unknown: close it, open another, restore state.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._assignment = _Assignment()
        self._ownership = Ownership()
        with (
            kafka_errors_as_unavailable(settings),
            ExitStack() as opened,
        ):  # what was opened before a failure is closed again
            self._raw_id = kafka_io.topics_now(settings).raw
            self._consumer = self._assignment.consumer = opened.enter_context(closing(self._open_consumer()))
            self._producer = opened.enter_context(closing(self._open_producer()))
            with self._watched("init_transactions"):
                self._producer.init_transactions()
            self._consumer.topics()  # a subscription made while the first metadata are under way waits five minutes
            self._consumer.subscribe([settings.raw_topic], listener=self._assignment)
            opened.pop_all()

    def _open_consumer(self) -> KafkaConsumer:
        return kafka_io.open_consumer(
            self._settings,
            group_id=self._settings.consumer_group,
            group_instance_id=self._settings.consumer_instance_id,
            auto_offset_reset="none",  # a jump over rows that are gone would be silent
            isolation_level="read_committed",
            partition_assignment_strategy=(CooperativeStickyAssignor,),
            session_timeout_ms=SESSION_TIMEOUT_MS,
            max_poll_records=self._settings.max_poll_records,
            max_poll_interval_ms=int(self._settings.max_poll_interval_seconds * 1000),
            fetch_max_wait_ms=50,
            max_partition_fetch_bytes=4 * 1024 * 1024,
            metadata_max_age_ms=METADATA_AGE_MS,
            allow_auto_create_topics=bool(self._settings.kafka_api_version),
        )

    def _open_producer(self) -> KafkaProducer:
        return kafka_io.open_producer(
            self._settings,
            transactional_id=f"{self._settings.consumer_group}-{self._settings.consumer_instance_id or uuid.uuid4()}",
            transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            linger_ms=1,
            batch_size=256 * 1024,
        )

    def poll(self, timeout_seconds: float, max_records: int) -> Poll:
        """Wait for records, at most ``timeout_seconds``; also where rebalances happen.

        Raises:
            Unavailable: no broker answers; or the records to be read next are gone, or are another topic's.
        """
        with kafka_errors_as_unavailable(self._settings):
            polled = self._consumer.poll(timeout_ms=int(timeout_seconds * 1000), max_records=max_records)
        records = {partition.partition: [record_of(consumed) for consumed in batch] for partition, batch in polled.items()}
        return self._news(records)

    def keep_membership(self, timeout_seconds: float) -> Poll:
        """Stay in the group for that time without taking records; partitions may be lost and gained as in any other poll.

        A time of 0 would not do: kafka-python joins the group anew at every poll that does not see its join end.
        """
        paused = self._consumer.assignment()
        self._consumer.pause(*paused)
        try:
            with kafka_errors_as_unavailable(self._settings):
                self._consumer.poll(timeout_ms=int(timeout_seconds * 1000))
        finally:
            self._consumer.resume(*((paused & self._consumer.assignment()) - self._assignment.unstarted))
        return self._news({})

    def start(self, partition: int, offset: int) -> None:
        """Read a gained partition from ``offset`` on, now that its state is restored."""
        raw = TopicPartition(self._settings.raw_topic, partition)
        self._assignment.unstarted.discard(raw)
        self._consumer.seek(raw, offset)
        self._consumer.resume(raw)

    def _news(self, records: dict[int, list[Record]]) -> Poll:
        found = kafka_io.topic_id(self._consumer, self._settings.raw_topic)
        if None not in (found, self._raw_id) and found != self._raw_id:
            raise Unavailable(f"{self._settings.raw_topic} was deleted and created anew under this consumer")
        self._ownership = Ownership.read(self._consumer, self._ownership)
        if self._consumer.group_metadata().state == MemberState.REBALANCING:
            # kafka-python 3.0 forgets a join that new metadata began, if it outlasts the poll: without heartbeats the group
            # puts this member out, and it would wait for ever. Asked for again, the join goes on in the next poll.
            self._consumer._coordinator.request_rejoin()
        lost, gained = self._assignment.take()
        return Poll(lost, gained, records, self._ownership)

    def position(self, partition: int) -> Position | None:
        """Return the group's committed position in a raw partition, None if there is none; waits for an open transaction."""
        raw = TopicPartition(self._settings.raw_topic, partition)
        with kafka_errors_as_unavailable(self._settings), self._watched("committed"):
            committed = self._consumer.committed(raw, metadata=True)
        if committed is None or committed.offset < 0:
            return None
        return Position(committed.offset, committed.metadata or "")

    def commit(self, messages: Iterable[Message], positions: Mapping[int, Position], ownership: Ownership) -> Written:
        """Publish ``messages`` and move the group to ``positions``, all or nothing.

        Args:
            messages: The records to publish.
            positions: The new position of each raw partition that the messages came of.
            ownership: What the poll brought that the messages came of, or a later one.

        Returns:
            Where each topic and partition that was written to goes on.

        Raises:
            Unavailable: the outcome is unknown, or another worker owns the partitions now.
            Refused: another process runs under this one's ``CONSUMER_INSTANCE_ID``.
        """
        ownership.require(positions)
        offsets = {
            TopicPartition(self._settings.raw_topic, partition): OffsetAndMetadata(position.offset, position.note, -1)
            for partition, position in positions.items()
        }
        with kafka_errors_as_unavailable(self._settings, "WRITE"), self._watched("transaction"):
            try:
                self._producer.begin_transaction()
                sent = {
                    (m.topic, m.partition): self._producer.send(
                        m.topic, value=m.value, key=m.key, headers=list(m.headers), partition=m.partition
                    )
                    for m in messages
                }  # the last of each: a commit has all of them or fails
                self._producer.send_offsets_to_transaction(offsets, ownership.membership)
                self._producer.commit_transaction()
                return {where: last.get(timeout=self._settings.watchdog_seconds).offset + 1 for where, last in sent.items()}
            except KafkaError:
                self._require_no_double(ownership)
                raise

    def _require_no_double(self, ownership: Ownership) -> None:
        """Raise ``Refused`` if another process took this one's name: both would fence each other for ever."""
        name = self._settings.consumer_instance_id
        if not name or self._settings.kafka_api_version:
            return
        with closing(kafka_io.open_admin(self._settings)) as admin:
            group = admin.describe_groups([self._settings.consumer_group]).get(self._settings.consumer_group, {})
        doubles = [member for member in group.get("members", ()) if member.get("group_instance_id") == name]
        if any(member["member_id"] != ownership.membership.member_id for member in doubles):
            raise Refused(
                f"another process joined group {self._settings.consumer_group} as CONSUMER_INSTANCE_ID={name} and took this "
                f"one's partitions: give each consumer an id of its own, or none"
            )

    def lag(self) -> dict[int, int]:
        """Return, by partition, how many offsets of the raw topic lie between this consumer and the end.

        Kafka is asked also where no partition is started, so that its absence or its refusal is noticed.
        """
        with kafka_errors_as_unavailable(self._settings):
            assigned = self._consumer.assignment() or {TopicPartition(self._settings.raw_topic, 0)}
            ends = self._consumer.end_offsets(list(assigned), timeout_ms=LAG_TIMEOUT_MS)
            started = self._consumer.assignment() - self._assignment.unstarted
            return {tp.partition: max(0, ends[tp] - self._consumer.position(tp)) for tp in started & set(ends)}

    def close(self) -> None:
        """Leave the group and drop the connections; an open transaction is left to the broker's abort."""
        self._producer.close(timeout=1)
        self._consumer.close(autocommit=False, timeout_ms=5_000)

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
