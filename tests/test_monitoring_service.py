"""Windows against an oracle under every cutting and crash; reports made, failed, hung; counters, alarms, summary."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from airquality.events import WindowSettled
from airquality.ground.errors import ContractError, UsageError
from airquality.ground.settings import Settings
from airquality.ground.typed import plain, restored
from airquality.incoming import LateTruth, Operation
from airquality.metrics import ConsumerMetrics
from airquality.monitoring.alarms import Event
from airquality.monitoring.component import Predicted, Row
from airquality.monitoring.detectors import Detectors, StationDetectors
from airquality.monitoring.drift import Window
from airquality.monitoring.windows import Windows
from airquality.records import Reading, isoformat
from airquality.reports.due import Due, ReportResult
from airquality.reports.ledger import MAX_UNMADE, SAVED_UNMADE_HOURS, LedgerState, ReportLedger
from airquality.reports.queue import RETRY_SECONDS
from airquality.reports.summary import SUMMARY_NAME, PartitionFigures
from airquality.stream import snapshots
from airquality.stream.station import Off, Station
from airquality.truth.kinds import KINDS
from airquality.truth.performance import Performance
from airquality.truth.window_truth import Held, WindowTruth
from lab.waiting import wait_until
from monitoring_service import MonitoringService
from tests import report_writers, stations
from tests.report_rig import Rig

ROOT = Path(__file__).resolve().parent.parent
FIRST = stations.FIRST_HOUR


# ---- one station ----


def monitor() -> Station:
    return stations.new()


def observe_all(observer: Station, hours: Sequence[int], version: str = "1") -> list[list[Window]]:
    """Observe a row at each hour, its values and prediction made of the hour alone, and report every window as made."""
    return [_finish(observer, stations.observe(observer, _row(hour), 2.0 + hour % 7 / 10, version)) for hour in hours]


def _row(hour: int) -> Reading:
    values = 100 + 10 * np.random.default_rng(hour).normal(size=13)
    values[0] = math.nan if hour % 5 == 0 else 2.5
    return Reading("station_1", hour, tuple(values.tolist()))


def _finish(observer: Station, windows: list[Window]) -> list[Window]:
    for window in windows:
        observer.reports.take_stored(Due.of(window))
        observer.reports.take_made(Due.of(window))
    return windows


def expected_windows(hours: Sequence[int]) -> list[list[tuple[str, int, list[int]]]]:
    """The oracle: per row, the (kind, end hour, hours) of the windows it closes, from the definition alone."""
    closed = []
    for position, hour in enumerate(hours):
        before = hours[:position]
        closed.append([window for kind in KINDS for window in _passed(before, hour - 1, kind.hours, kind.name)])
        closed[-1] += [
            (kind.name, hour, [h for h in hours[: position + 1] if h > hour - kind.hours])
            for kind in KINDS
            if (hour - hours[0] + 1) % kind.hours == 0
        ]
    return closed


def _passed(before: Sequence[int], last: int, length: int, kind: str) -> list[tuple[str, int, list[int]]]:
    """The window of the latest row before, if it ends after that row and no later than ``last``."""
    if not before:
        return []
    end = before[0] + (before[-1] - before[0]) // length * length + length - 1
    return [(kind, end, [h for h in before if h > end - length])] if before[-1] < end <= last else []


def described(closed: list[list[Window]]) -> list[list[tuple[str, int, list[int]]]]:
    return [[(w.kind.name, w.end_hour, w.hours.tolist()) for w in windows] for windows in closed]


gaps = st.lists(st.one_of(st.just(1), st.just(1), st.integers(1, 30), st.integers(1, 400)), max_size=120)


@given(gaps)
@settings(max_examples=60, deadline=None)
def test_windows_are_event_time_windows_from_the_first_prediction_on(gaps: list[int]) -> None:
    hours = (FIRST + np.cumsum([0, *gaps])).tolist()
    observer = monitor()
    assert described(observe_all(observer, hours)) == expected_windows(hours)
    for kind in KINDS:
        assert (
            observer.reports.generated[kind.name] + observer.windows.empty[kind.name]
            == (hours[-1] - hours[0] + 1) // kind.hours
        )


@given(gaps, st.data())
@settings(max_examples=40, deadline=None)
def test_a_crash_at_any_row_changes_nothing(gaps: list[int], data: st.DataObject) -> None:
    hours = (FIRST + np.cumsum([0, *gaps])).tolist()
    whole, cut = monitor(), data.draw(st.integers(0, len(hours)))
    uncut = observe_all(whole, hours)
    first = monitor()
    observe_all(first, hours[:cut])
    second = stations.opener().open("station_1", through_codec(first))
    replayed = observe_all(second, hours[cut:])
    assert [w.digest() for ws in replayed for w in ws] == [w.digest() for ws in uncut[cut:] for w in ws]
    assert saved(second) == saved(whole)


def saved(station: Station) -> bytes:
    """Return the station's snapshot; the same state always gives the same bytes."""
    return snapshots.encode(plain(station.state("group", 0)))


