"""The transactional stream: membership, positions, commits; most of it against a real broker."""

from __future__ import annotations

import types
from collections.abc import Iterator
from contextlib import closing

import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaTimeoutError

from airquality.ground.errors import ContractError, Unavailable
from airquality.ground.settings import Settings
from airquality.stream import kafka_io
from airquality.stream.transactions import Message, Position, TransactionalStream, _Assignment
from tests.broker_topics import send, take

HELD, NEW = TopicPartition("raw", 0), TopicPartition("raw", 1)


class Group:
    """A client whose group hands it a second partition, and that partition's first records, in the next poll."""

    def __init__(self, assignment: _Assignment) -> None:
        self.owned = {HELD: 5}
        self.paused: set[TopicPartition] = set()
        self.fault: Exception | None = None
        self._listener = assignment

    def assignment(self) -> set[TopicPartition]:
        return set(self.owned)

    def pause(self, *partitions: TopicPartition) -> None:
        self.paused |= set(partitions)

    def resume(self, *partitions: TopicPartition) -> None:
        self.paused -= set(partitions)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.owned[partition] = offset

    def poll(self, timeout_ms: int) -> dict[TopicPartition, list[types.SimpleNamespace]]:
        if self.fault:
            raise self.fault
        assert self.paused == {HELD}
        self.owned[NEW] = 12
        self._listener.on_partitions_assigned([NEW])
        return {NEW: [types.SimpleNamespace(offset=offset) for offset in (9, 10, 11)]}


@pytest.fixture
def grouped() -> TransactionalStream:
    made = object.__new__(TransactionalStream)
    made._settings, made._assignment = Settings(), _Assignment()
    made._consumer = Group(made._assignment)
    return made


def test_records_that_come_while_membership_is_kept_are_given_back(grouped: TransactionalStream) -> None:
    assert not grouped.keep_membership()
    assert grouped._consumer.owned == {HELD: 5, NEW: 9}
    assert grouped._consumer.paused == set()


def test_a_fault_while_membership_is_kept_leaves_nothing_paused(grouped: TransactionalStream) -> None:
    grouped._consumer.fault = KafkaTimeoutError("no answer")
    with pytest.raises(Unavailable, match="no answer"):
        grouped.keep_membership()
    assert grouped._consumer.paused == set()


def test_a_partition_that_came_and_went_between_two_polls_is_lost_and_not_gained() -> None:
    noted = _Assignment()
    noted.on_partitions_assigned([NEW, HELD])
    noted.on_partitions_revoked([NEW])
    assert noted.take() == ({1}, {0})
    noted.on_partitions_lost([HELD])
    noted.on_partitions_assigned([HELD])
    assert noted.take() == ({0}, {0})
    assert noted.take() == (set(), set())


# --- against a real broker ---


@pytest.fixture
def stream(settings: Settings) -> Iterator[TransactionalStream]:
    with closing(TransactionalStream(settings)) as opened:
        yield opened


@pytest.mark.broker
def test_a_commit_moves_messages_and_position_together(settings: Settings, stream: TransactionalStream) -> None:
    send(settings, 1, b"a", b"b")
    assert take(stream, 2) == {1: [b"a", b"b"]}
    assert stream.position(1) == Position(0, "")
    message = Message(settings.pred_topic, 1, b"roof", b"1.5", (("reason", b"none"),))
    offsets = stream.commit([message, message], {1: Position(2, "the note")})
    assert offsets == [0, 1]
    assert stream.position(1) == Position(2, "the note")
    assert [record.value for record in kafka_io.read(settings, settings.pred_topic, 1)] == [b"1.5", b"1.5"]
    assert kafka_io.end_offset(settings, settings.pred_topic, 1) == 3  # two records and the transaction's marker


@pytest.mark.broker
def test_a_restarted_member_of_the_same_name_fences_the_one_before(settings: Settings) -> None:
    named = settings.model_copy(update={"consumer_instance_id": "one"})
    send(settings, 0, b"a")
    with closing(TransactionalStream(named)) as before:
        take(before, 1)
        with closing(TransactionalStream(named)) as after:
            with pytest.raises(Unavailable):
                before.commit([Message(named.pred_topic, 0, None, b"twice")], {0: Position(1, "")})
            take(after, 1)
            after.commit([Message(named.pred_topic, 0, None, b"once")], {0: Position(1, "")})
    assert [record.value for record in kafka_io.read(settings, settings.pred_topic, 0)] == [b"once"]


@pytest.mark.broker
def test_keeping_membership_takes_no_record(settings: Settings, stream: TransactionalStream) -> None:
    send(settings, 0, b"a")
    take(stream, 1)
    send(settings, 0, b"b")
    for _ in range(5):
        assert stream.keep_membership()
    assert take(stream, 1) == {0: [b"b"]}


@pytest.mark.broker
def test_lag_is_what_is_left_to_read(settings: Settings, stream: TransactionalStream) -> None:
    send(settings, 0, b"a", b"b", b"c")
    take(stream, 3)
    assert stream.lag() == {0: 0, 1: 0}


@pytest.mark.broker
def test_unequal_partitions_are_refused(settings: Settings) -> None:
    other = settings.model_copy(update={"pred_topic": f"{settings.pred_topic}.three", "topic_partitions": 3})
    kafka_io.ensure_topics(other)
    with pytest.raises(ContractError, match="equal numbers of partitions"):
        TransactionalStream(other)


@pytest.mark.broker
def test_the_note_survives_another_reader(settings: Settings, stream: TransactionalStream) -> None:
    send(settings, 0, b"a")
    take(stream, 1)
    stream.commit([], {0: Position(1, "x" * 3000)})
    with closing(
        KafkaConsumer(bootstrap_servers=settings.kafka_bootstrap_servers, group_id=settings.consumer_group)
    ) as consumer:
        committed = consumer.committed(TopicPartition(settings.raw_topic, 0), metadata=True)
    assert (committed.offset, len(committed.metadata)) == (1, 3000)
