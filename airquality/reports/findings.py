"""What is wrong with a window, in words: a list of findings that whoever shows them needs to know nothing more about.

A finding knows no page, and a page knows no detector: everything that raises an alarm says here what it found, in the same
few fields. Today these are the distances of the columns and of the predictions, the error, and silence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

import numpy as np

from airquality.monitoring.alarms import Event
from airquality.monitoring.drift import Distance, Floats, Judge, Window
from airquality.monitoring.listed import LISTED
from airquality.network.current import NETWORK
from airquality.records import RAW_COLUMNS, TARGET, UNITS, isoformat
from airquality.reports.figures import day, measured, moment, signed

Direction = Literal["up", "down", ""]

PREDICTION = f"predicted {NETWORK.target.spoken}"
STATION = "the station"
_UNIT = NETWORK.target.unit


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        key: Names it among its station's findings, and stays the same from window to window.
        column: What it is about: a column, the predictions, the station.
        what: What was found, in words without a full stop.
        size: How large it is, in ``unit``; None where a size says nothing.
        unit: Of ``size``.
        direction: ``up`` or ``down`` where there is one.
        since: ISO time of the first hour of the window since which it is found in each.
        advice: What to do, one or two sentences.
        weight: How bad it is beside others: 1 is just beyond what is allowed.
    """

    key: str
    column: str
    what: str
    size: float | None
    unit: str
    direction: Direction
    since: str
    advice: str
    weight: float

    def sentence(self) -> str:
        """Return the finding in one line: column, what, size, since.

        >>> Finding("k", "RH", "median 80 %, normally 40 %", 40.0, "%", "up", "2005-03-10T03:00:00", "", 1.0).sentence()
        'RH median 80 %, normally 40 %, +40 %, since 10 Mar'
        """
        parts = [f"{self.column} {self.what}", signed(self.size, self.unit), f"since {day(self.since)}"]
        return ", ".join(part for part in parts if part)

    def to_json(self) -> dict[str, Any]:
        """Return what a sidecar holds of it."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Finding:
        """Return the finding :meth:`to_json` wrote; raises ``TypeError`` or ``ValueError`` if it is none."""
        found = cls(**fields)
        texts = (found.key, found.column, found.what, found.unit, found.direction, found.advice)
        sizes = (found.weight, 0.0 if found.size is None else found.size)
        if not all(isinstance(text, str) for text in texts) or not all(isinstance(size, int | float) for size in sizes):
            raise TypeError(f"{fields} is no finding")
        datetime.fromisoformat(found.since)
        return found


def findings_of(window: Window, judge: Judge) -> list[Finding]:
    """Return what is wrong with ``window``, worst first."""
    findings = [*_alarms(window), *_silences(window), *_drifts(window, judge), *_errors(window, judge)]
    return sorted(findings, key=lambda finding: (-finding.weight, finding.key))


def _since(window: Window, key: str) -> str:
    return isoformat(window.since.get(key, window.start_hour))


def _alarms(window: Window) -> list[Finding]:
    """Return the alarms that the hour-by-hour detectors had open at the window's end."""
    return [_alarm(event) for event in window.alarms]


def _alarm(event: Event) -> Finding:
    size = event.size if event.is_shift and not math.isnan(event.size) else None
    direction: Direction = "" if size is None or size == 0 else "up" if size > 0 else "down"
    listed = LISTED[event.detector]
    what = listed.says.format(size=f"{event.size:.4g} {event.unit}".rstrip())
    if event.by:
        what += f" (acknowledged by {event.by}, {moment(isoformat(event.by_at))})"
    return Finding(
        key=f"alarm:{'' if event.alarm[0] == '' else event.detector + ':'}{event.column}",
        column=f"the {event.column}" if event.column == "station" else event.column,
        what=what,
        size=size,
        unit=event.unit,
        direction=direction,
        since=isoformat(event.since),
        advice=listed.advice.format(column=event.column),
        weight=listed.weight,
    )


