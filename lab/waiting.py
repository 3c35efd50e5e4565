"""Wait for a state, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable

#: How long anything may take that takes seconds on an idle machine: room for a slow one that is busy, no measure of speed.
PATIENCE_SECONDS = 180.0
_PAUSE_SECONDS = 0.05


class Failed(Exception):
    """Something that a run needs did not happen, or not in time."""


def wait_until(condition: Callable[[], bool], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Return once the condition holds; raise :class:`Failed` after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not within {seconds:g} s")
        time.sleep(_PAUSE_SECONDS)