def through_codec(station: Station) -> dict[str, Any]:
    """Return the document of the station's state as it comes back from a snapshot; its windows are under 40 KB."""
    windows = plain(station.state("group", 0))["windows"]
    arrays = {name: value for name, value in windows.items() if isinstance(value, np.ndarray)}
    text = json.dumps({name: value for name, value in windows.items() if name not in arrays}, allow_nan=False)
    assert len(text) + sum(array.nbytes for array in arrays.values()) < 40_000
    return snapshots.decode(saved(station))


def test_the_state_of_a_full_week_is_small() -> None:
    observer = monitor()
    observe_all(observer, range(FIRST, FIRST + 167), version="a-version-of-thirty-two-letters-")
    state = through_codec(observer)
    assert len(state["windows"]["hours"]) == 167


def test_a_gap_free_stream_closes_on_prediction_24_48_and_168() -> None:
    closed = observe_all(monitor(), range(FIRST, FIRST + 400))
    by_count = {count: [window.kind.name for window in windows] for count, windows in enumerate(closed, 1) if windows}
    assert by_count == {**{24 * day: ["daily"] for day in range(1, 17)}, 168: ["daily", "weekly"], 336: ["daily", "weekly"]}


def test_a_window_ends_at_its_last_hour_even_if_that_hour_had_no_row() -> None:
    hours = [*range(FIRST, FIRST + 20), *range(FIRST + 30, FIRST + 60)]
    closed = observe_all(monitor(), hours)
    assert [window.end_hour for windows in closed for window in windows] == [FIRST + 23, FIRST + 47]
    assert [len(windows) for windows in closed[19:22]] == [0, 1, 0]


def test_one_row_may_close_a_day_and_a_week_and_its_own_day() -> None:
    closed = observe_all(monitor(), [FIRST, FIRST + 8 * 24 - 1])
    assert [(w.kind.name, w.end_hour, len(w.hours)) for w in closed[1]] == [
        ("daily", FIRST + 23, 1),
        ("weekly", FIRST + 167, 1),
        ("daily", FIRST + 191, 1),
    ]


def test_windows_without_a_prediction_are_counted_and_make_no_report() -> None:
    observer = monitor()
    observe_all(observer, [FIRST, FIRST + 30 * 24])
    assert observer.windows.empty == {"daily": 29, "weekly": 3}
    assert observer.reports.generated == {"daily": 1, "weekly": 1}


@pytest.mark.parametrize("later", [0, -1, -400])
def test_rows_out_of_order_are_refused(later: int) -> None:
    observer = monitor()
    observe_all(observer, range(FIRST, FIRST + 168))
    row = Row(_row(FIRST + 167 + later), Predicted(2.0, "1"))
    with pytest.raises(ContractError, match="not later than the last row"):
        observer.windows.update(row)


def test_a_window_names_every_version_that_predicted_in_it() -> None:
    observer = monitor()
    observe_all(observer, range(FIRST, FIRST + 30), "1")
    closed = observe_all(observer, range(FIRST + 30, FIRST + 168), "2")
    named = [window.model_version for windows in closed for window in windows]
    assert named == ["1, 2", "2", "2", "2", "2", "2", "1, 2"]


def test_a_window_keeps_its_rows_when_the_next_week_overwrites_the_buffer() -> None:
    observer = monitor()
    window = observe_all(observer, range(FIRST, FIRST + 168))[-1][-1]
    before = window.digest()
    observe_all(observer, range(FIRST + 168, FIRST + 300))
    assert window.digest() == before


def test_no_snapshot_may_be_taken_before_what_is_due_is_stored() -> None:
    observer = monitor()
    [window] = [w for hour in range(FIRST, FIRST + 24) for w in stations.observe(observer, _row(hour), 2.0)]
    assert observer.reports.outstanding == 1
    with pytest.raises(ContractError, match="1 windows are outstanding"):
        observer.state("group", 0)
    observer.reports.take_stored(Due.of(window))
    assert observer.state("group", 0).reports.generated == {"daily": 1, "weekly": 0}
    observer.reports.take_failure(Due.of(window))
    assert observer.state("group", 0).reports.failed == {"daily": 1, "weekly": 0}


