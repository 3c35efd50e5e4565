"""The topics: what each is for, what it is made with, and what must hold of one that somebody else made."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError

from airquality.ground.errors import Denied, Unavailable, UsageError
from airquality.ground.settings import Settings
from airquality.stream import refusals

DAY_MS = 24 * 3600 * 1000
#: The broker's time decides what retention deletes: a producer's may be that of the measurement, years ago.
BROKER_TIME = {"message.timestamp.type": "LogAppendTime"}
#: What each topic is for decides how long it keeps what. State is compacted: its last record a station is all it needs;
#: small, short segments let the cleaner keep the restart short.
TOPIC_CONFIGS: dict[str, dict[str, str]] = {
    "raw": {**BROKER_TIME, "retention.ms": str(90 * DAY_MS)},
    "pred": {**BROKER_TIME, "retention.ms": str(365 * DAY_MS)},
    "dlq": {**BROKER_TIME, "retention.ms": str(365 * DAY_MS)},
    "events": {**BROKER_TIME, "retention.ms": str(365 * DAY_MS)},
    "state": {
        **BROKER_TIME,
        "cleanup.policy": "compact",
        "min.cleanable.dirty.ratio": "0.1",
        "segment.ms": str(DAY_MS),
        "segment.bytes": str(16 * 1024 * 1024),
    },
}
CREATE_TIMEOUT_MS = 15_000
#: A week of rows and predictions may be read back at a restart, and a day is what an outage may last.
MINIMUM_DAYS = 8
#: The consumer's producer sends batches of 256 KiB, and a snapshot is one record.
MINIMUM_MESSAGE_BYTES = 300_000

#: What only makes the state topic quick to clean: a managed service may not let it be set.
TUNING = ("min.cleanable.dirty.ratio", "segment.ms", "segment.bytes")

_OK, _UNKNOWN_TOPIC, _TOPIC_DENIED, _CLUSTER_DENIED, _EXISTS, _REPLICATION = 0, 3, 29, 31, 36, 38
_CONFIG_REFUSED = (40, 44)  # invalid there, or against a policy
#: What is asked of a topic's configuration, and Apache Kafka's defaults: not every broker knows every setting.
_DEFAULTS = {
    "message.timestamp.type": "CreateTime",
    "cleanup.policy": "delete",
    "retention.ms": str(7 * DAY_MS),
    "retention.bytes": "-1",
    "max.message.bytes": "1048588",
    "min.insync.replicas": "1",
    "unclean.leader.election.enable": "false",
}

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as the broker describes it; ``configs`` is empty where it may not be looked at.

    ``exists`` and ``is_hidden`` are both false where the broker does not know the topic.
    """

    role: str
    name: str
    exists: bool = False
    is_hidden: bool = False
    partitions: int = 0
    replicas: int = 0
    configs: Mapping[str, str] = field(default_factory=dict)

    def setting(self, name: str) -> str:
        """Return a setting; where the broker does not know it, what Apache Kafka's default is."""
        return self.configs.get(name, _DEFAULTS[name])


def ensure(admin: KafkaAdminClient, settings: Settings, names: Mapping[str, str]) -> None:
    """Create the topics that do not exist, and log what is wrong with the others.

    Args:
        admin: Connected.
        settings: How many partitions and replicas new topics get.
        names: The topic of each role.

    Raises:
        Denied: they may not be seen, or made.
        UsageError: the broker does not make topics like these.
    """
    found = describe(admin, names)
    require_visible(found.values(), settings)
    raw = found.get("raw")
    n_partitions = raw.partitions if raw and raw.exists else settings.topic_partitions
    missing = {role: topic.name for role, topic in found.items() if not topic.exists}
    if missing:
        _create(admin, settings, missing, n_partitions)
    for role, topic in found.items():
        if topic.exists:
            for fault in policy_faults(role, topic):
                logger.warning("%s", fault)


def require_visible(found: Iterable[Topic], settings: Settings) -> None:
    """Raise ``Denied`` if this process may not know of one of the topics."""
    hidden = [topic.name for topic in found if topic.is_hidden]
    if hidden:
        raise Denied(
            f"Kafka at {settings.kafka_bootstrap_servers} denies {refusals.principal(settings)} DESCRIBE on "
            f"{refusals.of_topics(hidden)}: an access rule (ACL) has to allow it (READ and WRITE contain it)"
        )


def describe(admin: KafkaAdminClient, names: Mapping[str, str]) -> dict[str, Topic]:
    """Return each role's topic as it is on the broker."""
    listed = {each["name"]: each for each in admin.describe_topics(list(names.values()))}
    unknown = {"error_code": _UNKNOWN_TOPIC}
    return {role: _described(admin, role, name, listed.get(name, unknown)) for role, name in names.items()}


