"""Whether intervals hold as many truths as they say: a detector of its own, fed as truths come.

The share of truths outside is remembered, half forgotten after some four days of them. Coverage that leaves its band,
calibrated on history, opens an alarm of the target's column; it closes once coverage is half the way back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from airquality.monitoring.alarms import Event
from airquality.records import TARGET
from airquality.truth.band import FORGET, Band
from airquality.truth.intervals import COVERAGE, Case

#: The detector's name by case: each has its own band, because intervals of late truth wander more.
DETECTORS: Mapping[Case, str] = {"prompt": "coverage", "late": "coverage late"}
UNIT = "%"


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
        self.share, self._since = COVERAGE, CoverageState().since

    def learn(self, at: int, inside: bool) -> list[Event]:
        """Take in whether a truth lay inside its interval; ``at`` is the station's newest hour. Return what changed."""
        share, since = self.share + FORGET * (inside - self.share), self._since
        events = []
        if self._band is not None and since is None and not self._band.holds(share):
            since = at
            events.append(Event("opened", DETECTORS[self._case], TARGET, at, at, 100.0 * share, UNIT))
        elif since is not None and (self._band is None or self._band.calm().holds(share)):
            events.append(Event("closed", DETECTORS[self._case], TARGET, at, since, 100.0 * share, UNIT))
            since = None
        self.share, self._since = share, since
        return events

    def state(self) -> CoverageState:
        """Return everything :meth:`from_state` needs."""
        return CoverageState(self.share, self._since)

    @classmethod
    def from_state(cls, state: CoverageState, case: Case, band: Band | None) -> Self:
        """Return the watch whose :meth:`state` this is."""
        watch = cls(case, band)
        watch.share, watch._since = state.share, state.since
        return watch
