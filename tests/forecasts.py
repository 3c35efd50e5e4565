"""Made-up forecasts with their truths, and intervals calibrated on some of them."""

from __future__ import annotations

import functools
import math

import numpy as np

from airquality.truth import interval_calibration
from airquality.truth.interval_calibration import Forecasts, IntervalCalibration
from airquality.truth.intervals import Case

START = 300_000


def forecasts(n_hours: int, seed: int = 0, error: float = 0.2, delay_hours: int = 0) -> Forecasts:
    """Return predictions whose error grows with the root of the level; some truths are missing, some devices silent."""
    rng = np.random.default_rng(seed)
    predictions = rng.gamma(2.0, 1.0, n_hours)
    truths = np.maximum(predictions + rng.normal(0.0, error, n_hours) * np.sqrt(predictions + 0.3), 0.0)
    truths[rng.random(n_hours) < 0.1] = math.nan
    return Forecasts(np.arange(START, START + n_hours), predictions, truths, rng.random(n_hours) < 0.05, delay_hours)


@functools.cache
def calibration() -> IntervalCalibration:
    history: dict[Case, Forecasts] = {"prompt": forecasts(2_000), "late": forecasts(1_200, error=0.5, delay_hours=24)}
    return interval_calibration.calibrate(history, "uci", "data", "model")
