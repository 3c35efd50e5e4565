"""What a prediction is made of: contributions in mg/m3 that add up to it, by feature group and by raw column."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from airquality.model import features
from airquality.model.model import Model
from airquality.records import RAW_COLUMNS
from airquality.replay.rebuild import Rebuilt, feature_rows

Floats = NDArray[np.float64]

GROUP_METHOD = (
    "TreeSHAP of the model's output (the change of the target's root), times root of prediction plus root of base: the "
    "change of the square along the straight line from the base to the prediction. Exact in its sum"
)
COLUMN_METHOD = (
    "exact Shapley values over the raw columns: a column that is left out counts as missing in all 169 hours; the sum is "
    "the prediction less that of an hour without any reading"
)
_CHUNK = 256


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one part adds to the prediction, in mg/m3."""

    part: str
    mg_m3: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """Two ways to add up to one prediction; each begins with where it starts from, the rest by size."""

    by_group: tuple[Contribution, ...]
    by_column: tuple[Contribution, ...]


def explain(rebuilt: Rebuilt, model: Model) -> Explanation:
    """Return the contributions of a prediction's feature groups and of its raw columns."""
    return Explanation(_by_group(rebuilt, model), _by_column(rebuilt, model))


def _by_group(rebuilt: Rebuilt, model: Model) -> tuple[Contribution, ...]:
    transform = model.card.transform
    base = float(transform.base(rebuilt.row[[model.card.features.index(transform.base_feature)]])[0])
    parts = model.contributions(rebuilt.row[None, :])[0]
    total = float(parts.sum())
    scale = (rebuilt.value - base) / total if total else 2 * math.sqrt(base)
    added, start = [Contribution("average of the model", float(parts[-1]) * scale)], 0
    for family in features.FAMILIES:
        stop = start + len(family.names)
        added.append(Contribution(f"{family.title} features", float(parts[start:stop].sum()) * scale))
        start = stop
    return (Contribution("re-calibrated base", base), *_by_size(added))


def _by_size(parts: Sequence[Contribution]) -> list[Contribution]:
    return sorted(parts, key=lambda part: -abs(part.mg_m3))


def _by_column(rebuilt: Rebuilt, model: Model) -> tuple[Contribution, ...]:
    grid = rebuilt.inputs.grid
    present = [name for name in features.INPUT_COLUMNS if not np.isnan(grid[:, RAW_COLUMNS.index(name)]).all()]
    values = _coalitions(rebuilt, model, present)
    added = [Contribution(name, value) for name, value in zip(present, shapley(values).tolist(), strict=True)]
    return (Contribution("no reading at all", float(values[0])), *_by_size(added))


def _coalitions(rebuilt: Rebuilt, model: Model, columns: Sequence[str]) -> Floats:
    """Return the prediction from every subset of the columns, shape ``(2 ** n,)``; bit *i* of the index is column *i*."""
    indices = [RAW_COLUMNS.index(name) for name in columns]
    masks = np.arange(1 << len(columns))
    empty = np.full_like(rebuilt.inputs.grid, np.nan)
    values = np.empty(len(masks))
    for chunk in np.array_split(masks, max(1, len(masks) // _CHUNK)):
        grids = []
        for mask in chunk.tolist():
            grid = empty.copy()
            kept = [index for bit, index in enumerate(indices) if mask >> bit & 1]
            grid[:, kept] = rebuilt.inputs.grid[:, kept]
            grids.append(grid)
        matrix = feature_rows(grids, [rebuilt.inputs.prediction.hour] * len(grids))
        values[chunk] = model.predict(matrix)
    return values


def shapley(values: Floats) -> Floats:
    """Return the Shapley value of each player from the worth of every coalition (Shapley 1953).

    Args:
        values: Shape ``(2 ** n,)``; bit *i* of the index says that player *i* takes part.

    Returns:
        Shape ``(n,)``; their sum is ``values[-1] - values[0]``.

    >>> shapley(np.array([0.0, 1.0, 2.0, 6.0])).tolist()
    [2.5, 3.5]
    """
    n = len(values).bit_length() - 1
    masks = np.arange(len(values))
    sizes = np.array([mask.bit_count() for mask in masks.tolist()])
    weights = np.array([1 / (n * math.comb(n - 1, size)) for size in range(n)])
    shares = np.empty(n)
    for player in range(n):
        without = masks[masks >> player & 1 == 0]
        gains = values[without | 1 << player] - values[without]
        shares[player] = float(np.dot(weights[sizes[without]], gains))
    return shares
