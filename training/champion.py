"""Fit the champion's family: XGBoost on features relative to the re-calibrated base."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from airquality.data.dataset import Frame
from airquality.model import features
from airquality.model.model import Card, Model, TargetTransform
from training.protocol import Floats, Rows, Study

if TYPE_CHECKING:  # it takes a second to import, which no --help should
    import xgboost as xgb

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


#: One fitted row in three is shown once more as it would look with a silent device. The copies weigh as much together as
#: one row in ten: about the share of hours in which a device is silent, and most of which the training rows do not have.
SILENT_EVERY = 3
SILENT_WEIGHT = 0.3


@dataclass(frozen=True)
class Examples:
    """Feature rows ``(n, n_features)`` in float32, transformed targets ``(n,)`` and weights ``(n,)``."""

    matrix: NDArray[np.float32]
    label: Floats
    weight: Floats


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
    return Model(boost(parameters, examples(study, rows, transform)), card)


def fit(study: Study, block: str, parameters: Mapping[str, Any]) -> Model:
    """Fit on the measured rows of ``block`` (``train`` or ``train+validation``) and return the model without scores."""
    known = study.frame.rows(0, study.blocks[block].stop)
    return fit_rows(study, study.measured(block), parameters, block, known)


def as_measured(study: Study, rows: Rows, transform: TargetTransform) -> Examples:
    """Return measured ``rows`` as they are, each of weight 1."""
    return _examples(study.matrix[rows], study.target[rows], np.ones(len(rows)), transform)


def examples(study: Study, rows: Rows, transform: TargetTransform) -> Examples:
    """Return what a fit to measured ``rows`` is shown: the rows, then every third once more with a silent device."""
    again = rows[::SILENT_EVERY]
    weight = np.concatenate([np.ones(len(rows)), np.full(len(again), SILENT_WEIGHT)])
    matrix = np.vstack([study.matrix[rows], study.silent[again]])
    return _examples(matrix, study.target[np.concatenate([rows, again])], weight, transform)


def _examples(matrix: Floats, target: Floats, weight: Floats, transform: TargetTransform) -> Examples:
    label = transform.from_target(target, matrix[:, features.NAMES.index(features.BASE_FEATURE)])
    return Examples(matrix.astype(np.float32), label, weight)


def boost(parameters: Mapping[str, Any], shown: Examples) -> xgb.Booster:
    """Fit a booster to what it is ``shown``."""
    import xgboost as xgb

    own = {**FIXED, **parameters}
    return xgb.train(own, _dmatrix(shown, own), own.pop("rounds"))


def boost_until(parameters: Mapping[str, Any], early: Examples, late: Examples, max_rounds: int, patience: int) -> int:
    """Return the number of rounds at which a fit to ``early`` predicts ``late``, a later stretch, best."""
    import xgboost as xgb

    own = {**FIXED, **parameters}
    booster = xgb.train(
        own,
        _dmatrix(early, own),
        max_rounds,
        evals=[(_dmatrix(late, own), "late")],
        early_stopping_rounds=patience,
        verbose_eval=False,
    )
    return int(booster.best_iteration) + 1


def _dmatrix(shown: Examples, parameters: Mapping[str, Any]) -> xgb.DMatrix:
    import xgboost as xgb

    return xgb.DMatrix(shown.matrix, shown.label, weight=shown.weight, nthread=parameters["nthread"])
