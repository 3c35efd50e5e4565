"""The reference is out of sample and exact; its calibration comes from history alone and states what it is worth."""

from __future__ import annotations

import csv
import json
import math
import shutil
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost as xgb
from numpy.testing import assert_array_equal

import generate_reference_dataset as program
from airquality.data import dataset, uci_file
from airquality.data.dataset import Frame
from airquality.ground.errors import ContractError
from airquality.ground.settings import Settings
from airquality.model import backtest, features
from airquality.model.backtest import Origin
from airquality.model.model import TRAIN_ONLY_DIR, Card, Model, TargetTransform
from airquality.monitoring import drift, thresholds, window_calibration
from airquality.monitoring.distance import Distributions
from airquality.monitoring.drift import load_judge
from airquality.records import RAW_COLUMNS, Served, hour_of
from airquality.truth.kinds import DAILY, WEEKLY
from airquality.truth.performance import Performance
from tests import real_data, stations

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
REAL = real_data.FILE and real_data.FILE.parent


def score_of(booster: xgb.Booster, card: Card, frame: Frame) -> dict[str, float]:
    reference = program.score(frame, Model(booster, card))
    performance = Performance.of(reference.predictions, reference.values[:, 0])
    return {"rmse": performance.rmse, "mae": performance.mae, "r2": performance.r2, "n": performance.n}


def fit(frame: Frame) -> Model:
    """Fit a few trees on the training rows, with a card that tells the truth."""
    train = dataset.split(frame).train
    transform = TargetTransform("co_base", 2.0)
    rows, truths = features.batch(train.hours, train.values), train.values[:, 0]
    target = transform.from_target(truths, rows[:, features.NAMES.index("co_base")])
    measured = ~np.isnan(truths)
    booster = xgb.train(
        {"max_depth": 2, "nthread": 1}, xgb.DMatrix(rows[measured].astype(np.float32), target[measured]), num_boost_round=3
    )
    manifest = features.manifest()
    card = Card(
        features=tuple(features.NAMES),
        features_hash=str(manifest["hash"]),
        transform=transform,
        data_source=frame.source,
        data_hash=train.sha256,
        fitted_on="train",
        parameters={},
        scores={},
    )
    return Model(booster, replace(card, scores={"validation": score_of(booster, card, frame)}))


@pytest.fixture(scope="module")
def frame() -> Frame:
    return dataset.simulate()


@pytest.fixture(scope="module")
def model(frame: Frame) -> Model:
    return fit(frame)


