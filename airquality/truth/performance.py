"""The error of predictions whose truth was measured, as running sums and as figures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Below this many measured truths a window's error says nothing.
MIN_TRUTHS = 12


@dataclass(frozen=True, slots=True)
class Performance:
    """Error of ``n`` predictions whose truth was measured; NaN where ``n`` is too small to define it."""

    rmse: float
    mae: float
    r2: float
    n: int

    @classmethod
    def of(cls, predictions: Floats, truths: Floats) -> Performance:
        """Compare ``predictions`` with ``truths``, both ``(n,)``; rows without a truth are left out."""
        measured = ~np.isnan(truths)
        squared = absolute = truth_sum = truth_squared = 0.0
        for prediction, truth in zip(predictions[measured].tolist(), truths[measured].tolist(), strict=True):
            error = prediction - truth
            squared += error * error
            absolute += abs(error)
            truth_sum += truth
            truth_squared += truth * truth
        return ErrorSums(int(measured.sum()), squared, absolute, truth_sum, truth_squared).performance()


@dataclass(frozen=True, slots=True)
class ErrorSums:
    """Running sums from which the error of any number of predictions follows."""

    n: int = 0
    squared: float = 0.0
    absolute: float = 0.0
    truth: float = 0.0
    truth_squared: float = 0.0

    def plus(self, prediction: float, truth: float) -> ErrorSums:
        """Return the sums with one more prediction and its measured truth."""
        error = prediction - truth
        return ErrorSums(
            self.n + 1,
            self.squared + error * error,
            self.absolute + abs(error),
            self.truth + truth,
            self.truth_squared + truth * truth,
        )

    def merged(self, other: ErrorSums) -> ErrorSums:
        """Return the sums over everything that both have seen."""
        return ErrorSums(
            self.n + other.n,
            self.squared + other.squared,
            self.absolute + other.absolute,
            self.truth + other.truth,
            self.truth_squared + other.truth_squared,
        )

    def performance(self) -> Performance:
        """Return RMSE, MAE and R2 so far.

        >>> ErrorSums().plus(1.0, 2.0).plus(4.0, 4.0).performance()
        Performance(rmse=0.7071067811865476, mae=0.5, r2=0.5, n=2)
        """
        if not self.n:
            return Performance(math.nan, math.nan, math.nan, 0)
        spread = self.truth_squared - self.truth * self.truth / self.n
        r2 = 1.0 - self.squared / spread if self.n > 1 and spread > 0.0 else math.nan
        return Performance(math.sqrt(self.squared / self.n), self.absolute / self.n, r2, self.n)


@dataclass(slots=True)
class RunningErrors:
    """The same while it is written, once a row for each window: a new object for each row takes three times as long."""

    n: int = 0
    squared: float = 0.0
    absolute: float = 0.0
    truth: float = 0.0
    truth_squared: float = 0.0

    def add(self, prediction: float, truth: float) -> None:
        """Take in one more prediction and its measured truth."""
        error = prediction - truth
        self.n += 1
        self.squared += error * error
        self.absolute += abs(error)
        self.truth += truth
        self.truth_squared += truth * truth

    def sums(self) -> ErrorSums:
        """Return the sums so far."""
        return ErrorSums(self.n, self.squared, self.absolute, self.truth, self.truth_squared)

    @classmethod
    def of(cls, sums: ErrorSums) -> Self:
        """Return what goes on from ``sums``."""
        return cls(sums.n, sums.squared, sums.absolute, sums.truth, sums.truth_squared)