def _described(admin: KafkaAdminClient, role: str, name: str, listed: Mapping[str, Any]) -> Topic:
    code, partitions = listed["error_code"], listed.get("partitions") or []
    if code == _TOPIC_DENIED:
        return Topic(role, name, is_hidden=True)
    if code == _UNKNOWN_TOPIC:
        return Topic(role, name)
    replicas = min((len(each["replica_nodes"]) for each in partitions), default=0)
    return Topic(role, name, True, False, len(partitions), replicas, _configs(admin, name))


def _configs(admin: KafkaAdminClient, name: str) -> dict[str, str]:
    try:
        resource = ConfigResource(ConfigResourceType.TOPIC, name, dict.fromkeys(_DEFAULTS))
        found = admin.describe_configs([resource], config_filter="all")["topic"][name]
    except (KafkaError, KeyError) as error:
        logger.info("the configuration of %s cannot be looked at (DESCRIBE_CONFIGS): %s", name, type(error).__name__)
        return {}
    return {setting: str(found[setting]["value"]) for setting in _DEFAULTS if setting in found}


def _create(admin: KafkaAdminClient, settings: Settings, missing: Mapping[str, str], n_partitions: int) -> None:
    failed = _ask_for(admin, settings, missing, n_partitions)
    refused = {role: name for role, name in missing.items() if failed.get(name, {}).get("error_code") in _CONFIG_REFUSED}
    if refused:
        said = failed[next(iter(refused.values()))].get("error_message")
        logger.warning("%s: %s. Trying without %s", ", ".join(refused.values()), said, ", ".join(TUNING))
        others = {name: answer for name, answer in failed.items() if name not in refused.values()}
        failed = others | _ask_for(admin, settings, refused, n_partitions, left_out=TUNING)
    if failed:
        absent = {role: name for role, name in missing.items() if name in failed}
        raise _not_created(settings, absent, next(iter(failed.values())), n_partitions)


def _ask_for(
    admin: KafkaAdminClient,
    settings: Settings,
    missing: Mapping[str, str],
    n_partitions: int,
    left_out: Iterable[str] = (),
) -> dict[str, Any]:
    """Ask the broker to make topics; return its answers about those that it did not make."""
    replicas = settings.topic_replication_factor or -1  # the broker's default
    wanted = {}
    for role, name in missing.items():
        configs = {key: value for key, value in TOPIC_CONFIGS[role].items() if key not in left_out}
        wanted[name] = {"num_partitions": n_partitions, "replication_factor": replicas, "configs": configs}
    answered = admin.create_topics(wanted, timeout_ms=CREATE_TIMEOUT_MS, raise_errors=False)["topics"]
    for each in answered:
        if each["error_code"] == _OK:
            logger.info("created topic %s with %d partitions", each["name"], n_partitions)
    return {each["name"]: each for each in answered if each["error_code"] not in (_OK, _EXISTS)}


def _not_created(settings: Settings, absent: Mapping[str, str], answer: Mapping[str, Any], n_partitions: int) -> Exception:
    code, said = answer["error_code"], answer.get("error_message") or ""
    needed = "\n".join(f"  {wanted_of(role, name, n_partitions, settings)}" for role, name in absent.items())
    where = f"Kafka at {settings.kafka_bootstrap_servers}"
    if code in (_TOPIC_DENIED, _CLUSTER_DENIED):
        return Denied(
            f"{where} denies {refusals.principal(settings)} CREATE on {refusals.of_topics([*absent.values()])}, which "
            f"{'does' if len(absent) == 1 else 'do'} not exist: an access rule (ACL) has to allow it, or an administrator "
            f"has to make:\n{needed}"
        )
    if code == _REPLICATION:
        replicas = settings.topic_replication_factor
        tried = f"TOPIC_REPLICATION_FACTOR={replicas}" if replicas else "its own default replication factor"
        return UsageError(f"{where} cannot make topics with {tried}: {said}")
    return Unavailable(f"{where} does not make topic {answer['name']} (error {code}): {said}. Needed are:\n{needed}")


def wanted_of(role: str, name: str, n_partitions: int, settings: Settings) -> str:
    """Return how a topic has to be made, as an administrator types it."""
    replicas = f" --replication-factor {settings.topic_replication_factor}" if settings.topic_replication_factor else ""
    configs = " ".join(f"--config {key}={value}" for key, value in TOPIC_CONFIGS[role].items())
    return f"kafka-topics.sh --create --topic {name} --partitions {n_partitions}{replicas} {configs}"