@pytest.fixture(scope="module")
def made(frame: Frame, model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with simulated data and the model fitted on them, and what the program made of both."""
    folder = tmp_path_factory.mktemp("made")
    dataset.write_uci_csv(frame, folder / dataset.SIMULATED_DIR / uci_file.UCI_NAME)
    dataset.write_label(folder, frame, ())
    model.save(folder / TRAIN_ONLY_DIR)
    assert program.main(["--dataset-dir", str(folder), "--artifacts-dir", str(folder)]) == 0
    return folder


def document(folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / thresholds.CALIBRATION_NAME).read_text())
    return found


def test_the_reference_is_every_validation_hour_with_its_prediction(made: Path, frame: Frame, model: Model) -> None:
    validation = dataset.split(frame).validation
    reference = load_judge(made).reference
    assert_array_equal(reference.hours, validation.hours)
    assert_array_equal(reference.values, validation.values)
    start = len(dataset.split(frame).train)
    rows = features.batch(frame.hours, frame.values)[start : start + len(validation)]
    assert_array_equal(reference.predictions, model.predict(rows))


def test_the_file_is_a_plain_csv_with_empty_cells_for_missing(made: Path) -> None:
    with (made / thresholds.REFERENCE_NAME).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["DateTime", *RAW_COLUMNS, "prediction"]
    assert len(rows) == 1404
    assert datetime.fromisoformat(rows[0]["DateTime"]) == datetime(2004, 12, 8, 15)
    assert any(row["CO(GT)"] == "" for row in rows)
    assert all(row["prediction"] for row in rows)


def test_the_baseline_is_the_valid_of_the_models_card(made: Path, model: Model) -> None:
    baseline = load_judge(made).calibration.baseline
    assert baseline.rmse == pytest.approx(model.card.scores["validation"]["rmse"], rel=1e-12)
    assert baseline.n == model.card.scores["validation"]["n"]


def test_what_the_files_were_made_of_is_written_down(made: Path, frame: Frame, model: Model) -> None:
    calibration = load_judge(made).calibration
    assert calibration.data_source == "simulated"
    assert calibration.data_hash == frame.rows(0, 7953).sha256
    assert calibration.model_hash == model.hash


def test_every_threshold_states_its_budget_and_what_it_was_worth(made: Path) -> None:
    calibration = load_judge(made).calibration
    for kind, budget in window_calibration.BUDGETS.items():
        limits = calibration.kinds[kind]
        assert set(limits.data.scales) == set(drift.JUDGED_COLUMNS)
        for threshold in (limits.data, limits.prediction, limits.performance):
            assert threshold.budget == budget
            assert 0.0 <= threshold.held_out_rate <= 0.4
            assert threshold.windows >= 50
            assert all(threshold.of(column) > 0 for column in threshold.scales)
            assert "2004" in threshold.basis


def test_the_test_rows_take_no_part(made: Path, frame: Frame, model: Model) -> None:
    values = frame.values.copy()
    values[7953:] = 1.0
    other = Frame(frame.hours, values, frame.source)
    found = program.calibrate_on(other, model, program.score(other, model), Path("absent"))
    assert found == load_judge(made).calibration


def test_making_it_twice_gives_the_same_bytes(made: Path) -> None:
    before = [(made / name).read_bytes() for name in (thresholds.REFERENCE_NAME, thresholds.CALIBRATION_NAME)]
    program.generate(Settings(dataset_dir=made, artifacts_dir=made))
    assert [(made / name).read_bytes() for name in (thresholds.REFERENCE_NAME, thresholds.CALIBRATION_NAME)] == before


def test_simulated_data_are_called_so_first_and_last(made: Path) -> None:
    lines = program.generate(Settings(dataset_dir=made, artifacts_dir=made))
    assert "SIMULATED DATA" in lines[0]
    assert "SIMULATED DATA" in lines[-1]


def copy_of(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "copy"))


def run(folder: Path) -> int:
    return program.main(["--dataset-dir", str(folder), "--artifacts-dir", str(folder)])


def test_a_card_that_states_another_valid_is_refused(
    made: Path, tmp_path: Path, model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy_of(made, tmp_path)
    Model(model.booster, replace(model.card, scores={"validation": {"rmse": 0.125}})).save(folder / TRAIN_ONLY_DIR)
    assert run(folder) == 1
    error = capsys.readouterr().err
    assert "VALID 0.125" in error
    assert repr(model.card.scores["validation"]["rmse"])[:8] in error


def test_a_model_of_other_data_is_refused(
    made: Path, tmp_path: Path, model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy_of(made, tmp_path)
    Model(model.booster, replace(model.card, data_hash="other", data_source="uci")).save(folder / TRAIN_ONLY_DIR)
    assert run(folder) == 2
    assert "was fitted on uci data" in capsys.readouterr().err


def test_no_model_is_an_error_that_names_the_folder(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = copy_of(made, tmp_path)
    shutil.rmtree(folder / TRAIN_ONLY_DIR)
    assert run(folder) == 1
    assert str(folder / TRAIN_ONLY_DIR) in capsys.readouterr().err


def test_earlier_backtest_predictions_are_used_once_there_are_enough(
    made: Path, frame: Frame, model: Model, tmp_path: Path
) -> None:
    path = tmp_path / backtest.FILE_NAME
    write_earlier(path, frame, model)
    found = program.calibrate_on(frame, model, program.score(frame, model), path)
    before = load_judge(made).calibration
    daily = found.kinds["daily"]
    assert daily.data == before.kinds["daily"].data
    assert "in place of predictions" in before.kinds["daily"].prediction.basis
    assert "out-of-sample predictions" in daily.prediction.basis
    assert daily.performance.windows > 3 * before.kinds["daily"].performance.windows / 2
    assert daily.performance.of("rmse") == pytest.approx(1.0)


def write_earlier(path: Path, frame: Frame, model: Model, **other: Any) -> None:
    """Write predictions of 150 days that miss the truth by 1 mg/m3, of the model's origin or an ``other``."""
    known = frame.rows(0, 7953)
    predicted = np.full(len(known), np.nan)
    rows = slice(6549 - 150 * 24, 6549)
    predicted[rows] = np.nan_to_num(known.values[rows, 0], nan=2.0) + 1.0
    origin = Origin(frame.source, known.sha256, model.card.features_hash, model.card.parameters)
    backtest.write(path, known, predicted, replace(origin, **other))


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"data_source": "uci"}, "another data source than the model's: uci, not simulated"),
        ({"data_hash": "0123456789abcdef"}, "another data hash than the model's: 0123456789ab, not "),
        ({"features_hash": "0123456789abcdef"}, "another features hash than the model's: 0123456789ab, not "),
        ({"parameters": {"rounds": 3}}, 'another parameters than the model\'s: {"rounds": 3}, not {}'),
    ],
)
def test_generate_earlier_predictions_of_another_origin_are_refused(
    made: Path,
    tmp_path: Path,
    frame: Frame,
    model: Model,
    other: dict[str, Any],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = copy_of(made, tmp_path)
    write_earlier(folder / backtest.FILE_NAME, frame, model, **other)
    assert run(folder) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert "python -m training.backtest" in error


@pytest.mark.parametrize("change", ["no origin", "another file", "not JSON"])
def test_generate_earlier_predictions_without_their_origin_are_refused(
    made: Path, tmp_path: Path, frame: Frame, model: Model, change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy_of(made, tmp_path)
    path = folder / backtest.FILE_NAME
    write_earlier(path, frame, model)
    if change == "no origin":
        path.with_suffix(".json").unlink()
    elif change == "another file":
        path.write_text(path.read_text().replace("2004", "2005"))
    else:
        path.with_suffix(".json").write_text("{")
    assert run(folder) == 2
    assert str(path) in capsys.readouterr().err


def test_judge_calibration_beside_another_reference_is_refused(made: Path, tmp_path: Path) -> None:
    folder = copy_of(made, tmp_path)
    path = folder / thresholds.REFERENCE_NAME
    path.write_text(path.read_text().rpartition("\n2")[0] + "\n")
    with pytest.raises(ContractError, match=r"calibrated for another reference\.csv.*generate_reference_dataset"):
        load_judge(folder)


@pytest.mark.parametrize("content", ["", "{}", "[]", "{", '{"kinds": 3}'])
def test_judge_unreadable_calibration_is_refused_with_the_remedy(made: Path, tmp_path: Path, content: str) -> None:
    folder = copy_of(made, tmp_path)
    (folder / thresholds.CALIBRATION_NAME).write_text(content)
    with pytest.raises(ContractError, match=r"Make it with: python generate_reference_dataset\.py"):
        load_judge(folder)


def served_by(folder: Path) -> Served:
    """What an API says whose champion was fitted on the same rows as the reference's model knew."""
    calibration = load_judge(folder).calibration
    return Served("3", calibration.data_source, calibration.data_hash, calibration.baseline.rmse)


def test_calibration_of_the_served_models_twin_is_accepted(made: Path) -> None:
    load_judge(made).calibration.require_made_for(served_by(made))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data_source": "uci"}, "was made of simulated data, the model of uci data"),
        ({"data_hash": "0123456789abcdef"}, "the model of data 0123456789ab"),
        ({"valid_rmse": 0.29135}, "the model's validation 0.291350"),
    ],
)
def test_calibration_of_another_model_is_refused(made: Path, change: dict[str, Any], words: str) -> None:
    with pytest.raises(ContractError, match=r"not calibrated for the served model \(version 3\)") as refused:
        load_judge(made).calibration.require_made_for(replace(served_by(made), **change))
    assert words in str(refused.value)


