"""Fit the champion's family: XGBoost on features relative to the re-calibrated base."""

from __future__ import annotations

from typing import Any

import numpy as np
import xgboost as xgb
from numpy.typing import NDArray

from airquality import features
from airquality.model import Card, Model, TargetTransform
from training.protocol import Study, scores

#: Chosen on validation and forward folds inside train+validation, never on test; see docs/model-card.md.
PARAMETERS: dict[str, Any] = {
    "max_depth": 5,
    "eta": 0.05,
    "subsample": 0.7,
    "colsample_bytree": 0.25,
    "min_child_weight": 8,
    "reg_lambda": 5.0,
    "objective": "reg:squarederror",
    "tree_method": "hist",
    "seed": 0,
    "nthread": 2,  # part of the result: histograms are summed by thread
}
ROUNDS = 350


def fit(study: Study, block: str, parameters: dict[str, Any] = PARAMETERS, rounds: int = ROUNDS) -> Model:
    """Fit on the measured rows of ``block`` (``train`` or ``train+validation``) and return the model without scores."""
    rows = study.measured(block)
    transform = TargetTransform(features.BASE_FEATURE, float(np.median(study.target[rows])))
    base = study.matrix[rows, features.NAMES.index(features.BASE_FEATURE)]
    label = transform.from_mg_m3(study.target[rows], base)
    booster = xgb.train(parameters, xgb.DMatrix(study.matrix[rows].astype(np.float32), label), rounds)
    frame = study.frame.rows(0, study.blocks[block].stop)
    card = Card(
        features=features.NAMES,
        features_hash=str(features.manifest()["hash"]),
        transform=transform,
        data_source=frame.source,
        data_hash=frame.sha256,
        fitted_on=block,
        parameters={**parameters, "rounds": rounds},
        scores={},
    )
    return Model(booster, card)


def score(model: Model, study: Study, block: str) -> dict[str, float]:
    """Return the model's figures on the measured rows of a block it has not been fitted on."""
    rows: NDArray[np.intp] = study.measured(block)
    return scores(study.target[rows], model.predict(study.matrix[rows]))
