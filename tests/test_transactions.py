"""The transactional stream: membership, positions, commits; most of it against a real broker."""

from __future__ import annotations

import socketserver
import threading
import types
import uuid
from collections.abc import Iterator
from contextlib import closing

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.admin import MemberToRemove
from kafka.errors import KafkaTimeoutError
from kafka.protocol.metadata import CoordinatorType
from kafka.structs import ConsumerGroupMetadata, MemberState

from airquality.ground.errors import ContractError, Refused, Unavailable
from airquality.ground.settings import Settings
from airquality.stream import kafka_io
from airquality.stream.transactions import Message, Ownership, Position, TransactionalStream, _Assignment
from lab.waiting import PATIENCE_SECONDS, wait_until
from tests.broker_topics import owned, send, take

HELD, NEW = (TopicPartition(Settings().raw_topic, partition) for partition in (0, 1))


class Group:
    """A client whose group hands it a second partition, and that partition's first records, in the next poll."""

    def __init__(self, assignment: _Assignment) -> None:
        self.owned = {HELD: 5}
        self.paused: set[TopicPartition] = set()
        self.fault: Exception | None = None
        self.membership = ConsumerGroupMetadata("group", 1, "member", None, MemberState.STABLE)
        self.raw_id = uuid.UUID(int=1)
        self._cluster = types.SimpleNamespace(topic_id=lambda _: self.raw_id)  # as the client keeps it
        self._listener = assignment
        assignment.consumer = self

    def assignment(self) -> set[TopicPartition]:
        return set(self.owned)

    def pause(self, *partitions: TopicPartition) -> None:
        self.paused |= set(partitions)

    def resume(self, *partitions: TopicPartition) -> None:
        self.paused -= set(partitions)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.owned[partition] = offset

    def poll(self, timeout_ms: int) -> dict[TopicPartition, object]:
        if self.fault:
            raise self.fault
        assert self.paused == {HELD}
        self.owned[NEW] = 12
        self._listener.on_partitions_assigned([NEW])
        return {}

    def group_metadata(self) -> ConsumerGroupMetadata:
        return self.membership


@pytest.fixture
def grouped() -> TransactionalStream:
    made = object.__new__(TransactionalStream)
    made._settings, made._assignment, made._ownership = Settings(), _Assignment(), Ownership()
    made._consumer, made._raw_id = Group(made._assignment), uuid.UUID(int=1).hex
    return made


def test_keep_membership_partition_gained_waits_paused_until_it_is_started(grouped: TransactionalStream) -> None:
    news = grouped.keep_membership(0.1)
    assert (news.gained, news.records, news.ownership.partitions) == ({1}, {}, frozenset({0, 1}))
    assert grouped._consumer.owned == {HELD: 5, NEW: 0}
    assert grouped._consumer.paused == {NEW}
    grouped.start(1, 9)
    assert grouped._consumer.owned == {HELD: 5, NEW: 9}
    assert grouped._consumer.paused == set()


def test_keep_membership_topic_recreated_starts_over(grouped: TransactionalStream) -> None:
    grouped._consumer.raw_id = uuid.UUID(int=2)
    with pytest.raises(Unavailable, match="deleted and created anew under this consumer"):
        grouped.keep_membership(0.1)


def test_a_fault_while_membership_is_kept_leaves_nothing_paused(grouped: TransactionalStream) -> None:
    grouped._consumer.fault = KafkaTimeoutError("no answer")
    with pytest.raises(Unavailable, match="no Kafka broker answers"):
        grouped.keep_membership(0.1)
    assert grouped._consumer.paused == set()


def test_keep_membership_no_leader_of_a_topic_does_not_blame_the_broker_alone(grouped: TransactionalStream) -> None:
    grouped._consumer.fault = KafkaTimeoutError("Failed to update metadata after 60.0 secs.")
    with pytest.raises(Unavailable, match="brokers are away, or the topic was deleted"):
        grouped.keep_membership(0.1)


def test_a_partition_that_came_and_went_between_two_polls_is_lost_and_not_gained() -> None:
    noted = _Assignment()
    noted.on_partitions_assigned([NEW, HELD])
    noted.on_partitions_revoked([NEW])
    assert noted.take() == ({1}, {0})
    noted.on_partitions_lost([HELD])
    noted.on_partitions_assigned([HELD])
    assert noted.take() == ({0}, {0})
    assert noted.take() == (set(), set())


# --- what may be committed ---


def test_ownership_while_rejoining_keeps_the_membership_of_before_for_what_is_left(grouped: TransactionalStream) -> None:
    before = grouped.keep_membership(0.1).ownership
    del grouped._consumer.owned[HELD]
    grouped._consumer.membership = ConsumerGroupMetadata("group", 2, "member", None, MemberState.REBALANCING)
    after = Ownership.read(grouped._consumer, before)
    assert (after.partitions, after.membership.generation_id) == (frozenset({1}), 1)


