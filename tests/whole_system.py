"""What the whole system is sent, what it must publish, and what it has published."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from airquality.data import dataset
from airquality.data.dataset import Frame
from airquality.ground.settings import Settings
from airquality.incoming import LateTruth
from airquality.model import features
from airquality.model.model import Model
from airquality.records import HISTORY_HOURS, Reading, isoformat
from airquality.stream import kafka_io
from tests.system import System

#: What every test of the whole system is marked with.
MARKS = [
    pytest.mark.broker,
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    # kafka-python leaves the socket of a connection whose handshake is slow to the garbage collector
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]
SMALL_BATCHES = {"MAX_POLL_RECORDS": "40", "SNAPSHOT_OFFSETS": "100", "SNAPSHOT_SECONDS": "2"}


def stream(prepared: dict[str, str]) -> Frame:
    return dataset.read_stream_csv(Path(prepared["DATASET_DIR"]) / dataset.STREAM_NAME)


def expected(frame: Frame, prepared: dict[str, str]) -> dict[str, float]:
    """Return what must be published: the model's offline prediction of every hour after the warm-up."""
    model = Model.load(Path(prepared["ARTIFACTS_DIR"]))
    predictions = model.predict(features.batch(frame.hours, frame.values))
    return {
        isoformat(int(h)): p for h, p in zip(frame.hours[HISTORY_HOURS:], predictions[HISTORY_HOURS:].tolist(), strict=True)
    }


def published(found: list[dict[str, Any]], station_id: str) -> dict[str, float]:
    """Return the station's predictions by hour; fail if an hour or a source was published twice."""
    records = [json.loads(record["value"]) for record in found if record["key"] == station_id]
    hours = [record["DateTime"] for record in records]
    sources = {(record["source_partition"], record["source_offset"]) for record in records}
    assert len(set(hours)) == len(hours) == len(sources), "an hour was published twice"
    assert {record["model_version"] for record in records} <= {"1"}
    return {record["DateTime"]: record["prediction"] for record in records}


def n_offsets(settings: Settings, topic: str) -> int:
    """Return how far the topic's partitions have grown, in offsets."""
    partitions = kafka_io.partitions(settings, topic)
    return sum(kafka_io.log_ranges(settings, [topic], partition)[topic][1] for partition in partitions)


def settings_of(made: System) -> Settings:
    given: dict[str, Any] = {
        name.lower(): value for name, value in made.environment.items() if name.lower() in Settings.model_fields
    }
    return Settings(**given)


def send(settings: Settings, records: Sequence[Reading | LateTruth | tuple[bytes, bytes]]) -> None:
    """Send readings and late truths, and whatever else is given by its key and value."""
    with kafka_io.idempotent_producer(settings) as producer:
        for record in records:
            key, value = record if isinstance(record, tuple) else (record.station_id.encode(), record.to_bytes())
            headers = record.headers if isinstance(record, LateTruth) else []
            producer.send(settings.raw_topic, key=key, value=value, headers=headers)
        producer.flush()


def taken_in(settings: Settings) -> int:
    """Return how many raw records the group has committed."""
    n_partitions = len(kafka_io.partitions(settings, settings.raw_topic))
    return sum(offset for offset, _ in kafka_io.group_positions(settings, n_partitions).values())
