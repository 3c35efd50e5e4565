"""Two versions of the model on the same past hours: both errors, and an interval of their difference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from airquality.model.model import Model
from airquality.replay.rebuild import Rebuilt

Floats = NDArray[np.float64]

#: Days are drawn with their hours together, because errors of one day are alike; fixed, so that a repeat says the same.
_RESAMPLES, _SEED, _LEVELS = 2_000, 20_050_205, (0.05, 0.95)


@dataclass(frozen=True, slots=True)
class Comparison:
    """RMSE in mg/m3 of what was published and of the other version, on the same ``n`` measured hours.

    ``difference`` is other less published, ``low`` to ``high`` its 90 % interval (paired bootstrap of days).
    """

    version: str
    n: int
    published_rmse: float
    other_rmse: float
    low: float
    high: float

    @property
    def difference(self) -> float:
        """The other version's RMSE less the published one: negative where it would have been better."""
        return self.other_rmse - self.published_rmse


def compare(rebuilt: Sequence[Rebuilt], version: str, model: Model) -> Comparison | None:
    """Return how another version would have done; None where no truth is known of these hours."""
    measured = [each for each in rebuilt if not math.isnan(each.inputs.actual)]
    if not measured:
        return None
    truths = np.array([each.inputs.actual for each in measured])
    published = np.array([each.inputs.prediction.prediction for each in measured]) - truths
    other = model.predict(np.array([each.row for each in measured])) - truths
    days = np.array([each.inputs.prediction.hour // 24 for each in measured])
    low, high = _interval(published, other, days)
    return Comparison(version, len(measured), _rmse(published), _rmse(other), low, high)


def _rmse(errors: Floats) -> float:
    return float(np.sqrt(np.mean(errors * errors)))


def _interval(published: Floats, other: Floats, days: NDArray[np.int64]) -> tuple[float, float]:
    _, day = np.unique(days, return_inverse=True)
    counts, squares = np.bincount(day), [np.bincount(day, errors * errors) for errors in (published, other)]
    drawn = np.random.default_rng(_SEED).integers(len(counts), size=(_RESAMPLES, len(counts)))
    n = counts[drawn].sum(axis=1)
    ours, theirs = (np.sqrt(square[drawn].sum(axis=1) / n) for square in squares)
    low, high = np.quantile(theirs - ours, _LEVELS)
    return float(low), float(high)


def daily_rmse(rebuilt: Sequence[Rebuilt], model: Model) -> dict[str, list[float | None]]:
    """Return the RMSE of what was published and of another version: for each hour from the first to the last its day's.

    None where no truth is known of the day.
    """
    hours = np.array([each.inputs.prediction.hour for each in rebuilt])
    truths = np.array([each.inputs.actual for each in rebuilt])
    said = {
        "published": np.array([each.inputs.prediction.prediction for each in rebuilt]),
        "other": model.predict(np.array([each.row for each in rebuilt])),
    }
    days, every_hour = hours // 24, range(int(hours.min()), int(hours.max()) + 1)
    series: dict[str, list[float | None]] = {}
    for name, values in said.items():
        errors = values - truths
        known = {day: errors[(days == day) & ~np.isnan(truths)] for day in np.unique(days).tolist()}
        by_day = {day: _rmse(found) for day, found in known.items() if len(found)}
        series[name] = [by_day.get(hour // 24) for hour in every_hour]
    return series
