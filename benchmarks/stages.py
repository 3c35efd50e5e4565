"""CPU time of the consumer by stage, measured from outside: each stage is a list of functions, timed where they are called.

What a function calls that is of another stage counts there. Timing costs a few microseconds a row, so the run that is timed
by stage is another one than the run whose rate is published.
"""

from __future__ import annotations

import importlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

#: The functions of each stage. Where a name is imported into the module that calls it, it is timed there.
POINTS: dict[str, tuple[str, ...]] = {
    "poll": ("kafka:KafkaConsumer.poll",),
    "parse": ("airquality.stream.then:Then.parse",),
    "buffer": ("feature_buffer:FeatureBuffer.push",),
    "features": ("airquality.stream.partition:take_features",),
    "hop": ("airquality.model.client:PredictionClient.predict",),
    "monitor": (
        "monitoring_service:MonitoringService.judge",
        "airquality.stream.station:Station.update",
        "airquality.stream.station:Station.around",
    ),
    "encode": ("airquality.records:Prediction.to_bytes", "airquality.stream.station:Station.snapshot"),
    "send": ("kafka:KafkaProducer.send",),
    "commit": (
        "kafka:KafkaProducer.begin_transaction",
        "kafka:KafkaProducer.send_offsets_to_transaction",
        "kafka:KafkaProducer.commit_transaction",
    ),
}


class Stages:
    """CPU seconds by stage, over all threads."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._stack = threading.local()

    def install(self) -> None:
        """Time the stages in this process from now on."""
        for stage, points in POINTS.items():
            for point in points:
                owner, name, original = resolve(point)
                setattr(owner, name, self._timed(stage, original))

    def _timed(self, stage: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **options: Any) -> Any:
            before = getattr(self._stack, "inner", 0.0)
            self._stack.inner = 0.0
            started = time.thread_time()
            try:
                return original(*args, **options)
            finally:
                spent = time.thread_time() - started
                self.seconds[stage] += spent - self._stack.inner
                self._stack.inner = before + spent

        return wrapped


def unseen(seconds: Mapping[str, float]) -> list[str]:
    """Return the stages that took no time at all: what they list is no longer what the consumer calls."""
    return [stage for stage in POINTS if not seconds.get(stage)]


def resolve(point: str) -> tuple[Any, str, Callable[..., Any]]:
    """Return the owner, the name and the function of a point; raises ``AttributeError`` where it is no longer there."""
    module, path = point.split(":")
    owner: Any = importlib.import_module(module)
    *owners, name = path.split(".")
    for each in owners:
        owner = getattr(owner, each)
    return owner, name, getattr(owner, name)
