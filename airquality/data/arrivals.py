"""Hours of a station on their way into what is kept of all stations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from airquality.records import RAW_COLUMNS


class TakesIn(Protocol):
    """What is kept of stations; see ``airquality.model.rings.Rings``."""

    def take_in(self, arrivals: Sequence[Arrival]) -> NDArray[np.float64]:
        """Take in hours of different stations; return the feature rows wanted of them, by arrival, in the order of hours."""


class Arrival(NamedTuple):
    """Consecutive hours of a station, of which it is not known yet what features are made of.

    Attributes:
        into: What takes them in.
        place: The station's place there.
        newest_hour: The last one of them.
        packed: The raw values of each (``airquality.records.Reading.packed``), NaN for a missing hour.
        ready: Those of which feature rows are wanted, by index, ascending.
        derived: Whether the place holds what is derived from the hours before.
    """

    into: TakesIn
    place: int
    newest_hour: int
    packed: Sequence[bytes]
    ready: Sequence[int]
    derived: bool


def unpacked(hours: Sequence[bytes]) -> NDArray[np.float64]:
    """Return the raw values of packed hours, shape ``(len(hours), len(RAW_COLUMNS))``, read-only."""
    return np.frombuffer(b"".join(hours), dtype="<f8").reshape(-1, len(RAW_COLUMNS))
