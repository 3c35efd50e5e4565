"""What is written of a calibration is what is loaded, and nothing else is accepted."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from airquality.ground.errors import ContractError, UsageError
from airquality.monitoring import calibration
from airquality.monitoring.calibration import DETECTORS_NAME, NUMBERS_NAME
from airquality.monitoring.promise import Promise
from tests import watched


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    calibration.write(watched.calibration(), tmp_path)
    return tmp_path


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_load_written_calibration_has_the_same_thresholds_and_memory(folder: Path) -> None:
    loaded, made = calibration.load(folder), watched.calibration()
    for budget in (1.0, 2.0):
        assert_array_equal(loaded.thresholds(budget).alone, made.thresholds(budget).alone)
        assert_array_equal(loaded.thresholds(budget).beside, made.thresholds(budget).beside)
    assert loaded.seed.keys() == made.seed.keys()
    for name, part in made.seed.items():
        assert_array_equal(loaded.seed[name], part)
    assert (loaded.first_hour, loaded.last_hour) == (made.first_hour, made.last_hour)


def test_load_absent_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"run python generate_reference_dataset\.py"):
        calibration.load(tmp_path)


def test_load_refusal_says_why_the_detectors_are_off(tmp_path: Path) -> None:
    frame = watched.history()
    lines = calibration.make(frame.hours[:500], frame.values[:500], "simulated", "hash", tmp_path)
    assert "OFF" in lines[0]
    with pytest.raises(UsageError, match=r"detectors are off: 0\.0 months"):
        calibration.load(tmp_path)


def test_load_other_numbers_raises(folder: Path) -> None:
    path = folder / NUMBERS_NAME
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ContractError, match="does not belong"):
        calibration.load(folder)


@pytest.mark.parametrize("value", [None, "x", [], {}, 7, [None], {"a": 1}])
def test_load_damaged_field_is_a_sentence_or_makes_no_difference(folder: Path, value: object) -> None:
    path = folder / DETECTORS_NAME
    whole = path.read_text()
    for name in json.loads(whole):
        for changed in ({**json.loads(whole), name: value}, {k: v for k, v in json.loads(whole).items() if k != name}):
            path.write_text(json.dumps(changed))
            with suppress(ContractError, UsageError):
                calibration.load(folder)
            Promise.read(folder, 1.0)


def test_load_other_version_raises_and_says_what_to_do(folder: Path) -> None:
    edit(folder / DETECTORS_NAME, version=1)
    with pytest.raises(ContractError, match=r"version 1(.|\n)*generate_reference_dataset"):
        calibration.load(folder)


def test_load_edited_threshold_raises(folder: Path) -> None:
    thresholds = json.loads((folder / DETECTORS_NAME).read_text())["thresholds"]
    thresholds["1"][next(iter(thresholds["1"]))] *= 2
    edit(folder / DETECTORS_NAME, thresholds=thresholds)
    with pytest.raises(ContractError, match="do not follow from its tails"):
        calibration.load(folder)


def test_load_code_that_computes_otherwise_raises(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airquality.monitoring.level._LEAST_SHARE", 2.0)
    with pytest.raises(ContractError, match="golden rows"):
        calibration.load(folder)


def test_purchase_budget_between_two_takes_the_smaller() -> None:
    assert watched.calibration().purchase(1.7).budget == 1.0
    with pytest.raises(UsageError, match="below the smallest"):
        watched.calibration().purchase(0.1)


def test_smallest_shifts_up_is_positive_down_negative_and_a_larger_budget_sees_smaller_ones() -> None:
    one, two = (watched.calibration().smallest_shifts(budget) for budget in (1.0, 2.0))
    for column, shifts in one.items():
        for shift, other in zip(shifts, two[column], strict=True):
            assert shift.up > 0 > shift.down
            assert other.up <= shift.up


@pytest.mark.slow
def test_calibrate_real_length_buys_the_budget_and_states_the_nested_rate(tmp_path: Path) -> None:
    from airquality.data import dataset

    frame = dataset.simulate().rows(0, 6600)
    lines = calibration.make(frame.hours, frame.values, frame.source, frame.sha256, tmp_path)
    assert any("nested" in line for line in lines)
    document = json.loads((tmp_path / DETECTORS_NAME).read_text())
    assert document["months"] >= 4.5
    for found in document["budgets"]:
        assert found["held_out_per_month"] <= found["budget"]
    assert np.isfinite(calibration.load(tmp_path).thresholds().alone).any()
