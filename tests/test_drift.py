"""The statistic against scipy's, the thresholds against their budget, and the verdicts against injected faults."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from scipy.stats import wasserstein_distance
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from airquality.data import dataset
from airquality.ground.errors import ContractError, UsageError
from airquality.monitoring import drift, thresholds
from airquality.monitoring.distance import Distributions
from airquality.monitoring.drift import EXPECTED_COLUMNS, Judge, Verdict, load_judge
from airquality.monitoring.registry import window_detectors
from airquality.monitoring.thresholds import Calibration, calibrate
from airquality.records import RAW_COLUMNS
from airquality.truth.kinds import DAILY, KINDS, WEEKLY
from airquality.truth.performance import Performance, RunningErrors
from tests import stations

#: A made-up week on which no verdict is true; about one seed in three gives one.
QUIET_SEED = 6

samples = st.lists(st.floats(-1e6, 1e6) | st.sampled_from([0.0, 1.0, 2.0]), min_size=1, max_size=40)


# ---- statistic ----


def raised_by(verdict: Verdict) -> dict[str, bool]:
    """Return what the verdict of a day says of each alarm that it can speak to."""
    judging = [detector for detector in window_detectors() if DAILY in detector.kinds]
    return {alarm: raised for detector in judging for alarm, raised in detector.raised(verdict).items()}


@given(samples, samples)
def test_the_distance_is_scipys(sample: list[float], reference: list[float]) -> None:
    found = Distributions([np.array(reference)]).distances(np.array([sample]).T)
    assert found[0] == pytest.approx(wasserstein_distance(sample, reference), rel=1e-9, abs=1e-6)


def test_missing_values_take_no_part_in_the_distance() -> None:
    reference = Distributions([np.array([3.0, np.nan, 1.0, 2.0])])
    assert reference.distances(np.array([[np.nan], [2.0], [3.0], [4.0]])) == pytest.approx([1.0])
    assert np.isnan(reference.distances(np.array([[np.nan]]))).all()
    assert np.isnan(Distributions([np.array([np.nan])]).distances(np.array([[1.0]]))).all()


columns = st.lists(st.floats(-1e6, 1e6) | st.just(math.nan), max_size=40)


@given(st.lists(columns, min_size=1, max_size=4), st.integers(1, 30), st.integers(0, 2**32))
def test_distances_of_many_columns_are_those_of_each_alone(references: list[list[float]], n_hours: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    samples = rng.choice([1.0, 2.0, np.nan], (n_hours, len(references))) * rng.normal(0, 1e3, (n_hours, len(references)))
    prepared = [np.array(reference) for reference in references]
    alone = [Distributions([each]).distances(samples[:, [at]])[0] for at, each in enumerate(prepared)]
    np.testing.assert_array_equal(Distributions(prepared).distances(samples), alone)


@given(st.lists(st.tuples(st.floats(0, 20), st.floats(0, 20)), min_size=2, max_size=50))
def test_performance_is_sklearns(rows: list[tuple[float, float]]) -> None:
    predictions, truths = (np.array(column) for column in zip(*rows, strict=True))
    found = Performance.of(predictions, truths)
    assert found.rmse == pytest.approx(root_mean_squared_error(truths, predictions))
    assert found.mae == pytest.approx(mean_absolute_error(truths, predictions))
    assert found.n == len(rows)
    if np.ptp(truths) > 0.1:
        assert found.r2 == pytest.approx(r2_score(truths, predictions), rel=1e-6, abs=1e-6)


def test_performance_counts_measured_truths_only() -> None:
    assert Performance.of(np.array([1.0, 9.0]), np.array([2.0, np.nan])).n == 1
    nothing = Performance.of(np.array([1.0]), np.array([np.nan]))
    assert nothing.n == 0
    assert math.isnan(nothing.rmse)
    assert math.isnan(nothing.mae)
    assert math.isnan(nothing.r2)


def test_sums_of_parts_are_the_sums_of_the_whole() -> None:
    whole, first, second = RunningErrors(), RunningErrors(), RunningErrors()
    for number in range(10):
        whole.add(number, number + 1.0)
        (first if number < 4 else second).add(number, number + 1.0)
    assert first.state().merged(second.state()) == whole.state()


# ---- threshold ----


def null_statistics(n_windows: int, n_columns: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    return rng.gamma(2.0, size=(n_windows, n_columns)) * [1.0, 100.0, 0.01, 5.0][:n_columns], np.arange(n_windows) * 24


def test_a_threshold_spends_its_budget_once_per_window() -> None:
    statistics, starts = null_statistics(4000)
    threshold = calibrate(("a", "b", "c", "d"), statistics, starts, 0.05, "made up")
    fresh = np.random.default_rng(3).gamma(2.0, size=(4000, 4)) * [1.0, 100.0, 0.01, 5.0]
    exceeding = (fresh > [threshold.of(name) for name in "abcd"]).any(axis=1)
    assert exceeding.mean() == pytest.approx(0.05, abs=0.015)
    assert threshold.held_out_rate == pytest.approx(0.05, abs=0.015)
    assert threshold.windows == 4000


def test_calibrate_blocks_that_differ_keeps_the_budget_on_held_out_windows() -> None:
    statistics, starts = null_statistics(560, 1)
    for block in range(0, 560, 56):  # every other block of four weeks is a little wilder
        statistics[block : block + 28] *= 1.5
    threshold = calibrate(("a",), statistics, starts, 0.02, "made up")
    assert threshold.held_out_rate <= 0.02
    assert np.mean(statistics[:, 0] > threshold.of("a")) < 0.02


def test_blocks_unlike_the_rest_show_in_the_held_out_rate() -> None:
    statistics, starts = null_statistics(600, 1)
    statistics[:28] *= 50  # one block of four weeks
    assert calibrate(("a",), statistics, starts, 0.01, "made up").held_out_rate > 0.04


def test_a_restless_column_does_not_use_up_the_budget_of_the_others() -> None:
    statistics, starts = null_statistics(1000)
    scale = calibrate(("a", "b", "c", "d"), statistics, starts, 0.05, "made up").scales
    assert scale["b"] == pytest.approx(100 * scale["a"], rel=0.2)


def test_columns_and_windows_without_a_statistic_are_left_out() -> None:
    statistics, starts = null_statistics(200)
    statistics[:50, 0] = np.nan
    statistics[150:] = np.nan
    threshold = calibrate(("a", "b", "c", "d"), statistics, starts, 0.05, "made up")
    assert threshold.windows == 150
    assert all(math.isfinite(threshold.of(name)) for name in "abcd")


def test_a_budget_that_history_cannot_resolve_is_refused() -> None:
    statistics, starts = null_statistics(19)
    with pytest.raises(UsageError, match="19 windows are too few"):
        calibrate(("a", "b", "c", "d"), statistics, starts, 0.05, "made up")


# ---- verdict ----


def verdicts(values: np.ndarray, predictions: np.ndarray | None = None) -> dict[str, list[Verdict]]:
    windows = stations.windows_of(values, predictions)
    return {kind.name: [window.verdict for window in windows if window.kind is kind] for kind in KINDS}


def test_no_drift_is_found_where_there_is_none() -> None:
    """The contract's one half: fresh data of the reference's own process stay near the budget."""
    found = verdicts(stations.values_of(24 * 7 * 12, seed=77))
    assert len(found["daily"]) == 84
    assert sum(verdict.drifted for verdict in found["daily"]) <= 9
    assert sum(verdict.drifted for verdict in found["weekly"]) <= 2
    assert not found["daily"][0].drifted


@pytest.mark.parametrize("column", drift.JUDGED_COLUMNS)
def test_a_shift_of_any_sensor_is_data_drift(column: str) -> None:
    """The contract's other half: in a quiet week every sensor's shift is seen, and named, by both kinds of window."""
    quiet = stations.values_of(168, seed=QUIET_SEED)
    assert not any(verdict.drifted for kind in verdicts(quiet).values() for verdict in kind)
    found = verdicts(stations.changed(quiet, {column: 80.0}))
    for verdict in (*found["daily"], *found["weekly"]):
        assert verdict.data_drift
        assert [distance.column for distance in verdict.columns if distance.drifted] == [column]
        assert verdict.drifted
        assert raised_by(verdict)["data_drift"]


def test_a_shift_of_the_predictions_is_prediction_drift_and_degrades_the_error() -> None:
    values = stations.values_of(168, seed=QUIET_SEED)
    for verdict in verdicts(values, stations.predictions_of(values) + 3.0)["daily"]:
        assert verdict.prediction_drift
        assert verdict.degraded
        assert not verdict.data_drift
        assert verdict.drifted


def test_predictions_as_good_as_the_baseline_are_not_degraded() -> None:
    found = verdicts(stations.values_of(168, seed=6))
    assert not any(verdict.degraded for verdict in (*found["daily"], *found["weekly"]))


def test_eleven_truths_are_too_few_and_twelve_are_not() -> None:
    values = stations.values_of(24, seed=5)
    eleven = verdicts(stations.without(values, "CO(GT)", rows=slice(11, None)), stations.predictions_of(values) + 3)[
        "daily"
    ][0]
    twelve = verdicts(stations.without(values, "CO(GT)", rows=slice(12, None)), stations.predictions_of(values) + 3)[
        "daily"
    ][0]
    assert (eleven.performance.n, eleven.too_few_truths, eleven.degraded) == (11, True, False)
    assert (twelve.performance.n, twelve.too_few_truths, twelve.degraded) == (12, False, True)
    assert "performance" not in raised_by(eleven)
    assert raised_by(twelve)["performance"]


def test_a_column_silent_all_day_is_missing_and_not_judged() -> None:
    verdict = verdicts(stations.without(stations.values_of(24, seed=5), "T", "CO(GT)"))["daily"][0]
    assert verdict.missing == ("CO(GT)", "T")
    assert raised_by(verdict)["missing:T"]
    assert not raised_by(verdict)["missing:RH"]
    distance = next(column for column in verdict.columns if column.column == "T")
    assert not distance.judged
    assert not distance.drifted
    assert distance.missing_share == 1.0


def test_one_value_keeps_a_column_from_being_missing() -> None:
    verdict = verdicts(stations.without(stations.values_of(24, seed=5), "T", rows=slice(23)))["daily"][0]
    assert verdict.missing == ()
    assert not next(column for column in verdict.columns if column.column == "T").judged


def test_a_silent_station_is_said_to_be_silent_and_clears_no_alarm() -> None:
    verdict = verdicts(np.full((24, 13), np.nan), np.full(24, 2.5))["daily"][0]
    assert verdict.all_silent
    assert verdict.missing == ()
    assert set(raised_by(verdict)) == {"prediction_drift"}


def test_half_of_the_hours_are_enough_to_judge_a_column_and_fewer_are_not() -> None:
    values = stations.values_of(24, seed=5)
    enough, few = (verdicts(stations.without(values, "T", rows=slice(n)))["daily"][0] for n in (12, 13))
    assert [v.columns[6].column for v in (enough, few)] == ["T", "T"]
    assert enough.columns[6].judged
    assert not few.columns[6].judged


def test_the_long_silent_nmhc_analyser_takes_no_part() -> None:
    values = stations.values_of(24, seed=5)
    assert np.isnan(values[:, RAW_COLUMNS.index("NMHC(GT)")]).all()
    assert verdicts(values)["daily"][0].missing == ()
    assert "NMHC(GT)" not in EXPECTED_COLUMNS


def test_alarms_come_from_the_closed_set() -> None:
    verdict = verdicts(stations.values_of(24))["daily"][0]
    raised = {alarm for detector in window_detectors() for alarm in detector.raised(verdict)}
    assert {alarm.partition(":")[0] for alarm in raised} == {"data_drift", "prediction_drift", "performance", "missing"}
    assert {alarm for alarm in raised if ":" in alarm} == {f"missing:{name}" for name in EXPECTED_COLUMNS}


def test_the_digest_of_a_window_tells_its_content() -> None:
    window = stations.windows_of(stations.values_of(24))[0]
    values = window.values.copy()
    values[3, 4] += 1e-9
    same = replace(window, values=window.values.copy())
    assert same.digest() == window.digest()
    others = (
        replace(window, values=values),
        replace(window, model_version="2"),
        replace(window, station_id="other"),
        replace(window, end_hour=window.end_hour + 1),
        replace(window, kind=WEEKLY),
        replace(window, predictions=window.predictions + 1),
    )
    assert len({window.digest(), *(other.digest() for other in others)}) == 7
    assert window.start_hour == window.end_hour - 23
    assert window.kind is DAILY


# ---- files ----


def write(folder: Path, judge: Judge) -> None:
    reference = judge.reference
    table = np.column_stack((reference.values, reference.predictions))
    dataset.write_table(folder / thresholds.REFERENCE_NAME, (*RAW_COLUMNS, "prediction"), reference.hours, table)
    (folder / thresholds.CALIBRATION_NAME).write_text(json.dumps(judge.calibration.to_json()))


def test_reference_and_calibration_come_back_exactly(tmp_path: Path) -> None:
    judge = stations.judge()
    write(tmp_path, judge)
    found = load_judge(tmp_path)
    assert_array_equal(found.reference.hours, judge.reference.hours)
    assert_array_equal(found.reference.values, judge.reference.values)
    assert_array_equal(found.reference.predictions, judge.reference.predictions)
    assert found.reference.digest() == judge.reference.digest()
    assert found.calibration == judge.calibration
    assert isinstance(found.calibration, Calibration)


def test_a_missing_reference_is_a_usage_error_that_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"python generate_reference_dataset\.py"):
        load_judge(tmp_path)
    write(tmp_path, stations.judge())
    (tmp_path / thresholds.CALIBRATION_NAME).unlink()
    with pytest.raises(UsageError, match=r"python generate_reference_dataset\.py"):
        load_judge(tmp_path)


def test_a_reference_of_other_columns_is_refused(tmp_path: Path) -> None:
    (tmp_path / thresholds.REFERENCE_NAME).write_text("DateTime,prediction\n")
    with pytest.raises(ContractError, match="has columns"):
        load_judge(tmp_path)
