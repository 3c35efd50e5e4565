"""When a run ends by itself, and what it says when it must end while it waits."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from airquality.ground.errors import AirQualityError, Unavailable


class Stopped(AirQualityError):
    """The run had to end while it waited; nothing of the batch at hand has been published, and no summary written."""


def stopped_without_kafka(error: Unavailable) -> Stopped:
    """Return what a run says that has to end while Kafka is away."""
    return Stopped(
        f"stopped while Kafka could not be used ({error}): what was committed stays committed, "
        "the other rows wait in Kafka for the next start"
    )


@dataclass
class Limits:
    """When to stop by oneself, and whether to go on with a loss. They hold for a run, however many workers it takes.

    ``stopped`` is set by SIGINT and SIGTERM, ``taken`` counts committed records, ``started`` is monotonic seconds.
    """

    max_records: float = math.inf
    timeout_seconds: float = math.inf
    idle_exit_seconds: float = math.inf
    accept_loss: bool = False
    stopped: bool = False
    taken: int = 0
    started: float = field(default_factory=time.monotonic)

    @property
    def bounded(self) -> bool:
        """Whether the run ends by itself."""
        return min(self.max_records, self.timeout_seconds, self.idle_exit_seconds) < math.inf

    def out_of_time(self, now: float) -> bool:
        """Whether a stop was asked for, or the time is up."""
        return self.stopped or now - self.started > self.timeout_seconds
