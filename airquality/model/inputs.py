"""What is known when an hour is predicted: the variants of the problem, computed with the project's own features.

A variant hides the newest hours of some raw columns and then calls :mod:`airquality.model.features` on what is left. Nothing
about features is repeated here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from airquality.data.dataset import Frame
from airquality.model import features
from airquality.model.model import Model
from airquality.network.current import NETWORK
from airquality.records import DEVICE_COLUMNS, HISTORY_HOURS, RAW_COLUMNS, TARGET

Floats = NDArray[np.float64]

_ANALYSERS = NETWORK.of_role("analyser")
_LABEL = NETWORK.target.spoken
_CHUNK_ROWS = 128
#: How late the target comes in the variants that know it late.
LATE_HOURS = 24


@dataclass(frozen=True)
class Inputs:
    """A variant: for each column, how many of the newest hours are not known yet, hour t included."""

    name: str
    hidden_hours: Mapping[str, int]


def _spoken(*names: str) -> str:
    """Return names as a sentence has them.

    >>> _spoken("a", "b", "c"), _spoken("a")
    ('a, b and c', 'a')
    """
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


_OTHERS = [column.spoken for column in _ANALYSERS]
#: The product: the target of hour t is the only thing not known, and features never read it.
ALL = Inputs("all", {})
TARGET_LATE = Inputs(f"{_LABEL} {LATE_HOURS} h late", {TARGET: LATE_HOURS})
VARIANTS = {
    variant.name: variant
    for variant in (
        ALL,
        Inputs(f"without current {_spoken(*_OTHERS)}", {column.name: 1 for column in _ANALYSERS}),
        TARGET_LATE,
        Inputs(
            f"{_spoken(_LABEL, *_OTHERS)} {LATE_HOURS} h late",
            {TARGET: LATE_HOURS, **{column.name: LATE_HOURS for column in _ANALYSERS}},
        ),
        Inputs("one hour ahead", dict.fromkeys(RAW_COLUMNS, 1)),
    )
}


def with_silent_device(known: Inputs) -> Inputs:
    """Return the same inputs without any device column of hour t, as when the whole device is out."""
    return Inputs(f"{known.name}, device silent", {**dict.fromkeys(DEVICE_COLUMNS, 1), **known.hidden_hours})


def matrix(frame: Frame, known: Inputs) -> Floats:
    """Return the feature rows of a gap-free frame, shape ``(n, n_features)``, made of what is known at each hour."""
    if not known.hidden_hours:
        return features.batch(frame.hours, frame.values)
    grid = np.vstack([np.full((HISTORY_HOURS, len(RAW_COLUMNS)), np.nan), frame.values])
    starts = range(0, len(frame), _CHUNK_ROWS)
    return np.vstack([_chunk(grid, frame.hours, start, known) for start in starts])


def _chunk(grid: Floats, hours: NDArray[np.int64], start: int, known: Inputs) -> Floats:
    """Return feature rows from ``start`` on, each computed on its own copy of the 169 hours it may look at."""
    span = HISTORY_HOURS + 1
    chunk = hours[start : start + _CHUNK_ROWS]
    windows = np.lib.stride_tricks.sliding_window_view(grid[start : start + len(chunk) + HISTORY_HOURS], span, axis=0)
    blocks = np.ascontiguousarray(windows.transpose(0, 2, 1))
    for column, newest in known.hidden_hours.items():
        blocks[:, span - newest :, RAW_COLUMNS.index(column)] = np.nan
    stacked = blocks.reshape(-1, len(RAW_COLUMNS))
    return features.rows(stacked, chunk, np.arange(len(chunk)) * span + HISTORY_HOURS)


def late_predictions(model: Model, frame: Frame, first: int) -> Floats:
    """Return predictions made while the target comes late, shape ``(len(frame),)``, NaN before row ``first``."""
    known = frame.rows(max(0, first - HISTORY_HOURS), len(frame))
    made = model.predict(matrix(known, TARGET_LATE))
    return np.concatenate([np.full(first, np.nan), made[len(made) - (len(frame) - first) :]])
