"""Calibrate the window judge's thresholds: how far did past windows without known faults lie from their reference?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from airquality.monitoring.distance import Distributions
from airquality.monitoring.drift import JUDGED_COLUMNS, Floats, Hours
from airquality.monitoring.thresholds import KindCalibration, Threshold, calibrate
from airquality.records import COLUMN_INDEX, TARGET, TARGET_INDEX, datetime_of
from airquality.truth.kinds import WindowKind
from airquality.truth.performance import MIN_TRUTHS, Performance

#: Share of windows without known faults that may raise each of the three verdicts: one day a month, one week in twenty.
BUDGETS = {"daily": 1 / 30, "weekly": 1 / 20}

_STRIDE_HOURS = 24
_REFERENCE_STRIDE_HOURS = 168
#: Eight weeks of predictions are too few to learn from how far predictions wander; five months are enough.
_MIN_PREDICTED_HOURS = 150 * 24


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """What is known of the past, hour by hour without gaps: ``(n,)`` hours, ``(n, 13)`` values, ``(n,)`` predictions.

    ``predictions`` are out of sample, NaN where there is none. ``reference_hours`` is the length of the reference.
    """

    hours: Hours
    values: Floats
    predictions: Floats
    reference_hours: int

    @property
    def span(self) -> str:
        """The first and the last day in words."""
        return span(self.hours)


def calibrate_history(history: History, kind: WindowKind) -> KindCalibration:
    """Return the thresholds of one window kind, calibrated on ``history``."""
    return KindCalibration(
        data=_calibrate_data(history, kind),
        prediction=_calibrate_prediction(history, kind),
        performance=_calibrate_performance(history, kind),
    )


def _calibrate_data(history: History, kind: WindowKind) -> Threshold:
    series = history.values[:, [COLUMN_INDEX[name] for name in JUDGED_COLUMNS]]
    statistics, starts = past_distances(series, history.hours, kind, history.reference_hours)
    return calibrate(JUDGED_COLUMNS, statistics, starts, BUDGETS[kind.name], f"sensors, {history.span}")


def _calibrate_prediction(history: History, kind: WindowKind) -> Threshold:
    """Calibrate on out-of-sample predictions, or on measured truths while there are too few of them."""
    predicted = np.flatnonzero(~np.isnan(history.predictions))
    if len(predicted) >= _MIN_PREDICTED_HOURS:
        series, hours = history.predictions[predicted[0] :], history.hours[predicted[0] :]
        basis = f"out-of-sample predictions, {span(hours)}"
    else:
        series, hours = history.values[:, TARGET_INDEX], history.hours
        basis = f"measured {TARGET} in place of predictions, {history.span}"
    statistics, starts = past_distances(series[:, np.newaxis], hours, kind, history.reference_hours)
    return calibrate(("prediction",), statistics, starts, BUDGETS[kind.name], basis)


def _calibrate_performance(history: History, kind: WindowKind) -> Threshold:
    predicted = np.flatnonzero(~np.isnan(history.predictions))
    rows = slice(int(predicted[0]), None)
    truths = history.values[rows, TARGET_INDEX]
    errors, starts = past_errors(history.predictions[rows], truths, history.hours[rows], kind)
    basis = f"out-of-sample predictions, {span(history.hours[rows])}"
    return calibrate(("rmse",), errors, starts, BUDGETS[kind.name], basis)


def past_distances(series: Floats, hours: Hours, kind: WindowKind, reference_hours: int) -> tuple[Floats, Hours]:
    """Return the distances of past windows from past references, each window later than its reference, as today.

    A stretch of ``reference_hours`` plays the reference, the windows of the next ``reference_hours`` are measured against
    it, as the stream follows the real reference; then the same from a week later on.

    Args:
        series: ``(n, n_columns)``, hour by hour without gaps.
        hours: ``(n,)``.
        kind: The windows' kind; they begin every 24 hours.
        reference_hours: The length of the real reference.

    Returns:
        ``(n_windows, n_columns)``, NaN where fewer than half of the hours have a value, and each window's first hour.
    """
    distances, starts = [], []
    for first in range(0, len(series) - 2 * reference_hours + 1, _REFERENCE_STRIDE_HOURS):
        end = first + reference_hours
        reference = Distributions(series[first:end].T)
        for start in _starts(end, end + reference_hours, kind):
            window = series[start : start + kind.hours]
            seen = (~np.isnan(window)).sum(axis=0)
            distances.append(np.where(seen >= kind.min_values, reference.distances(window), np.nan))
            starts.append(hours[start])
    return np.array(distances).reshape(-1, series.shape[1]), np.array(starts, dtype=np.int64)


def past_errors(predictions: Floats, truths: Floats, hours: Hours, kind: WindowKind) -> tuple[Floats, Hours]:
    """Return the RMSE of past windows, ``(n_windows, 1)``, NaN below twelve truths, and each window's first hour."""
    errors, starts = [], []
    for start in _starts(0, len(hours), kind):
        rows = slice(start, start + kind.hours)
        predicted = ~np.isnan(predictions[rows])
        performance = Performance.of(predictions[rows][predicted], truths[rows][predicted])
        errors.append(performance.rmse if performance.n >= MIN_TRUTHS else math.nan)
        starts.append(hours[start])
    return np.array(errors).reshape(-1, 1), np.array(starts, dtype=np.int64)


def _starts(first: int, end: int, kind: WindowKind) -> Iterator[int]:
    return iter(range(first, end - kind.hours + 1, _STRIDE_HOURS))


def span(hours: Hours) -> str:
    """Return the first and the last day of ``hours`` in words."""
    return " to ".join(f"{datetime_of(int(hour)):%Y-%m-%d}" for hour in hours[[0, -1]])
