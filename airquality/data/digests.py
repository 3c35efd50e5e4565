"""Checksums of a station's accepted hours, which tell a repeated hour from a contradicted one: 12 KB for 13 months."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from airquality.ground.typed import immutable

#: Hours of which it is remembered whether they were accepted: 13 months.
REMEMBERED_HOURS = 10_000
#: Hours whose whole checksum is kept: three weeks. Of older ones eight bits are: of 255 such hours that are sent again with
#: other values, one counts as a duplicate and not as a conflict. Neither enters the history.
EXACT_HOURS = 512


def digest_of(packed: bytes) -> int:
    """Return a non-zero 32-bit checksum of the packed values of an hour (``airquality.records.Reading.packed``)."""
    return zlib.crc32(packed) or 1


@dataclass(frozen=True, slots=True, eq=False)
class DigestsState:
    """The checksums, by hour modulo their number; 0 for an hour that was not accepted."""

    short: NDArray[np.uint8]
    exact: NDArray[np.uint32]


class HourDigests:
    """The checksums of the hours up to a newest one, which its owner knows."""

    def __init__(self) -> None:
        self._short = np.zeros(REMEMBERED_HOURS, dtype=np.uint8)
        self._exact = np.zeros(EXACT_HOURS, dtype=np.uint32)

    def accept(self, hour: int, skipped: int, digest: int) -> None:
        """Remember a new newest hour's non-zero ``digest``, and that the ``skipped`` hours before it were not accepted."""
        if skipped:
            gap = np.arange(hour - min(skipped, REMEMBERED_HOURS), hour)
            self._short[gap % REMEMBERED_HOURS] = 0
            self._exact[gap[-EXACT_HOURS:] % EXACT_HOURS] = 0
        self._short[hour % REMEMBERED_HOURS] = short(digest)
        self._exact[hour % EXACT_HOURS] = digest

    def accepted(self, hour: int, newest: int) -> bool:
        """Whether the hour was accepted, as far as is remembered at ``newest``."""
        return newest - hour < REMEMBERED_HOURS and bool(self._short[hour % REMEMBERED_HOURS])

    def repeats(self, hour: int, newest: int, digest: int) -> bool:
        """Whether the hour was accepted with this ``digest``, as far as is remembered at ``newest``."""
        if newest - hour < EXACT_HOURS:
            return int(self._exact[hour % EXACT_HOURS]) == digest
        return self.accepted(hour, newest) and int(self._short[hour % REMEMBERED_HOURS]) == short(digest)

    def state(self) -> DigestsState:
        """Return the checksums."""
        return DigestsState(immutable(self._short), immutable(self._exact))

    @classmethod
    def from_state(cls, state: DigestsState) -> Self:
        """Return the digests whose :meth:`state` this is."""
        digests = cls()
        digests._short, digests._exact = state.short.copy(), state.exact.copy()
        return digests


def short(digest: int) -> int:
    """Return eight bits of a non-zero digest, never 0.

    >>> short(255), short(256)
    (1, 2)
    """
    return 1 + digest % 255
