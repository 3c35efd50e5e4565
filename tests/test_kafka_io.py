"""The fence around Kafka, against a real broker: topics, transactions, positions, reading to the end."""

from __future__ import annotations

from contextlib import closing

import pytest
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import ConfigResource, ConfigResourceType

from airquality.ground.errors import ContractError
from airquality.ground.settings import Settings
from airquality.stream import kafka_io
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
    producer.send(settings.pred_topic, value=b"never", partition=0).get(timeout=20)
    producer.abort_transaction()
    producer.close()
    assert list(kafka_io.read(settings, settings.pred_topic, 0)) == []
    assert kafka_io.end_offset(settings, settings.pred_topic, 0) == 2


def test_reading_between_two_offsets_leaves_both_ends_right(settings: Settings) -> None:
    send(settings, 0, b"a", b"b", b"c", b"d")
    found = [(record.offset, record.value) for record in kafka_io.read(settings, settings.raw_topic, 0, 1, 3)]
    assert found == [(1, b"b"), (2, b"c")]
