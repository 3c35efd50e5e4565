"""What a station says of its own predictions: however late truths come, and wherever it is restored, it says the same."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airquality.ground.typed import plain, restored
from airquality.incoming import LateTruth, with_late_truths
from airquality.monitoring.assurance import Assurance, AssuranceState, Awaited, Forecast
from airquality.monitoring.component import Found, Predicted, Row
from airquality.monitoring.coverage import CoverageWatch
from airquality.records import RAW_COLUMNS, Reading
from airquality.stream import snapshots
from airquality.truth.band import Band, band_of
from airquality.truth.intervals import Interval
from airquality.truth.performance import Performance
from airquality.truth.window_truth import WindowTruth
from tests.forecasts import calibration

START = 300_000
N_HOURS = 400


def rows_of(n_hours: int = N_HOURS, seed: int = 0) -> list[Reading]:
    """Return a station's rows; a tenth of its truths is never measured."""
    rng = np.random.default_rng(seed)
    values = rng.gamma(2.0, 1.0, (n_hours, len(RAW_COLUMNS)))
    values[rng.random(n_hours) < 0.1, 0] = math.nan
    return [Reading("roof", START + index, tuple(row)) for index, row in enumerate(values.tolist())]


def prediction_of(reading: Reading) -> float:
    return reading.values[1] + 0.5


def take(assurance: Assurance, record: Reading | LateTruth) -> list[Found]:
    """Let the assurance take in a record as a station does, every row predicted."""
    if isinstance(record, LateTruth):
        return [*assurance.take_truth(record)]
    prediction = prediction_of(record)
    interval = assurance.around(record, prediction)
    return [*assurance.update(Row(record, Predicted(prediction, "1", interval)))]


def said(records: Iterable[Reading | LateTruth], deadline_hours: int = 72) -> list[WindowTruth]:
    assurance = Assurance(calibration(), deadline_hours)
    return [each for record in records for each in take(assurance, record) if isinstance(each, WindowTruth)]


def offline(rows: list[Reading], start_hour: int, n_hours: int) -> Performance:
    inside = [row for row in rows if start_hour <= row.hour < start_hour + n_hours]
    predictions = np.array([prediction_of(row) for row in inside])
    return Performance.of(predictions, np.array([row.actual for row in inside]))


def test_window_whose_truth_is_in_its_rows_is_final_as_it_closes() -> None:
    rows = [row for row in rows_of() if not math.isnan(row.actual)]
    first = said(rows)[0]
    assert (first.kind, first.at - first.end_hour, first.complete, first.late) == ("daily", 0, True, ())
    assert first.known == first.final
    assert math.isnan(first.delay_hours)


@pytest.mark.parametrize("delay_hours", [1, 24, 60])
def test_final_performance_of_late_truth_is_the_offline_figure(delay_hours: int) -> None:
    rows = rows_of()
    found = said(with_late_truths(rows, delay_hours))
    assert {each.kind for each in found} == {"daily", "weekly"}
    for each in found:
        n_hours = {"daily": 24, "weekly": 168}[each.kind]
        assert each.final == offline(rows, each.end_hour - n_hours + 1, n_hours)
        assert each.delay_hours == pytest.approx(delay_hours, abs=1.0)
        assert each.known.n < each.final.n == len(each.late)


def test_window_without_all_of_its_truth_is_final_at_the_deadline_and_says_so() -> None:
    found = [each for each in said(rows_of(), deadline_hours=30) if each.kind == "daily"]
    late = [each for each in found if not each.complete]
    assert {each.at - each.end_hour for each in late} == {30}
    assert {each.at - each.end_hour for each in found if each.complete} <= {0}
    assert late


def test_truth_after_the_deadline_changes_nothing_that_was_said() -> None:
    found = [each for each in said(with_late_truths(rows_of(), 60), deadline_hours=30) if each.kind == "daily"]
    assert not any(each.complete for each in found)
    assert [each.end_hour for each in found] == sorted({each.end_hour for each in found})


def test_coverage_of_a_window_counts_each_truth_by_level_and_state() -> None:
    for each in said(with_late_truths(rows_of(), 24)):
        counted = each.coverage
        assert counted["all"].n == each.final.n
        assert sum(counted[level].n for level in ("low", "middle", "high")) == each.final.n
        assert counted["device"].n + counted["device silent"].n == each.final.n
        assert counted["all"].held <= counted["all"].n