def test_distances_of_the_past_are_between_a_stretch_and_the_windows_after_it() -> None:
    series, hours = stations.values_of(300)[:, 3:5], np.arange(1000, 1300)
    distances, starts = window_calibration.past_distances(series, hours, DAILY, 100)
    assert starts.tolist() == [1100, 1124, 1148, 1172]
    expected = Distributions([series[:100, 1]]).distances(series[124:148, 1:])
    assert distances[1, 1] == expected[0]


def test_errors_of_the_past_are_those_of_its_windows() -> None:
    predictions, truths, hours = np.full(200, 2.0), np.full(200, 1.5), np.arange(500, 700)
    truths[24:37] = np.nan
    errors, starts = window_calibration.past_errors(predictions, truths, hours, DAILY)
    assert starts.tolist() == [500 + 24 * day for day in range(8)]
    assert errors[0, 0] == pytest.approx(0.5)
    assert math.isnan(errors[1, 0])
    weeks, starts = window_calibration.past_errors(predictions, truths, hours, WEEKLY)
    assert (len(weeks), starts.tolist()) == (2, [500, 524])


@pytest.mark.skipif(REAL is None, reason="the real data set is not at hand")
def test_the_shipped_twin_and_the_real_data_make_the_reference(tmp_path: Path) -> None:
    assert REAL is not None
    shutil.copy(REAL / uci_file.UCI_NAME, tmp_path / uci_file.UCI_NAME)
    lines = program.generate(Settings(dataset_dir=tmp_path, artifacts_dir=ROOT / "artifacts"))
    judge = load_judge(tmp_path)
    assert judge.calibration.data_source == "uci"
    assert judge.calibration.baseline.n == 1234
    assert judge.calibration.baseline.rmse <= 0.33
    champion = Model.load(ROOT / "artifacts").card
    valid = champion.scores["validation"]["rmse"]
    judge.calibration.require_made_for(Served("1", champion.data_source, champion.data_hash, valid))
    assert hour_of(datetime(2004, 12, 8, 15)) == judge.reference.hours[0]
    assert not any("SIMULATED" in line for line in lines)