def test_ownership_of_a_member_that_was_put_out_stays_the_one_the_group_refuses(grouped: TransactionalStream) -> None:
    before = grouped.keep_membership(0.1).ownership
    grouped._consumer.membership = ConsumerGroupMetadata("group", -1, "", None, MemberState.UNJOINED)
    assert Ownership.read(grouped._consumer, before).membership == before.membership


@pytest.mark.parametrize(
    ("generation", "member", "partitions", "match"),
    [
        (-1, "", {0}, "no member"),
        (-1, "member", {0}, "no member"),
        (1, "", {0}, "no member"),
        (1, "member", {0, 2}, r"\[2\]"),
    ],
)
def test_ownership_that_does_not_hold_is_refused(generation: int, member: str, partitions: set[int], match: str) -> None:
    with pytest.raises(Unavailable, match=match):
        Ownership(frozenset({0, 1}), ConsumerGroupMetadata("group", generation, member)).require(partitions)


def test_ownership_that_holds_may_be_committed() -> None:
    Ownership(frozenset({0, 1}), ConsumerGroupMetadata("group", 0, "member")).require({1})


# --- against a real broker ---


@pytest.fixture
def stream(settings: Settings) -> Iterator[TransactionalStream]:
    with closing(TransactionalStream(settings)) as opened:
        yield opened


@pytest.mark.broker
def test_a_commit_moves_messages_and_position_together(settings: Settings, stream: TransactionalStream) -> None:
    send(settings, 1, b"a", b"b")
    assert take(stream, 2) == {1: [b"a", b"b"]}
    assert stream.position(1) is None
    message = Message(settings.pred_topic, 1, b"roof", b"1.5", (("reason", b"none"),))
    written = stream.commit([message, message], {1: Position(2, "the note")}, owned(stream, 2))
    assert written == {(settings.pred_topic, 1): 2}
    assert stream.position(1) == Position(2, "the note")
    assert [record.value for record in kafka_io.read(settings, settings.pred_topic, 1)] == [b"1.5", b"1.5"]
    ends = kafka_io.log_ranges(settings, [settings.pred_topic], 1)
    assert ends == {settings.pred_topic: (0, 3)}  # two records and the transaction's marker


@pytest.mark.broker
def test_a_restarted_member_of_the_same_name_fences_the_one_before(settings: Settings) -> None:
    named = settings.model_copy(update={"consumer_instance_id": "one"})
    send(settings, 0, b"a")
    with closing(TransactionalStream(named)) as before:
        take(before, 1)
        ownership = owned(before, 2)
        with closing(TransactionalStream(named)) as after:
            with pytest.raises(Unavailable):
                before.commit([Message(named.pred_topic, 0, None, b"twice")], {0: Position(1, "")}, ownership)
            take(after, 1)
            after.commit([Message(named.pred_topic, 0, None, b"once")], {0: Position(1, "")}, owned(after, 2))
            with pytest.raises(Refused, match=r"another process joined .* CONSUMER_INSTANCE_ID=one"):
                before.commit([Message(named.pred_topic, 0, None, b"twice")], {0: Position(1, "")}, ownership)
    assert [record.value for record in kafka_io.read(settings, settings.pred_topic, 0)] == [b"once"]


@pytest.mark.broker
def test_keeping_membership_takes_no_record(settings: Settings, stream: TransactionalStream) -> None:
    send(settings, 0, b"a")
    take(stream, 1)
    send(settings, 0, b"b")
    for _ in range(5):
        news = stream.keep_membership(0.1)
        assert not news.gained | news.lost
    assert take(stream, 1) == {0: [b"b"]}


@pytest.mark.broker
def test_lag_is_what_is_left_to_read(settings: Settings, stream: TransactionalStream) -> None:
    send(settings, 0, b"a", b"b", b"c")
    take(stream, 3)
    assert stream.lag() == {0: 0, 1: 0}


@pytest.fixture
def lost_node() -> Iterator[int]:
    """The port of a node that drops every connection."""
    with socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield server.server_address[1]
        server.shutdown()
        serving.join()


@pytest.mark.broker
@pytest.mark.parametrize("kind", ["transaction", "consumer_group"])
def test_commit_whose_coordinator_was_lost_asks_for_another(settings: Settings, lost_node: int, kind: str) -> None:
    patient = settings.model_copy(update={"watchdog_seconds": 3600})  # a test that fails must not end its process
    with closing(TransactionalStream(patient)) as stream:
        ownership = owned(stream, 2)
        transactions = stream._producer._transaction_manager
        lost = types.SimpleNamespace(error_code=0, node_id=99, host="127.0.0.1", port=lost_node)
        node = transactions._metadata.add_coordinator(lost, CoordinatorType.GROUP, "lost")
        setattr(transactions, f"_{kind}_coordinator", node)
        message = Message(settings.pred_topic, 0, None, b"once")
        committing = threading.Thread(target=stream.commit, args=([message], {0: Position(1, "")}, ownership), daemon=True)
        committing.start()
        committing.join(PATIENCE_SECONDS)
        assert not committing.is_alive()
    assert [record.value for record in kafka_io.read(settings, settings.pred_topic, 0)] == [b"once"]


