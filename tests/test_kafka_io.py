"""The fence around Kafka, against a real broker: topics, transactions, positions, reading to the end."""

from __future__ import annotations

import time
from contextlib import closing

import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, NewTopic

from airquality.ground.errors import ContractError, Refused, Unavailable
from airquality.ground.settings import Settings
from airquality.stream import kafka_io, topics
from airquality.stream.kafka_io import Record
from airquality.stream.reader import KafkaReader, newest
from lab.waiting import PATIENCE_SECONDS, wait_until
from tests.broker_topics import send

pytestmark = pytest.mark.broker


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


def test_what_was_not_committed_is_neither_read_nor_counted(settings: Settings) -> None:
    producer = KafkaProducer(
        bootstrap_servers=settings.kafka_bootstrap_servers, transactional_id=f"{settings.consumer_group}-dead"
    )
    producer.init_transactions()
    producer.begin_transaction()
    producer.send(settings.pred_topic, value=b"never", partition=0).get(timeout=PATIENCE_SECONDS)
    producer.abort_transaction()
    producer.close()
    assert list(kafka_io.read(settings, settings.pred_topic, 0)) == []
    assert kafka_io.log_ranges(settings, [settings.pred_topic], 0) == {settings.pred_topic: (0, 2)}


def test_read_behind_a_transaction_that_stays_open_says_how_to_end_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_io, "STALL_SECONDS", 0.5)
    with closing(kafka_io.open_producer(settings, transactional_id=f"{settings.consumer_group}-stranger")) as stranger:
        stranger.init_transactions()
        stranger.begin_transaction()
        stranger.send(settings.state_topic, key=b"roof", value=b"{}", partition=0).get(timeout=20)
        with pytest.raises(Unavailable, match=r"read up to 0 of 1 only: .*15 minutes at most.*kafka-transactions.sh"):
            list(kafka_io.read(settings, settings.state_topic, 0))
        stranger.abort_transaction()
    assert list(kafka_io.read(settings, settings.state_topic, 0)) == []


def test_reading_between_two_offsets_leaves_both_ends_right(settings: Settings) -> None:
    send(settings, 0, b"a", b"b", b"c", b"d")
    found = [(record.offset, record.value) for record in kafka_io.read(settings, settings.raw_topic, 0, 1, 3)]
    assert found == [(1, b"b"), (2, b"c")]


def test_ensure_topics_made_here_use_the_brokers_time_and_none_is_complained_of(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    before = int(time.time() * 1000) - 60_000
    with closing(kafka_io.idempotent_producer(settings)) as producer:
        for topic in kafka_io.topic_names(settings).values():
            producer.send(topic, key=b"roof", value=b"of 2005", partition=0, timestamp_ms=1_107_572_400_000).get(
                timeout=PATIENCE_SECONDS
            )
    for topic in kafka_io.topic_names(settings).values():
        [record] = kafka_io.read(settings, topic, 0)
        assert record.timestamp_ms > before
    kafka_io.ensure_topics(settings)
    assert [r.getMessage() for r in caplog.records if r.name == topics.__name__ and r.levelname == "WARNING"] == []


def test_ensure_topics_found_with_other_settings_are_named_once_each(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    names = {f"{role}_topic": f"{name}.found" for role, name in kafka_io.topic_names(settings).items()}
    found = settings.model_copy(update=names)
    configs = {"raw": {"cleanup.policy": "compact"}, "pred": {"message.timestamp.type": "LogAppendTime"}}
    with closing(KafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers)) as admin:
        for role, name in kafka_io.topic_names(found).items():
            admin.create_topics([NewTopic(name, 2, 1, topic_configs=configs.get(role, {}))])
    kafka_io.ensure_topics(found)
    said = [r.getMessage() for r in caplog.records if r.name == topics.__name__ and r.levelname == "WARNING"]
    assert [line.split(" ", 1)[0].split(".")[-2] for line in said] == ["raw", "raw", "state", "state", "dlq", "events"]
    assert "only the newest would be kept" in said[1]
    assert "cleanup.policy=compact" in said[3]


def test_topics_now_of_unequal_partitions_is_refused_with_the_remedy(settings: Settings) -> None:
    with closing(KafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers)) as admin:
        admin.create_partitions({settings.raw_topic: 3})

    def known() -> bool:
        try:
            kafka_io.topics_now(settings)
        except Refused:
            return True
        return False

    wait_until(known, "the third partition is known")
    with pytest.raises(Refused, match=r"equal numbers of partitions.*repartition"):
        kafka_io.topics_now(settings)


def test_newest_finds_the_last_record_that_is_ours_behind_many_that_are_not(settings: Settings) -> None:
    with closing(kafka_io.idempotent_producer(settings)) as producer:
        for number in (5, 7, *([-1] * 300)):
            producer.send(settings.pred_topic, key=b"roof", value=b"%d" % number, partition=0)
        producer.flush()

    def ours(record: Record) -> int | None:
        number = int(record.value or b"-1")
        return None if number < 0 else number

    assert newest(KafkaReader(settings), settings.pred_topic, 0, (0, 302), ours) == 7
    assert newest(KafkaReader(settings), settings.pred_topic, 0, (2, 302), ours) == -1
    assert newest(KafkaReader(settings), settings.pred_topic, 1, (0, 0), ours) == -1


def test_read_from_before_the_oldest_record_begins_with_it(settings: Settings) -> None:
    send(settings, 0, b"a", b"b", b"c", b"d")
    with closing(KafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers)) as admin:
        admin.delete_records({TopicPartition(settings.raw_topic, 0): 2})
    assert kafka_io.log_ranges(settings, [settings.raw_topic], 0) == {settings.raw_topic: (2, 4)}
    assert [record.value for record in kafka_io.read(settings, settings.raw_topic, 0, 0, 4)] == [b"c", b"d"]
    assert list(kafka_io.read(settings, settings.raw_topic, 0, 0, 1)) == []
