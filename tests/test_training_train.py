"""The commands of training as they are typed."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from airquality.data import dataset, uci_file
from airquality.data.dataset import Frame
from airquality.ground import log
from airquality.model.model import TRAIN_ONLY_DIR, Model
from training import backtest, frozen, train

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def history() -> Frame:
    return dataset.simulate().rows(0, 900)


@pytest.fixture
def csv_path(history: Frame, tmp_path: Path) -> Path:
    path = tmp_path / dataset.SIMULATED_DIR / uci_file.UCI_NAME
    dataset.write_uci_csv(history, path)
    return path


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "configure", lambda *a: None)


def test_quick_writes_both_fits_and_says_the_data_are_made_up(
    csv_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main(["--quick", "--csv", str(csv_path), "--artifacts-dir", str(tmp_path / "made")]) == 0
    said = capsys.readouterr().out
    model, twin = (Model.load(folder) for folder in (tmp_path / "made", tmp_path / "made" / TRAIN_ONLY_DIR))
    assert "SIMULATED DATA" in said
    assert f"{model.card.scores['test']['rmse']:.4f}" in said
    assert set(twin.card.scores) == {"validation"}
    assert model.card.parameters["rounds"] == frozen.read().champion_parameters["rounds"]
    assert sorted(p.name for p in (tmp_path / "made").iterdir()) == [
        "features.json",
        "model.json",
        "model.ubj",
        "raw_columns.json",
        TRAIN_ONLY_DIR,
    ]


def test_quick_twice_makes_the_same_bytes(csv_path: Path, tmp_path: Path) -> None:
    made = [train.train_quick(dataset.load(csv_path), tmp_path / name) for name in ("a", "b")]
    assert made[0].hash == made[1].hash
    assert (tmp_path / "a" / "model.json").read_bytes() == (tmp_path / "b" / "model.json").read_bytes()


def test_quick_leaves_the_real_test_rows_alone_while_the_choices_are_not_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, history: Frame, caplog: pytest.LogCaptureFixture
) -> None:
    copy = tmp_path / "frozen.json"
    copy.write_bytes(frozen.PATH.read_bytes())
    monkeypatch.setattr(frozen, "PATH", copy)
    real = dataset.Frame(history.hours, history.values, "uci")
    with caplog.at_level(logging.WARNING):
        assert not train._may_score_test(real)
    assert "not committed" in caplog.text
    assert train._may_score_test(history)


def test_quick_on_simulated_data_leaves_the_committed_model_alone(
    csv_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "model.json").write_text('{"data_source": "uci"}')
    assert train.main(["--quick", "--csv", str(csv_path)]) == 0
    assert [path.name for path in (tmp_path / "artifacts").iterdir()] == ["model.json"]
    assert Model.load(tmp_path / train.SIMULATED_OUT / "artifacts").card.data_source == "simulated"
    assert str(train.SIMULATED_OUT / "artifacts") in capsys.readouterr().out


@pytest.mark.parametrize("card", ['{"data_source": "uci"}', "{}"], ids=["of real data", "that cannot be read"])
def test_quick_on_simulated_data_refuses_a_named_folder_with_another_model(
    csv_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], card: str
) -> None:
    (tmp_path / "model.json").write_text(card)
    assert train.main(["--quick", "--csv", str(csv_path), "--artifacts-dir", str(tmp_path)]) == 2
    assert "pass another --artifacts-dir" in capsys.readouterr().err
    assert (tmp_path / "model.json").read_text() == card


def test_a_file_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    assert train.main(["--quick", "--csv", str(tmp_path / "none.csv")]) == 2


def test_opening_the_test_without_frozen_choices_fails(
    csv_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    assert train.main(["--open-test", "--csv", str(csv_path), "--out", str(tmp_path / "out")]) == 1
    assert not (tmp_path / "out" / "run_data").exists()


def test_quick_and_open_test_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as found:
        train.main(["--quick", "--open-test"])
    assert found.value.code == 2


def test_backtest_is_one_command(
    history: Frame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dataset, "current", lambda *a: history)
    monkeypatch.setattr(backtest, "forward_chain", lambda study, parameters, **options: np.full(study.bounds[1], 1.5))
    assert backtest.main(["--dataset-dir", str(tmp_path)]) == 0
    assert "(simulated)" in capsys.readouterr().out
    assert len((tmp_path / "backtest.csv").read_text().splitlines()) == 766


def test_backtest_without_data_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / dataset.LABEL_NAME).write_text("{}")
    assert backtest.main(["--dataset-dir", str(tmp_path)]) == 2
    assert "create_dataset.py" in capsys.readouterr().err
