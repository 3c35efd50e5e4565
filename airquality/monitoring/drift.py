"""Judge a closed window of one station: a window, a statistic, a calibrated threshold, a verdict.

Numbers in, numbers out: nothing here knows a service, a clock or a plotting library. The statistic is the Wasserstein
distance between a window's values and the reference's, divided by the column's own scale: how far that column usually
wanders from a reference when nothing is wrong. One threshold per window kind then holds for the largest scaled
distance over all columns, so the false-alarm budget is spent once per window and not once per column.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from airquality.ground.typed import plain
from airquality.monitoring.alarms import Event
from airquality.monitoring.distance import Distributions
from airquality.monitoring.reference import Reference, digest_of, load_reference
from airquality.monitoring.thresholds import Calibration, Threshold
from airquality.network.current import NETWORK
from airquality.records import COLUMN_INDEX, DEVICE_COLUMNS, RAW_COLUMNS, TARGET, TARGET_INDEX
from airquality.truth.kinds import KIND_BY_NAME, WindowKind
from airquality.truth.performance import MIN_TRUTHS, Performance

Floats = NDArray[np.float64]
Hours = NDArray[np.int64]

#: Columns whose distribution is judged: the device's own and the reference analysers that feed features. The target is the
#: truth, judged through performance.
JUDGED_COLUMNS = (*DEVICE_COLUMNS, *(column.name for column in NETWORK.of_role("analyser")))
#: Columns whose silence is an alarm while others report.
EXPECTED_COLUMNS = (TARGET, *JUDGED_COLUMNS)

#: What a column's drift and its silence are called.
_DRIFT_OF = {name: f"drift:{name}" for name in (*JUDGED_COLUMNS, "prediction")}
_MISSING_OF = {name: f"missing:{name}" for name in EXPECTED_COLUMNS}

_JUDGED = [COLUMN_INDEX[name] for name in JUDGED_COLUMNS]


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """The predicted hours of one station in one closed window, with the verdict on them.

    ``end_hour`` is the window's last hour, inclusive, whether or not that hour had a row. ``hours`` is ``(n,)``
    ascending, ``values`` ``(n, 13)`` in ``RAW_COLUMNS`` order with NaN for missing, ``predictions`` ``(n,)``;
    n >= 1. ``model_version`` names every version that predicted in it, in order, joined by ``", "``. ``since`` holds what
    the verdict raises (see :meth:`Verdict.raised`), with the first hour of the window since which it does so in each.
    ``alarms`` are those the detectors had open at the window's end, each as it was last said, by column. ``learning`` holds
    the columns whose level could not be judged yet at its last row, and from which hour each can be; ``operations`` what
    operators decided in it, each with the hour after which it took effect.
    ``intervals`` is ``(n, 3)``: the lower and upper end around each prediction and the squared error that was expected, NaN
    where unknown; empty where there are none.
    ``uncalibrated`` names the versions among them whose predictions the reference does not hold.
    """

    station_id: str
    kind: WindowKind
    end_hour: int
    hours: Hours
    values: Floats
    predictions: Floats
    model_version: str
    verdict: Verdict
    since: Mapping[str, int] = field(default_factory=dict)
    alarms: tuple[Event, ...] = ()
    learning: tuple[tuple[str, int], ...] = ()
    operations: tuple[tuple[int, str], ...] = ()
    intervals: Floats = field(default_factory=lambda: np.empty((0, 3)))
    uncalibrated: tuple[str, ...] = ()

    @property
    def estimated_rmse(self) -> float:
        """The error that was expected before any truth, NaN where nothing is calibrated."""
        expected = self.intervals[:, 2][~np.isnan(self.intervals[:, 2])]
        return math.sqrt(float(expected.mean())) if len(expected) else math.nan

    @property
    def start_hour(self) -> int:
        """The window's first hour, inclusive."""
        return self.end_hour - self.kind.hours + 1

    def digest(self) -> str:
        """Return the SHA-256 of everything the window was made of; the verdict follows from it and the calibration."""
        alarms = [plain(alarm) for alarm in self.alarms]
        parts = [self.station_id, self.kind.name, self.end_hour, self.model_version, sorted(self.since.items()), alarms]
        parts += [self.learning, self.operations, *([self.uncalibrated] if self.uncalibrated else [])]
        head = json.dumps(parts)
        arrays = digest_of(self.hours, self.values, self.predictions)
        intervals = "" if math.isnan(self.estimated_rmse) else hashlib.sha256(self.intervals.tobytes()).hexdigest()
        return hashlib.sha256(f"{head}{arrays}{intervals}".encode()).hexdigest()

    def state(self) -> WindowState:
        """Return everything :meth:`from_state` needs but the station."""
        return WindowState(
            kind=self.kind.name,
            end_hour=self.end_hour,
            hours=self.hours,
            values=self.values,
            predictions=self.predictions,
            model_version=self.model_version,
            since=dict(self.since),
            alarms=self.alarms,
            learning=self.learning,
            operations=self.operations,
            intervals=self.intervals,
            uncalibrated=self.uncalibrated,
        )

    @classmethod
    def from_state(cls, station_id: str, state: WindowState, judge: Judge) -> Window:
        """Return the window whose :meth:`state` this is, judged anew."""
        kind = KIND_BY_NAME[state.kind]
        return cls(
            station_id=station_id,
            kind=kind,
            end_hour=state.end_hour,
            hours=state.hours,
            values=state.values,
            predictions=state.predictions,
            model_version=state.model_version,
            verdict=judge.judge(kind, state.values, state.predictions),
            since=state.since,
            alarms=state.alarms,
            learning=state.learning,
            operations=state.operations,
            intervals=state.intervals,
            uncalibrated=state.uncalibrated,
        )


