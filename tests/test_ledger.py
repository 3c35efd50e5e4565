"""The account of a station's reports: failed windows and pages that wait to be final are bounded."""

from __future__ import annotations

from airquality.events import WindowSettled
from airquality.ground.typed import plain, restored
from airquality.reports.ledger import MAX_UNMADE, SAVED_UNMADE_HOURS, LedgerState, ReportLedger
from airquality.truth.performance import Performance
from airquality.truth.window_truth import Held, WindowTruth
from tests import stations
from tests.observed import FIRST, monitor, row_at, saved


def test_ledger_pages_that_wait_to_be_final_are_bounded_in_memory_and_in_the_snapshot() -> None:
    ledger, figures = ReportLedger(), Performance(0.3, 0.2, 0.9, 24)
    late = tuple((FIRST + hour, 1.5) for hour in range(24))
    for end in range(FIRST, FIRST + 24 * (MAX_UNMADE + 2), 24):
        truth = WindowTruth("daily", end, end + 24, True, 24, figures, figures, late, 24.0, 0.3, {"all": Held(24, 22)})
        ledger.outstanding += 1
        ledger.keep(WindowSettled("station_1", truth))
    assert [settled.end_hour for settled in ledger.unsettled] == list(range(FIRST + 48, FIRST + 24 * 102, 24))
    kept = ledger.state()
    assert len(kept.unsettled) == SAVED_UNMADE_HOURS // 24
    again = ReportLedger.from_state("station_1", restored(LedgerState, plain(kept)), stations.judge())
    assert list(again.unsettled) == list(ledger.unsettled)[-len(kept.unsettled) :]


def test_monitor_snapshot_holds_no_more_failed_windows_than_it_may() -> None:
    observer = monitor()
    for hour in range(FIRST, FIRST + 10 * 168):
        for window in stations.observe(observer, row_at(hour), 2.0):
            observer.reports.keep(window)
    kept = observer.state("group", 0).reports.unmade
    assert sum(len(window.hours) for window in kept) == SAVED_UNMADE_HOURS
    assert [window.end_hour for window in kept] == sorted(w.end_hour for w in observer.reports.unmade)[-len(kept) :]
    assert len(saved(observer)) < 90_000
