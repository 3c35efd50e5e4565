"""Is a file hourly? Gaps are no fault; rows that are days, or three hours, apart are no hourly readings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from airquality.records import isoformat

#: As many steps in a row, none of them one hour, are no gaps. Of files of 1,404 hourly rows that lost 60 % of their hours
#: at random none shows such a stretch; of those that lost 70 %, one in fifty.
STRETCH_STEPS = 24


def why_not_hourly(hours: Sequence[int] | NDArray[np.int64]) -> str | None:
    """Say what is odd about the steps between the rows' hours, None if they may be called hourly.

    Order and repeated hours do not matter.

    >>> why_not_hourly([0, 24, 48, 72])
    '3 of 3 steps are 24 h'
    >>> why_not_hourly([0, 1, 2, 30, 31])
    """
    distinct = np.unique(np.asarray(hours, dtype=np.int64))
    steps = np.diff(distinct)
    start, length = _longest_run(steps != 1)
    if length == 0 or length < min(STRETCH_STEPS, len(steps)):
        return None
    sizes, counts = np.unique(steps[start : start + length], return_counts=True)
    usual = int(np.argmax(counts))
    where = "" if length == len(steps) else f", from {isoformat(int(distinct[start]))} on"
    return f"{counts[usual]:,} of {length:,} steps {'is' if length == 1 else 'are'} {sizes[usual]:,} h{where}"


def _longest_run(flags: NDArray[np.bool_]) -> tuple[int, int]:
    """Return where the longest run of true values starts, and its length."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False])).astype(np.int8)))
    starts, lengths = edges[::2], edges[1::2] - edges[::2]
    if not len(lengths):
        return 0, 0
    longest = int(np.argmax(lengths))
    return int(starts[longest]), int(lengths[longest])