@dataclass(frozen=True, slots=True, eq=False)
class WindowState:
    """A window without its station and its verdict, as a snapshot holds it."""

    kind: str
    end_hour: int
    hours: Hours
    values: Floats
    predictions: Floats
    model_version: str
    since: Mapping[str, int]
    alarms: tuple[Event, ...]
    learning: tuple[tuple[str, int], ...]
    operations: tuple[tuple[int, str], ...]
    intervals: Floats = field(default_factory=lambda: np.empty((0, 3)))
    uncalibrated: tuple[str, ...] = ()


class Distance(NamedTuple):
    """How far one column of a window lies from the reference, in the column's unit.

    ``statistic`` is NaN, and the column not judged, where fewer than half of the window's hours have a value.
    """

    column: str
    statistic: float
    threshold: float
    missing_share: float

    @property
    def judged(self) -> bool:
        """Whether there were values enough to say anything."""
        return not math.isnan(self.statistic)

    @property
    def drifted(self) -> bool:
        """Whether the distance exceeds the calibrated threshold."""
        return self.statistic > self.threshold


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is said about one window. Shares are of the window's hours, so an hour without a row counts as missing.

    ``missing`` names the columns that were silent in every row while others reported.
    """

    columns: tuple[Distance, ...]
    prediction: Distance
    performance: Performance
    rmse_threshold: float
    missing: tuple[str, ...]
    all_silent: bool

    @property
    def data_drift(self) -> bool:
        """Whether any column exceeds its threshold."""
        return any(column.drifted for column in self.columns)

    @property
    def prediction_drift(self) -> bool:
        """Whether the predictions exceed theirs."""
        return self.prediction.drifted

    @property
    def too_few_truths(self) -> bool:
        """Whether fewer than twelve truths were measured, so that the error is shown but not judged."""
        return self.performance.n < MIN_TRUTHS

    @property
    def degraded(self) -> bool:
        """Whether the error is judged and exceeds its calibrated threshold."""
        return not self.too_few_truths and self.performance.rmse > self.rmse_threshold

    @property
    def drifted(self) -> bool:
        """Whether the window counts in ``drift_detected``: its inputs or its predictions drifted."""
        return self.data_drift or self.prediction_drift

    def raised(self) -> dict[str, bool]:
        """Return what this window can speak to and whether it raises it: drift column by column."""
        said = {_DRIFT_OF[column.column]: column.drifted for column in (*self.columns, self.prediction) if column.judged}
        said["all_silent"] = self.all_silent
        if not self.too_few_truths:
            said["performance"] = self.degraded
        if not self.all_silent:
            said.update(self.absent())
        return said

    def absent(self) -> dict[str, bool]:
        """Return by column, under the name of its alarm, whether it was silent in every row."""
        return {alarm: name in self.missing for name, alarm in _MISSING_OF.items()}

    def raised_since(self, before: Mapping[str, int], start_hour: int) -> dict[str, int]:
        """Return what is raised after this window and since when, given the same ``before`` it.

        Args:
            before: By name, the first hour of the window since which it is raised.
            start_hour: This window's first hour.
        """
        said = self.raised()
        still = {name: since for name, since in before.items() if said.get(name, True)}
        return {**{name: start_hour for name, raised in said.items() if raised}, **still}


class Judge:
    """Compare windows with one reference under one calibration."""

    def __init__(self, reference: Reference, calibration: Calibration) -> None:
        self.reference = reference
        self.calibration = calibration
        #: The versions that predicted in this process and are not of the reference's model.
        self.uncalibrated: set[str] = set()
        self._distributions = Distributions([*reference.values[:, _JUDGED].T, reference.predictions])

    def judge(self, kind: WindowKind, values: Floats, predictions: Floats) -> Verdict:
        """Return the verdict on a window's rows: ``values`` ``(n, 13)``, ``predictions`` ``(n,)``."""
        limits = self.calibration.kinds[kind.name]
        seen = dict(zip(RAW_COLUMNS, (~np.isnan(values)).sum(axis=0).tolist(), strict=True))
        all_silent = not any(seen[name] for name in EXPECTED_COLUMNS)
        samples = np.column_stack([values[:, _JUDGED], predictions])
        *distances, of_predictions = self._distributions.distances(samples).tolist()
        return Verdict(
            columns=tuple(
                _distance(name, distance, seen[name], kind, limits.data)
                for name, distance in zip(JUDGED_COLUMNS, distances, strict=True)
            ),
            prediction=_distance("prediction", of_predictions, len(predictions), kind, limits.prediction),
            performance=Performance.of(predictions, values[:, TARGET_INDEX]),
            rmse_threshold=limits.performance.of("rmse"),
            missing=() if all_silent else tuple(name for name in EXPECTED_COLUMNS if not seen[name]),
            all_silent=all_silent,
        )


def _distance(column: str, distance: float, seen: int, kind: WindowKind, limit: Threshold) -> Distance:
    statistic = distance if seen >= kind.min_values else math.nan
    return Distance(column, statistic, limit.of(column), 1.0 - seen / kind.hours)


def load_judge(dataset_dir: Path) -> Judge:
    """Return the judge of the reference and the calibration in ``dataset_dir``; raises as :func:`load_reference`."""
    return Judge(*load_reference(dataset_dir))
