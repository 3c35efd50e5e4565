"""The trees have XGBoost's bits: of the champion, of other shapes, wherever values are missing, for few rows and many."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xgboost as xgb

from airquality.data import dataset
from airquality.model import features
from airquality.model.model import WALKED_ROWS, Floats, Model, predict_by
from airquality.model.trees import MAX_DEPTH, Floats32, Trees
from airquality.records import HISTORY_HOURS
from tests import real_data
from tests.system import ARTIFACTS


def rows(n_rows: int, n_features: int, missing: float, seed: int = 0) -> Floats32:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n_rows, n_features)).astype(np.float32)
    values[rng.random(values.shape) < missing] = np.nan
    return values


def fitted(n_features: int = 6, rounds: int = 30, **parameters: Any) -> xgb.Booster:
    x = rows(400, n_features, 0.1, seed=1)
    y = np.nan_to_num(x[:, 0]) * np.nan_to_num(x[:, 1]) + np.nan_to_num(x[:, 2])
    return xgb.train({"nthread": 1, **parameters}, xgb.DMatrix(x, y), rounds)


def trees_of(booster: xgb.Booster, n_features: int) -> Trees | None:
    return Trees.of(bytes(booster.save_raw("json")), n_features, predict_by)


def has_the_bits_of_xgboost(booster: xgb.Booster, matrix: Floats32) -> bool:
    trees = trees_of(booster, matrix.shape[1])
    assert trees is not None
    expected: bytes = booster.inplace_predict(matrix, missing=np.nan).tobytes()
    return trees.predict_few(matrix).tobytes() == expected == trees.predict_many(matrix).tobytes()


@pytest.fixture(scope="module")
def champion() -> Model:
    return Model.load(ARTIFACTS)


@pytest.mark.parametrize("missing", [0.0, 0.15, 1.0])
def test_trees_of_the_champion_have_the_bits_of_xgboost(champion: Model, missing: float) -> None:
    assert has_the_bits_of_xgboost(champion.booster, rows(300, len(champion.card.features), missing))


@pytest.fixture(scope="module")
def period() -> Floats:
    """Feature rows of the last 15 % of the data set where a copy is at hand, else of simulated readings; both have gaps."""
    frame = dataset.load(real_data.FILE) if real_data.FILE else dataset.simulate()
    first = dataset.split_rows(len(frame))[1]
    known = frame.rows(first - HISTORY_HOURS, len(frame))
    return features.batch(known.hours, known.values)[HISTORY_HOURS:]


@pytest.mark.parametrize("n_rows", [1, 3, WALKED_ROWS, WALKED_ROWS + 1, 64, 512, 2_000])
def test_predict_of_the_test_period_has_the_bits_of_xgboost_at_every_batch_size(
    champion: Model, period: Floats, n_rows: int
) -> None:
    assert np.isnan(period).any()
    raw = champion.booster.predict(xgb.DMatrix(period.astype(np.float32), missing=np.nan)).astype(np.float64)
    base = period[:, champion.card.features.index(champion.card.transform.base_feature)]
    expected = champion.card.transform.to_target(raw, base)
    batches = [period[start : start + n_rows] for start in range(0, len(period), n_rows)]
    assert np.concatenate([champion.predict(batch) for batch in batches]).tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    "parameters",
    [
        {"max_depth": 1},
        {"max_depth": 3, "min_child_weight": 30},
        {"max_depth": MAX_DEPTH, "eta": 0.02},
        {"max_depth": 4, "grow_policy": "lossguide", "max_leaves": 5},
        {"max_depth": 3, "base_score": 4.25},
        {"gamma": 1e9},
    ],
)
def test_trees_of_other_shapes_have_the_bits_of_xgboost(parameters: dict[str, Any]) -> None:
    assert has_the_bits_of_xgboost(fitted(**parameters), rows(300, 6, 0.2))


def test_trees_send_values_on_a_threshold_where_xgboost_sends_them() -> None:
    booster = fitted(max_depth=3)
    thresholds = np.unique(np.array([float(v) for v in booster.trees_to_dataframe()["Split"].dropna()], dtype=np.float32))
    matrix = np.resize(thresholds, (len(thresholds), 6)).astype(np.float32)
    matrix[::3, 1] = np.nan
    assert has_the_bits_of_xgboost(booster, matrix)


def test_trees_send_what_is_infinite_where_xgboost_sends_it_and_what_is_missing_elsewhere() -> None:
    booster, matrix = fitted(), rows(300, 6, 0.3)
    matrix[np.random.default_rng(2).random(matrix.shape) < 0.3] = np.inf
    matrix[np.random.default_rng(3).random(matrix.shape) < 0.3] = -np.inf
    assert has_the_bits_of_xgboost(booster, matrix)


def test_trees_of_a_booster_that_knows_its_names_have_the_bits_of_xgboost() -> None:
    x = rows(400, 3, 0.2, seed=4)
    named = xgb.train({"nthread": 1}, xgb.DMatrix(x, np.nan_to_num(x[:, 0]), feature_names=["a", "b", "c"]), 9)
    assert has_the_bits_of_xgboost(named, x)


@pytest.mark.parametrize(
    "parameters",
    [
        {"booster": "dart"},
        {"booster": "gblinear"},
        {"max_depth": MAX_DEPTH + 1, "min_child_weight": 0},
        {"objective": "reg:gamma"},
    ],
)
def test_trees_of_what_is_no_sum_of_shallow_trees_are_none(parameters: dict[str, Any]) -> None:
    x = rows(3_000, 6, 0.0)
    booster = xgb.train({"nthread": 1, **parameters}, xgb.DMatrix(x, np.exp(x[:, 0] * x[:, 1]) + 0.1), 3)
    assert trees_of(booster, 6) is None


@pytest.mark.parametrize("missing", [0.0, 0.1])
def test_predict_of_a_few_rows_equals_that_of_many_to_the_bit(champion: Model, missing: float) -> None:
    matrix = np.abs(rows(3 * WALKED_ROWS, len(champion.card.features), missing).astype(np.float64))
    alone = np.concatenate([champion.predict(matrix[index : index + 1]) for index in range(len(matrix))])
    assert alone.tobytes() == champion.predict(matrix).tobytes()
