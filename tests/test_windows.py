"""Windows against an oracle under every cutting and crash, and the alarms that their verdicts raise."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airquality.ground.errors import ContractError
from airquality.monitoring.component import Predicted, Row
from airquality.monitoring.drift import Window
from airquality.monitoring.windows import Windows
from airquality.reports.due import Due
from airquality.stream.station import Station
from airquality.truth.kinds import KINDS
from tests import stations
from tests.observed import FIRST, monitor, observe_all, observe_values, row_at, saved, through_codec


def expected_windows(hours: Sequence[int]) -> list[list[tuple[str, int, list[int]]]]:
    """The oracle: per row, the (kind, end hour, hours) of the windows it closes, from the definition alone."""
    closed = []
    for position, hour in enumerate(hours):
        before = hours[:position]
        closed.append([window for kind in KINDS for window in passed(before, hour - 1, kind.hours, kind.name)])
        closed[-1] += [
            (kind.name, hour, [h for h in hours[: position + 1] if h > hour - kind.hours])
            for kind in KINDS
            if (hour - hours[0] + 1) % kind.hours == 0
        ]
    return closed


def passed(before: Sequence[int], last: int, length: int, kind: str) -> list[tuple[str, int, list[int]]]:
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
    row = Row(row_at(FIRST + 167 + later), Predicted(2.0, "1"))
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
    [window] = [w for hour in range(FIRST, FIRST + 24) for w in stations.observe(observer, row_at(hour), 2.0)]
    assert observer.reports.outstanding == 1
    with pytest.raises(ContractError, match="1 windows are outstanding"):
        observer.state("group", 0)
    observer.reports.take_stored(Due.of(window))
    assert observer.state("group", 0).reports.generated == {"daily": 1, "weekly": 0}
    observer.reports.take_failure(Due.of(window))
    assert observer.state("group", 0).reports.failed == {"daily": 1, "weekly": 0}


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