def test_assurance_without_calibration_publishes_no_interval_but_final_windows() -> None:
    assurance = Assurance(None)
    rows = rows_of()
    assert math.isnan(assurance.around(rows[0], 2.0).lower)
    found = [each for row in rows for each in take(assurance, row) if isinstance(each, WindowTruth)]
    assert math.isnan(found[0].estimated_rmse)
    assert found[0].coverage["all"].n == 0


def saved_and_back(assurance: Assurance) -> Assurance:
    document = snapshots.decode(snapshots.encode(plain(assurance.state())))
    return Assurance.from_state(restored(AssuranceState, document), calibration(), 72)


@given(st.sampled_from([0, 1, 24, 100]), st.lists(st.integers(1, 500), max_size=4))
def test_a_restore_anywhere_changes_nothing(delay_hours: int, restores: list[int]) -> None:
    records = [*with_late_truths(rows_of(260), delay_hours)] if delay_hours else [*rows_of(260)]
    whole, cut = Assurance(calibration(), 72), Assurance(calibration(), 72)
    for number, record in enumerate(records):
        if number in restores:
            cut = saved_and_back(cut)
        if isinstance(record, Reading):
            assert cut.around(record, 2.0) == whole.around(record, 2.0)
        assert repr(take(cut, record)) == repr(take(whole, record))
    assert snapshots.encode(plain(cut.state())) == snapshots.encode(plain(whole.state()))


def test_state_of_a_week_without_truth_stays_under_8_kb() -> None:
    assurance = Assurance(calibration(), 167)
    for row in rows_of():
        take(assurance, row.without_truth())
    assert len(snapshots.encode(plain(assurance.state()))) <= 8 * 1024


def forecast_of(hour: int) -> Forecast:
    """Return a forecast unlike those of the hours around."""
    expected = math.inf if hour % 5 == 0 else hour / 7
    return hour / 3, Interval(hour / 11, hour * 1.5, expected, ("prompt", "late")[hour % 2], hour % 3, hour % 4 == 0)


@given(st.lists(st.tuples(st.sampled_from(["add", "pop", "forget"]), st.integers(0, 40)), max_size=60))
def test_awaited_forecasts_are_those_of_a_dictionary(steps: list[tuple[str, int]]) -> None:
    awaited, known, newest = Awaited(), dict[int, Forecast](), 0
    for step, number in steps:
        if step == "add":
            newest += 1 + number
            awaited.add(newest, *forecast_of(newest))
            known[newest] = forecast_of(newest)
        elif step == "pop":
            assert awaited.pop(newest - number) == known.pop(newest - number, None)
        else:
            awaited.forget_until(newest - number)
            known = {hour: forecast for hour, forecast in known.items() if hour > newest - number}
        awaited = Awaited.from_state(awaited.state()) if number % 3 == 0 else awaited
    assert awaited.state().hours.tolist() == list(known)
    assert {hour: awaited.pop(hour) for hour in list(known)} == known


def test_awaited_forecasts_of_a_week_take_at_most_8_kb() -> None:
    tracemalloc.start()
    try:
        held = [Awaited() for _ in range(20)]
        for hour in range(START, START + 168):
            for awaited in held:
                awaited.add(hour, *forecast_of(hour))
        assert tracemalloc.get_traced_memory()[0] / len(held) <= 8 * 1024
    finally:
        tracemalloc.stop()


def test_coverage_alarm_opens_once_outside_its_band_and_closes_half_the_way_back() -> None:
    watch = CoverageWatch("prompt", Band(0.8, 0.97))
    misses = [event for hour in range(100) for event in watch.learn(hour, inside=False)]
    assert [(event.kind, event.detector, event.column) for event in misses] == [("opened", "coverage", RAW_COLUMNS[0])]
    assert watch.share < 0.5
    hits = [event for hour in range(100, 400) for event in watch.learn(hour, inside=True)]
    assert [(event.kind, event.since) for event in hits][:1] == [("closed", misses[0].since)]


def test_coverage_without_a_band_raises_nothing() -> None:
    watch = CoverageWatch("late", None)
    assert [event for hour in range(300) for event in watch.learn(hour, inside=False)] == []


def test_band_holds_everything_history_did() -> None:
    inside = (np.random.default_rng(0).random(2_000) < 0.9).tolist()
    band = band_of(inside)
    watch = CoverageWatch("prompt", band)
    assert [event for hour, each in enumerate(inside) for event in watch.learn(hour, inside=each)] == []
    assert 0.7 < band.low < 0.9 < band.high < 1.0
