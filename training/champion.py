"""Fit the champion's family: XGBoost on features relative to the re-calibrated base."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xgboost as xgb

from airquality import features
from airquality.dataset import Frame
from airquality.model import Card, Model, TargetTransform
from training.protocol import Rows, Study

#: Set by hand before the study; the study's search starts from here, and has to beat it.
HAND_SET: dict[str, Any] = {
    "max_depth": 5,
    "eta": 0.05,
    "subsample": 0.7,
    "colsample_bytree": 0.25,
    "min_child_weight": 8.0,
    "reg_lambda": 5.0,
    "rounds": 350,
}
#: The same for every fit. One thread is part of the result: histograms are summed by thread.
FIXED: dict[str, Any] = {"objective": "reg:squarederror", "tree_method": "hist", "seed": 0, "nthread": 1}


def transform_of(study: Study, rows: Rows) -> TargetTransform:
    """Return the target transform of a fit to ``rows``."""
    return TargetTransform(features.BASE_FEATURE, float(np.median(study.target[rows])))


def fit_rows(study: Study, rows: Rows, parameters: Mapping[str, Any], fitted_on: str, known: Frame) -> Model:
    """Fit on measured ``rows`` and return the model without scores.

    Args:
        study: Feature rows and target.
        rows: The indices fitted.
        parameters: XGBoost's, and ``rounds``.
        fitted_on: The card's words for ``rows``.
        known: The frame that ends where the fit's knowledge ends; its hash goes into the card.
    """
    transform = transform_of(study, rows)
    base = study.matrix[rows, features.NAMES.index(features.BASE_FEATURE)]
    label = transform.from_mg_m3(study.target[rows], base)
    card = Card(
        features=features.NAMES,
        features_hash=str(features.manifest()["hash"]),
        transform=transform,
        data_source=known.source,
        data_hash=known.sha256,
        fitted_on=fitted_on,
        parameters={**FIXED, **parameters},
        scores={},
    )
    return Model(boost(parameters, study.matrix[rows].astype(np.float32), label), card)


def fit(study: Study, block: str, parameters: Mapping[str, Any]) -> Model:
    """Fit on the measured rows of ``block`` (``train`` or ``train+validation``) and return the model without scores."""
    known = study.frame.rows(0, study.blocks[block].stop)
    return fit_rows(study, study.measured(block), parameters, block, known)


def boost(parameters: Mapping[str, Any], matrix: Any, label: Any) -> xgb.Booster:
    """Fit a booster to feature rows ``(n, n_features)`` and transformed targets ``(n,)``."""
    own = {**FIXED, **parameters}
    return xgb.train(own, xgb.DMatrix(matrix, label, nthread=own["nthread"]), own.pop("rounds"))


def boost_until(
    parameters: Mapping[str, Any], early: tuple[Any, Any], late: tuple[Any, Any], max_rounds: int, patience: int
) -> int:
    """Return the number of rounds at which a fit to ``early`` predicts ``late``, a later stretch, best."""
    own = {**FIXED, **parameters}
    booster = xgb.train(
        own,
        xgb.DMatrix(*early, nthread=own["nthread"]),
        max_rounds,
        evals=[(xgb.DMatrix(*late, nthread=own["nthread"]), "late")],
        early_stopping_rounds=patience,
        verbose_eval=False,
    )
    return int(booster.best_iteration) + 1