def observe_values(observer: Station, values: np.ndarray, first: int) -> None:
    rows = stations.readings_of(values, hours=range(first, first + len(values)))
    for row, prediction in zip(rows, stations.predictions_of(np.nan_to_num(values, nan=2.5)).tolist(), strict=True):
        _finish(observer, stations.observe(observer, row, prediction))


def test_an_alarm_stays_open_from_the_day_that_raised_it_to_one_that_clears_it() -> None:
    observer, quiet = monitor(), stations.values_of(24, seed=6)
    shifted = stations.changed(quiet, {"RH": 80.0})
    silent = np.full((24, 13), np.nan)
    opened = {}
    for day, values in enumerate([quiet, shifted, shifted, silent, quiet]):
        observe_values(observer, values, FIRST + 24 * day)
        opened[day] = raised(observer).get(("daily", "data_drift"))
    assert opened == {0: None, 1: FIRST + 47, 2: FIRST + 47, 3: FIRST + 47, 4: None}


def raised(observer: Station) -> dict[tuple[str, str], int]:
    """Return the open alarms of verdicts, and the last hour of the window that raised each."""
    return {key: alarm.opened for key, alarm in observer.windows.alarms.items()}


def test_alarm_of_a_week_opens_like_that_of_a_day_and_closes_with_a_clean_week() -> None:
    observer, values = monitor(), stations.values_of(168, seed=6)
    values[:144] = stations.changed(values[:144], {"T": 80.0})
    observe_values(observer, values, FIRST)
    assert observer.windows.drifted == {"daily": 6, "weekly": 1}
    assert raised(observer) == {("weekly", "data_drift"): FIRST + 167}
    observe_values(observer, stations.values_of(168, seed=6), FIRST + 168)
    assert raised(observer) == {}


def test_a_sensor_silent_for_a_day_opens_its_own_alarm() -> None:
    observer = monitor()
    observe_values(observer, stations.without(stations.values_of(24, seed=6), "AH"), FIRST)
    assert raised(observer) == {("absent", "missing:AH"): FIRST + 23}


def test_drift_is_counted_per_kind_when_it_is_there_and_only_then() -> None:
    shifted, quiet, values = monitor(), monitor(), stations.values_of(168, seed=6)
    observe_values(quiet, values, FIRST)
    observe_values(shifted, stations.changed(values, {"T": 80.0}), FIRST)
    assert quiet.windows.drifted == {"daily": 0, "weekly": 0}
    assert shifted.windows.drifted == {"daily": 7, "weekly": 1}


# ---- the service ----


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    rigs: list[Rig] = []

    def build(fault: str = "", when: str = "", **changes: Any) -> Rig:
        writer = report_writers.faulty(tmp_path, fault, when) if fault else report_writers.plain(tmp_path)
        rigs.append(Rig(tmp_path, writer, **changes))
        return rigs[-1]

    yield build
    for built in rigs:
        built.service.close(drain=False)


def test_reports_are_made_elsewhere_and_counted_by_poll(rig: Callable[..., Rig]) -> None:
    made = rig()
    observer = made.run(168)
    assert made.service.backlog == observer.reports.outstanding == 8
    assert made.metric("air_quality_report_backlog") == 8
    results: list[ReportResult] = []

    def collected() -> bool:
        results.extend(made.service.poll())
        return not made.service.backlog

    wait_until(collected, "eight reports")
    assert [result.result for result in results] == ["generated"] * 8
    assert all(result.path is not None and result.path.read_text() == "station_1, drawn" for result in results)
    assert observer.reports.generated == {"daily": 7, "weekly": 1}
    assert made.service.backlog == observer.reports.outstanding == 0
    assert made.metric("air_quality_reports_total", kind="daily", result="generated") == 7
    assert made.metric("air_quality_report_backlog") == made.metric("air_quality_evidence_backlog") == 0
    assert observer.state("group", 0).reports.generated == {"daily": 7, "weekly": 1}


def test_close_waits_for_the_reports_that_are_due(rig: Callable[..., Rig]) -> None:
    made = rig()
    observer = made.run(48)
    assert len(made.service.close(drain=True, deadline_seconds=60)) == 2
    assert observer.reports.generated["daily"] == 2