@pytest.mark.broker
def test_unequal_partitions_are_refused(settings: Settings) -> None:
    with closing(KafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers)) as admin:
        admin.create_partitions({settings.pred_topic: 3})
    wait_until(lambda: len(kafka_io.partitions(settings, settings.pred_topic)) == 3, "the new partition is known")
    with pytest.raises(ContractError, match="equal numbers of partitions"):
        TransactionalStream(settings).close()


@pytest.mark.broker
def test_ensure_topics_beside_a_raw_topic_makes_as_many_partitions_as_it_has(settings: Settings) -> None:
    other = settings.model_copy(update={"events_topic": f"{settings.events_topic}.new", "topic_partitions": 3})
    kafka_io.ensure_topics(other)
    wait_until(lambda: len(kafka_io.partitions(other, other.events_topic)) == 2, "the new topic is known")


@pytest.mark.broker
def test_the_note_survives_another_reader(settings: Settings, stream: TransactionalStream) -> None:
    send(settings, 0, b"a")
    take(stream, 1)
    stream.commit([], {0: Position(1, "x" * 3000)}, owned(stream, 2))
    with closing(
        KafkaConsumer(bootstrap_servers=settings.kafka_bootstrap_servers, group_id=settings.consumer_group)
    ) as consumer:
        committed = consumer.committed(TopicPartition(settings.raw_topic, 0), metadata=True)
    assert (committed.offset, len(committed.metadata)) == (1, 3000)


@pytest.mark.broker
def test_commit_of_a_member_put_out_of_its_group_is_refused(settings: Settings, stream: TransactionalStream) -> None:
    ownership = owned(stream, 2)
    with closing(KafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers)) as admin:
        admin.remove_group_members(settings.consumer_group, [MemberToRemove(member_id=ownership.membership.member_id)])
    membership = stream._consumer.group_metadata
    wait_until(lambda: membership().generation_id < 0, "the client has heard that it was put out")
    with pytest.raises(Unavailable, match="CommitFailedError"):
        stream.commit([Message(settings.pred_topic, 0, None, b"lost")], {0: Position(1, "")}, ownership)
    assert list(kafka_io.read(settings, settings.pred_topic, 0)) == []


@pytest.mark.broker
def test_poll_after_a_join_that_outlasted_the_poll_before_takes_it_up(
    settings: Settings, stream: TransactionalStream
) -> None:
    owned(stream, 2)
    coordinator = stream._consumer._coordinator
    coordinator._assignment_snapshot = {}  # as if new metadata had come: the next poll joins anew
    stream.poll(0.0, 100)
    wait_until(lambda: coordinator._join_task.is_done, "the join has ended")
    stream.poll(1.0, 100)
    assert stream._consumer.group_metadata().state == MemberState.STABLE


@pytest.mark.broker
def test_commit_of_a_partition_that_went_to_another_consumer_is_refused(settings: Settings) -> None:
    with closing(TransactionalStream(settings)) as first:
        before = owned(first, 2)
        with closing(TransactionalStream(settings)) as second:
            news = []

            def shared() -> bool:
                news.append(first.keep_membership(0.1))
                return second.poll(0.1, 1).ownership.partitions != frozenset() and len(news[-1].ownership.partitions) == 1

            wait_until(shared, "each consumer owns a partition")
            [lost] = set().union(*(polled.lost for polled in news))
            for ownership in (before, news[-1].ownership):
                with pytest.raises(Unavailable):
                    first.commit([Message(settings.pred_topic, lost, None, b"late")], {lost: Position(1, "")}, ownership)
    assert list(kafka_io.read(settings, settings.pred_topic, lost)) == []


@pytest.mark.broker
def test_poll_beside_a_stranger_in_the_group_says_so_and_goes_on_once_it_has_left(settings: Settings) -> None:
    stranger = KafkaConsumer(
        settings.raw_topic, bootstrap_servers=settings.kafka_bootstrap_servers, group_id=settings.consumer_group
    )
    wait_until(lambda: stranger.poll(timeout_ms=100) is not None and stranger.assignment(), "it has all partitions", 60)
    with closing(TransactionalStream(settings)) as stream:

        def refused() -> bool:
            try:
                stream.poll(0.2, 100)
            except Unavailable as error:
                return f"another program is a member of group {settings.consumer_group}" in str(error)
            return False

        wait_until(refused, "the stranger is named", 60)
    stranger.close()
    with closing(TransactionalStream(settings)) as stream:
        assert owned(stream, 2).partitions == {0, 1}
