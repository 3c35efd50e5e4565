"""The detectors that judge a window once it is closed: which statistics of its verdict raise which alarm.

Each is a name, the kinds of windows it judges, what its alarms begin with, by alarm whether a verdict raises it, and a fault
it notices. What a window cannot judge is left out: that window neither raises nor clears it. Statistics and thresholds are
the verdict's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from airquality.monitoring.drift import Floats, Verdict
from airquality.records import DEVICE_COLUMNS, RAW_COLUMNS, TARGET_INDEX
from airquality.truth.kinds import DAILY, KINDS, WEEKLY, WindowKind


@dataclass(frozen=True, slots=True)
class WindowDetector:
    """One kind of evidence in a window's verdict."""

    name: str
    kinds: tuple[WindowKind, ...]
    labels: tuple[str, ...]
    raised: Callable[[Verdict], Mapping[str, bool]]
    #: Puts into clean rows, ``(n, columns)``, a fault that this detector notices, and returns what its alarm is about.
    own_fault: Callable[[Floats], str]


def _distance(verdict: Verdict) -> Mapping[str, bool]:
    said = {}
    if any(column.judged for column in verdict.columns):
        said["data_drift"] = verdict.data_drift
    if verdict.prediction.judged:
        said["prediction_drift"] = verdict.prediction_drift
    return said


def _error(verdict: Verdict) -> Mapping[str, bool]:
    return {} if verdict.too_few_truths else {"performance": verdict.degraded}


def _absent(verdict: Verdict) -> Mapping[str, bool]:
    return {} if verdict.all_silent else verdict.absent()


def _shift(values: Floats) -> str:
    """Shift a column by twice the width of its values."""
    column = values[:, RAW_COLUMNS.index(DEVICE_COLUMNS[0])]
    column += 2.0 * float(np.nanmax(column) - np.nanmin(column))
    return "data_drift"


def _wrong_truth(values: Floats) -> str:
    """Shift the truth by the width of its values: no prediction is near it any more."""
    truth = values[:, TARGET_INDEX]
    truth += float(np.nanmax(truth) - np.nanmin(truth))
    return "performance"


def _silence(values: Floats) -> str:
    """Take a column away."""
    values[:, RAW_COLUMNS.index(DEVICE_COLUMNS[-1])] = np.nan
    return f"missing:{DEVICE_COLUMNS[-1]}"


_DISTANCES = ("data_drift", "prediction_drift")
DAILY_DISTANCE = WindowDetector("daily", (DAILY,), _DISTANCES, _distance, _shift)
WEEKLY_DISTANCE = WindowDetector("weekly", (WEEKLY,), _DISTANCES, _distance, _shift)
ERROR = WindowDetector("error", KINDS, ("performance",), _error, _wrong_truth)
ABSENT = WindowDetector("absent", KINDS, ("missing",), _absent, _silence)
