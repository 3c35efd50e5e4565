"""What became of the reports of one station's windows, and the windows whose report failed."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self, TypeVar

from airquality.events import WindowSettled
from airquality.ground.errors import ContractError
from airquality.monitoring.drift import DAILY, WEEKLY, Judge, Window, WindowState
from airquality.monitoring.window_truth import WindowTruth
from airquality.monitoring.windows import per_kind
from airquality.reports.jobs import Job, ReportResult

AnyJob = TypeVar("AnyJob", bound=Job)

#: Failed windows that are kept for each station while it is owned.
MAX_UNMADE = 100
#: Hours of failed windows that a snapshot holds, so that their reports are made again after a restart, too: about 12 KB.
SAVED_UNMADE_HOURS = WEEKLY.hours + DAILY.hours


@dataclass(frozen=True, slots=True)
class LedgerState:
    """Everything a :class:`ReportLedger` remembers while no report is due."""

    generated: Mapping[str, int]
    failed: Mapping[str, int]
    unmade: tuple[WindowState, ...]
    unsettled: tuple[WindowTruth, ...] = ()


class ReportLedger:
    """The account of one station's reports. A station may be snapshotted only while ``outstanding`` is 0."""

    def __init__(self) -> None:
        #: Windows closed whose report has neither been made nor failed yet.
        self.outstanding = 0
        self.generated = per_kind()
        self.failed = per_kind()
        #: Failed windows, oldest first, whose reports are to be made once the cause is gone.
        self.unmade: deque[Window] = deque()
        #: What is final of windows whose page does not say so yet, oldest first: it failed, or the report had.
        self.unsettled: deque[WindowSettled] = deque()

    @property
    def next_again(self) -> Job | None:
        """What is made again next: a report that failed, and once there is none a page that does not say what is final."""
        if self.unmade:
            return self.unmade[0]
        return self.unsettled[0] if self.unsettled else None

    def take_result(self, result: ReportResult) -> None:
        """Count the end of one of the station's windows; a page that was made anew counts no more than once."""
        self.outstanding -= 1
        if result.settled:
            return
        (self.generated if result.result == "generated" else self.failed)[result.kind] += 1

    def keep(self, window: Window) -> Window | None:
        """Keep a failed window for later; return the oldest one where that is given up for it."""
        self.unmade.append(window)
        return self.unmade.popleft() if len(self.unmade) > MAX_UNMADE else None

    def keep_settled(self, settled: WindowSettled) -> None:
        """Keep what is final of a window until its page says so; the oldest is given up where they are too many."""
        self.unsettled.append(settled)
        if len(self.unsettled) > MAX_UNMADE:
            self.unsettled.popleft()

    def lacks_report(self, settled: WindowSettled) -> bool:
        """Whether the window's report has failed, and is still to be made."""
        return any((window.kind, window.end_hour) == (settled.kind, settled.end_hour) for window in self.unmade)

    def take_remade(self, window: Window) -> None:
        """Count the report of a window that had failed and was made after all."""
        self.unmade.remove(window)
        self.failed[window.kind.name] -= 1
        self.generated[window.kind.name] += 1

    def state(self) -> LedgerState:
        """Return everything :meth:`from_state` needs.

        Raises:
            ContractError: windows are outstanding, so the counters do not yet tell the end of this station's rows.
        """
        if self.outstanding:
            raise ContractError(f"{self.outstanding} windows are outstanding; no snapshot may be taken")
        saved = tuple(window.state() for window in _newest(self.unmade, SAVED_UNMADE_HOURS))
        final = tuple(settled.truth for settled in _newest(self.unsettled, SAVED_UNMADE_HOURS))
        return LedgerState(dict(self.generated), dict(self.failed), saved, final)

    @classmethod
    def from_state(cls, station_id: str, state: LedgerState, judge: Judge) -> Self:
        """Return the ledger whose :meth:`state` this is."""
        ledger = cls()
        ledger.generated, ledger.failed = dict(state.generated), dict(state.failed)
        ledger.unmade = deque(Window.from_state(station_id, saved, judge) for saved in state.unmade)
        ledger.unsettled = deque(WindowSettled(station_id, truth) for truth in state.unsettled)
        return ledger


def _newest(windows: Iterable[AnyJob], hours: int) -> list[AnyJob]:
    """Return the newest windows that span at most ``hours`` together, oldest first."""
    oldest_first = list(windows)
    spans = itertools.accumulate(window.kind.hours for window in reversed(oldest_first))
    n_windows = sum(span <= hours for span in spans)
    return oldest_first[len(oldest_first) - n_windows :]
