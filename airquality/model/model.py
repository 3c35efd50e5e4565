"""A fitted model and everything needed to use it rightly: features, order, history, data hash, target transform.

On disk a model is a folder of two files: ``model.ubj``, XGBoost's own format (no pickle), and ``model.json``, its card.
XGBoost trusts the bytes it is given (a flipped bit can end the process), so a card carries checksums, of the booster's
file and of itself, and both are compared before anything is parsed.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from airquality.ground.errors import ContractError
from airquality.ground.files import write_atomically
from airquality.model import features
from airquality.model.trees import Predict, Trees
from airquality.records import HISTORY_HOURS, TARGET

if TYPE_CHECKING:  # it takes a second, which no --help should: it is imported where a booster is made
    import xgboost as xgb

Floats = NDArray[np.float64]

MODEL_FILE = "model.ubj"
CARD_FILE = "model.json"
TRAIN_ONLY_DIR = "train_only"
_GOLDEN_ROWS = 8
#: Up to here a row costs less walked than in a batch of XGBoost, which takes some 400 us and 7 us a row.
WALKED_ROWS = 16


@dataclass(frozen=True, slots=True)
class TargetTransform:
    """What turns a raw model output *r* into the target: ``max(0, sqrt(base) + r) ** 2``.

    The base is a feature of the row; where the row has none (168 hours without any target) it is ``default_base``.

    >>> float(TargetTransform("base", 1.0).to_target(np.array([0.5]), np.array([4.0]))[0])
    6.25
    """

    base_feature: str
    default_base: float

    def base(self, base: Floats) -> Floats:
        """Return the base in the target's unit with the default where it is NaN."""
        return np.where(np.isnan(base), self.default_base, base)

    def to_target(self, raw: NDArray[np.floating[Any]], base: Floats) -> Floats:
        """Return the prediction of raw outputs (float32 or float64) and their rows' bases, all of shape ``(n_rows,)``."""
        root: Floats = np.maximum(np.sqrt(self.base(base)) + raw, 0.0)
        return root * root

    def from_target(self, target: Floats, base: Floats) -> Floats:
        """Return what the model learns: ``sqrt(target) - sqrt(base)``; NaN where the target is."""
        return np.sqrt(target) - np.sqrt(self.base(base))


