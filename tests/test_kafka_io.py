"""The fence around Kafka, against a real broker: topics, transactions, positions, reading to the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType

from airquality.ground.errors import ContractError, Unavailable
from airquality.ground.settings import Settings
from airquality.stream import kafka_io
from airquality.stream.kafka_io import Message, Position, TransactionalStream
from lab.embedded_kafka import Broker
from tests.system import wait_until

pytestmark = pytest.mark.broker


@pytest.fixture
def settings(broker: Broker, request: pytest.FixtureRequest) -> Settings:
    name = request.node.name.replace("_", "-")
    made = Settings(
        kafka_bootstrap_servers=broker.bootstrap_servers,
        raw_topic=f"{name}.raw",
        pred_topic=f"{name}.pred",
        state_topic=f"{name}.state",
        dlq_topic=f"{name}.dlq",
        consumer_group=name,
        topic_partitions=2,
    )
    kafka_io.ensure_topics(made)
    return made


@pytest.fixture
def stream(settings: Settings) -> Iterator[TransactionalStream]:
    with closing(TransactionalStream(settings)) as opened:
        yield opened


def send(settings: Settings, partition: int, *values: bytes) -> None:
    with closing(kafka_io.idempotent_producer(settings)) as producer:
        for value in values:
            producer.send(settings.raw_topic, key=b"roof", value=value, partition=partition).get(timeout=20)


def take(stream: TransactionalStream, n_records: int) -> dict[int, list[bytes | None]]:
    taken: dict[int, list[bytes | None]] = {}

    def enough() -> bool:
        for partition, records in stream.poll(0.2, 100).records.items():
            taken.setdefault(partition, []).extend(record.value for record in records)
        return sum(map(len, taken.values())) >= n_records

    wait_until(enough, f"{n_records} records", 60)
    return taken


def test_topics_are_made_once_with_what_each_is_for(settings: Settings) -> None:
    kafka_io.ensure_topics(settings)  # a second time changes nothing
    assert kafka_io.partitions(settings, settings.raw_topic) == [0, 1]
    with closing(KafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers)) as admin:
        resource = ConfigResource(ConfigResourceType.TOPIC, settings.state_topic)
        described = str(admin.describe_configs([resource]))
    assert "compact" in described


def test_a_topic_that_does_not_exist_is_named(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_io, "TOPIC_SECONDS", 0.3)
    with pytest.raises(ContractError, match=r"there is no topic nowhere"):
        kafka_io.partitions(settings, "nowhere")


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


def test_what_was_not_committed_is_neither_read_nor_counted(settings: Settings) -> None:
    producer = KafkaProducer(
        bootstrap_servers=settings.kafka_bootstrap_servers, transactional_id=f"{settings.consumer_group}-dead"
    )
    producer.init_transactions()
    producer.begin_transaction()
    producer.send(settings.pred_topic, value=b"never", partition=0).get(timeout=20)
    producer.abort_transaction()
    producer.close()
    assert list(kafka_io.read(settings, settings.pred_topic, 0)) == []
    assert kafka_io.end_offset(settings, settings.pred_topic, 0) == 2


def test_reading_between_two_offsets_leaves_both_ends_right(settings: Settings) -> None:
    send(settings, 0, b"a", b"b", b"c", b"d")
    found = [(record.offset, record.value) for record in kafka_io.read(settings, settings.raw_topic, 0, 1, 3)]
    assert found == [(1, b"b"), (2, b"c")]


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


def test_keeping_membership_takes_no_record(settings: Settings, stream: TransactionalStream) -> None:
    send(settings, 0, b"a")
    take(stream, 1)
    send(settings, 0, b"b")
    for _ in range(5):
        assert stream.keep_membership()
    assert take(stream, 1) == {0: [b"b"]}


def test_lag_is_what_is_left_to_read(settings: Settings, stream: TransactionalStream) -> None:
    send(settings, 0, b"a", b"b", b"c")
    take(stream, 3)
    assert stream.lag() == {0: 0, 1: 0}


def test_unequal_partitions_are_refused(settings: Settings) -> None:
    other = settings.model_copy(update={"pred_topic": f"{settings.pred_topic}.three", "topic_partitions": 3})
    kafka_io.ensure_topics(other)
    with pytest.raises(ContractError, match="equal numbers of partitions"):
        TransactionalStream(other)


def test_the_note_survives_another_reader(settings: Settings, stream: TransactionalStream) -> None:
    send(settings, 0, b"a")
    take(stream, 1)
    stream.commit([], {0: Position(1, "x" * 3000)})
    with closing(
        KafkaConsumer(bootstrap_servers=settings.kafka_bootstrap_servers, group_id=settings.consumer_group)
    ) as consumer:
        committed = consumer.committed(TopicPartition(settings.raw_topic, 0), metadata=True)
    assert (committed.offset, len(committed.metadata)) == (1, 3000)
