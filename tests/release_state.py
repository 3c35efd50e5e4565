"""What a release leaves in Kafka, kept for the next one: written with that release's code, read with today's.

``python -m tests.release_state FILE`` in a checkout of a release writes what its consumer committed of two made-up stations.
"""

from __future__ import annotations

import gzip
import json
import sys
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

import pytest

from airquality.stream.account import Topics
from airquality.stream.transactions import Position
from tests.simulated_kafka import SimulatedKafka

STATIONS = (0, 1)
#: Hours of each station before the release ends its consumer, and those that come after.
HOURS_BEFORE, HOURS_AFTER = 230, 40
#: Of each topic the newest records are kept, as retention does; the snapshots are the newest of the state topic.
KEPT_RECORDS = 2
Log = list[dict[str, Any]]


def write(path: Path) -> None:
    """Run this release's consumer over the stations' hours, stop it as an operator would, and keep the topics."""
    from airquality.stream import worker
    from tests import worker_rig

    with pytest.MonkeyPatch.context() as patch:
        clock = worker_rig.Clock()
        rig = worker_rig.Rig(clock)
        patch.setattr(worker, "time", type("time", (), {"sleep": clock.sleep, "monotonic": clock}))
        for hour in range(HOURS_BEFORE):
            for station in STATIONS:
                rig.send(hour, 1, station)
        rig.worker.run()
    kept = {
        "logs": {topic: _log(rig.kafka, topic)[-KEPT_RECORDS:] for topic, _ in rig.kafka.logs},
        "ends": {topic: rig.kafka.end(topic, 0) for topic, _ in rig.kafka.logs},
        "position": [rig.kafka.positions[0].offset, rig.kafka.positions[0].note],
    }
    path.write_bytes(gzip.compress(json.dumps(kept).encode(), mtime=0))


def _log(kafka: SimulatedKafka, topic: str) -> Log:
    return [
        {
            "offset": record.offset,
            "key": _text(record.key),
            "value": _text(record.value),
            "headers": [[name, _text(value)] for name, value in record.headers],
        }
        for record in kafka.log(topic)
    ]


def _text(content: bytes | None) -> str | None:
    return None if content is None else b64encode(content).decode()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else b64decode(text)


def read(path: Path, kafka: SimulatedKafka) -> None:
    """Put into ``kafka`` what a release left there."""
    kept = json.loads(gzip.decompress(path.read_bytes()))
    for topic, log in kept["logs"].items():
        for record in log:
            while kafka.end(topic, 0) < record["offset"]:
                kafka.skip(topic, 0)
            headers = tuple((name, _bytes(value) or b"") for name, value in record["headers"])
            kafka.append(topic, 0, _bytes(record["key"]), _bytes(record["value"]), headers=headers)
        while kafka.end(topic, 0) < kept["ends"][topic]:
            kafka.skip(topic, 0)
        kafka.starts[topic, 0] = log[0]["offset"]
    kafka.positions[0] = Position(*kept["position"])
    kafka.topics = Topics("raw-1", "pred-1", "state-1", "dlq-1", partitions=2)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
