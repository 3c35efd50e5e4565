"""Whether intervals hold as many truths as they say: a detector of its own, fed as truths come.

The share of truths outside is remembered, half forgotten after :data:`MEMORY_TRUTHS` of them. Coverage that leaves its band,
calibrated on history, opens an alarm of the target's column; it closes once coverage is half the way back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from airquality.monitoring.alarms import Event
from airquality.monitoring.intervals import COVERAGE, Case
from airquality.records import TARGET

#: The detector's name by case: each has its own band, because intervals of late truth wander more.
DETECTORS: Mapping[Case, str] = {"prompt": "coverage", "late": "coverage late"}
UNIT = "%"
#: How far coverage may leave what it did in history.
MARGIN = 0.04
#: After how many truths the memory is half forgotten: some four days of hourly truth.
MEMORY_TRUTHS = 100.0

_FORGET: float = 1.0 - 0.5 ** (1.0 / MEMORY_TRUTHS)


@dataclass(frozen=True, slots=True)
class Band:
    """Between which shares coverage stays while nothing is wrong."""

    low: float
    high: float

    def calm(self) -> Band:
        """Return the band in which an alarm closes."""
        return Band((self.low + COVERAGE) / 2, (self.high + COVERAGE) / 2)

    def holds(self, share: float) -> bool:
        """Whether a coverage is inside."""
        return self.low <= share <= self.high


@dataclass(frozen=True, slots=True)
class CoverageState:
    """Everything :class:`CoverageWatch` remembers; ``since`` is the hour since which its alarm is open."""

    share: float = COVERAGE
    since: int | None = None


class CoverageWatch:
    """The coverage of one station's intervals of one case.

    Args:
        case: Of the intervals.
        band: None: nothing is calibrated, so nothing is judged.
    """

    def __init__(self, case: Case, band: Band | None) -> None:
        self._case: Case = case
        self._band = band
        self._state = CoverageState()

    def learn(self, at: int, inside: bool) -> list[Event]:
        """Take in whether a truth lay inside its interval; ``at`` is the station's newest hour. Return what changed."""
        share, since = self._state.share + _FORGET * (inside - self._state.share), self._state.since
        events = []
        if self._band is not None and since is None and not self._band.holds(share):
            since = at
            events.append(Event("opened", DETECTORS[self._case], TARGET, at, at, 100.0 * share, UNIT))
        elif since is not None and (self._band is None or self._band.calm().holds(share)):
            events.append(Event("closed", DETECTORS[self._case], TARGET, at, since, 100.0 * share, UNIT))
            since = None
        self._state = CoverageState(share, since)
        return events

    @property
    def share(self) -> float:
        """The coverage lately."""
        return self._state.share

    def state(self) -> CoverageState:
        """Return everything :meth:`from_state` needs."""
        return self._state

    @classmethod
    def from_state(cls, state: CoverageState, case: Case, band: Band | None) -> Self:
        """Return the watch whose :meth:`state` this is."""
        watch = cls(case, band)
        watch._state = state
        return watch


def band_of(inside: Iterable[bool]) -> Band:
    """Return the band around what the coverage of history was, truth by truth."""
    share, low, high = COVERAGE, COVERAGE, COVERAGE
    for each in inside:
        share += _FORGET * (each - share)
        low, high = min(low, share), max(high, share)
    return Band(max(0.0, low - MARGIN), min(1.0, high + MARGIN))
