"""Made-up stations for tests: readings, a reference, a judge calibrated on their own past, and windows."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np

from airquality.monitoring.component import Predicted, Row
from airquality.monitoring.detectors import Detectors
from airquality.monitoring.drift import Floats, Judge, Window
from airquality.monitoring.reference import Reference
from airquality.monitoring.thresholds import Calibration
from airquality.monitoring.window_calibration import History, calibrate_history
from airquality.records import RAW_COLUMNS, TARGET_INDEX, Reading
from airquality.stream.station import Station
from airquality.truth.interval_calibration import IntervalCalibration
from airquality.truth.kinds import KINDS
from airquality.truth.performance import Performance
from monitoring_service import Stations

FIRST_HOUR = 300_003
_REFERENCE_HOURS = 600
_HISTORY_HOURS = 4000


def values_of(n_hours: int, seed: int = 0) -> Floats:
    """Return ``(n_hours, 13)`` of a day's rhythm and wandering noise around 100; NMHC(GT) is silent."""
    rng = np.random.default_rng(seed)
    wander = np.empty((n_hours, len(RAW_COLUMNS)))
    level = np.zeros(len(RAW_COLUMNS))
    for hour in range(n_hours):
        level = 0.9 * level + rng.normal(0, 4, len(RAW_COLUMNS))
        wander[hour] = level
    rhythm = 20 * np.sin(2 * np.pi * np.arange(n_hours) / 24)
    values = 100 + rhythm[:, np.newaxis] + wander
    values[:, TARGET_INDEX] /= 40
    values[:, RAW_COLUMNS.index("NMHC(GT)")] = np.nan
    return values


def predictions_of(values: Floats, seed: int = 1) -> Floats:
    """Return predictions that miss the truth by 0.3 mg/m3."""
    return np.maximum(values[:, TARGET_INDEX] + np.random.default_rng(seed).normal(0, 0.3, len(values)), 0.0)


@functools.cache
def judge(data_source: str = "uci") -> Judge:
    """Return a judge whose reference is the end of a made-up history, calibrated on that history."""
    values = values_of(_HISTORY_HOURS)
    hours = np.arange(FIRST_HOUR - _HISTORY_HOURS, FIRST_HOUR)
    predictions = predictions_of(values)
    rows = slice(_HISTORY_HOURS - _REFERENCE_HOURS, None)
    reference = Reference(hours[rows], values[rows], predictions[rows])
    history = History(hours, values, predictions, _REFERENCE_HOURS)
    return Judge(
        reference,
        Calibration(
            kinds={kind.name: calibrate_history(history, kind) for kind in KINDS},
            baseline=Performance.of(reference.predictions, reference.values[:, 0]),
            data_source=data_source,
            data_hash="data",
            model_hash="model",
            reference_hash=reference.digest(),
        ),
    )


def readings_of(values: Floats, station_id: str = "station_1", hours: Sequence[int] | None = None) -> list[Reading]:
    """Return ``values`` as readings, one an hour from ``FIRST_HOUR`` on unless ``hours`` says otherwise."""
    at = range(FIRST_HOUR, FIRST_HOUR + len(values)) if hours is None else hours
    return [Reading(station_id, hour, tuple(row)) for hour, row in zip(at, values.tolist(), strict=True)]


def opener(detectors: Detectors | None = None, intervals: IntervalCalibration | None = None) -> Stations:
    """Return what opens stations with the judge of these tests."""
    return Stations(judge(), detectors or Detectors(None), intervals)


def new(station_id: str = "station_1") -> Station:
    """Return a station that has seen no row."""
    return opener().open(station_id)


def observe(station: Station, reading: Reading, prediction: float, version: str = "1") -> list[Window]:
    """Let a station take in a predicted row, and return the windows that closed."""
    found = station.update(Row(reading, Predicted(prediction, version)))
    return [each for each in found if isinstance(each, Window)]


def windows_of(values: Floats, predictions: Floats | None = None, *, station_id: str = "station_1") -> list[Window]:
    """Return the windows that gap-free ``values`` close."""
    station = new(station_id)
    made = predictions_of(np.nan_to_num(values, nan=2.5)) if predictions is None else predictions
    windows = []
    for reading, prediction in zip(readings_of(values, station_id), made.tolist(), strict=True):
        windows += observe(station, reading, prediction)
    return windows


def without(values: Floats, *columns: str, rows: slice = slice(None)) -> Floats:
    """Return a copy of ``values`` in which ``columns`` are missing."""
    return changed(values, dict.fromkeys(columns, math.nan), rows=rows)


def changed(values: Floats, added: dict[str, float], rows: slice = slice(None)) -> Floats:
    """Return a copy of ``values`` with a number added to some columns."""
    copy = values.copy()
    for column, amount in added.items():
        copy[rows, RAW_COLUMNS.index(column)] += amount
    return copy
