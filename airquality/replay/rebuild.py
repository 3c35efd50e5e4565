"""Feature rows and predictions of the past, made once more from the raw rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from airquality.incoming import LateTruth
from airquality.model import features
from airquality.model.model import Model
from airquality.records import HISTORY_HOURS, RAW_COLUMNS, TARGET_INDEX, Prediction, Reading
from airquality.replay.past import Past, Place, Row

Floats = NDArray[np.float64]

_GRID_HOURS = HISTORY_HOURS + 1
#: How many hours are rebuilt at a time: each takes a grid of 169 hours.
_CHUNK = 256


@dataclass(frozen=True, slots=True)
class Inputs:
    """What one prediction was made of: the raw values of the 169 hours up to its own, shape ``(169, n_columns)``.

    ``actual`` is the truth of its hour as far as it is known by now, NaN if it is not.
    """

    prediction: Prediction
    grid: Floats
    hours_with_row: int
    actual: float


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


class _History:
    """The hours of a station as the stream had them so far."""

    def __init__(self) -> None:
        self._hours: dict[int, Floats] = {}
        self._newest = 0

    def take(self, content: Reading | LateTruth) -> None:
        """Take in what comes next: what repeats an hour is ignored, a truth fills its hour's gap if it comes in time."""
        if isinstance(content, LateTruth):
            self.fill(content)
            return
        self._hours.setdefault(content.hour, np.array(content.values))
        self._newest = max(self._newest, content.hour)

    def fill(self, truth: LateTruth) -> bool:
        """Let a truth fill its hour and return whether it did: the hour is there, recent enough, and has no truth."""
        values = self._hours.get(truth.hour)
        if values is None or self._newest - truth.hour >= HISTORY_HOURS or not np.isnan(values[TARGET_INDEX]):
            return False
        values[TARGET_INDEX] = truth.value
        return True

    def grid(self, hour: int) -> tuple[Floats, int]:
        """Return the 169 hours up to this one, and how many of them have a row."""
        grid = np.full((_GRID_HOURS, len(RAW_COLUMNS)), np.nan)
        known = [index for index in range(_GRID_HOURS) if hour - HISTORY_HOURS + index in self._hours]
        for index in known:
            grid[index] = self._hours[hour - HISTORY_HOURS + index]
        return grid, len(known)


def inputs_of(past: Past) -> Iterator[Inputs]:
    """Yield what each prediction was made of, in the order of the stream.

    A row enters the history where the stream has it, so what came later than a prediction is not in its inputs. Predictions
    whose own row is gone are left out.
    """
    wanted: dict[Place, Prediction] = {(p.source_partition, p.source_offset): p for p in past.predictions}
    late = {truth.hour: truth.value for truth in _filled(past.rows)}
    history = _History()
    for row in past.rows:
        history.take(row.content)
        prediction = wanted.get(row.place)
        if prediction:
            grid, known = history.grid(prediction.hour)
            actual = late.get(prediction.hour, math.nan) if math.isnan(prediction.actual) else prediction.actual
            yield Inputs(prediction, grid, known, actual)


def _filled(rows: Sequence[Row]) -> Iterator[LateTruth]:
    """Yield the truths that filled their hours: others are counted, and change nothing."""
    history = _History()
    for row in rows:
        if not isinstance(row.content, LateTruth):
            history.take(row.content)
        elif history.fill(row.content):
            yield row.content


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
