"""What became of the reports of one station's windows.

Windows that closed are counted, and which of them have no whole report is known; reports made are the difference. So a
snapshot may be taken while reports are due: what is due lies in the reports folder, and is found when a station is opened.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

from airquality.events import WindowSettled
from airquality.ground.errors import ContractError
from airquality.monitoring.drift import Judge, Window, WindowState
from airquality.monitoring.windows import per_kind
from airquality.reports.due import Due, Job
from airquality.truth.kinds import DAILY, WEEKLY
from airquality.truth.window_truth import WindowTruth

AnyJob = TypeVar("AnyJob", bound=Job)

#: Windows that could not be stored and are kept for each station while it is owned.
MAX_UNMADE = 100
#: Hours of such windows that a snapshot holds, so that their reports are made after a restart, too: about 12 KB.
SAVED_UNMADE_HOURS = WEEKLY.hours + DAILY.hours


@dataclass(frozen=True, slots=True)
class LedgerState:
    """Everything a :class:`ReportLedger` remembers.

    ``generated`` holds the windows whose report is made, or due in the reports folder; ``failed`` all that have none though
    it was tried, ``failing`` those among them that are due there.
    """

    generated: Mapping[str, int]
    failed: Mapping[str, int]
    unmade: tuple[WindowState, ...]
    unsettled: tuple[WindowTruth, ...] = ()
    failing: Mapping[str, int] = field(default_factory=dict)


class ReportLedger:
    """The account of one station's reports. A station may be snapshotted only while ``outstanding`` is 0."""

    def __init__(self) -> None:
        #: Windows that closed, and truths that change a page, which are not stored yet, nor could not be.
        self.outstanding = 0
        #: Windows that could not be stored, oldest first: the disk is full. They are stored once the cause is gone.
        self.unmade: list[Window] = []
        #: What is final of windows and could not be stored, oldest first.
        self.unsettled: list[WindowSettled] = []
        self._closed = per_kind()
        self._lost = per_kind()  # windows that could not be stored and were given up
        self._due: set[tuple[str, int]] = set()  # windows whose page is to be made
        self._failing: set[tuple[str, int]] = set()  # windows whose page, or Evidently's part, could not be made

    @property
    def generated(self) -> dict[str, int]:
        """By window kind, how many reports are made."""
        without = Counter(kind for kind, _ in self._due | self._failing)
        without.update(window.kind.name for window in self.unmade)
        return {kind: closed - self._lost[kind] - without[kind] for kind, closed in self._closed.items()}

    @property
    def failed(self) -> dict[str, int]:
        """By window kind, how many reports are not whole though it was tried."""
        failing = Counter(kind for kind, _ in self._failing)
        failing.update(window.kind.name for window in self.unmade)
        return {kind: lost + failing[kind] for kind, lost in self._lost.items()}

    @property
    def next_again(self) -> Job | None:
        """What is stored again next: a window, and once there is none what is final of one."""
        if self.unmade:
            return self.unmade[0]
        return self.unsettled[0] if self.unsettled else None

    def take_stored(self, due: Due) -> None:
        """Note that a job is stored."""
        self.outstanding -= 1
        if due.stage == "page":
            self._closed[due.kind.name] += 1
            self._due.add(_key(due))

    def take_found(self, due: Due) -> None:
        """Note that a window, of those that closed before the station was opened, is due."""
        if due.stage == "page":
            self._due.add(_key(due))

    def take_made(self, due: Due) -> bool:
        """Note that something is made; return whether a report became a whole one, or has a page now."""
        was_due = _key(due) in self._due or _key(due) in self._failing
        if due.stage == "page":
            self._due.discard(_key(due))
        if due.stage != "truth":
            self._failing.discard(_key(due))
        return was_due and due.stage != "truth"

    def take_failure(self, due: Due) -> bool:
        """Note that something cannot be made for now; return whether a report failed by that which had not before."""
        if due.stage == "truth" or _key(due) in self._failing:
            return False
        self._failing.add(_key(due))
        return True

    def lacks_page(self, due: Due) -> bool:
        """Whether the window's page is still to be made."""
        return _key(due) in self._due

    def keep(self, job: Job) -> Window | None:
        """Keep what could not be stored for later; return the oldest window where that is given up for it."""
        self.outstanding -= 1
        if isinstance(job, WindowSettled):
            self.unsettled.append(job)
            if len(self.unsettled) > MAX_UNMADE:
                self.unsettled.pop(0)
            return None
        self._closed[job.kind.name] += 1
        self.unmade.append(job)
        if len(self.unmade) <= MAX_UNMADE:
            return None
        lost = self.unmade.pop(0)
        self._lost[lost.kind.name] += 1
        return lost

    def take_stored_after_all(self, job: Job) -> None:
        """Note that what is first in :attr:`next_again`'s order was stored."""
        if isinstance(job, WindowSettled):
            self.unsettled.remove(job)
        else:
            self.unmade.remove(job)
            self._due.add(_key(Due.of(job)))

    def put_last(self, job: Job) -> None:
        """Let another one be stored first: it may work."""
        of_its_kind: list[Any] = self.unsettled if isinstance(job, WindowSettled) else self.unmade
        of_its_kind.append(of_its_kind.pop(0))

    def state(self) -> LedgerState:
        """Return everything :meth:`from_state` needs.

        Raises:
            ContractError: something is not stored yet, so a snapshot would lose it.
        """
        if self.outstanding:
            raise ContractError(f"{self.outstanding} windows are outstanding; no snapshot may be taken")
        failed, failing = self.failed, Counter(kind for kind, _ in self._failing)
        saved = tuple(window.state() for window in _newest(self.unmade, SAVED_UNMADE_HOURS))
        final = tuple(settled.truth for settled in _newest(self.unsettled, SAVED_UNMADE_HOURS))
        accounted = {kind: closed - failed[kind] for kind, closed in self._closed.items()}
        return LedgerState(accounted, failed, saved, final, {kind: failing[kind] for kind in failed if failing[kind]})

    @classmethod
    def from_state(cls, station_id: str, state: LedgerState, judge: Judge) -> Self:
        """Return the ledger whose :meth:`state` this is; what is due is still to be found."""
        ledger = cls()
        ledger.unmade = [Window.from_state(station_id, saved, judge) for saved in state.unmade]
        ledger.unsettled = [WindowSettled(station_id, truth) for truth in state.unsettled]
        unmade = Counter(window.kind.name for window in ledger.unmade)
        ledger._closed = {kind: made + state.failed[kind] for kind, made in state.generated.items()}
        ledger._lost = {kind: failed - unmade[kind] - state.failing.get(kind, 0) for kind, failed in state.failed.items()}
        return ledger


def _key(due: Due) -> tuple[str, int]:
    return due.kind.name, due.end_hour


def _newest(windows: Iterable[AnyJob], hours: int) -> list[AnyJob]:
    """Return the newest windows that span at most ``hours`` together, oldest first."""
    oldest_first = list(windows)
    spans = itertools.accumulate(window.kind.hours for window in reversed(oldest_first))
    n_windows = sum(span <= hours for span in spans)
    return oldest_first[len(oldest_first) - n_windows :]
