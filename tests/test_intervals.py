"""Intervals: what a calibration holds, how they adapt, and that nothing of a truth is known before it comes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from airquality.ground.errors import ContractError, UsageError
from airquality.truth import interval_calibration
from airquality.truth.interval_calibration import INTERVALS_NAME, Forecasts, load, play
from airquality.truth.interval_scores import score
from airquality.truth.intervals import CASES, LATE_AFTER_HOURS, SHARE_BOUNDS, Intervals, IntervalsState
from tests.forecasts import START, calibration, forecasts
from training.intervals import Stretch


def live(state: IntervalsState | None = None) -> Intervals:
    made = calibration()
    return Intervals(made.tables, "a") if state is None else Intervals.from_state(state, made.tables, "a")


def covered(judged: Forecasts) -> float:
    found = live()
    play(found, forecasts(300, seed=3, delay_hours=judged.delay_hours))
    moved = replace(judged, hours=judged.hours + 300)
    return score(play(found, moved), moved, high_from=4.0).every.share


@pytest.mark.parametrize("error", [0.2, 0.1, 0.5])
def test_intervals_cover_nine_truths_in_ten_whatever_the_error(error: float) -> None:
    assert covered(forecasts(4_000, seed=1, error=error)) == pytest.approx(0.9, abs=0.02)


def test_intervals_of_late_truth_are_those_of_the_late_case() -> None:
    late = forecasts(3_000, seed=2, error=0.5, delay_hours=24)
    played = [each for each in play(live(), late) if each is not None]
    assert {each.case for each in played} == {"late"}
    assert covered(late) == pytest.approx(0.9, abs=0.02)


def test_around_says_late_once_the_newest_truth_is_old() -> None:
    found = live()
    found.know(START)
    cases = [found.around(START + age, 2.0, silent=False).case for age in (1, LATE_AFTER_HOURS, LATE_AFTER_HOURS + 1)]
    assert cases == ["prompt", "prompt", "late"]


def test_around_is_wider_for_a_silent_device_and_for_a_high_level_and_never_below_zero() -> None:
    found = live()
    found.know(START)
    usual, silent = (found.around(START + 1, 2.0, silent=silent) for silent in (False, True))
    assert silent.upper - silent.lower > usual.upper - usual.lower
    low, high = (found.around(START + 1, value, silent=False) for value in (0.05, 9.0))
    assert low.lower == 0.0
    assert high.upper - high.lower > usual.upper - usual.lower
    assert (low.level, high.level) == (0, 2)


def test_around_without_a_calibration_is_nan_and_learns_nothing() -> None:
    found = Intervals({}, "")
    interval = found.around(START, 2.0, silent=False)
    assert all(map(math.isnan, (interval.lower, interval.upper, interval.expected_square)))
    found.learn(START, 2.0, interval, 2.5)
    assert found.state() == IntervalsState("", START, {})


def test_learn_widens_after_misses_until_truths_lie_inside_again() -> None:
    found = live()
    found.know(START)
    before = found.around(START + 1, 2.0, silent=False)
    for hour in range(START + 1, START + 200):
        found.learn(hour, 2.0, found.around(hour, 2.0, silent=False), 9.0)
    after = found.around(START + 200, 2.0, silent=False)
    assert after.upper - after.lower > 2 * (before.upper - before.lower)
    assert after.expected_square > before.expected_square
    assert after.holds(9.0)
    assert all(SHARE_BOUNDS[0] <= share <= SHARE_BOUNDS[1] for share in found.state().adapted["prompt"].shares)


def test_state_round_trips_in_the_middle_of_a_stream() -> None:
    judged = forecasts(900, seed=5)
    whole = play(live(), judged)
    found, published = live(), []
    for start in range(0, 900, 60):
        rows = slice(start, start + 60)
        parts = (getattr(judged, name)[rows] for name in ("hours", "predictions", "truths", "silent"))
        published += play_row_by_row(found, Forecasts(*parts))
        found = live(found.state())
    assert published == whole


def play_row_by_row(found: Intervals, judged: Forecasts) -> list[object]:
    """Publish and learn hour by hour, as a station does whose truth is in the row."""
    published: list[object] = []
    for row, hour in enumerate(judged.hours.tolist()):
        prediction, truth = float(judged.predictions[row]), float(judged.truths[row])
        interval = found.around(hour, prediction, silent=bool(judged.silent[row]))
        published.append(interval)
        if not math.isnan(truth):
            found.learn(hour, prediction, interval, truth)
    return published


def test_from_state_of_another_calibration_begins_anew_but_knows_the_newest_truth() -> None:
    found = live()
    play(found, forecasts(500, seed=6))
    state = found.state()
    other = Intervals.from_state(state, calibration().tables, "b")
    fresh = Intervals(calibration().tables, "b")
    assert state.newest_truth is not None
    fresh.know(state.newest_truth)
    assert other.state() == fresh.state()


def test_calibration_round_trips_through_its_file(tmp_path: Path) -> None:
    made = calibration()
    interval_calibration.write(made, tmp_path)
    assert load(tmp_path) == made
    assert set(made.tables) == set(made.track_record) == set(CASES)
    assert len((tmp_path / INTERVALS_NAME).read_bytes()) < 64 * 1024


def test_load_without_a_file_says_what_that_means(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"lower and upper are null.*generate_reference_dataset"):
        load(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda body: {**body, "data_source": "simulated"},
        lambda body: {**body, "settings": {}},
        lambda body: {**body, "tables": 7},
        lambda body: {**body, "tables": {"prompt": {**body["tables"]["prompt"], "quantiles": [[1.0]]}}},
        lambda body: {name: value for name, value in body.items() if name != "sha256"},
        lambda body: [],
    ],
)
def test_load_of_a_damaged_file_is_refused(tmp_path: Path, damage: Callable[[Any], object]) -> None:
    body = json.loads(calibration().to_bytes())
    (tmp_path / INTERVALS_NAME).write_text(json.dumps(damage(body)))
    with pytest.raises(ContractError, match="generate_reference_dataset"):
        load(tmp_path)


def test_load_of_other_settings_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interval_calibration.write(calibration(), tmp_path)
    monkeypatch.setattr("airquality.truth.intervals.SILENT_FACTOR", 2.0)
    with pytest.raises(ContractError, match="another release"):
        load(tmp_path)


def test_calibrate_leaves_out_a_case_with_too_few_truths() -> None:
    made = interval_calibration.calibrate({"prompt": forecasts(2_000), "late": forecasts(100)}, "uci", "data", "model")
    assert set(made.tables) == {"prompt"}


def test_track_record_of_a_steady_error_is_small() -> None:
    record = interval_calibration.track_record(calibration().tables, forecasts(3_000, seed=8))
    assert record.weeks == 17
    assert record.mean_error < 0.15


@pytest.mark.parametrize(("growth", "alarms"), [(0.0, 0), (0.1, 1)])
def test_coverage_alarms_of_the_tables_are_those_of_the_judged_hours(growth: float, alarms: int) -> None:
    judged = forecasts(700, seed=1)
    away = np.exp(growth * np.arange(700)) - 1.0  # an error that grows faster than intervals can widen
    judged = replace(judged, hours=judged.hours + 2_000, truths=judged.truths + away)
    assert Stretch("made up", "prompt", forecasts(2_000), judged).coverage_alarms() == alarms
