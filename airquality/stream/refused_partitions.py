"""Partitions that must not be read: held unread, said once a minute, while the others of this consumer go on."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable

from airquality.ground.errors import Refused
from airquality.metrics import ConsumerMetrics

LINE_SECONDS = 60.0

logger = logging.getLogger("consumer")


class RefusedPartitions:
    """The owned partitions whose restore was refused, and why."""

    def __init__(self, metrics: ConsumerMetrics, clock: Callable[[], float]) -> None:
        self._metrics = metrics
        self._clock = clock
        self._why: dict[int, Refused] = {}
        self._said = -math.inf

    def add(self, partition: int, why: Refused) -> None:
        """Hold a partition unread."""
        self._why[partition] = why
        self._said = -math.inf

    def drop(self, partitions: Iterable[int]) -> None:
        """Forget partitions that another consumer owns now."""
        for partition in partitions:
            self._why.pop(partition, None)

    @property
    def first(self) -> Refused | None:
        """Why the first of them is not read, None if there is none."""
        return next(iter(self._why.values()), None)

    def say(self) -> None:
        """Show whether there are any, and say once a minute which, and why."""
        self._metrics.refused.set(bool(self._why))
        if not self._why or self._clock() - self._said < LINE_SECONDS:
            return
        self._said = self._clock()
        for partition, why in sorted(self._why.items()):
            logger.error(
                "refused: %s. Partition %d is not read until its consumer is started again; the others go on", why, partition
            )