@pytest.mark.parametrize("fault", ["fail", "fail beyond exceptions", "die"])
@pytest.mark.slow
def test_a_failed_report_is_counted_and_the_next_one_works(rig: Callable[..., Rig], fault: str) -> None:
    made = rig(fault, "daily")
    observer = made.run(168)
    results = made.service.close(drain=True, deadline_seconds=120)
    results.sort(key=lambda result: result.result)
    assert observer.reports.failed == {"daily": 7, "weekly": 0}
    assert observer.reports.generated == {"daily": 0, "weekly": 1}
    assert made.metric("air_quality_reports_total", kind="daily", result="failed") == 7
    assert {"fail": "no report of", "fail beyond exceptions": "NoExceptionError", "die": "exit code 3"}[fault] in results[
        0
    ].error


@pytest.mark.slow
def test_a_hung_report_process_is_replaced(rig: Callable[..., Rig]) -> None:
    made = rig("hang", "daily", report_timeout_seconds=0.5)
    observer = made.run(24)
    made.submit(observer, [_weekly(observer)])
    results = sorted(made.service.close(drain=True, deadline_seconds=120), key=lambda result: result.kind)
    assert [(result.kind, result.result) for result in results] == [("daily", "failed"), ("weekly", "generated")]
    assert "no answer within 0.5 s" in results[0].error


def _weekly(observer: Station) -> Window:
    observer.reports.outstanding += 1
    return replace(stations.windows_of(stations.values_of(168))[-1], station_id=observer.station_id)


@pytest.mark.parametrize("fault", ["fail", "die"])
@pytest.mark.slow
def test_a_report_that_fails_once_is_tried_again(rig: Callable[..., Rig], fault: str) -> None:
    made = rig(fault, "once")
    observer = made.run(24)
    made.service.close(drain=True, deadline_seconds=60)
    assert (observer.reports.generated["daily"], observer.reports.failed["daily"]) == (1, 0)


def failing_rig(tmp_path: Path, now: list[float]) -> Rig:
    """A service whose daily reports fail as long as the file ``broken`` is there."""
    (tmp_path / "broken").touch()
    made = Rig(tmp_path, report_writers.faulty(tmp_path, "fail", "broken"))
    made.service._reports._clock = lambda: now[0]
    return made


def poll_until(made: Rig, condition: Callable[[], bool], what: str) -> None:
    wait_until(lambda: not made.service.poll() and condition(), what)


class Broken(Detectors):
    """Detectors with a fault of their own."""

    def __init__(self) -> None:
        super().__init__(None)

    def judge(self, arrived: Mapping[StationDetectors, Sequence[Reading | Operation]]) -> None:
        if not self.why_off:
            raise FloatingPointError("a sum went wrong")


def test_judge_detectors_that_fail_are_off_and_predictions_go_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    registry = CollectorRegistry()
    settings = Settings(reports_dir=tmp_path, dataset_dir=tmp_path)
    writer = report_writers.plain(tmp_path)
    service = MonitoringService(settings, stations.judge(), ConsumerMetrics(registry), writer, detectors=Broken())
    assert registry.get_sample_value("air_quality_detectors_off") == 0
    station = service.open_station("station_1")
    for hour in (FIRST, FIRST + 1):
        service.judge([(station, [_row(hour)])])
        assert stations.observe(station, _row(hour), 2.0) == []
    service.close(drain=False)
    assert registry.get_sample_value("air_quality_detectors_off") == 1
    summary = service.summary({0: PartitionFigures({}, (station.figures(),))})
    assert summary["detectors_off"] == "FloatingPointError: a sum went wrong"
    assert station.state("group", 1).off == {"hourly": Off(FIRST, "FloatingPointError: a sum went wrong")}
    assert len([record for record in caplog.records if "predictions go on" in record.getMessage()]) == 1


def test_show_alarms_names_the_column_each_alarm_is_of(rig: Callable[..., Rig]) -> None:
    made = rig()
    station = made.service.open_station("roof")
    for detector, column in (("stuck", "T"), ("absent", "missing:RH"), ("daily", "data_drift")):
        station.alarms.take(Event("opened", detector, column, FIRST, FIRST, 3.0, "h"))
    made.service.show_alarms([station])
    for alarm, column in (("sensor", "T"), ("missing", "RH"), ("data_drift", "")):
        assert made.metric("air_quality_open_alarms", station="roof", alarm=alarm, column=column) == 1
    station.alarms.take(Event("closed", "stuck", "T", FIRST, FIRST, 3.0, "h"))
    made.service.show_alarms([station])
    assert made.metric("air_quality_open_alarms", station="roof", alarm="sensor", column="T") == 0


