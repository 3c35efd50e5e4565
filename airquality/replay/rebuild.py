"""Feature rows and predictions of the past, made once more from the raw rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from airquality.model import features
from airquality.model.model import Model
from airquality.records import HISTORY_HOURS, RAW_COLUMNS, Prediction
from airquality.replay.past import Past, Place

Floats = NDArray[np.float64]

_GRID_HOURS = HISTORY_HOURS + 1
#: How many hours are rebuilt at a time: each takes a grid of 169 hours.
_CHUNK = 256


@dataclass(frozen=True, slots=True)
class Inputs:
    """What one prediction was made of: the raw values of the 169 hours up to its own, shape ``(169, n_columns)``."""

    prediction: Prediction
    grid: Floats
    hours_with_row: int


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A prediction made once more; ``row`` is its feature row, shape ``(n_features,)``, ``value`` in mg/m3."""

    inputs: Inputs
    row: Floats
    value: float

    @property
    def equal(self) -> bool:
        """Whether it is the published one, bit for bit."""
        return self.value == self.inputs.prediction.prediction


def inputs_of(past: Past) -> Iterator[Inputs]:
    """Yield what each prediction was made of, in the order of the stream.

    A row enters the history where the stream has it, so what came later than a prediction is not in its inputs. Predictions
    whose own row is gone are left out.
    """
    wanted: dict[Place, Prediction] = {(p.source_partition, p.source_offset): p for p in past.predictions}
    history: dict[int, tuple[float, ...]] = {}
    for row in past.rows:
        history.setdefault(row.reading.hour, row.reading.values)  # what repeats an hour is ignored
        prediction = wanted.get(row.place)
        if prediction:
            yield _inputs(prediction, history)


def _inputs(prediction: Prediction, history: Mapping[int, tuple[float, ...]]) -> Inputs:
    grid = np.full((_GRID_HOURS, len(RAW_COLUMNS)), np.nan)
    present = 0
    for index, hour in enumerate(range(prediction.hour - HISTORY_HOURS, prediction.hour + 1)):
        if hour in history:
            grid[index] = history[hour]
            present += 1
    return Inputs(prediction, grid, present)


def rebuild(inputs: Sequence[Inputs], model_of: Callable[[str], Model]) -> Iterator[Rebuilt]:
    """Yield every prediction made once more, by the version that made it; ``model_of`` gives the model of a version."""
    for start in range(0, len(inputs), _CHUNK):
        chunk = inputs[start : start + _CHUNK]
        matrix = feature_rows([each.grid for each in chunk], [each.prediction.hour for each in chunk])
        for each, row in zip(chunk, matrix, strict=True):
            value = model_of(each.prediction.model_version).predict(row[None, :])[0]
            yield Rebuilt(each, row, float(value))


def feature_rows(grids: Sequence[Floats], hours: Sequence[int]) -> Floats:
    """Return the feature row of the last hour of each grid of 169 hours, shape ``(n_grids, n_features)``."""
    if not grids:
        return np.empty((0, len(features.NAMES)))
    positions = np.arange(len(grids), dtype=np.intp) * _GRID_HOURS + HISTORY_HOURS
    return features.rows(np.concatenate(grids), np.array(hours, dtype=np.int64), positions)
