"""How good intervals were: coverage, width against a constant one, and the expected error against the realised one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from airquality.records import WEEKLY_HOURS
from airquality.truth.interval_calibration import MIN_WEEK_TRUTHS, Floats, Forecasts, weekly_errors
from airquality.truth.intervals import COVERAGE, LEVELS, Interval


@dataclass(frozen=True, slots=True)
class Coverage:
    """Which share of ``n`` truths their intervals held; NaN of none."""

    share: float
    n: int


@dataclass(frozen=True, slots=True)
class IntervalScores:
    """The figures of the intervals of one stretch.

    Attributes:
        every: Coverage of all truths.
        levels: By level of the prediction.
        high: Of truths from a given value on.
        silent: Of hours without a device.
        worst_week: The lowest coverage of a week.
        width: Mean width, in the target's unit.
        constant_width: Mean width of the constant interval that covers as many of these truths, known afterwards.
        weekly_error: Mean distance of the estimated weekly RMSE from the realised one, relative to it; of how many weeks.
    """

    every: Coverage
    levels: tuple[Coverage, ...]
    high: Coverage
    silent: Coverage
    worst_week: float
    width: float
    constant_width: float
    weekly_error: Coverage


def score(played: list[Interval | None], forecasts: Forecasts, high_from: float) -> IntervalScores:
    """Return the figures of what was published for these hours; at least one interval has its truth."""
    lower, upper, level = (
        np.array([math.nan if each is None else float(getattr(each, name)) for each in played])
        for name in ("lower", "upper", "level")
    )
    known = ~np.isnan(lower) & ~np.isnan(forecasts.truths)
    truths, predictions = forecasts.truths[known], forecasts.predictions[known]
    held = (lower[known] <= truths) & (truths <= upper[known])
    weeks = (np.flatnonzero(known) - np.flatnonzero(known)[0]) // WEEKLY_HOURS
    by_week = [float(held[weeks == week].mean()) for week in np.unique(weeks) if (weeks == week).sum() >= MIN_WEEK_TRUTHS]
    errors = [abs(estimated - realised) / realised for estimated, realised in weekly_errors(played, forecasts)]
    return IntervalScores(
        every=_coverage(held),
        levels=tuple(_coverage(held[level[known] == index]) for index in range(len(LEVELS))),
        high=_coverage(held[truths >= high_from]),
        silent=_coverage(held[forecasts.silent[known]]),
        worst_week=min(by_week, default=math.nan),
        width=float((upper - lower)[known].mean()),
        constant_width=_constant_width(predictions, truths, float(held.mean())),
        weekly_error=Coverage(float(np.mean(errors)) if errors else math.nan, len(errors)),
    )


def _coverage(held: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> Coverage:
    return Coverage(float(held.mean()) if len(held) else math.nan, len(held))


def _constant_width(predictions: Floats, truths: Floats, coverage: float) -> float:
    return _width_of(predictions, float(np.quantile(np.abs(truths - predictions), coverage)))


def _width_of(predictions: Floats, half: float) -> float:
    return float(np.mean(np.minimum(predictions, half) + half))


def constant(known: Forecasts, judged: Forecasts) -> tuple[float, float]:
    """Return coverage and mean width of the constant interval that held 90 % of the truths ``known`` before."""
    half = float(np.nanquantile(np.abs(known.truths - known.predictions), COVERAGE))
    errors = np.abs(judged.truths - judged.predictions)
    measured = ~np.isnan(errors)
    return float((errors[measured] <= half).mean()), _width_of(judged.predictions[measured], half)