def test_service_failed_reports_are_made_once_their_cause_is_gone(tmp_path: Path) -> None:
    now = [0.0]
    made = failing_rig(tmp_path, now)
    observer = made.run(72)
    made.service.close(drain=False)
    made = failing_rig(tmp_path, now)
    observer = made.run(72)
    poll_until(made, lambda: observer.reports.failed["daily"] == 3 and not made.service.backlog, "three failures")
    assert observer.state("group", 0).reports.failed["daily"] == 3  # a failed report does not hold up snapshots
    now[0] += RETRY_SECONDS[0]
    poll_until(made, lambda: not made.service.backlog, "a first new attempt, in vain")
    assert observer.reports.failed["daily"] == 3
    (tmp_path / "broken").unlink()
    now[0] += 2 * RETRY_SECONDS[0]
    poll_until(made, lambda: observer.reports.generated["daily"] == 3, "three reports")
    assert observer.reports.failed["daily"] == 0
    poll_until(made, lambda: not made.service.backlog, "Evidently's parts of them")
    made.service.close(drain=False)


@pytest.mark.slow
def test_service_failed_reports_are_made_after_a_restart(tmp_path: Path) -> None:
    now = [0.0]
    made = failing_rig(tmp_path, now)
    observer = made.run(168)
    poll_until(made, lambda: not made.service.backlog, "seven failures and the week's report")
    assert observer.reports.failed == {"daily": 7, "weekly": 0}
    snapshot = saved(observer)
    made.service.close(drain=False)
    made = failing_rig(tmp_path, now)
    (tmp_path / "broken").unlink()
    observer = made.service.open_station("station_1", snapshots.decode(snapshot))
    assert observer.reports.generated == {"daily": 0, "weekly": 1}
    poll_until(made, lambda: observer.reports.generated["daily"] == 7, "seven reports")
    assert observer.reports.failed == {"daily": 0, "weekly": 0}
    made.service.close(drain=False)


def day_then_its_truth(made: Rig) -> tuple[Station, Callable[[], None]]:
    """Submit a day without truths, and return the station and what submits the truths that make it final."""
    observer, rows = made.service.open_station("station_1"), stations.readings_of(stations.values_of(24, seed=6))
    for row in rows:
        unknown, interval = row.without_truth(), observer.assurance.around(row, 2.0)
        found = observer.update(Row(unknown, Predicted(2.0, "1", interval)))
        made.submit(observer, [each for each in found if isinstance(each, Window)])

    def settle() -> None:
        found = [each for row in rows for each in observer.take_truth(LateTruth("station_1", row.hour, row.actual))]
        settled = [WindowSettled("station_1", each) for each in found if isinstance(each, WindowTruth)]
        assert len(settled) == 1
        made.service.submit(settled, {"station_1": observer})

    return observer, settle


@pytest.mark.parametrize("failed", ["report", "page"])
@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.slow
def test_service_page_that_could_not_be_made_final_is_made_so_later(tmp_path: Path, failed: str, restarted: bool) -> None:
    now = [0.0]
    made = failing_rig(tmp_path, now)
    if failed == "page":
        (tmp_path / "broken").unlink()
    observer, settle = day_then_its_truth(made)
    poll_until(made, lambda: not made.service.backlog, "the report's end")
    if failed == "page":
        (tmp_path / "broken").touch()
    else:  # the report has failed: there is no page that could become final
        (tmp_path / "broken").unlink()
    settle()
    poll_until(made, lambda: not made.service.backlog, "the end of what is final")
    assert observer.reports.generated["daily"] == (1 if failed == "page" else 0)
    (tmp_path / "broken").unlink(missing_ok=True)
    if restarted:
        snapshot = saved(observer)
        made.service.close(drain=False)
        made = Rig(tmp_path, report_writers.plain(tmp_path))
        observer = made.service.open_station("station_1", snapshots.decode(snapshot))
    now[0] += RETRY_SECONDS[0]
    page = next(tmp_path.glob("daily_*.html"), tmp_path / f"daily_{FIRST + 23}.html")
    poll_until(made, lambda: page.exists() and "final" in page.read_text(), "the page says what is final")
    poll_until(made, lambda: not made.service.backlog, "the end of it")
    assert (observer.reports.generated["daily"], observer.reports.failed["daily"], made.service.backlog) == (1, 0, 0)
    made.service.close(drain=False)


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
        for window in stations.observe(observer, _row(hour), 2.0):
            observer.reports.keep(window)
    kept = observer.state("group", 0).reports.unmade
    assert sum(len(window.hours) for window in kept) == SAVED_UNMADE_HOURS
    assert [window.end_hour for window in kept] == sorted(w.end_hour for w in observer.reports.unmade)[-len(kept) :]
    assert len(saved(observer)) < 90_000


