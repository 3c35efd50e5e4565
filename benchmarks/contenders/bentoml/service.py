"""The champion in BentoML: an endpoint for one row and one for many, each as its documentation shows it.

Runs in an environment of its own, with this project on its path for the model's card; ``BENCH_MODEL`` is the folder.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import bentoml
import numpy as np
import xgboost as xgb


@bentoml.service(workers=1, traffic={"timeout": 60})
class AirQuality:
    """One worker, as the other contenders have."""

    def __init__(self) -> None:
        folder = Path(os.environ["BENCH_MODEL"])
        card = json.loads((folder / "model.json").read_text())
        self._names = card["features"]
        self._base = self._names.index(card["transform"]["base_feature"])
        self._booster = xgb.Booster(params={"nthread": 1}, model_file=str(folder / "model.ubj"))

    @bentoml.api  # type: ignore[untyped-decorator]
    async def predict(self, features: dict[str, float]) -> dict[str, float]:
        """Predict one row, its values by name."""
        row = np.array([[features[name] for name in self._names]])
        return {"prediction": float(self._predict(row)[0])}

    @bentoml.api  # type: ignore[untyped-decorator]
    async def predict_batch(self, rows: np.ndarray) -> np.ndarray:
        """Predict rows, each in the order of the model's features."""
        return self._predict(rows)

    def _predict(self, rows: np.ndarray) -> np.ndarray:
        raw = self._booster.inplace_predict(rows.astype(np.float32), missing=np.nan).astype(np.float64)
        predictions: np.ndarray = np.maximum(np.sqrt(rows[:, self._base]) + raw, 0.0) ** 2
        return predictions
