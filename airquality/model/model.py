"""A fitted model and everything needed to use it rightly: features, order, history, data hash, target transform.

On disk a model is a folder of two files: ``model.ubj``, XGBoost's own format (no pickle), and ``model.json``, its card.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xgboost as xgb
from numpy.typing import NDArray

from airquality.ground.errors import ContractError
from airquality.model import features
from airquality.records import HISTORY_HOURS, TARGET

Floats = NDArray[np.float64]

MODEL_FILE = "model.ubj"
CARD_FILE = "model.json"
TRAIN_ONLY_DIR = "train_only"
_GOLDEN_ROWS = 8


@dataclass(frozen=True, slots=True)
class TargetTransform:
    """What turns a raw model output *r* into mg/m3: ``max(0, sqrt(base) + r) ** 2``.

    The base is a feature of the row; where the row has none (168 hours without any CO) it is ``default_base``.

    >>> float(TargetTransform("co_base", 1.0).to_mg_m3(np.array([0.5]), np.array([4.0]))[0])
    6.25
    """

    base_feature: str
    default_base: float

    def base(self, base: Floats) -> Floats:
        """Return the base in mg/m3 with the default where it is NaN."""
        return np.where(np.isnan(base), self.default_base, base)

    def to_mg_m3(self, raw: Floats, base: Floats) -> Floats:
        """Return the prediction in mg/m3 of raw outputs and their rows' bases, all of shape ``(n_rows,)``."""
        root = np.maximum(np.sqrt(self.base(base)) + raw, 0.0)
        return root * root

    def from_mg_m3(self, target: Floats, base: Floats) -> Floats:
        """Return what the model learns: ``sqrt(target) - sqrt(base)``; NaN where the target is."""
        return np.sqrt(target) - np.sqrt(self.base(base))


@dataclass(frozen=True, slots=True)
class Card:
    """What a model carries with it, and is checked against when it is loaded.

    ``data_hash`` is that of the rows it was fitted on, ``features_hash`` that of the feature declarations, ``scores`` its
    figures by block (mg/m3, measured hours only), ``golden`` its predictions of the rows of :func:`golden_rows`.
    """

    features: tuple[str, ...]
    features_hash: str
    transform: TargetTransform
    data_source: str
    data_hash: str
    fitted_on: str
    parameters: dict[str, Any]
    scores: dict[str, dict[str, float]]
    golden: tuple[float, ...] = ()
    target: str = TARGET
    history_hours: int = HISTORY_HOURS

    def to_dict(self) -> dict[str, Any]:
        """Return the card as JSON holds it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, card: dict[str, Any]) -> Card:
        """Return the card JSON holds."""
        fields = {**card, "features": tuple(card["features"]), "golden": tuple(card["golden"])}
        return cls(**{**fields, "transform": TargetTransform(**card["transform"])})


@dataclass(frozen=True, slots=True)
class Model:
    """A booster and its card. ``predict`` is the only way to a prediction, offline and served alike."""

    booster: xgb.Booster
    card: Card

    def predict(self, matrix: Floats) -> Floats:
        """Predict CO(GT).

        Args:
            matrix: Feature rows, shape ``(n_rows, n_features)`` in the order of ``card.features``, NaN where missing.

        Returns:
            mg/m3, shape ``(n_rows,)``; a row's bits do not depend on the rows beside it.
        """
        if matrix.ndim != 2 or matrix.shape[1] != len(self.card.features):
            raise ValueError(f"feature rows must have shape (n, {len(self.card.features)}), not {matrix.shape}")
        if len(matrix) == 0:
            return np.empty(0)
        raw = self.booster.inplace_predict(matrix.astype(np.float32), missing=np.nan).astype(np.float64)
        return self.card.transform.to_mg_m3(raw, matrix[:, self.card.features.index(self.card.transform.base_feature)])

    def save(self, directory: Path) -> None:
        """Write the model's folder; its card then holds the golden predictions."""
        directory.mkdir(parents=True, exist_ok=True)
        self.booster.save_model(directory / MODEL_FILE)
        card = replace(self.card, golden=tuple(self.predict(golden_rows(len(self.card.features))).tolist()))
        (directory / CARD_FILE).write_text(json.dumps(card.to_dict(), indent=1) + "\n")

    @classmethod
    def load(cls, directory: Path) -> Model:
        """Read a model's folder.

        Raises:
            ContractError: there is none, its features are not the declared ones, or it does not reproduce its
                golden predictions bit for bit.
        """
        try:
            card = Card.from_dict(json.loads((directory / CARD_FILE).read_text()))
            booster = xgb.Booster(params={"nthread": 1}, model_file=directory / MODEL_FILE)
        except (OSError, ValueError, KeyError, TypeError, xgb.core.XGBoostError) as error:
            raise ContractError(f"{directory} holds no readable model: {error}") from error
        model = cls(booster, card)
        _check(model, directory)
        return model

    @property
    def hash(self) -> str:
        """SHA-256 of the booster's bytes: one model, one hash."""
        return hashlib.sha256(self.booster.save_raw("ubj")).hexdigest()


def golden_rows(n_features: int) -> Floats:
    """Return fixed, made-up feature rows, shape ``(8, n_features)``, some values missing; exact on every machine."""
    i, j = np.mgrid[0:_GOLDEN_ROWS, 0:n_features]
    rows = ((i * 7919 + j * 104_729) % 1000) / 250.0
    return np.where((i + j) % 11 == 0, np.nan, rows)


def _check(model: Model, directory: Path) -> None:
    declared = features.manifest()
    if model.card.features_hash != declared["hash"]:
        unknown = sorted(set(model.card.features) ^ set(features.NAMES)) or "the order or history differs"
        raise ContractError(f"{directory} was fitted on other features than the declared ones: {unknown}. Train again.")
    found = model.predict(golden_rows(len(model.card.features)))
    if tuple(found.tolist()) != model.card.golden:
        raise ContractError(f"{directory} does not reproduce its golden predictions: {found.tolist()}")