def test_window_says_since_when_it_raises_what_it_raises() -> None:
    observer, quiet = monitor(), stations.values_of(24, seed=6)
    shifted = stations.changed(quiet, {"RH": 80.0})
    silent = np.full((24, 13), np.nan)
    since = []
    for day, values in enumerate([quiet, shifted, shifted, silent, shifted, quiet, shifted]):
        rows = stations.readings_of(values, hours=range(FIRST + 24 * day, FIRST + 24 * day + 24))
        for row, prediction in zip(rows, stations.predictions_of(np.nan_to_num(values, nan=2.5)).tolist(), strict=True):
            closed = stations.observe(observer, row, prediction)
            since += [window.since.get("drift:RH") for window in closed if window.kind.name == "daily"]
    assert since == [None, *[FIRST + 24] * 4, None, FIRST + 6 * 24]


@pytest.mark.slow
def test_a_report_process_that_never_starts_fails_its_windows(tmp_path: Path) -> None:
    made = Rig(tmp_path, report_writers.never_ready)
    made.run(24)
    results = made.service.close(drain=True, deadline_seconds=60)
    assert results[0].result == "failed"
    assert "exit code 7" in results[0].error


def test_closing_ends_a_report_process_in_the_middle_of_a_report(rig: Callable[..., Rig], tmp_path: Path) -> None:
    made = rig("hang", "daily", report_timeout_seconds=90.0)
    observer = made.run(24)
    wait_until(lambda: (tmp_path / "pid-pages").exists() and bool((tmp_path / "pid-pages").read_text()), "the first report")
    started = time.monotonic()
    made.service.close(drain=False)
    assert time.monotonic() - started < 45
    assert not _alive(int((tmp_path / "pid-pages").read_text()))
    assert observer.reports.failed["daily"] == 0


def test_the_deadline_of_close_is_kept(rig: Callable[..., Rig]) -> None:
    made = rig("hang", "daily")
    observer = made.run(24)
    assert made.service.close(drain=True, deadline_seconds=0.2) == []
    assert (made.service.backlog, observer.reports.generated["daily"]) == (1, 0)


@pytest.mark.slow
def test_the_report_process_ignores_sigint(rig: Callable[..., Rig], tmp_path: Path) -> None:
    made = rig()
    observer = made.run(24)
    wait_until(lambda: bool(made.service.poll()), "the first report")
    pid = int((tmp_path / "pid-pages").read_text())
    os.kill(pid, signal.SIGINT)
    made.submit(observer, [_weekly(observer)])
    made.service.close(drain=True, deadline_seconds=60)
    assert int((tmp_path / "pid-pages").read_text()) == pid
    assert observer.reports.generated == {"daily": 1, "weekly": 1}


@pytest.mark.slow
def test_the_report_process_dies_with_its_parent(tmp_path: Path) -> None:
    program = (
        "import pathlib, signal, sys\n"
        "sys.path.insert(0, '.')\n"
        "from tests import report_rig, report_writers\n"
        "if __name__ == '__main__':\n"
        "    folder = pathlib.Path(sys.argv[1])\n"
        "    rig = report_rig.Rig(folder, report_writers.faulty(folder, 'hang', 'daily'))\n"
        "    rig.run(24)\n"
        "    signal.pause()\n"
    )
    script = tmp_path / "parent.py"
    script.write_text(program)
    with subprocess.Popen([sys.executable, str(script), str(tmp_path)], cwd=ROOT) as parent:
        try:
            wait_until(
                lambda: (tmp_path / "pid-pages").exists() and bool((tmp_path / "pid-pages").read_text()), "the first report"
            )
            pid = int((tmp_path / "pid-pages").read_text())
            assert _alive(pid)
        finally:
            parent.kill()
    wait_until(lambda: not _alive(pid), "the end of the report process")


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_a_station_that_moved_away_takes_its_windows_with_it(rig: Callable[..., Rig]) -> None:
    made = rig("hang", "once", report_timeout_seconds=4.0)
    lost, kept = made.run(72, "lost"), made.run(24, "kept")
    made.service.forget(lost)
    assert made.service.backlog == 1
    again = made.service.open_station("lost")
    results = made.service.close(drain=True, deadline_seconds=60)
    assert [result.station_id for result in results].count("kept") == 1  # what was stored of the other, its new owner finds
    assert (again.reports.outstanding, kept.reports.outstanding) == (0, 0)
    assert lost.reports.generated["daily"] == 0


