"""The error of predictions whose truth was measured, as running sums and as figures."""

from __future__ import annotations

import math
from dataclasses import dataclass

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
        errors = RunningErrors()
        for prediction, truth in zip(predictions[measured].tolist(), truths[measured].tolist(), strict=True):
            errors.add(prediction, truth)
        return errors.state().performance()


@dataclass(frozen=True, slots=True)
class ErrorSums:
    """Sums over ``n`` predictions with measured truths, from which their error follows."""

    n: int = 0
    squared: float = 0.0
    absolute: float = 0.0
    truth: float = 0.0
    truth_squared: float = 0.0

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
        """Return RMSE, MAE and R2.

        >>> ErrorSums(n=2, squared=1.0, absolute=1.0, truth=6.0, truth_squared=20.0).performance()
        Performance(rmse=0.7071067811865476, mae=0.5, r2=0.5, n=2)
        """
        if not self.n:
            return Performance(math.nan, math.nan, math.nan, 0)
        spread = self.truth_squared - self.truth * self.truth / self.n
        r2 = 1.0 - self.squared / spread if self.n > 1 and spread > 0.0 else math.nan
        return Performance(math.sqrt(self.squared / self.n), self.absolute / self.n, r2, self.n)


#: Of no prediction.
NO_ERRORS = ErrorSums()


class RunningErrors:
    """:class:`ErrorSums` while they grow, in place: a new object for every row takes seven times as long.

    >>> errors = RunningErrors()
    >>> errors.add(1.0, 2.0)
    >>> errors.add(4.0, 4.0)
    >>> errors.state()
    ErrorSums(n=2, squared=1.0, absolute=1.0, truth=6.0, truth_squared=20.0)
    """

    __slots__ = ("_absolute", "_n", "_squared", "_truth", "_truth_squared")

    def __init__(self, state: ErrorSums = NO_ERRORS) -> None:
        self._n = state.n
        self._squared = state.squared
        self._absolute = state.absolute
        self._truth = state.truth
        self._truth_squared = state.truth_squared

    def add(self, prediction: float, truth: float) -> None:
        """Take in one more prediction and its measured truth."""
        error = prediction - truth
        self._n += 1
        self._squared += error * error
        self._absolute += abs(error)
        self._truth += truth
        self._truth_squared += truth * truth

    def state(self) -> ErrorSums:
        """Return the sums so far."""
        return ErrorSums(self._n, self._squared, self._absolute, self._truth, self._truth_squared)