def policy_faults(role: str, topic: Topic) -> list[str]:
    """Return what is wrong with timestamps and cleaning of a topic that somebody else made, a sentence each."""
    if not topic.configs:
        return []
    faults = []
    if topic.setting("message.timestamp.type") != BROKER_TIME["message.timestamp.type"]:
        faults.append(
            f"{topic.name} keeps the timestamps of its producers, by which retention deletes: a row stamped with the time "
            f"of its measurement may be gone before it is read. {_change(topic, 'message.timestamp.type=LogAppendTime')}"
        )
    policy = topic.setting("cleanup.policy")
    if role == "state" and policy != "compact":
        faults.append(
            f"{topic.name} is not compacted but has cleanup.policy={policy}: it grows, and stations that are silent for "
            f"long lose their state. {_change(topic, 'cleanup.policy=compact')}"
        )
    if role != "state" and "compact" in policy.split(","):
        faults.append(
            f"{topic.name} is compacted: of the rows of a station only the newest would be kept. "
            f"{_change(topic, 'cleanup.policy=delete')}"
        )
    return faults


def _change(topic: Topic, setting: str) -> str:
    return f"kafka-configs.sh --alter --topic {topic.name} --add-config {setting}"


def faults_of(found: Mapping[str, Topic], n_brokers: int, settings: Settings) -> dict[str, list[str]]:
    """Return, by topic, what differs from what is needed, and what to change, a sentence each."""
    counts = {topic.name: topic.partitions for topic in found.values() if topic.exists}
    faults = {topic.name: _faults(role, topic, n_brokers, settings, counts) for role, topic in found.items()}
    if len(set(counts.values())) > 1:
        most = max(counts.values())
        for name, count in counts.items():
            if count < most:
                faults[name].append(
                    f"{name} has {count} partitions, others have {most}: they must be equal. With all consumers stopped, "
                    f"python -m airquality repartition raises it and moves the stations"
                )
    return faults


def _faults(role: str, topic: Topic, n_brokers: int, settings: Settings, counts: Mapping[str, int]) -> list[str]:
    n_partitions = max(counts.values(), default=settings.topic_partitions)
    if topic.is_hidden:
        return [f"{topic.name} may not be seen: {refusals.principal(settings)} lacks DESCRIBE (READ and WRITE contain it)"]
    if not topic.exists:
        return [f"{topic.name} does not exist: {wanted_of(role, topic.name, n_partitions, settings)}"]
    if not topic.configs:
        return [f"{topic.name} could not be compared: {refusals.principal(settings)} lacks DESCRIBE_CONFIGS on it"]
    return policy_faults(role, topic) + _retention_faults(role, topic) + _safety_faults(topic, n_brokers)


def _retention_faults(role: str, topic: Topic) -> list[str]:
    faults = []
    days = int(topic.setting("retention.ms")) / DAY_MS
    max_bytes, batch_bytes = int(topic.setting("retention.bytes")), int(topic.setting("max.message.bytes"))
    wanted = TOPIC_CONFIGS[role].get("retention.ms")
    if wanted and 0 <= days < MINIMUM_DAYS:
        faults.append(
            f"{topic.name} keeps records for {days:g} days, but a restart may read {MINIMUM_DAYS} back. "
            f"{_change(topic, f'retention.ms={wanted}')}"
        )
    if wanted and max_bytes >= 0:
        faults.append(
            f"{topic.name} deletes beyond {max_bytes:,} bytes a partition, however young: rows "
            f"may be gone before they are read. {_change(topic, 'retention.bytes=-1')}"
        )
    if batch_bytes < MINIMUM_MESSAGE_BYTES:
        faults.append(
            f"{topic.name} takes no batch of more than {batch_bytes:,} bytes, but one may have "
            f"{MINIMUM_MESSAGE_BYTES:,}. {_change(topic, 'max.message.bytes=1048588')}"
        )
    return faults


def _safety_faults(topic: Topic, n_brokers: int) -> list[str]:
    """Return what can lose an acknowledged record, or stop every write."""
    in_sync, faults = int(topic.setting("min.insync.replicas")), []
    if topic.replicas == 1 and n_brokers > 1:
        faults.append(
            f"{topic.name} has 1 replica although there are {n_brokers} brokers: with its broker everything in it is gone. "
            f"kafka-reassign-partitions.sh gives it more"
        )
    if in_sync > topic.replicas:
        faults.append(
            f"{topic.name} wants {in_sync} replicas in sync but has {topic.replicas}: nothing can be written. "
            f"{_change(topic, f'min.insync.replicas={max(1, topic.replicas - 1)}')}"
        )
    elif in_sync == 1 and topic.replicas > 1 and "min.insync.replicas" in topic.configs:
        faults.append(
            f"{topic.name} acknowledges what only 1 of {topic.replicas} replicas has: with that broker it is gone. "
            f"{_change(topic, 'min.insync.replicas=2')}"
        )
    elif in_sync == topic.replicas > 1:
        faults.append(
            f"{topic.name} wants all {in_sync} replicas in sync: one broker away stops every write. "
            f"{_change(topic, f'min.insync.replicas={in_sync - 1}')}"
        )
    if topic.setting("unclean.leader.election.enable") == "true":
        faults.append(
            f"{topic.name} lets a replica lead that lacks records: acknowledged records may be gone. "
            f"{_change(topic, 'unclean.leader.election.enable=false')}"
        )
    return faults