@dataclass(frozen=True, slots=True)
class Golden:
    """Feature rows in the card's order (None is missing) and their predictions, to the bit."""

    rows: tuple[tuple[float | None, ...], ...]
    predictions: tuple[float, ...]

    @property
    def matrix(self) -> Floats:
        """The rows as a model reads them, shape ``(n_rows, n_features)``."""
        return np.array(self.rows, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Card:
    """What a model carries with it, and is checked against when it is loaded.

    ``data_hash`` is that of the rows it was fitted on, ``features_hash`` that of the feature declarations, ``scores`` its
    figures by block (measured hours only), ``golden`` made-up rows with its predictions of them, ``model_sha256`` the
    checksum of the booster's file; :meth:`Model.save` fills in these last two.
    """

    features: tuple[str, ...]
    features_hash: str
    transform: TargetTransform
    data_source: str
    data_hash: str
    fitted_on: str
    parameters: dict[str, Any]
    scores: dict[str, dict[str, float]]
    golden: Golden = Golden((), ())
    model_sha256: str = ""
    target: str = TARGET
    history_hours: int = HISTORY_HOURS

    def to_json(self) -> bytes:
        """Return the card's file: its fields, and ``card_sha256``, the checksum of all of them."""
        fields = asdict(self)
        return json.dumps({**fields, "card_sha256": _sha256_of_fields(fields)}, indent=1).encode() + b"\n"

    @classmethod
    def from_json(cls, content: bytes) -> Card:
        """Return the card in a file's content.

        Raises:
            ContractError: it carries no checksums, or is not what its checksum says.
            ValueError, KeyError, TypeError: it is no card.
        """
        fields = json.loads(content)
        if "card_sha256" not in fields or "model_sha256" not in fields:
            raise ContractError("its card carries no checksums, so a damaged file could not be told from a good one")
        if fields.pop("card_sha256") != _sha256_of_fields(fields):
            raise ContractError(f"its card ({CARD_FILE}) was changed or damaged: it does not match its own checksum")
        golden = fields["golden"]
        return cls(
            **{
                **fields,
                "features": tuple(fields["features"]),
                "transform": TargetTransform(**fields["transform"]),
                "golden": Golden(tuple(map(tuple, golden["rows"])), tuple(golden["predictions"])),
            }
        )


def _sha256_of_fields(fields: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True)
class Model:
    """A booster and its card. ``predict`` is the only way to a prediction, offline and served alike.

    The trees are asked in the way that is the fastest for the rows (:meth:`_raw`), always with the same bits.
    """

    booster: xgb.Booster
    card: Card

    def predict(self, matrix: Floats) -> Floats:
        """Predict the target.

        Args:
            matrix: Feature rows, shape ``(n_rows, n_features)`` in the order of ``card.features``, NaN where missing.

        Returns:
            In the target's unit, shape ``(n_rows,)``; a row's bits do not depend on the rows beside it.
        """
        if matrix.ndim != 2 or matrix.shape[1] != len(self.card.features):
            raise ValueError(f"feature rows must have shape (n, {len(self.card.features)}), not {matrix.shape}")
        if len(matrix) == 0:
            return np.empty(0)
        base = matrix[:, self._base_column].copy()  # before the trees: they leave none of these places in the cache
        return self.card.transform.to_target(self._raw(matrix), base)

    def _raw(self, rows: Floats) -> NDArray[np.float32]:
        """Return the trees' outputs: walked for a few rows, by XGBoost for many, which is slow where values are missing."""
        if self._trees and len(rows) <= WALKED_ROWS:
            return self._trees.predict_few(rows)
        if self._trees and np.isnan(rows).any():
            return self._trees.predict_many(rows)
        return _raw_outputs(self.booster, rows)

    @cached_property
    def _trees(self) -> Trees | None:
        return Trees.of(bytes(self.booster.save_raw("json")), len(self.card.features), predict_by)

    @cached_property
    def _base_column(self) -> int:
        return self.card.features.index(self.card.transform.base_feature)

    def contributions(self, matrix: Floats) -> Floats:
        """Split each raw model output into what every feature adds to it (TreeSHAP, Lundberg et al. 2018).

        Args:
            matrix: Feature rows as for :meth:`predict`.

        Returns:
            Shape ``(n_rows, n_features + 1)`` in the unit of the raw output, the average output last; a row's sum is its raw
            output to about 1e-6.
        """
        import xgboost as xgb

        rows = xgb.DMatrix(matrix.astype(np.float32), missing=np.nan)
        contributions: Floats = self.booster.predict(rows, pred_contribs=True).astype(np.float64)
        return contributions

    def save(self, directory: Path) -> None:
        """Write the model's folder; its card then holds golden rows, their predictions, and checksums."""
        content = bytes(self.booster.save_raw("ubj"))
        card = replace(self.card, golden=self._golden(), model_sha256=hashlib.sha256(content).hexdigest())
        write_atomically(directory / MODEL_FILE, content)
        write_atomically(directory / CARD_FILE, card.to_json())

    def _golden(self) -> Golden:
        matrix = golden_rows(len(self.card.features))
        rows = tuple(tuple(None if np.isnan(value) else value for value in row) for row in matrix.tolist())
        return Golden(rows, tuple(self.predict(matrix).tolist()))

    @classmethod
    def load(cls, directory: Path, origin: str = "") -> Model:
        """Read a model's folder; errors name its ``origin``, or the folder itself.

        Raises:
            ContractError: there is none, a file does not match its checksum, its features are not the declared ones, or
                it does not reproduce its golden predictions bit for bit.
        """
        try:
            card = Card.from_json((directory / CARD_FILE).read_bytes())
            model = cls(_booster((directory / MODEL_FILE).read_bytes(), card.model_sha256), card)
            _check(model)
        except ContractError as error:
            raise ContractError(f"{origin or directory} holds no model that can be trusted: {error}") from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ContractError(f"{origin or directory} holds no readable model: {error}") from error
        return model

    @property
    def hash(self) -> str:
        """SHA-256 of the booster's bytes: one model, one hash."""
        return hashlib.sha256(self.booster.save_raw("ubj")).hexdigest()


def _booster(content: bytes, expected_sha256: str) -> xgb.Booster:
    """Parse a booster's file, once its bytes are known to be those that were saved."""
    found = hashlib.sha256(content).hexdigest()
    if found != expected_sha256:
        raise ContractError(
            f"{MODEL_FILE} has SHA-256 {found[:12]}, its card says {str(expected_sha256)[:12]}: it was changed or damaged"
        )
    return _parsed(content)


def _parsed(content: bytes) -> xgb.Booster:
    import xgboost as xgb

    return xgb.Booster(params={"nthread": 1}, model_file=bytearray(content))


def predict_by(content: bytes) -> Predict:
    """Return XGBoost's own prediction by the booster in a file's content."""
    return partial(_raw_outputs, _parsed(content))


def _raw_outputs(booster: xgb.Booster, rows: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Return XGBoost's outputs; it reads each value as float32, and the shape was checked before."""
    raw: NDArray[np.float32] = booster.inplace_predict(rows, missing=np.nan, validate_features=False)
    return raw


def golden_rows(n_features: int) -> Floats:
    """Return fixed, made-up feature rows, shape ``(8, n_features)``, some values missing; exact on every machine."""
    i, j = np.mgrid[0:_GOLDEN_ROWS, 0:n_features]
    rows = ((i * 7919 + j * 104_729) % 1000) / 250.0
    return np.where((i + j) % 11 == 0, np.nan, rows)


def _check(model: Model) -> None:
    declared = features.manifest()
    if model.card.features_hash != declared["hash"] or model.card.features != features.NAMES:
        unknown = sorted(set(model.card.features) ^ set(features.NAMES)) or "the order or history differs"
        raise ContractError(f"it was fitted on other features than the declared ones: {unknown}. Train again.")
    golden = model.card.golden.matrix
    found = tuple(model.predict(golden).tolist())
    if not found or found != model.card.golden.predictions:
        raise ContractError(f"it does not reproduce its golden predictions: {list(found)}")
    trees = model._trees
    ways = [partial(_raw_outputs, model.booster), *((trees.predict_few, trees.predict_many) if trees else ())]
    if len({predict(golden).tobytes() for predict in ways}) > 1:
        raise ContractError("XGBoost and the trees that are read from it predict its golden rows differently")
