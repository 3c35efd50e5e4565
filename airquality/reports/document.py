"""The sidecar: the JSON document beside a report, of which every page is made. What the index says is what the report says.

It depends on the window and on what it is judged by, and on nothing else: the same window gives the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from airquality.data.dataset import STATION_IDS
from airquality.events import truth_to_json
from airquality.monitoring.drift import JUDGED_COLUMNS, Distance, Floats, Hours, Judge, Window
from airquality.monitoring.thresholds import Threshold
from airquality.records import (
    COLUMN_INDEX,
    DAILY_HOURS,
    TARGET,
    TARGET_INDEX,
    UNITS,
    hour_of_isoformat,
    isoformat,
    or_null,
)
from airquality.reports.findings import Finding, findings_of
from airquality.reports.heads import LAYOUT
from airquality.truth.performance import Performance
from airquality.truth.window_truth import WindowTruth

Sidecar = Mapping[str, Any]

#: The station whose hours the reference holds, by the data it was made of.
JUDGES: Mapping[str, str] = {str(source): station_id for source, station_id in STATION_IDS.items()}


class Describer:
    """Describe windows for their pages, beside what is normal: the reference."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        reference = judge.reference
        columns = {name: reference.values[:, COLUMN_INDEX[name]] for name in (TARGET, *JUDGED_COLUMNS)}
        columns["prediction"] = reference.predictions
        self._normal = {name: _normal(reference.hours, values) for name, values in columns.items()}

    def sidecar(self, window: Window, rows_source: str, digest: str) -> dict[str, Any]:
        """Return the document of ``window`` before Evidently's part is there; an undefined figure is null.

        Args:
            window: The judged window.
            rows_source: What its rows are known to be: ``uci``, ``simulated`` or ``unlabelled``.
            digest: Of all the report is made from; equal digests mean an equal report.
        """
        verdict, calibration = window.verdict, self._judge.calibration
        limits = calibration.kinds[window.kind.name]
        findings = findings_of(window, self._judge)
        return {
            "layout": LAYOUT,
            "digest": digest,
            "station_id": window.station_id,
            "kind": window.kind.name,
            "start": isoformat(window.start_hour),
            "end": isoformat(window.end_hour),
            "hours": window.kind.hours,
            "predictions": len(window.predictions),
            "model_version": window.model_version,
            "uncalibrated": list(window.uncalibrated),
            "rows_source": rows_source,
            "judge_source": calibration.data_source,
            "judged_by": JUDGES.get(calibration.data_source, calibration.data_source),
            "state": _state(window, findings),
            "learning": {column: isoformat(hour) for column, hour in window.learning},
            "operations": [[isoformat(at), what] for at, what in window.operations],
            "findings": [finding.to_json() for finding in findings],
            "error_judged": not verdict.too_few_truths,
            "performance": _figures(verdict.performance),
            "estimated_rmse": or_null(window.estimated_rmse),
            "coverage": _coverage(window),
            "baseline": _figures(calibration.baseline),
            "rmse_threshold": verdict.rmse_threshold,
            "truth": self._column(window, TARGET),
            "columns": [self._judged(window, column) for column in verdict.columns],
            "prediction": self._judged(window, verdict.prediction),
            "thresholds": {
                "data drift": _provenance(limits.data),
                "prediction drift": _provenance(limits.prediction),
                "an error alarm": _provenance(limits.performance),
            },
            "left_out": [],
            "has_evidence": None,
            "series": _series(window),
        }

    def _judged(self, window: Window, distance: Distance) -> dict[str, Any]:
        return {
            **self._column(window, distance.column),
            "statistic": or_null(distance.statistic),
            "threshold": distance.threshold,
            "drifted": distance.drifted,
            "ks_p_value": None,
            "missing_share": distance.missing_share,
        }

    def _column(self, window: Window, name: str) -> dict[str, Any]:
        values = window.predictions if name == "prediction" else window.values[:, COLUMN_INDEX[name]]
        now, normal = _median(values), self._normal[name]
        return {
            "column": name,
            "unit": UNITS[TARGET] if name == "prediction" else UNITS.get(name, ""),
            "median": now,
            "normal": normal["median"],
            "profile": {"now": _by_hour_of_day(window.hours, values, 0.5), **normal["profile"]},
        }