def test_metrics_tell_drift_error_and_alarms(rig: Callable[..., Rig]) -> None:
    made = rig()
    assert made.metric("air_quality_baseline_rmse") == stations.judge().calibration.baseline.rmse
    made.run(168, "quiet")
    assert made.metric("air_quality_drift_windows_total", station="quiet", kind="daily") == 0
    assert made.metric("air_quality_windows_total", station="quiet", kind="daily") == 7
    shifted = made.run(24, "shifted", T=80.0)
    assert made.metric("air_quality_drift_windows_total", station="shifted", kind="daily") == 1
    assert made.metric("air_quality_open_alarms", station="shifted", alarm="data_drift", column="") == 1
    assert made.metric("air_quality_open_alarms", station="shifted", alarm="missing", column="") == 0
    assert made.metric("air_quality_open_alarms", station="quiet", alarm="data_drift", column="") == 0
    assert made.metric("air_quality_window_rmse", station="quiet", kind="weekly") == pytest.approx(0.3, abs=0.05)
    made.service.forget(shifted)
    assert made.metric("air_quality_open_alarms", station="shifted", alarm="data_drift", column="") is None
    assert made.metric("air_quality_open_alarms", station="quiet", alarm="data_drift", column="") == 0


COUNTS = {"rows_in": 400, "warmup": 168, "predictions_total": 232, "dead_letters": {}, "duplicates": 0}


def figures(counts: Mapping[str, Any], *owned: Station) -> PartitionFigures:
    return PartitionFigures(counts, tuple(station.figures() for station in owned))


def test_the_summary_is_complete_and_exact(rig: Callable[..., Rig], tmp_path: Path) -> None:
    made = rig()
    b, a = made.run(168, "b", T=80.0), made.run(64, "a")
    made.service.close(drain=True, deadline_seconds=60)
    made.service.write_summary({0: figures(COUNTS, a, b)})
    summary = json.loads((tmp_path / SUMMARY_NAME).read_text())
    assert {name: summary[name] for name in COUNTS} == COUNTS
    assert summary["data_source"] == "uci"
    assert summary["model_version"] == "1"
    assert summary["reports_generated"] == {"daily": 9, "weekly": 1}
    assert summary["reports_failed"] == 0
    assert summary["drift_detected"] == {"daily": 7, "weekly": 1}
    assert summary["open_alarms"] == [
        {"station_id": "b", "detector": detector, "alarm": "data_drift", "since": isoformat(FIRST + last)}
        for detector, last in (("daily", 23), ("weekly", 167))
    ]
    assert summary["baseline"]["n"] == stations.judge().calibration.baseline.n
    values = [stations.values_of(n, seed=6) for n in (168, 64)]
    predictions = np.concatenate([stations.predictions_of(v) for v in values])
    expected = Performance.of(predictions, np.concatenate([v[:, 0] for v in values]))
    assert summary["performance"]["n"] == expected.n == 232
    assert summary["performance"]["rmse"] == pytest.approx(expected.rmse)
    assert summary["performance"]["r2"] == pytest.approx(expected.r2)


@pytest.mark.slow
def test_summary_of_two_consumers_is_that_of_one(tmp_path: Path) -> None:
    counts = [{"rows_in": n, "predictions_total": n, "dead_letters": {"late": n}} for n in (100, 200, 300)]
    alone, one, other = (Rig(tmp_path / name, report_writers.plain(tmp_path)) for name in ("alone", "shared", "shared"))
    for rig, names in ((alone, "abc"), (one, "ac"), (other, "b")):
        owned = {}
        for name in names:
            place = "abc".index(name)
            owned[place] = rig.run(24 * (1 + place), name, T=80.0 if name == "b" else 0.0)
        rig.service.close(drain=True, deadline_seconds=60)
        rig.service.write_summary({place: figures(counts[place], station) for place, station in owned.items()})
    summary = json.loads((tmp_path / "alone" / SUMMARY_NAME).read_text())
    assert summary["rows_in"] == 600
    assert summary["dead_letters"] == {"late": 600}
    assert summary["reports_generated"] == {"daily": 6, "weekly": 0}
    assert [alarm["station_id"] for alarm in summary["open_alarms"]] == ["b"]
    assert json.loads((tmp_path / "shared" / SUMMARY_NAME).read_text()) == summary


def test_summary_of_another_group_is_not_added(tmp_path: Path) -> None:
    one = Rig(tmp_path, report_writers.plain(tmp_path))
    other = Rig(tmp_path, report_writers.plain(tmp_path), consumer_group="another")
    for rig in (one, other):
        rig.service.write_summary({0: PartitionFigures(COUNTS, ())})
    assert json.loads((tmp_path / SUMMARY_NAME).read_text())["rows_in"] == COUNTS["rows_in"]


