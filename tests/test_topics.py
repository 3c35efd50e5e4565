"""Topics as they have to be: what differs is named with what to change; what may not be set is left out."""

from __future__ import annotations

import json
import re
from contextlib import closing
from dataclasses import replace

import pytest
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType, NewTopic

from airquality.ground.errors import UsageError
from airquality.ground.settings import Settings
from airquality.stream import kafka_io, topics, topics_command
from airquality.stream.topics import Topic

CONFIGS = {
    "message.timestamp.type": "LogAppendTime",
    "cleanup.policy": "delete",
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "max.message.bytes": "1048588",
    "min.insync.replicas": "2",
    "unclean.leader.election.enable": "false",
}
SAFE = Topic("raw", "raw", exists=True, partitions=3, replicas=3, configs=CONFIGS)


def faults(topic: Topic, *, n_brokers: int = 3) -> list[str]:
    return topics.faults_of({topic.role: topic}, n_brokers, Settings())[topic.name]


def test_faults_of_a_topic_as_it_has_to_be_are_none() -> None:
    assert faults(SAFE) == []
    known = {name: CONFIGS[name] for name in ("message.timestamp.type", "cleanup.policy", "retention.ms")}
    assert faults(replace(SAFE, configs=known)) == []  # a broker that knows no others


@pytest.mark.parametrize(
    ("setting", "value", "advice"),
    [
        ("message.timestamp.type", "CreateTime", "--add-config message.timestamp.type=LogAppendTime"),
        ("cleanup.policy", "compact", "--add-config cleanup.policy=delete"),
        ("retention.ms", "86400000", "keeps records for 1 days, but a restart may read 8 back"),
        ("retention.bytes", "1000000", "deletes beyond 1,000,000 bytes"),
        ("max.message.bytes", "100000", "takes no batch of more than 100,000 bytes"),
        ("min.insync.replicas", "1", "only 1 of 3 replicas has.*min.insync.replicas=2"),
        ("min.insync.replicas", "3", "one broker away stops every write.*min.insync.replicas=2"),
        ("min.insync.replicas", "4", "nothing can be written"),
        ("unclean.leader.election.enable", "true", "unclean.leader.election.enable=false"),
    ],
)
def test_fault_of_a_setting_says_what_to_change(setting: str, value: str, advice: str) -> None:
    [said] = faults(replace(SAFE, configs={**CONFIGS, setting: value}))
    assert re.search(advice, said), said


def test_faults_of_unequal_partitions_one_replica_and_an_absent_topic_are_named() -> None:
    found = {
        "raw": SAFE,
        "pred": replace(SAFE, role="pred", name="pred", partitions=2),
        "dlq": replace(SAFE, role="dlq", name="dlq", replicas=1, configs={**CONFIGS, "min.insync.replicas": "1"}),
        "state": Topic("state", "state"),
    }
    said = topics.faults_of(found, 3, Settings(topic_replication_factor=3))
    assert said["raw"] == []
    assert "has 2 partitions, others have 3" in said["pred"][0]
    assert "repartition" in said["pred"][0]
    assert "1 replica although there are 3 brokers" in said["dlq"][0]
    assert "--create --topic state --partitions 3 --replication-factor 3 --config message" in said["state"][0]


@pytest.mark.broker
def test_check_of_topics_made_here_is_0_and_of_one_that_was_changed_3(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", settings.kafka_bootstrap_servers)
    for role, name in kafka_io.topic_names(settings).items():
        monkeypatch.setenv(f"{role.upper()}_TOPIC", name)
    assert topics_command.main(["--check"]) == 0
    assert capsys.readouterr().out.count("as needed") == 5
    with closing(KafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers)) as admin:
        change = {"cleanup.policy": "delete"}
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, settings.state_topic, change)])
    assert topics_command.main(["--check", "--json"]) == 3
    [state] = [each for each in json.loads(capsys.readouterr().out) if each["role"] == "state"]
    assert "is not compacted but has cleanup.policy=delete" in " ".join(state["faults"])


@pytest.mark.broker
def test_ensure_where_tuning_may_not_be_set_makes_the_topic_without(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    other = settings.model_copy(update={"state_topic": f"{settings.state_topic}.managed"})
    refused = {**topics.TOPIC_CONFIGS["state"], "segment.bytes": "1"}  # as a managed broker refuses ours
    monkeypatch.setitem(topics.TOPIC_CONFIGS, "state", refused)
    kafka_io.ensure_topics(other)
    assert "Trying without min.cleanable.dirty.ratio, segment.ms, segment.bytes" in caplog.text
    with closing(KafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers)) as admin:
        [state] = topics.describe(admin, {"state": other.state_topic}).values()
    assert state.setting("cleanup.policy") == "compact"


@pytest.mark.broker
def test_ensure_with_more_replicas_than_brokers_names_the_setting(settings: Settings) -> None:
    other = settings.model_copy(update={"dlq_topic": f"{settings.dlq_topic}.three", "topic_replication_factor": 3})
    with pytest.raises(UsageError, match="cannot make topics with TOPIC_REPLICATION_FACTOR=3"):
        kafka_io.ensure_topics(other)


@pytest.mark.broker
def test_topics_made_without_a_setting_have_the_brokers_replicas(settings: Settings) -> None:
    with closing(KafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers)) as admin:
        found = topics.describe(admin, kafka_io.topic_names(settings))
        admin.create_topics([NewTopic(f"{settings.raw_topic}.other")])
        other = topics.describe(admin, {"": f"{settings.raw_topic}.other"})[""]
    assert {topic.replicas for topic in found.values()} == {other.replicas}
