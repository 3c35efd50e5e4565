"""How far the values of a window lie from a reference: the statistic behind the daily and the weekly distance."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Distribution:
    """The values of one column, prepared so that a window's distance to them costs a few vector operations."""

    __slots__ = ("_integral", "_levels", "values")

    def __init__(self, values: Floats) -> None:
        finite = np.sort(values[~np.isnan(values)])
        self.values = finite
        self._levels = np.linspace(0.0, 1.0, len(finite) + 1)
        self._integral = np.concatenate(([0.0], np.cumsum(finite))) / max(len(finite), 1)

    def distance(self, sample: Floats) -> float:
        """Return the Wasserstein-1 distance of ``sample`` (any order, NaN left out) to these values, in their unit.

        The area between the two quantile functions, exactly: the sample's is a staircase, and under each step the
        reference's lies below the step up to the share of values below it and above it from there on.
        NaN if either side is empty.

        >>> round(Distribution(np.array([0.0, 1.0, 3.0])).distance(np.array([5.0, 6.0, 8.0])), 9)
        5.0
        """
        steps = np.sort(sample[~np.isnan(sample)])
        n_steps, n_values = len(steps), len(self.values)
        if not n_steps or not n_values:
            return math.nan
        edges = np.arange(n_steps + 1) / n_steps
        crossing = self.values.searchsorted(steps) / n_values
        crossing = np.minimum(np.maximum(crossing, edges[:-1]), edges[1:])
        at_edges = np.interp(edges, self._levels, self._integral)
        at_crossing = np.interp(crossing, self._levels, self._integral)
        under_steps = steps.dot(2.0 * crossing - edges[:-1] - edges[1:])
        under_values = 2.0 * at_crossing.sum() - at_edges[:-1].sum() - at_edges[1:].sum()
        return max(float(under_steps - under_values), 0.0)