@pytest.mark.slow
def test_summary_reports_generated_never_go_back_when_a_backlog_is_taken_over(tmp_path: Path) -> None:
    first, second = (Rig(tmp_path, report_writers.plain(tmp_path)) for _ in range(2))
    before = first.run(168)
    first.service.close(drain=True, deadline_seconds=60)
    first.service.write_summary({0: figures(COUNTS, before)})
    replayed = second.run(168)  # no report has been counted yet

    def generated() -> dict[str, int]:
        second.service.write_summary({0: figures(COUNTS, replayed)})
        generated: dict[str, int] = json.loads((tmp_path / SUMMARY_NAME).read_text())["reports_generated"]
        return generated

    assert generated() == {"daily": 7, "weekly": 1}
    second.service.close(drain=True, deadline_seconds=60)
    assert generated() == {"daily": 7, "weekly": 1}


def test_summary_of_fewer_rows_than_before_is_another_history(tmp_path: Path) -> None:
    first, second = (Rig(tmp_path, report_writers.plain(tmp_path)) for _ in range(2))
    station = first.run(24)
    first.service.close(drain=True, deadline_seconds=60)
    first.service.write_summary({0: figures(COUNTS, station)})
    second.service.write_summary({0: PartitionFigures({**COUNTS, "rows_in": 1}, ())})
    summary = json.loads((tmp_path / SUMMARY_NAME).read_text())
    assert (summary["rows_in"], summary["reports_generated"]["daily"]) == (1, 0)


@pytest.mark.parametrize("content", ["", "{}", "[]", "null", '{"rows_in": 1}'])
def test_summary_foreign_part_is_left_out(tmp_path: Path, content: str) -> None:
    made = Rig(tmp_path, report_writers.plain(tmp_path))
    owned = {0: PartitionFigures(COUNTS, ())}
    made.service.write_summary(owned)
    part = next((tmp_path / ".monitoring" / "summary").iterdir())
    part.with_name(part.name.replace("-0.json", "-1.json")).write_text(content)
    part.write_text(content)
    made.service.write_summary(owned)
    assert json.loads((tmp_path / SUMMARY_NAME).read_text())["rows_in"] == COUNTS["rows_in"]


def test_summary_on_a_broken_disk_is_said_once_and_counted(
    rig: Callable[..., Rig], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = rig(reports_dir=tmp_path / "file")
    (tmp_path / "file").write_text("no folder")
    owned = {0: PartitionFigures(COUNTS, ())}
    for _ in range(3):
        made.service.write_summary(owned)
    assert made.metric("air_quality_unwritten_summaries_total") == 3
    assert len([record for record in caplog.records if "predictions go on without it" in record.getMessage()]) == 1
    (tmp_path / "file").unlink()
    made.service.write_summary(owned)
    assert made.metric("air_quality_unwritten_summaries_total") == 3
    assert json.loads((tmp_path / "file" / SUMMARY_NAME).read_text())["rows_in"] == COUNTS["rows_in"]


def test_a_summary_of_nothing_says_null_and_not_zero(rig: Callable[..., Rig]) -> None:
    summary = rig().service.summary({0: PartitionFigures(COUNTS, ())})
    assert summary["performance"] == {"rmse": None, "mae": None, "r2": None, "n": 0}
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_counts_survive_a_restart(rig: Callable[..., Rig]) -> None:
    made = rig()
    observer = made.run(168)
    made.service.close(drain=True, deadline_seconds=60)
    before = made.service.summary({0: figures(COUNTS, observer)})
    after = rig()
    again = after.service.open_station("station_1", through_codec(observer))
    assert after.service.summary({0: figures(COUNTS, again)}) == before


def test_a_missing_reference_stops_the_service_before_it_starts(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="generate_reference_dataset"):
        MonitoringService.open(Settings(dataset_dir=tmp_path), ConsumerMetrics(CollectorRegistry()))


@pytest.mark.slow
def test_the_consumers_process_never_imports_the_plotting_stack() -> None:
    program = "import monitoring_service, sys; print(*({'evidently', 'plotly', 'pandas', 'xgboost'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


def test_windows_take_memory_for_the_days_of_the_open_week_that_have_rows() -> None:
    judge, readings = stations.judge(), stations.readings_of(stations.values_of(30))
    tracemalloc.start()
    opened = [Windows(f"station_{number}", judge) for number in range(20)]
    for windows in opened:
        for reading in readings[:20]:
            windows.update(Row(reading, Predicted(1.0, "1")))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held / len(opened) < 12_000  # the rows of a week alone are 24 KB
