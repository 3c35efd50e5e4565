"""The detectors that judge a window once it is closed: which statistics of its verdict raise which alarm.

Each is a name, the kinds of windows it judges, what its alarms begin with, and by alarm whether a verdict raises it. What a
window cannot speak to is left out: that window neither raises nor clears it. Statistics and thresholds are the verdict's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from airquality.monitoring.drift import DAILY, EXPECTED_COLUMNS, KINDS, WEEKLY, Verdict, WindowKind


@dataclass(frozen=True, slots=True)
class WindowDetector:
    """One kind of evidence in a window's verdict."""

    name: str
    kinds: tuple[WindowKind, ...]
    labels: tuple[str, ...]
    raised: Callable[[Verdict], Mapping[str, bool]]


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
    return {} if verdict.all_silent else {f"missing:{name}": name in verdict.missing for name in EXPECTED_COLUMNS}


_DISTANCES = ("data_drift", "prediction_drift")
DAILY_DISTANCE = WindowDetector("daily", (DAILY,), _DISTANCES, _distance)
WEEKLY_DISTANCE = WindowDetector("weekly", (WEEKLY,), _DISTANCES, _distance)
ERROR = WindowDetector("error", KINDS, ("performance",), _error)
ABSENT = WindowDetector("absent", KINDS, ("missing",), _absent)
