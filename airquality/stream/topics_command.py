"""Make the topics, or compare them with what is needed: ``python -m airquality topics``."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from typing import Any

from airquality.ground import command, log
from airquality.ground.errors import UsageError
from airquality.ground.settings import Settings, read_settings
from airquality.stream import kafka_io, topics

#: The exit code where topics are not as they have to be.
DIFFERENT = 3

_DESCRIPTION = """\
Create the topics where they are missing; existing ones stay as they are. More partitions let more consumers share the
stations. TOPIC_PREFIX goes before all names. --check creates nothing and compares what is there with what is needed:
partitions (equal), compaction, timestamps, retention, size limits, replicas.
"""
_EXAMPLES = """\
examples:
  python -m airquality topics                          at localhost:9092
  KAFKA_BOOTSTRAP_SERVERS=kafka:9092 TOPIC_PARTITIONS=6 python -m airquality topics
  python -m airquality topics --check                  what differs, and what to change
  python -m airquality topics --check --json

exit status: 0 done, or all as needed; 1 no broker answers, or it refuses; 2 wrong usage; 3 --check found differences
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = command.parser("python -m airquality topics", _DESCRIPTION, _EXAMPLES)
    parser.add_argument("--check", action="store_true", help="create nothing, say what differs from what is needed")
    parser.add_argument("--json", action="store_true", help="with --check: one JSON array, for programs")
    args = parser.parse_args(argv)
    if args.json and not args.check:
        parser.error("--json goes with --check")
    return command.run("topics", lambda: _check(as_json=args.json) if args.check else _ensure())


def _settings() -> Settings:
    settings = read_settings()
    log.configure(settings.log_level, settings.log_format)
    return settings


def _ensure() -> int:
    settings = _settings()
    kafka_io.ensure_topics(settings)
    print(f"topics ready at {settings.kafka_bootstrap_servers}: {', '.join(kafka_io.topic_names(settings).values())}")
    return command.DONE


def _check(*, as_json: bool) -> int:
    settings = _settings()
    if settings.kafka_api_version:
        raise UsageError("librdkafka's mock cluster has no settings to compare: --check needs a real broker")
    with kafka_io.kafka_errors_as_unavailable(settings, "DESCRIBE"), closing(kafka_io.open_admin(settings)) as admin:
        found = topics.describe(admin, kafka_io.topic_names(settings))
        n_brokers = len(admin.describe_cluster()["brokers"])
    faults = topics.faults_of(found, n_brokers, settings)
    if as_json:
        print(json.dumps([_as_json(topic, faults[topic.name]) for topic in found.values()]))
    else:
        print("\n".join(_lines(topic, faults[topic.name]) for topic in found.values()))
    return DIFFERENT if any(faults.values()) else command.DONE


def _as_json(topic: topics.Topic, faults: list[str]) -> dict[str, Any]:
    return {
        "topic": topic.name,
        "role": topic.role,
        "exists": topic.exists,
        "partitions": topic.partitions,
        "replicas": topic.replicas,
        "faults": faults,
    }


def _lines(topic: topics.Topic, faults: list[str]) -> str:
    absent = "may not be seen" if topic.is_hidden else "not there"
    size = f"partitions: {topic.partitions}, replicas: {topic.replicas}" if topic.exists else absent
    head = f"{topic.name} ({size}): {'as needed' if not faults else 'differs'}"
    return "\n".join([head, *(f"  - {fault}" for fault in faults)])


if __name__ == "__main__":
    sys.exit(main())
