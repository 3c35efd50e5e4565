"""A gap-free grid of hours: all of it at once, each node by doubling along the hours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from airquality.model.channels import Floats, channels_of
from airquality.model.past_reader import LEVELS, Indices, Kept, PastReader, Rows


class Grid:
    """The hours of a grid and their nodes; the node of a level that ends at an hour is row ``level * n_hours + hour``.

    Args:
        reading: What will be read.
        values: Raw values by hour, shape ``(n_hours, len(RAW_COLUMNS))``, NaN where missing.

    Attributes:
        kept: The hours and nodes.
        measured: Of each summed channel, how many hours up to each were measured, modulo 256.
    """

    def __init__(self, reading: PastReader, values: Floats) -> None:
        self._reading = reading
        self.n_hours = len(values)
        self._channels = channels_of(values)
        known, summed, bounded = reading.hour_nodes(self._channels)
        self.measured = np.cumsum(known, axis=0, dtype=np.uint8)
        before = np.zeros_like(self.measured)
        before[1:] = self.measured[:-1]
        lagged = tuple(self._channels.take(channels, axis=1) for channels in reading.lagged)
        self.kept = Kept(lagged, before, _doublings(summed, np.add), _doublings(bounded, np.fmax))

    def rows(self, hours: NDArray[np.int64], positions: Indices) -> Rows:
        """Return the rows at the positions, each of which has 168 hours of its station before it in the grid."""
        return Rows(
            hours=hours,
            now=self._channels.take(positions, axis=0),
            measured=self.kept.measured.take(positions, axis=0),
            last=self.last_known(positions - 1),
            asked=self._reading.levels * self.n_hours + (positions - self._reading.backs),
        )

    def last_known(self, positions: Indices) -> Floats:
        """Return the last known values up to each position, whichever station's they are; anything where there is none."""
        channels = self._channels.take(self._reading.last, axis=1)
        hours = np.arange(len(channels), dtype=np.intp)[:, None]
        newest = np.maximum.accumulate(np.where(np.isnan(channels), -1, hours), axis=0).take(positions, axis=0)
        return np.take_along_axis(channels, newest, axis=0)


def _doublings(values: Floats, pick: np.ufunc) -> Floats:
    """Return, for each power of two up to 128, ``pick`` over that many hours ending at each hour, level after level.

    Each depends on the hours it covers and on nothing else, so its bits do not depend on where the grid begins. Where the
    grid does not hold all of them it is 0.
    """
    n_hours = len(values)
    nodes = np.zeros((LEVELS, *values.shape))
    nodes[0] = values
    for level in range(LEVELS - 1):
        span = 1 << level
        pick(nodes[level, span:], nodes[level, : max(n_hours - span, 0)], out=nodes[level + 1, span:])
    return nodes.reshape(LEVELS * n_hours, -1)
