"""Live traffic: 50 rows a second, and how long it takes from a row's production until its prediction can be read."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import orjson
from confluent_kafka import Consumer, Producer, TopicPartition

from airquality.ground.settings import Settings
from airquality.records import Reading, parse_hour
from benchmarks.figures import Figure, ratio
from benchmarks.ground import Task
from benchmarks.replay import environment_of
from benchmarks.sections import Bench, Outcome, section
from benchmarks.topics import Topics
from lab.waiting import Failed, wait_until

_RATE, _STATIONS = 50, 50
#: Rows that are sent before those that count: the program has started, its first batch is done.
_BEFORE = 50
_START_SECONDS = 90.0


@section("live", place=2, minutes=4)
def live(bench: Bench) -> Outcome:
    """50 rows a second of 50 stations: milliseconds from a row's production until a reader of committed records has it."""
    topics = Topics(bench.ground)
    contenders = {
        "bare": partial(_latency, bench, topics, "benchmarks.loops.bare", 0),
        "product": partial(_latency, bench, topics, "benchmarks.loops.product", _STATIONS),
    }
    found = bench.interleave(contenders)
    figures = {f"{n}: {q}": Figure("ms", tuple(found[n][q])) for n in ("bare", "product") for q in ("p50", "p99")}
    figures["p99 product / bare"] = ratio(found["product"]["p99"], found["bare"]["p99"])
    apart = [a - b for a, b in zip(found["product"]["p50"], found["bare"]["p50"], strict=True)]
    figures["p50 product - bare"] = Figure("ms", tuple(apart))
    return Outcome(figures)


def _latency(bench: Bench, topics: Topics, module: str, n_warm: int) -> Mapping[str, float]:
    settings = topics.around(topics.empty(), 1, n_warm)
    environment = environment_of(settings, API_URL=bench.ground.api.url)
    n_rows = _BEFORE + _RATE * bench.scaled(15, 6)
    reader = Reader(settings)
    running = bench.ground.start(sys.executable, ["-m", module], {}, **environment)
    try:
        produced = _produce(settings, topics, n_rows, reader, running)
        wait_until(lambda: len(reader.seen) >= n_rows, "every row can be read")
        running.stop()
        running.result(60)
    finally:
        running.child.kill()
        reader.stop()
    waits = [(reader.seen[key] - at) * 1e3 for key, at in list(produced.items())[_BEFORE:]]
    return {"p50": float(np.quantile(waits, 0.5)), "p99": float(np.quantile(waits, 0.99))}


def _produce(settings: Settings, topics: Topics, n_rows: int, reader: Reader, running: Task) -> dict[tuple[str, int], float]:
    """Send rows one by one at the rate, once the first of them shows that the program has started; return when each was."""
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap_servers, "linger.ms": 0, "acks": "all"})
    produced: dict[tuple[str, int], float] = {}
    began = time.perf_counter()
    for index, row in enumerate(topics.lives.rows(_STATIONS, n_rows // _STATIONS + 1)):
        if index == n_rows:
            break
        time.sleep(max(0.0, began + index / _RATE - time.perf_counter()))
        _send(producer, settings.raw_topic, row)
        produced[row.station_id, row.hour] = time.perf_counter()
        if not index:
            wait_until(lambda: bool(reader.seen) or running.child.poll() is not None, "the first row", _START_SECONDS)
            if running.child.poll() is not None:
                raise Failed(f"the contender ended: {running.said()[-2000:]}")
            began = time.perf_counter()
    producer.flush(30)
    return produced


def _send(producer: Producer, topic: str, row: Reading) -> None:
    producer.produce(topic, row.to_bytes(), row.station_id.encode(), 0)
    producer.poll(0)


class Reader:
    """Reads committed predictions in a thread, and notes when each came, by station and hour."""

    def __init__(self, settings: Settings) -> None:
        self.seen: dict[tuple[str, int], float] = {}
        self._stopped = threading.Event()
        self._consumer = Consumer(
            {
                "bootstrap.servers": settings.kafka_bootstrap_servers,
                "group.id": f"reader-{settings.pred_topic}",
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 5,
            }
        )
        self._consumer.assign([TopicPartition(settings.pred_topic, 0, 0)])
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopped.is_set():
            message = self._consumer.poll(0.1)
            if message is None or message.error():
                continue
            self.seen.setdefault(_key(message.value()), time.perf_counter())

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        self._thread.join()
        self._consumer.close()


def _key(value: bytes) -> tuple[str, int]:
    """Return station and hour of a prediction, or of the row that the bare loop echoes."""
    record: dict[str, Any] = orjson.loads(value)
    return record["station_id"], parse_hour(record["DateTime"])
