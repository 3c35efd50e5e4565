"""The honest protocol: which rows are fitted, which are scored, by what figures, and what refuses to be scored.

Only hours with a measured CO(GT) are fitted or scored; hours whose sensors are missing stay in. Nothing is ever filled.
Blocks and folds are cut by time, and :meth:`Fit.predict`, the one way to a figure, refuses rows a fit may have seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from airquality.data import dataset
from airquality.data.dataset import Frame
from airquality.ground.errors import ContractError
from airquality.model import inputs
from airquality.model.inputs import ALL, Inputs
from airquality.records import DEVICE_COLUMNS, RAW_COLUMNS, TARGET_INDEX

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]

#: In the order tables show them. RMSE and MAE are mg/m3, MAPE and SMAPE percent, R2 and MASE have no unit.
METRICS = ("rmse", "mae", "r2", "mape", "smape", "mase")
N_FOLDS = 4
_DRAWS = 2000
_DEVICE_INDICES = [RAW_COLUMNS.index(name) for name in DEVICE_COLUMNS]


@dataclass(frozen=True)
class Study:
    """A gap-free file as feature rows ``(n, n_features)``; ``bounds`` are the first rows of validation and test.

    ``silent`` are the same rows as they would look had the whole device been silent at that hour.
    """

    frame: Frame
    matrix: Floats
    silent: Floats
    bounds: tuple[int, int]

    @classmethod
    def of(cls, frame: Frame, known: Inputs = ALL) -> Study:
        """Return the study of a gap-free frame whose feature rows are made of what is ``known`` at each hour."""
        silent = inputs.matrix(frame, inputs.with_silent_device(known))
        return cls(frame, inputs.matrix(frame, known), silent, dataset.split_rows(len(frame)))

    def before_test(self) -> Study:
        """Return the same study without the test rows: what everything is chosen on."""
        test = self.bounds[1]
        return replace(self, frame=self.frame.rows(0, test), matrix=self.matrix[:test], silent=self.silent[:test])

    @property
    def target(self) -> Floats:
        """CO(GT) as measured, shape ``(n,)``, NaN where it was not."""
        return self.frame.values[:, TARGET_INDEX]

    @property
    def blocks(self) -> dict[str, slice]:
        """The rows of each block of the 70/15/15 split, and of train and validation together."""
        validation, test = self.bounds
        return {
            "train": slice(0, validation),
            "validation": slice(validation, test),
            "train+validation": slice(0, test),
            "test": slice(test, len(self.frame)),
        }

    def measured(self, block: str) -> Rows:
        """Return the indices of the block's rows whose target was measured."""
        rows = np.arange(len(self.frame))[self.blocks[block]]
        return rows[~np.isnan(self.target[rows])]

    def measured_before(self, row: int) -> Rows:
        """Return the indices of all rows before ``row`` whose target was measured."""
        return np.flatnonzero(~np.isnan(self.target[:row]))

    def has_sensors(self, rows: Rows) -> NDArray[np.bool_]:
        """Say of each row whether all nine device columns were measured."""
        return np.asarray(~np.isnan(self.frame.values[rows][:, _DEVICE_INDICES]).any(axis=1))

    @property
    def naive_mae(self) -> float:
        """Mean absolute step between measured CO of the training rows, mg/m3: the yardstick of MASE."""
        return float(np.mean(np.abs(np.diff(self.target[self.measured("train")]))))

    def score(self, rows: Rows, predicted: Floats) -> dict[str, float]:
        """Return the six :data:`METRICS` and ``n`` of predictions of measured rows.

        Raises:
            ContractError: there are no rows, a row's target was not measured, or a prediction is missing.
        """
        return scores(self._truth(rows, predicted), predicted, self.naive_mae)

    def intervals(self, rows: Rows, predicted: Floats) -> dict[str, tuple[float, float]]:
        """Return the 90 % day-block bootstrap interval of each metric; raises as :meth:`score` does."""
        days = self.frame.hours[rows] // 24
        return intervals(self._truth(rows, predicted), predicted, days, self.naive_mae)

    def _truth(self, rows: Rows, predicted: Floats) -> Floats:
        if len(rows) == 0:
            raise ContractError("there are no rows to score: the test rows are not part of this study")
        truth = self.target[rows]
        if np.isnan(truth).any() or np.isnan(predicted).any():
            raise ContractError("only measured hours with a prediction are scored")
        return truth


