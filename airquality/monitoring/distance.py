"""How far the values of a window lie from a reference: the statistic behind the daily and the weekly distance."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Places = NDArray[np.intp]


class Distributions:
    """The values of several columns, prepared so that a window's distances to all of them cost a few vector operations.

    Args:
        columns: The values of each, NaN left out.
    """

    def __init__(self, columns: Iterable[Floats]) -> None:
        self._values = [np.sort(values[~np.isnan(values)]) for values in columns]
        self._sizes = np.array([len(values) for values in self._values])
        levels = [np.linspace(0.0, 1.0, len(values) + 1) for values in self._values]
        integrals = [np.concatenate(([0.0], np.cumsum(values))) / max(len(values), 1) for values in self._values]
        self._slopes = np.concatenate([[*(np.diff(i) / np.diff(x)), 0.0] for i, x in zip(integrals, levels, strict=True)])
        self._levels, self._integral = np.concatenate(levels), np.concatenate(integrals)
        self._starts = np.cumsum([0, *map(len, levels)])[:-1]  # of each column in these three
        self._at_edges: dict[int, Floats] = {}  # what does not depend on the sample but on its length, by length

    def distances(self, samples: Floats) -> Floats:
        """Return each column's Wasserstein-1 distance to its sample, in its unit; NaN if either side is empty.

        The area between the two quantile functions, exactly: the sample's is a staircase, and under each step the
        reference's lies below the step up to the share of values below it and above it from there on.

        Args:
            samples: ``(n, columns)``, each in any order, NaN left out.

        >>> Distributions([np.array([0.0, 1.0, 3.0])]).distances(np.array([[5.0], [6.0], [8.0]])).round(9)
        array([5.])
        """
        steps = np.sort(np.ascontiguousarray(samples.T), axis=1)
        n_known = len(samples) - np.isnan(steps).sum(axis=1)
        found = np.full(len(steps), np.nan)
        columns = np.flatnonzero((n_known > 0) & (self._sizes > 0))
        if len(columns):
            found[columns] = self._distances(columns, steps[columns], n_known[columns])
        return found

    def _distances(self, columns: Places, steps: Floats, n_known: Places) -> Floats:
        """Return the distances of columns whose sorted samples, ``(columns, n)``, begin with so many known values.

        What follows the known values is computed, too, and takes no part in the sums.
        """
        edges = np.minimum(np.arange(steps.shape[1] + 1) / n_known[:, np.newaxis], 1.0)
        below = [self._values[column].searchsorted(sample) for column, sample in zip(columns.tolist(), steps, strict=True)]
        crossing = np.array(below) / self._sizes[columns, np.newaxis]
        crossing = np.minimum(np.maximum(crossing, edges[:, :-1]), edges[:, 1:])
        weights = 2.0 * crossing - edges[:, :-1] - edges[:, 1:]
        integrals = self._integral_up_to(columns, crossing)
        found = np.empty(len(columns))
        for n_steps in set(n_known.tolist()):  # mostly one or two: columns are silent together
            of = np.flatnonzero(n_known == n_steps)
            under_steps = np.vecdot(steps[of, :n_steps], weights[of, :n_steps])
            first, second = self._sums_at(n_steps)[:, columns[of]]
            under_values = 2.0 * integrals[of, :n_steps].sum(axis=1) - first - second
            found[of] = np.maximum(under_steps - under_values, 0.0)
        return found

    def _sums_at(self, n_steps: int) -> Floats:
        """Return the sums of each column's integral up to all edges of so many steps but the last, and but the first."""
        if n_steps not in self._at_edges:
            columns, edges = np.arange(len(self._sizes)), np.arange(n_steps + 1) / n_steps
            at_edges = self._integral_up_to(columns, np.broadcast_to(edges, (len(columns), len(edges))))
            self._at_edges[n_steps] = np.stack([at_edges[:, :-1].sum(axis=1), at_edges[:, 1:].sum(axis=1)])
        return self._at_edges[n_steps]

    def _integral_up_to(self, columns: Places, shares: Floats) -> Floats:
        """Return the integral of each column's quantiles from 0 to ``shares``, ``(columns, n)``; as ``np.interp`` does."""
        sizes, starts = self._sizes[columns, np.newaxis], self._starts[columns, np.newaxis]
        below = (shares * sizes).astype(np.intp)  # the level at or below a share, but for rounding
        below -= self._levels.take(starts + below) > shares
        below += self._levels.take(starts + np.minimum(below + 1, sizes)) <= shares
        at = starts + np.minimum(below, sizes)
        return np.asarray(self._slopes.take(at) * (shares - self._levels.take(at)) + self._integral.take(at))
