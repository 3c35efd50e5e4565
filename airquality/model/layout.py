"""Where the hours of stations lie that are kept in rings: hour *h* is in row ``h % n`` of a ring of *n* hours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from airquality.model.past_reader import LEVELS, Indices, PastReader

Hours = NDArray[np.int64]


class Layout:
    """The rings of stations, each of which has a place; the rings of all levels of nodes lie in the same arrays.

    Args:
        reading: What is read of the rings, and how many hours each must hold.

    Attributes:
        rows_a_place: How many rows the array of each ring has for a place, shape ``(n_rings,)``.
    """

    def __init__(self, reading: PastReader) -> None:
        self._ring_hours = reading.ring_hours
        of_levels = self._ring_hours[-LEVELS:]
        n_others = len(self._ring_hours) - LEVELS
        self.rows_a_place = np.concatenate([self._ring_hours[:n_others], np.repeat(of_levels.sum(), LEVELS)])
        self._firsts = np.concatenate([np.zeros(n_others, np.int64), of_levels.cumsum() - of_levels])
        # what is asked, then the hour itself in every ring
        self._n_asked = len(reading.rings)
        rings = np.concatenate([reading.rings, np.arange(len(self._ring_hours))[:, None]])
        self._backs = np.concatenate([reading.backs, np.zeros((len(self._ring_hours), 1), np.int64)])
        self._lengths, self._begins, self._steps = (
            of_ring.take(rings) for of_ring in (self._ring_hours, self._firsts, self.rows_a_place)
        )

    def rows(self, places: Hours, hours: Hours) -> tuple[Indices, Indices]:
        """Return where what hours ask of the past is, ``(n_asked, n)``, and where they are themselves, ``(n_rings, n)``."""
        rows = hours - self._backs
        rows %= self._lengths
        rows += self._begins
        rows += places * self._steps
        return rows[: self._n_asked], rows[self._n_asked :]

    def rows_of_ring(self, ring: int, places: Hours, newest: Hours) -> tuple[Indices, Hours]:
        """Return where all hours of a ring are, ``(n_hours, n_places)``, and how long ago, ``(n_hours, 1)``."""
        n_hours = self._ring_hours[ring]
        back = np.arange(n_hours)[:, None]
        return places * self.rows_a_place[ring] + self._firsts[ring] + (newest - back) % n_hours, back
