from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xgboost as xgb
from hypothesis import given, settings
from hypothesis import strategies as st

from airquality.data import dataset
from airquality.ground.errors import ContractError
from airquality.model import features
from airquality.model import model as model_module
from airquality.model.model import CARD_FILE, MODEL_FILE, Card, Golden, Model, TargetTransform, golden_rows
from airquality.model.trees import Trees
from training import champion
from training.protocol import Study


@pytest.fixture(scope="module")
def study() -> Study:
    return Study.of(dataset.simulate().rows(0, 1200))


@pytest.fixture(scope="module")
def model(study: Study) -> Model:
    return champion.fit(study, "train", {**champion.HAND_SET, "rounds": 12})


@pytest.fixture
def saved(model: Model, tmp_path: Path) -> Path:
    model.save(tmp_path)
    return tmp_path


def test_a_model_read_back_predicts_the_same_bits(model: Model, saved: Path, study: Study) -> None:
    again = Model.load(saved)
    assert np.array_equal(again.predict(study.matrix), model.predict(study.matrix))
    assert again.hash == model.hash


def test_no_pickle_is_written(saved: Path) -> None:
    assert sorted(path.name for path in saved.iterdir()) == [CARD_FILE, MODEL_FILE]


def test_the_card_says_what_the_model_was_fitted_on(saved: Path, study: Study) -> None:
    card = Model.load(saved).card
    assert card.features == features.NAMES
    assert card.data_hash == dataset.split(study.frame).train.sha256
    assert card.data_source == "simulated"
    assert card.parameters["rounds"] == 12


@pytest.mark.parametrize("cut", [1, 7, 64])
def test_a_prediction_does_not_depend_on_the_rows_beside_it(model: Model, study: Study, cut: int) -> None:
    whole = model.predict(study.matrix[:200])
    parts = [model.predict(study.matrix[start : min(start + cut, 200)]) for start in range(0, 200, cut)]
    assert np.array_equal(np.concatenate(parts), whole)


def test_a_row_without_any_history_still_gets_a_prediction(model: Model) -> None:
    predicted = model.predict(np.full((1, len(features.NAMES)), np.nan))
    assert np.isfinite(predicted).all()


def test_predictions_are_never_negative(model: Model) -> None:
    rows = golden_rows(len(features.NAMES))
    rows[:, features.NAMES.index(features.BASE_FEATURE)] = 0.0
    assert (model.predict(rows) >= 0).all()


@pytest.mark.parametrize("shape", [(3, 5), (len(features.NAMES),)])
def test_rows_of_another_shape_are_refused(model: Model, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="feature rows must have shape"):
        model.predict(np.zeros(shape))


def test_no_rows_give_no_predictions(model: Model) -> None:
    assert model.predict(np.empty((0, len(features.NAMES)))).shape == (0,)


def test_load_model_of_other_features_raises(saved: Path) -> None:
    edit(saved, features_hash="0" * 64)
    with pytest.raises(ContractError, match="other features"):
        Model.load(saved)


def test_load_model_of_one_feature_less_is_refused_whatever_hash_its_card_carries(tmp_path: Path) -> None:
    names = features.NAMES[:-1]
    drawn = np.random.default_rng(5).random((50, len(names)))
    booster = xgb.train({"max_depth": 2}, xgb.DMatrix(drawn, drawn[:, 0]), num_boost_round=2)
    transform = TargetTransform(features.BASE_FEATURE, 1.0)
    Model(booster, Card(names, str(features.manifest()["hash"]), transform, "simulated", "", "", {}, {})).save(tmp_path)
    with pytest.raises(ContractError, match=f"other features.*{features.NAMES[-1]}"):
        Model.load(tmp_path)


def test_load_other_golden_prediction_raises(saved: Path) -> None:
    golden = json.loads((saved / CARD_FILE).read_text())["golden"]
    golden["predictions"][3] = np.nextafter(golden["predictions"][3], 99)
    edit(saved, golden=golden)
    with pytest.raises(ContractError, match="golden predictions"):
        Model.load(saved)


def test_load_trees_that_predict_many_rows_otherwise_than_xgboost_are_refused(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trees, "predict_many", lambda _, rows: np.zeros(len(rows), np.float32))
    with pytest.raises(ContractError, match="golden rows differently"):
        Model.load(saved)


