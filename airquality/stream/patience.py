"""The one policy on failures: what is waited for, for how long, and with which pauses.

The prediction service and Kafka are waited for without end, because waiting can mend their absence and no row is lost
meanwhile. Two parts of the system that disagree end a start at once: nobody would find out otherwise. In a consumer that has
worked before they are waited for a while, because one part of a release may be replaced before the other. Anything else ends
the process, and its supervisor starts it again.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable

from airquality.ground.errors import AirQualityError, ContractError, Unavailable

BACKOFF_SECONDS = (0.5, 10.0)
#: How long the parts of a release may disagree under a running consumer.
RELEASE_SECONDS = 120.0
#: A failure that comes this long after the last one is another failure.
FORGET_SECONDS = 60.0


class Patience:
    """How long to pause before each new try of one thing, or the end of waiting.

    ``has_worked`` is set by whoever waits, once the thing has worked for the first time.
    """

    def __init__(self, has_worked: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self.has_worked = has_worked
        self._clock = clock
        self._tries = 0
        self._began = self._last = -math.inf

    def pause_seconds(self, error: AirQualityError) -> float:
        """Return how long to pause after ``error``, with jitter; raise it where no waiting can mend it any more."""
        now = self._clock()
        if now - self._last > FORGET_SECONDS:
            self._tries, self._began = 0, now
        if now - self._began >= self._limit_seconds(error):
            raise error
        low, high = BACKOFF_SECONDS
        pause = min(low * 2.0**self._tries, high) * random.uniform(0.5, 1.5)
        self._tries = min(self._tries + 1, 16)
        self._last = now + pause
        return pause

    def _limit_seconds(self, error: AirQualityError) -> float:
        if isinstance(error, Unavailable):
            return math.inf
        return RELEASE_SECONDS if isinstance(error, ContractError) and self.has_worked else 0.0
