"""The honest protocol: which rows are fitted, which are scored, and by what figures.

Only hours with a measured CO(GT) are fitted or scored; hours whose sensors are missing stay in. Features never fill
anything, and blocks are cut by time, so a fit never sees a row later than those it is judged on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from airquality import dataset, features
from airquality.dataset import Frame
from airquality.schemas import RAW_COLUMNS, TARGET

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Study:
    """The whole file as feature rows ``(n, n_features)`` and target ``(n,)``, NaN where not measured."""

    frame: Frame
    matrix: Floats
    target: Floats

    @classmethod
    def of(cls, frame: Frame) -> Study:
        """Return the study of a gap-free frame."""
        return cls(frame, features.batch(frame.hours, frame.values), frame.values[:, RAW_COLUMNS.index(TARGET)])

    @property
    def blocks(self) -> dict[str, slice]:
        """The rows of each block of the 70/15/15 split, and of train and validation together."""
        validation, test = dataset.split_rows(len(self.frame))
        return {
            "train": slice(0, validation),
            "validation": slice(validation, test),
            "train+validation": slice(0, test),
            "test": slice(test, len(self.frame)),
        }

    def measured(self, block: str) -> NDArray[np.intp]:
        """Return the indices of the block's rows whose target was measured."""
        rows = np.arange(len(self.target))[self.blocks[block]]
        return rows[~np.isnan(self.target[rows])]


def scores(actual: Floats, predicted: Floats) -> dict[str, float]:
    """Return ``rmse``, ``mae`` (mg/m3), ``r2`` and ``n`` over measured hours; both arrays have shape ``(n,)`` without NaN.

    >>> scores(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 4.0]))["r2"]
    0.5
    """
    error = predicted - actual
    return {
        "rmse": float(np.sqrt(np.mean(error**2))),
        "mae": float(np.mean(np.abs(error))),
        "r2": float(1 - np.sum(error**2) / np.sum((actual - actual.mean()) ** 2)),
        "n": len(actual),
    }
