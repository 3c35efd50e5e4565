"""What anyone who reads only committed records sees in Kafka. Imports nothing of the system it judges."""

from __future__ import annotations

import json
import time
from collections.abc import Collection
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

BOOTSTRAP = "localhost:9092"
RAW, PREDICTIONS = "air_quality.raw", "air_quality.pred"
WARMUP_HOURS = 168
PATIENCE_SECONDS = 60.0


def committed(topic: str, servers: str = BOOTSTRAP) -> list[dict[str, Any]]:
    """Return every committed record of ``topic`` from the beginning to now; a broker that restarts is waited for."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return _read(topic, servers)
        except KafkaError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


def _read(topic: str, servers: str) -> list[dict[str, Any]]:
    reader = KafkaConsumer(
        bootstrap_servers=servers.split(","),
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        group_id=None,
    )
    try:
        partitions = [TopicPartition(topic, number) for number in reader.partitions_for_topic(topic) or ()]
        reader.assign(partitions)
        ends = reader.end_offsets(partitions)
        found: list[dict[str, Any]] = []
        while any(reader.position(partition) < ends[partition] for partition in partitions):
            for records in reader.poll(timeout_ms=500).values():
                found += [json.loads(record.value) for record in records]
        return found
    finally:
        reader.close()


def count(topic: str, servers: str = BOOTSTRAP) -> int:
    """Return the number of committed records of ``topic``."""
    return len(committed(topic, servers))


def in_sync(topics: Collection[str], servers: str) -> dict[str, int]:
    """Return, by topic, how many replicas every partition of it has in sync at least; 0 where there is no such topic."""
    client = KafkaAdminClient(bootstrap_servers=servers.split(","))
    try:
        described = client.describe_topics(list(topics))
    finally:
        client.close()
    return {each["name"]: min((len(p["isr_nodes"]) for p in each["partitions"]), default=0) for each in described}


def members(group: str, servers: str = BOOTSTRAP) -> int:
    """Return the number of members a consumer group has now."""
    client = KafkaAdminClient(bootstrap_servers=servers.split(","))
    try:
        return len(client.describe_groups([group])[group]["members"])
    finally:
        client.close()
