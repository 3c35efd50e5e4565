"""Columns that the device computes from others: the function, fitted on history, and how far off the column may be."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from airquality.network.current import NETWORK
from airquality.network.declaration import Twin

Floats = NDArray[np.float64]

TWINS = NETWORK.twins
_N_COEFFICIENTS = max((twin.degree for twin in TWINS), default=0) + 1


def fit(values: Floats) -> tuple[Floats, Floats]:
    """Fit every declared twin on a history.

    Args:
        values: ``(n, columns)``, NaN for missing.

    Returns:
        Coefficients ``(twins, highest degree + 1)``, highest power first and zeros before a shorter polynomial, and the
        range ``(twins, 2)`` in which each argument was seen, scaled.
    """
    coefficients, ranges = np.zeros((len(TWINS), _N_COEFFICIENTS)), np.zeros((len(TWINS), 2))
    for index, twin in enumerate(TWINS):
        argument, factor, computed = _parts(twin, values)
        known = ~np.isnan(argument + factor + computed) & (factor > 0)
        scaled = argument[known] / twin.scale
        coefficients[index, _N_COEFFICIENTS - twin.degree - 1 :] = np.polyfit(
            scaled, computed[known] / factor[known], twin.degree
        )
        ranges[index] = scaled.min(), scaled.max()
    return coefficients, ranges


def expected(coefficients: Floats, ranges: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Return what each twin follows from its sources, and by how much that may be wrong, both ``(..., twins)``.

    Args:
        coefficients: Those of :func:`fit`.
        ranges: Those of :func:`fit`.
        values: ``(..., columns)``.
    """
    found, tolerances = np.empty((*values.shape[:-1], len(TWINS))), np.empty((*values.shape[:-1], len(TWINS)))
    for index, twin in enumerate(TWINS):
        argument, factor, _ = _parts(twin, values)
        value, beyond = _polynomial(twin, coefficients[index], ranges[index], argument / twin.scale)
        found[..., index] = factor * (value + beyond)
        constant, share = twin.tolerance
        tolerances[..., index] = constant + share * np.abs(factor * value) + (twin.doubt_beyond or 0.0) * np.abs(beyond)
    return found, tolerances


def _parts(twin: Twin, values: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the argument, the factor (1 where the twin has none) and the computed column."""
    argument, computed = values[..., NETWORK.index(twin.argument)], values[..., NETWORK.index(twin.column)]
    factor = np.ones_like(argument) if twin.factor is None else values[..., NETWORK.index(twin.factor)]
    return argument, factor, computed


def _polynomial(twin: Twin, coefficients: Floats, seen: Floats, scaled: Floats) -> tuple[Floats, Floats]:
    """Return the polynomial at the nearest argument in the range seen, and what a straight line adds from there on."""
    low, high = seen if twin.doubt_beyond is not None else (-np.inf, np.inf)
    inside = np.minimum(np.maximum(scaled, low), high)
    value, slope = np.zeros_like(inside), np.zeros_like(inside)
    for coefficient in coefficients:
        slope = slope * inside + value
        value = value * inside + coefficient
    return value, slope * (scaled - inside)
