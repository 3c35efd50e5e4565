"""Kafka as the proof sees it, through librdkafka: the product's own client and code have no part in it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Sent:
    """One record to send. ``expect`` travels with it in a header and says what must become of it.

    It is ``row`` (warm-up or prediction, as the oracle says), ``duplicate``, the reason of a dead letter, or ``truth:`` and
    what becomes of a late truth.
    """

    key: bytes | None
    value: bytes | None
    expect: str = "row"
    partition: int | None = None
    timestamp_ms: int | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """One committed record."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes] = field(default_factory=dict)
    timestamp_ms: int = -1


class Cluster:
    """One Kafka cluster, driven as an operator and a producer would."""

    def __init__(self, servers: str) -> None:
        self.servers = servers

    @cached_property
    def admin(self) -> AdminClient:
        """The client of an operator."""
        return AdminClient(self._config())

    @cached_property
    def _watcher(self) -> Consumer:
        """A client that is asked again and again how far a topic is: librdkafka has crashed where many came and went."""
        return self._reader()

    def _config(self, **config: Any) -> dict[str, Any]:
        """Return a client's configuration; what librdkafka logs about a broker that is away is expected here."""
        return {"bootstrap.servers": self.servers, "log_level": 0, **config}

    def send(self, topic: str, records: Iterable[Sent], **config: Any) -> int:
        """Send the records in order, idempotently; return how many the broker acknowledged."""
        return self._send(self._producer(**config), topic, records)

    def send_in_transaction(self, topic: str, records: Iterable[Sent], commit: bool, open_seconds: float = 0.0) -> int:
        """Send the records in one transaction that stays open for a while and is committed or aborted; return how many."""
        producer = self._producer(**{"transactional.id": "proof"})
        producer.init_transactions(SECONDS)
        producer.begin_transaction()
        count = self._send(producer, topic, records)
        time.sleep(open_seconds)
        if commit:
            producer.commit_transaction(SECONDS)
        else:
            producer.abort_transaction(SECONDS)
        return count

    def _producer(self, **config: Any) -> Producer:
        defaults = {"enable.idempotence": True, "linger.ms": 5, "partitioner": "murmur2_random"}
        return Producer(self._config(**defaults | config))

    def _send(self, producer: Producer, topic: str, records: Iterable[Sent]) -> int:
        failures: list[Any] = []
        count = 0
        for record in records:
            headers = [*record.headers, ("expect", record.expect.encode())]
            extra: dict[str, Any] = {} if record.partition is None else {"partition": record.partition}
            if record.timestamp_ms is not None:
                extra["timestamp"] = record.timestamp_ms
            while True:
                try:
                    producer.produce(
                        topic,
                        value=record.value,
                        key=record.key,
                        headers=headers,
                        on_delivery=lambda error, _: failures.append(error) if error else None,
                        **extra,
                    )
                    break
                except BufferError:
                    producer.poll(0.1)
            count += 1
        producer.flush(SECONDS)
        if failures:
            raise KafkaException(failures[0])
        return count

    def committed(self, topic: str) -> list[Found]:
        """Return every committed record of the topic, by partition and offset."""
        committed = {"isolation.level": "read_committed", "enable.partition.eof": True, "auto.offset.reset": "earliest"}
        reader = self._reader(**committed)
        try:
            partitions = [TopicPartition(topic, number, 0) for number in self.partitions(topic)]
            for partition in partitions:
                partition.offset = reader.get_watermark_offsets(partition, timeout=SECONDS)[0]
            reader.assign(partitions)
            return sorted(_until_ends(reader, len(partitions)), key=lambda record: (record.partition, record.offset))
        finally:
            reader.close()

    def _reader(self, **config: Any) -> Consumer:
        sizes = {"fetch.message.max.bytes": 64 * 1024 * 1024}
        return Consumer(self._config(**{"group.id": "proof-judge", "enable.auto.commit": False, **sizes, **config}))

    def partitions(self, topic: str) -> list[int]:
        """Return the topic's partitions, none if there is no such topic."""
        return sorted(self.admin.list_topics(topic, timeout=SECONDS).topics[topic].partitions)

    def ends(self, topic: str) -> int:
        """Return how far the partitions of a topic have grown, in offsets, control records included."""
        return sum(self.end_offsets(topic).values())

    def begin_offsets(self, topic: str) -> dict[int, int]:
        """Return the offset of the first record that each partition still holds."""
        return {partition: marks[0] for partition, marks in self._watermarks(topic).items()}

    def end_offsets(self, topic: str) -> dict[int, int]:
        """Return the offset the next record of each partition gets."""
        return {partition: marks[1] for partition, marks in self._watermarks(topic).items()}

    def _watermarks(self, topic: str) -> dict[int, tuple[int, int]]:
        every = self.partitions(topic)
        return {p: self._watcher.get_watermark_offsets(TopicPartition(topic, p), timeout=SECONDS) for p in every}

    def committed_offsets(self, group: str, topic: str) -> dict[int, int]:
        """Return what the group has committed of each partition, 0 where it has committed nothing."""
        wanted = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, p) for p in self.partitions(topic)])
        deadline = time.monotonic() + 3 * SECONDS
        while True:
            [future] = self.admin.list_consumer_group_offsets([wanted], request_timeout=10).values()
            try:
                return {found.partition: max(found.offset, 0) for found in future.result(SECONDS).topic_partitions}
            except (KafkaException, TimeoutError) as error:  # a new group, or a broker that is back, has no coordinator yet
                if time.monotonic() > deadline:
                    raise
                if _timed_out(error):  # a client that had asked before a restart waited 90 s in vain, while others worked
                    del self.admin
                time.sleep(0.2)

    def assigned(self, group: str) -> list[int]:
        """Return how many partitions each member of a group has."""
        [future] = self.admin.describe_consumer_groups([group], request_timeout=10).values()
        return [len(member.assignment.topic_partitions) for member in future.result(SECONDS).members]

    def delete_records(self, topic: str, before: Mapping[int, int]) -> None:
        """Delete the records of each partition before an offset, as retention would."""
        wanted = [TopicPartition(topic, partition, offset) for partition, offset in before.items()]
        _finish(self.admin.delete_records(wanted))

    def delete_group(self, group: str) -> None:
        """Delete a consumer group with its offsets, as their expiry would."""
        _finish(self.admin.delete_consumer_groups([group]))

    def set_offsets(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        """Move a group's offsets as an admin's tool does: without metadata."""
        wanted = [TopicPartition(topic, partition, offset) for partition, offset in offsets.items()]
        _finish(self.admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, wanted)]))

    def recreate(self, topic: str, partitions: int, config: Mapping[str, str] | None = None) -> None:
        """Delete a topic and make it anew under its name."""
        _finish(self.admin.delete_topics([topic], operation_timeout=SECONDS))
        deadline = time.monotonic() + SECONDS
        while True:  # the broker finishes a deletion after it has answered
            try:
                _finish(self.admin.create_topics([NewTopic(topic, partitions, 1, config=dict(config or {}))]))
                return
            except KafkaException:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def raise_partitions(self, topics: Sequence[str], total: int) -> None:
        """Give each topic more partitions."""
        _finish(self.admin.create_partitions([NewPartitions(topic, total) for topic in topics]))


def _until_ends(reader: Consumer, n_partitions: int) -> Iterable[Found]:
    ended: set[int] = set()
    deadline = time.monotonic() + 2 * SECONDS
    while len(ended) < n_partitions:
        message = reader.poll(1.0)
        if message is None:
            if time.monotonic() > deadline:
                raise TimeoutError("the committed end was not reached: a transaction stays open")
            continue
        if message.error():
            ended.add(message.partition())
            continue
        headers = {name: value or b"" for name, value in message.headers() or ()}
        stamp = message.timestamp()[1]
        yield Found(message.partition(), message.offset(), message.key(), message.value(), headers, stamp)


def _timed_out(error: Exception) -> bool:
    return isinstance(error, TimeoutError) or error.args[0].code() == KafkaError._TIMED_OUT


def _finish(futures: Mapping[Any, Any]) -> None:
    for future in futures.values():
        future.result(SECONDS)