@pytest.mark.parametrize("golden", [{"rows": [], "predictions": []}, {"rows": [[1.0]], "predictions": [1.0]}])
def test_load_unusable_golden_rows_raises(saved: Path, golden: Mapping[str, object]) -> None:
    edit(saved, golden=golden)
    with pytest.raises(ContractError):
        Model.load(saved)


def test_load_booster_with_a_flipped_bit_is_refused_before_it_is_parsed(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = (saved / MODEL_FILE).read_bytes()
    monkeypatch.setattr(xgb, "Booster", lambda *args, **kwargs: pytest.fail("XGBoost was given damaged bytes"))
    for position in np.random.default_rng(14).integers(0, len(content) * 8, 40).tolist():
        damaged = bytearray(content)
        damaged[position // 8] ^= 1 << position % 8
        (saved / MODEL_FILE).write_bytes(damaged)
        with pytest.raises(ContractError, match=r"has SHA-256 .* changed or damaged"):
            Model.load(saved)


def test_load_card_with_a_flipped_bit_is_refused(saved: Path) -> None:
    content = (saved / CARD_FILE).read_bytes()
    for position in np.random.default_rng(15).integers(0, len(content) * 8, 60).tolist():
        damaged = bytearray(content)
        damaged[position // 8] ^= 1 << position % 8
        (saved / CARD_FILE).write_bytes(damaged)
        with pytest.raises(ContractError):
            Model.load(saved)


@pytest.mark.parametrize("absent", ["model_sha256", "card_sha256"])
def test_load_card_without_checksums_is_refused_with_the_reason(saved: Path, absent: str) -> None:
    card = json.loads((saved / CARD_FILE).read_text())
    del card[absent]
    (saved / CARD_FILE).write_text(json.dumps(card))
    with pytest.raises(ContractError, match="carries no checksums"):
        Model.load(saved)


def test_load_booster_of_another_fit_is_refused(saved: Path, study: Study) -> None:
    champion.fit(study, "train", {**champion.HAND_SET, "rounds": 5}).booster.save_model(saved / MODEL_FILE)
    with pytest.raises(ContractError, match="SHA-256"):
        Model.load(saved)


@pytest.mark.parametrize("folder", ["artifacts", "artifacts/train_only"])
def test_load_committed_artifacts_match_their_checksums(folder: str) -> None:
    loaded = Model.load(Path(__file__).resolve().parent.parent / folder)
    assert loaded.card.model_sha256 == loaded.hash


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"features": 1}'])
def test_a_broken_card_is_refused(saved: Path, content: str) -> None:
    (saved / CARD_FILE).write_text(content)
    with pytest.raises(ContractError, match="holds no"):
        Model.load(saved)


def test_a_cut_off_booster_is_refused(saved: Path) -> None:
    content = (saved / MODEL_FILE).read_bytes()
    (saved / MODEL_FILE).write_bytes(content[: len(content) // 2])
    with pytest.raises(ContractError):
        Model.load(saved)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="no readable model"):
        Model.load(tmp_path)


def edit(folder: Path, **fields: object) -> None:
    """Change a card as somebody would who also writes its checksum anew."""
    card = Card.from_json((folder / CARD_FILE).read_bytes())
    changed = {**json.loads(card.to_json()), **fields}
    del changed["card_sha256"]
    content = {**changed, "card_sha256": model_module._sha256_of_fields(changed)}
    (folder / CARD_FILE).write_text(json.dumps(content))


@settings(max_examples=200)
@given(st.floats(0.1, 12), st.floats(0.05, 20) | st.just(float("nan")))
def test_the_transform_undoes_itself(target: float, base: float) -> None:
    transform = TargetTransform("co_base", 1.9)
    learned = transform.from_target(np.array([target]), np.array([base]))
    assert transform.to_target(learned, np.array([base]))[0] == pytest.approx(target)


def test_golden_rows_hold_gaps_and_are_the_same_everywhere() -> None:
    rows = golden_rows(5)
    assert np.isnan(rows).any()
    assert rows[1, :3].tolist() == [3.676, 2.592, 1.508]


def test_card_json_round_trip_is_equal(model: Model) -> None:
    golden = Golden(((1.0, None), (0.1, -2.5)), (1.0, 2.0))
    card = replace(model.card, scores={"validation": {"rmse": 0.1}}, golden=golden)
    assert Card.from_json(card.to_json()) == card