@dataclass(frozen=True)
class Fit:
    """A fitted predictor of rows, and the last row it has seen."""

    last_row: int
    predictor: Callable[[Study, Rows], Floats]

    def predict(self, study: Study, rows: Rows) -> Floats:
        """Return predictions in mg/m3, shape ``(len(rows),)``.

        Raises:
            ContractError: a row is not later than everything the fit has seen.
        """
        if len(rows) and int(rows.min()) <= self.last_row:
            raise ContractError(
                f"the fit has seen rows up to {self.last_row} and may not be scored on row {int(rows.min())}"
            )
        return self.predictor(study, rows)


def forward_folds(rows: Rows) -> list[tuple[Rows, Rows]]:
    """Cut measured ``rows`` into (fitted, scored) pairs, each scored part later than what it is scored by."""
    from sklearn.model_selection import TimeSeriesSplit  # it takes seconds to import, which no --help should

    return [(rows[fitted], rows[scored]) for fitted, scored in TimeSeriesSplit(N_FOLDS).split(rows)]


def scores(actual: Floats, predicted: Floats, naive_mae: float) -> dict[str, float]:
    """Return the six :data:`METRICS` and ``n``; both arrays have shape ``(n,)`` without NaN.

    >>> found = scores(np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.0, 3.0]), naive_mae=1.5)
    >>> [round(found[name], 3) for name in ("mae", "mape", "mase", "n")]
    [0.333, 8.333, 0.222, 3]
    """
    figures = _figures(_terms(actual, predicted).sum(axis=0), naive_mae)
    return {**{name: float(figures[name]) for name in METRICS}, "n": len(actual)}


def intervals(
    actual: Floats, predicted: Floats, days: NDArray[np.int64], naive_mae: float
) -> dict[str, tuple[float, float]]:
    """Return each metric's 5th and 95th percentile over 2,000 seeded draws of whole days, shape of ``days`` ``(n,)``.

    Errors of neighbouring hours go together, so days and not hours are drawn: Efron & Tibshirani (1993), chapter 8.
    """
    _, day = np.unique(days, return_inverse=True)
    terms = _terms(actual, predicted)
    by_day = np.stack([np.bincount(day, weights=column) for column in terms.T], axis=1)
    n_days = len(by_day)
    draws = np.random.default_rng(0).multinomial(n_days, np.full(n_days, 1 / n_days), size=_DRAWS)
    drawn = draws.astype(np.float64) @ by_day
    figures = _figures(drawn[drawn[:, 0] > 1].T, naive_mae)
    return {name: (float(low), float(high)) for name in METRICS for low, high in [np.nanpercentile(figures[name], (5, 95))]}


def _terms(actual: Floats, predicted: Floats) -> Floats:
    """Return what the metrics are sums of, shape ``(n, 7)``."""
    error = np.abs(predicted - actual)
    ape = 100 * error / np.abs(actual)
    sape = 200 * error / (np.abs(actual) + np.abs(predicted))
    return np.stack([np.ones_like(actual), error**2, error, actual, actual**2, ape, sape], axis=1)


def _figures(sums: Floats, naive_mae: float) -> dict[str, Floats]:
    n, squared, absolute, total, total_squares, ape, sape = sums
    variation = np.where(n > 1, total_squares - total**2 / n, np.nan)
    return {
        "rmse": np.sqrt(squared / n),
        "mae": absolute / n,
        "r2": 1 - squared / variation,
        "mape": ape / n,
        "smape": sape / n,
        "mase": absolute / n / naive_mae,
    }