def _normal(hours: Hours, values: Floats) -> dict[str, Any]:
    profile = {name: _by_hour_of_day(hours, values, level) for name, level in (("low", 0.1), ("normal", 0.5), ("high", 0.9))}
    return {"median": _median(values), "profile": profile}


def _median(values: Floats) -> float | None:
    measured = values[~np.isnan(values)]
    return _rounded(float(np.median(measured))) if len(measured) else None


def _by_hour_of_day(hours: Hours, values: Floats, level: float) -> list[float | None]:
    """Return a quantile of the values of each hour of the day, 24 of them, None where there is no value."""
    of_day = hours % DAILY_HOURS
    groups = (values[(of_day == hour) & ~np.isnan(values)] for hour in range(DAILY_HOURS))
    return [_rounded(_quantile(group, level)) if len(group) else None for group in groups]


def _quantile(group: Floats, level: float) -> float:
    """Return a quantile of at least one value; a day has one an hour, of which it takes no time."""
    return float(group[0] if len(group) == 1 else np.quantile(group, level))


def _state(window: Window, findings: Sequence[Finding]) -> str:
    """Return what a strip of days shows: ``alarm``, ``silent``, ``not judged`` or ``ok``."""
    verdict = window.verdict
    if verdict.all_silent:
        return "silent"
    if findings:
        return "alarm"
    judged = any(column.judged for column in verdict.columns)
    return "ok" if judged else "not judged"


def _series(window: Window) -> dict[str, list[float | None]]:
    """Return the target, measured and predicted, of every hour of the window, null where there is none."""
    at = window.hours - window.start_hour
    truths = window.values[:, TARGET_INDEX]
    lines = [*_lines(truths, window.predictions)]
    if not math.isnan(window.estimated_rmse):
        lines += [("lower", window.intervals[:, 0]), ("upper", window.intervals[:, 1])]
    return {name: _hourly(at, values, window.kind.hours) for name, values in lines}


def _coverage(window: Window) -> dict[str, dict[str, int]]:
    """Return how many of the truths known when the window closed lie inside their intervals."""
    if not len(window.intervals):
        return {}
    truths, (lower, upper) = window.values[:, TARGET_INDEX], window.intervals[:, :2].T
    known = ~np.isnan(truths) & ~np.isnan(lower)
    inside = (lower[known] <= truths[known]) & (truths[known] <= upper[known])
    return {"all": {"truths": int(known.sum()), "inside": int(inside.sum())}}


def drawn(document: Sidecar, ks_p_values: Mapping[str, float], left_out: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return the document of a window whose Evidently's part is there.

    Args:
        document: As it was before.
        ks_p_values: By column; one that is not drawn has none.
        left_out: (what, why) of all that is not drawn.
    """

    def beside(column: Mapping[str, Any]) -> dict[str, Any]:
        return {**column, "ks_p_value": or_null(ks_p_values.get(column["column"], math.nan))}

    return {
        **document,
        "columns": [beside(column) for column in document["columns"]],
        "prediction": beside(document["prediction"]),
        "left_out": [list(item) for item in left_out],
        "has_evidence": True,
    }


def settled(document: Sidecar, truth: WindowTruth) -> dict[str, Any]:
    """Return the document of a window whose truth is final: the truths that came late are in their hours."""
    start, series = hour_of_isoformat(document["start"]), document["series"]
    measured = list(series["measured"])
    for hour, value in truth.late:
        measured[hour - start] = _rounded(value)
    return {**document, "series": {**series, "measured": measured}, "settled": truth_to_json(truth)}


def _lines(truths: Floats, predictions: Floats) -> tuple[tuple[str, Floats], ...]:
    return ("measured", truths), ("predicted", predictions)


def _hourly(at: Hours, values: Floats, n_hours: int) -> list[float | None]:
    hourly = np.full(n_hours, np.nan)
    hourly[at] = values
    return [_rounded(value) for value in hourly.tolist()]


def _rounded(value: float) -> float | None:
    """Return four significant digits: more than a page shows."""
    return None if math.isnan(value) else float(f"{value:.4g}")


def _figures(performance: Performance) -> dict[str, float | None]:
    return {name: or_null(figure) for name, figure in asdict(performance).items()}


def _provenance(threshold: Threshold) -> dict[str, Any]:
    return {name: getattr(threshold, name) for name in ("budget", "held_out_rate", "windows", "basis")}