def _silences(window: Window) -> list[Finding]:
    verdict, hours = window.verdict, float(window.kind.hours)
    if verdict.all_silent:
        since = _since(window, "all_silent")
        what = f"sent rows without any value for {hours:.0f} h"
        advice = "Check the station's power, logger and line. Predictions lean on the past alone: do not rely on them."
        return [Finding("all_silent", STATION, what, None, "h", "", since, advice, 4.0)]
    return [_silence(window, column, hours) for column in verdict.missing]


def _silence(window: Window, column: str, hours: float) -> Finding:
    key = f"missing:{column}"
    what = f"silent for {hours:.0f} h while other columns report"
    if column == TARGET:
        advice = "Check the reference analyser. Without it no error is judged, and predictions get worse within a day."
    else:
        advice = f"Check the channel, its cable and the logger. The model goes on without {column}."
    return Finding(key, column, what, None, "h", "", _since(window, key), advice, 2.0)


def _drifts(window: Window, judge: Judge) -> list[Finding]:
    values = dict(zip(RAW_COLUMNS, window.values.T, strict=True))
    normal = dict(zip(RAW_COLUMNS, judge.reference.values.T, strict=True))
    drifts = [
        _drift(window, column, column.column, UNITS.get(column.column, ""), values[column.column], normal[column.column])
        for column in window.verdict.columns
        if column.drifted
    ]
    if window.verdict.prediction.drifted:
        prediction = window.verdict.prediction
        drifts.append(
            _drift(window, prediction, PREDICTION, _UNIT, window.predictions, judge.reference.predictions),
        )
    return drifts


def _drift(window: Window, distance: Distance, name: str, unit: str, values: Floats, reference: Floats) -> Finding:
    key = f"drift:{distance.column}"
    what, size, size_unit, direction = _compared(values, reference, unit, distance.statistic)
    advice = _PREDICTION_ADVICE if name == PREDICTION else _COLUMN_ADVICE.format(column=name)
    weight = distance.statistic / distance.threshold
    return Finding(key, name, what, size, size_unit, direction, _since(window, key), advice, weight)


_COLUMN_ADVICE = (
    "Compare {column} with a second instrument or a station nearby. If they disagree, recalibrate the channel or take it "
    "out; if they agree, the air or the weather has changed, and the reference should be made anew."
)
_PREDICTION_ADVICE = (
    "Look at the columns first: predictions follow them. If no column is off, compare with measured "
    f"{NETWORK.target.spoken} before relying on them."
)


def _compared(values: Floats, reference: Floats, unit: str, distance: float) -> tuple[str, float, str, Direction]:
    """Return what sets values apart from the reference, in words, as a size with its unit, and in which direction.

    The medians, unless they explain less than half of the distance; then the spread of the middle half.
    """
    low, now, high = np.nanquantile(values, (0.25, 0.5, 0.75)).tolist()
    low_normal, normal, high_normal = np.nanquantile(reference, (0.25, 0.5, 0.75)).tolist()
    name = "median"
    if abs(now - normal) < distance / 2:
        name, now, normal = "spread of the middle half", high - low, high_normal - low_normal
    what = f"{name} {measured(now, unit)}, normally {measured(normal, unit)}"
    direction: Direction = "up" if now > normal else "down"
    if unit in ("°C", "%") or normal <= 0.0:  # percent of these misleads
        return what, now - normal, "points" if unit == "%" else unit, direction
    return what, 100 * (now / normal - 1.0), "%", direction


def _errors(window: Window, judge: Judge) -> list[Finding]:
    verdict = window.verdict
    if not verdict.degraded:
        return []
    rmse, normal = verdict.performance.rmse, judge.calibration.baseline.rmse
    now, usual, allowed = (measured(value, _UNIT) for value in (rmse, normal, verdict.rmse_threshold))
    what = f"RMSE {now}, normally {usual}, allowed {allowed}"
    size = 100 * (rmse / normal - 1.0) if normal > 0 else math.nan
    since = _since(window, "performance")
    weight = 1.5 * rmse / verdict.rmse_threshold
    return [Finding("performance", f"error of {NETWORK.target.spoken}", what, size, "%", "up", since, _ERROR_ADVICE, weight)]


_ERROR_ADVICE = (
    "Do not rely on these predictions. Mend what else is found here first; if nothing is, the relation of "
    f"{NETWORK.target.spoken} to the sensors has changed: compare with the analyser, then train again."
)
