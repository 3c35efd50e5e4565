"""The clock of a contender that uses kafka-python: when its first row came, and when each of its transactions was committed.

It is between the program and the client library, so it measures every program alike and needs nothing of the program.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psutil
from kafka import KafkaConsumer, KafkaProducer


@dataclass
class Clock:
    """Notes what passes between a program and Kafka.

    Args:
        raw_topic: Its rows start the clock.
        pred_topic: Its records are counted.
        n_rows: After so many committed records ``done`` is called.
        done: What ends the program.
    """

    raw_topic: str
    pred_topic: str
    n_rows: int | None
    done: Callable[[], None]
    #: Monotonic seconds and CPU seconds when the first rows came.
    began: tuple[float, float] | None = None
    #: Monotonic seconds, records committed so far, CPU seconds and megabytes, for each commit.
    commits: list[tuple[float, int, float, float]] = field(default_factory=list)
    _sent: int = 0

    def install(self) -> None:
        """Stand between this process and the client library from now on."""
        _around(KafkaConsumer, "poll", self._polled)
        _around(KafkaProducer, "send", self._count)
        _around(KafkaProducer, "commit_transaction", self._committed)

    def report(self) -> dict[str, Any]:
        """Return what was measured, for the process that asked."""
        began = self.began or (0.0, 0.0)
        memory = psutil.Process().memory_info().rss / 2**20
        return {"began": began[0], "cpu_began": began[1], "commits": self.commits, "memory_mb": memory}

    def _polled(self, original: Callable[..., Any], *args: Any, **options: Any) -> Any:
        polled = original(*args, **options)
        if self.began is None and any(partition.topic == self.raw_topic for partition in polled):
            self.began = time.perf_counter(), time.process_time()
        return polled

    def _count(self, original: Callable[..., Any], producer: Any, topic: str, *args: Any, **options: Any) -> Any:
        self._sent += topic == self.pred_topic
        return original(producer, topic, *args, **options)

    def _committed(self, original: Callable[..., Any], *args: Any, **options: Any) -> Any:
        sent = self._sent  # of this transaction at the latest: what another thread sends meanwhile is of the next one
        result = original(*args, **options)
        memory = psutil.Process().memory_info().rss / 2**20
        self.commits.append((time.perf_counter(), sent, time.process_time(), memory))
        if self.n_rows is not None and sent >= self.n_rows:
            self.done()
        return result


def _around(owner: type, name: str, call: Callable[..., Any]) -> None:
    original = getattr(owner, name)

    def wrapped(*args: Any, **options: Any) -> Any:
        return call(original, *args, **options)

    setattr(owner, name, wrapped)
