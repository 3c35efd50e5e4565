"""Read what a broker holds, committed, and print it as JSON: the judge of the end-to-end tests.

Imports nothing of this project, so that no mistake of the consumer can excuse itself: ``judge.py SERVERS TOPIC...``.
"""

import json
import os
import pathlib
import sys
from typing import Any

from kafka import KafkaConsumer, TopicPartition


def committed(servers: str, topic: str) -> list[dict[str, Any]]:
    """Return every committed record of the topic as a dict, in partition and offset order."""
    client = KafkaConsumer(
        bootstrap_servers=servers,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        **security(),
    )
    partitions = [TopicPartition(topic, number) for number in sorted(client.partitions_for_topic(topic) or ())]
    client.assign(partitions)
    client.seek_to_beginning(*partitions)
    ends = client.end_offsets(partitions)
    records = []
    while any(client.position(partition) < ends[partition] for partition in partitions):
        for batch in client.poll(timeout_ms=500).values():
            records += batch
    client.close()
    return [as_json(record) for record in sorted(records, key=lambda r: (r.partition, r.offset))]


def security() -> dict[str, str]:
    """Return how to prove to the broker who asks: a password from a file, where the environment names one."""
    file = os.environ.get("KAFKA_SASL_PASSWORD_FILE")
    if not file:
        return {}
    with pathlib.Path(file).open() as password:
        return {
            "security_protocol": os.environ["KAFKA_SECURITY_PROTOCOL"],
            "sasl_mechanism": os.environ["KAFKA_SASL_MECHANISM"],
            "sasl_plain_username": os.environ["KAFKA_SASL_USERNAME"],
            "sasl_plain_password": password.read(),
            "ssl_cafile": os.environ["KAFKA_SSL_CAFILE"],
        }


def as_json(record: Any) -> dict[str, Any]:
    """Return the record as text and numbers; bytes that are no text are shown as latin-1, one character a byte."""
    return {
        "partition": record.partition,
        "offset": record.offset,
        "key": text(record.key),
        "value": text(record.value),
        "headers": {name: text(value) for name, value in record.headers},
    }


def text(value: bytes | None) -> str | None:
    """Return bytes as text, losslessly."""
    return None if value is None else value.decode("latin-1")


if __name__ == "__main__":
    print(json.dumps({topic: committed(sys.argv[1], topic) for topic in sys.argv[2:]}))
