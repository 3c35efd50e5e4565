"""Judge a closed window of one station: a window, a statistic, a calibrated threshold, a verdict.

Numbers in, numbers out: nothing here knows a service, a clock or a plotting library. The statistic is the Wasserstein
distance between a window's values and the reference's, divided by the column's own scale: how far that column usually
wanders from a reference when nothing is wrong. One threshold per window kind then holds for the largest scaled
distance over all columns, so the false-alarm budget is spent once per window and not once per column.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airquality.ground.errors import ContractError, UsageError
from airquality.monitoring.alarms import Event
from airquality.records import DAILY_HOURS, DEVICE_COLUMNS, RAW_COLUMNS, TARGET, WEEKLY_HOURS, Served, hour_of

Floats = NDArray[np.float64]
Hours = NDArray[np.int64]

#: Columns whose distribution is judged: the device's own and the two reference analysers that feed features.
#: CO(GT) is the truth, judged through performance; NMHC(GT) is silent after the first weeks of the data set.
JUDGED_COLUMNS = (*DEVICE_COLUMNS, "NOx(GT)", "NO2(GT)")
#: Columns whose silence is an alarm while others report.
EXPECTED_COLUMNS = (TARGET, *JUDGED_COLUMNS)
#: The closed set of alarms.
ALARMS = ("data_drift", "prediction_drift", "performance", *(f"missing:{name}" for name in EXPECTED_COLUMNS))
#: What stands before the colon of each alarm.
ALARM_FAMILIES = tuple(dict.fromkeys(alarm.partition(":")[0] for alarm in ALARMS))
#: Below this many measured truths a window's error says nothing.
MIN_TRUTHS = 12
REFERENCE_NAME = "reference.csv"
CALIBRATION_NAME = "reference_calibration.json"

_SCALE_QUANTILE = 0.9
_BLOCK_HOURS = 28 * 24
_INDEX = {name: index for index, name in enumerate(RAW_COLUMNS)}


# ---- window ----


@dataclass(frozen=True, slots=True)
class WindowKind:
    """A length of window; daily and weekly differ by these two values and by nothing else."""

    name: str
    hours: int

    @property
    def min_values(self) -> int:
        """Values a column needs to be judged: half the window's hours."""
        return self.hours // 2


DAILY = WindowKind("daily", DAILY_HOURS)
WEEKLY = WindowKind("weekly", WEEKLY_HOURS)
KINDS = (DAILY, WEEKLY)
KIND_BY_NAME = {kind.name: kind for kind in KINDS}


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """The predicted hours of one station in one closed window, with the verdict on them.

    ``end_hour`` is the window's last hour, inclusive, whether or not that hour had a row. ``hours`` is ``(n,)``
    ascending, ``values`` ``(n, 13)`` in ``RAW_COLUMNS`` order with NaN for missing, ``predictions`` ``(n,)`` in mg/m3;
    n >= 1. ``model_version`` names every version that predicted in it, in order, joined by ``", "``. ``since`` holds what
    the verdict raises (see :meth:`Verdict.raised`), with the first hour of the window since which it does so in each.
    ``alarms`` are those the detectors had open at the window's end, each as it was last said, by column.
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

    @property
    def start_hour(self) -> int:
        """The window's first hour, inclusive."""
        return self.end_hour - self.kind.hours + 1

    def digest(self) -> str:
        """Return the SHA-256 of everything the window was made of; the verdict follows from it and the calibration."""
        alarms = [alarm.state() for alarm in self.alarms]
        parts = [self.station_id, self.kind.name, self.end_hour, self.model_version, sorted(self.since.items()), alarms]
        head = json.dumps(parts)
        return hashlib.sha256(f"{head}{_digest(self.hours, self.values, self.predictions)}".encode()).hexdigest()

    def to_state(self) -> dict[str, Any]:
        """Return everything :meth:`from_state` needs but the station: JSON values and numpy arrays."""
        names = ("end_hour", "hours", "values", "predictions", "model_version")
        found = {"since": dict(self.since), "alarms": [alarm.state() for alarm in self.alarms]}
        return {"kind": self.kind.name, **found, **{name: getattr(self, name) for name in names}}

    @classmethod
    def from_state(cls, station_id: str, state: Mapping[str, Any], judge: Judge) -> Window:
        """Return the window whose :meth:`to_state` this is, judged anew."""
        kind = KIND_BY_NAME[state["kind"]]
        verdict = judge.judge(kind, state["values"], state["predictions"])
        alarms = tuple(Event.from_state(alarm) for alarm in state["alarms"])
        return cls(**{**state, "station_id": station_id, "kind": kind, "verdict": verdict, "alarms": alarms})


def _digest(hours: Hours, values: Floats, predictions: Floats) -> str:
    """Return the SHA-256 of a table of hours, every NaN written alike."""
    digest = hashlib.sha256(np.ascontiguousarray(hours, dtype="<i8").tobytes())
    for table in (values, predictions):
        digest.update(np.ascontiguousarray(np.where(np.isnan(table), np.nan, table), dtype="<f8").tobytes())
    return digest.hexdigest()


# ---- statistic ----


class Distribution:
    """The values of one column, prepared so that a window's distance to them costs a few vector operations."""

    __slots__ = ("_integral", "_levels", "values")

    def __init__(self, values: Floats) -> None:
        finite = np.sort(values[~np.isnan(values)])
        self.values = finite
        self._levels = np.linspace(0.0, 1.0, len(finite) + 1)
        self._integral = np.concatenate(([0.0], np.cumsum(finite))) / max(len(finite), 1)

    def distance(self, sample: Floats) -> float:
        """Return the Wasserstein-1 distance of ``sample`` (any order, NaN left out) to these values, in their unit.

        The area between the two quantile functions, exactly: the sample's is a staircase, and under each step the
        reference's lies below the step up to the share of values below it and above it from there on.
        NaN if either side is empty.

        >>> round(Distribution(np.array([0.0, 1.0, 3.0])).distance(np.array([5.0, 6.0, 8.0])), 9)
        5.0
        """
        steps = np.sort(sample[~np.isnan(sample)])
        n_steps, n_values = len(steps), len(self.values)
        if not n_steps or not n_values:
            return math.nan
        edges = np.arange(n_steps + 1) / n_steps
        crossing = self.values.searchsorted(steps) / n_values
        crossing = np.minimum(np.maximum(crossing, edges[:-1]), edges[1:])
        at_edges = np.interp(edges, self._levels, self._integral)
        at_crossing = np.interp(crossing, self._levels, self._integral)
        under_steps = steps.dot(2.0 * crossing - edges[:-1] - edges[1:])
        under_values = 2.0 * at_crossing.sum() - at_edges[:-1].sum() - at_edges[1:].sum()
        return max(float(under_steps - under_values), 0.0)


@dataclass(frozen=True, slots=True)
class Performance:
    """Error of ``n`` predictions whose truth was measured, in mg/m3; NaN where ``n`` is too small to define it."""

    rmse: float
    mae: float
    r2: float
    n: int

    @classmethod
    def of(cls, predictions: Floats, truths: Floats) -> Performance:
        """Compare ``predictions`` with ``truths``, both ``(n,)``; rows without a truth are left out."""
        sums = ErrorSums()
        measured = ~np.isnan(truths)
        for prediction, truth in zip(predictions[measured].tolist(), truths[measured].tolist(), strict=True):
            sums.add(prediction, truth)
        return sums.performance()


@dataclass(slots=True)
class ErrorSums:
    """Running sums from which the error of any number of predictions follows."""

    n: int = 0
    squared: float = 0.0
    absolute: float = 0.0
    truth: float = 0.0
    truth_squared: float = 0.0

    def add(self, prediction: float, truth: float) -> None:
        """Take in one prediction and its measured truth."""
        error = prediction - truth
        self.n += 1
        self.squared += error * error
        self.absolute += abs(error)
        self.truth += truth
        self.truth_squared += truth * truth

    def merge(self, other: ErrorSums) -> None:
        """Take in everything ``other`` has seen."""
        self.n += other.n
        self.squared += other.squared
        self.absolute += other.absolute
        self.truth += other.truth
        self.truth_squared += other.truth_squared

    def performance(self) -> Performance:
        """Return RMSE, MAE and R2 so far.

        >>> sums = ErrorSums()
        >>> sums.add(1.0, 2.0), sums.add(4.0, 4.0), sums.performance()
        (None, None, Performance(rmse=0.7071067811865476, mae=0.5, r2=0.5, n=2))
        """
        if not self.n:
            return Performance(math.nan, math.nan, math.nan, 0)
        spread = self.truth_squared - self.truth * self.truth / self.n
        r2 = 1.0 - self.squared / spread if self.n > 1 and spread > 0.0 else math.nan
        return Performance(math.sqrt(self.squared / self.n), self.absolute / self.n, r2, self.n)


# ---- threshold ----


@dataclass(frozen=True, slots=True)
class Threshold:
    """A limit on the largest scaled statistic over the columns, and how it was arrived at.

    ``scales`` holds, per column, what the statistic is divided by, in the column's unit. ``budget`` is the share of
    windows without known faults that may exceed ``limit``; ``held_out_rate`` the share that did when each block of
    four weeks was judged by a limit calibrated without it. ``windows`` counts the distinct windows, ``basis`` says of what.
    """

    scales: Mapping[str, float]
    limit: float
    budget: float
    held_out_rate: float
    windows: int
    basis: str

    def of(self, column: str) -> float:
        """Return the threshold of ``column`` in the column's own unit."""
        return self.scales[column] * self.limit


def calibrate(columns: Sequence[str], statistics: Floats, starts: Hours, budget: float, basis: str) -> Threshold:
    """Return the threshold that a share ``budget`` of windows without known faults exceeds.

    A column's scale is the 0.9-quantile of its own statistics, so that restless columns do not use up the budget.

    Args:
        columns: The names of the columns of ``statistics``.
        statistics: ``(n_windows, n_columns)``, NaN where a column was not judged.
        starts: ``(n_windows,)``, the first hour of each window. A window may occur more than once, against other references.
        budget: As a share of windows, not of columns.
        basis: What the windows were made of, in words.

    Raises:
        UsageError: there are fewer distinct windows than the budget can resolve.
    """
    judged = ~np.isnan(statistics).all(axis=1)
    statistics, starts = statistics[judged], starts[judged]
    n_windows = len(np.unique(starts))
    if n_windows * budget < 1.0:
        raise UsageError(f"{n_windows} windows are too few to calibrate a budget of {budget:.1%} on: give it more history")
    scales, limit = _scales_and_limit(statistics, budget)
    return Threshold(
        scales=dict(zip(columns, scales.tolist(), strict=True)),
        limit=limit,
        budget=budget,
        held_out_rate=_held_out_rate(statistics, starts // _BLOCK_HOURS, budget),
        windows=n_windows,
        basis=basis,
    )


def _scales_and_limit(statistics: Floats, budget: float) -> tuple[Floats, float]:
    scales = np.nanquantile(statistics, _SCALE_QUANTILE, axis=0)
    return scales, float(np.quantile(_largest(statistics, scales), 1.0 - budget, method="higher"))


def _largest(statistics: Floats, scales: Floats) -> Floats:
    return np.asarray(np.nanmax(statistics / scales, axis=1), dtype=np.float64)


def _held_out_rate(statistics: Floats, blocks: Hours, budget: float) -> float:
    """Return the share of windows above a limit calibrated without the calendar block they lie in."""
    exceeding = 0
    for block in np.unique(blocks):
        held_out = blocks == block
        scales, limit = _scales_and_limit(statistics[~held_out], budget)
        exceeding += int(np.sum(_largest(statistics[held_out], scales) > limit))
    return exceeding / len(statistics)


@dataclass(frozen=True, slots=True)
class KindCalibration:
    """The three thresholds of one window kind."""

    data: Threshold
    prediction: Threshold
    performance: Threshold


@dataclass(frozen=True, slots=True)
class Calibration:
    """Everything a verdict is measured against, and what it was made from (SHA-256 hashes)."""

    kinds: Mapping[str, KindCalibration]
    baseline: Performance
    data_source: str
    data_hash: str
    model_hash: str
    reference_hash: str

    def require_made_for(self, served: Served) -> None:
        """Raise ``ContractError`` unless the reference was predicted by the train-only twin of the ``served`` model.

        The twin's own hash is in no model's card. But both were fitted on the same data, of which the served model's card
        has the hash, and the card states the twin's validation error, which is the error of the reference. What a
        service of another make does not say cannot differ.
        """
        differences = []
        if served.data_source not in (None, self.data_source):
            differences.append(f"was made of {self.data_source} data, the model of {served.data_source} data")
        elif served.data_hash is not None and self.data_hash != served.data_hash:
            differences.append(f"was made of data {self.data_hash[:12]}, the model of data {served.data_hash[:12]}")
        elif served.valid_rmse is not None and not math.isclose(served.valid_rmse, self.baseline.rmse, rel_tol=1e-9):
            differences.append(f"has an RMSE of {self.baseline.rmse:.6f}, the model's validation {served.valid_rmse:.6f}")
        if differences:
            raise ContractError(
                f"the monitoring is not calibrated for the served model (version {served.version}): {REFERENCE_NAME} "
                f"{differences[0]}. Make it anew with that model's ARTIFACTS_DIR: python generate_reference_dataset.py"
            )

    def to_json(self) -> dict[str, Any]:
        """Return what ``reference_calibration.json`` holds."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Calibration:
        """Return the calibration ``to_json`` wrote."""
        kinds = {
            name: KindCalibration(**{part: Threshold(**fields) for part, fields in parts.items()})
            for name, parts in document["kinds"].items()
        }
        return cls(
            kinds=kinds,
            baseline=Performance(**document["baseline"]),
            data_source=document["data_source"],
            data_hash=document["data_hash"],
            model_hash=document["model_hash"],
            reference_hash=document["reference_hash"],
        )


# ---- verdict ----


@dataclass(frozen=True, slots=True)
class Distance:
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
        """Return what this window can speak to and whether it raises it: :meth:`alarms`, but drift column by column."""
        said = {f"drift:{column.column}": column.drifted for column in (*self.columns, self.prediction) if column.judged}
        said["all_silent"] = self.all_silent
        if not self.too_few_truths:
            said["performance"] = self.degraded
        if not self.all_silent:
            said.update({f"missing:{name}": name in self.missing for name in EXPECTED_COLUMNS})
        return said

    def raised_since(self, before: Mapping[str, int], start_hour: int) -> dict[str, int]:
        """Return what is raised after this window and since when, given the same ``before`` it.

        Args:
            before: By name, the first hour of the window since which it is raised.
            start_hour: This window's first hour.
        """
        said = self.raised()
        still = {name: since for name, since in before.items() if said.get(name, True)}
        return {**{name: start_hour for name, raised in said.items() if raised}, **still}

    def alarms(self) -> dict[str, bool]:
        """Return, for each of ``ALARMS`` this window can speak to, whether it raises it.

        What the window cannot judge (too few values, too few truths, a station that was silent altogether) is left
        out: such a window neither raises nor clears that alarm.
        """
        said: dict[str, bool] = {}
        if any(column.judged for column in self.columns):
            said["data_drift"] = self.data_drift
        if self.prediction.judged:
            said["prediction_drift"] = self.prediction_drift
        if not self.too_few_truths:
            said["performance"] = self.degraded
        if not self.all_silent:
            said.update({f"missing:{name}": name in self.missing for name in EXPECTED_COLUMNS})
        return said


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """Validation hours with the predictions of a fit that never saw them: ``(n,)``, ``(n, 13)``, ``(n,)``."""

    hours: Hours
    values: Floats
    predictions: Floats

    def digest(self) -> str:
        """Return the SHA-256 of the three arrays."""
        return _digest(self.hours, self.values, self.predictions)


class Judge:
    """Compare windows with one reference under one calibration."""

    def __init__(self, reference: Reference, calibration: Calibration) -> None:
        self.reference = reference
        self.calibration = calibration
        self._columns = {name: Distribution(reference.values[:, _INDEX[name]]) for name in JUDGED_COLUMNS}
        self._predictions = Distribution(reference.predictions)

    def judge(self, kind: WindowKind, values: Floats, predictions: Floats) -> Verdict:
        """Return the verdict on a window's rows: ``values`` ``(n, 13)``, ``predictions`` ``(n,)`` in mg/m3."""
        limits = self.calibration.kinds[kind.name]
        present = ~np.isnan(values)
        seen = dict(zip(RAW_COLUMNS, present.sum(axis=0).tolist(), strict=True))
        all_silent = not any(seen[name] for name in EXPECTED_COLUMNS)
        return Verdict(
            columns=tuple(
                _distance(name, self._columns[name], values[:, _INDEX[name]], seen[name], kind, limits.data)
                for name in JUDGED_COLUMNS
            ),
            prediction=_distance("prediction", self._predictions, predictions, len(predictions), kind, limits.prediction),
            performance=Performance.of(predictions, values[:, _INDEX[TARGET]]),
            rmse_threshold=limits.performance.of("rmse"),
            missing=() if all_silent else tuple(name for name in EXPECTED_COLUMNS if not seen[name]),
            all_silent=all_silent,
        )


def _distance(
    column: str, reference: Distribution, sample: Floats, seen: int, kind: WindowKind, limit: Threshold
) -> Distance:
    statistic = reference.distance(sample) if seen >= kind.min_values else math.nan
    return Distance(column, statistic, limit.of(column), 1.0 - seen / kind.hours)


# ---- files ----


def read_reference(path: Path) -> Reference:
    """Read ``reference.csv``: ``DateTime``, the raw columns and ``prediction``; an empty cell is a missing value.

    Raises:
        UsageError: the file is absent.
        ContractError: its columns are others.
    """
    if not path.exists():
        raise UsageError(f"{path} does not exist. {_REMEDY}")
    with path.open(newline="") as file:
        rows = csv.reader(file)
        header = tuple(next(rows, ()))
        if header != _REFERENCE_HEADER:
            raise ContractError(f"{path} has columns {header}, not {_REFERENCE_HEADER}. {_REMEDY}")
        try:
            hours, numbers = _read_rows(rows)
        except (ValueError, IndexError) as error:
            raise ContractError(f"{path} cannot be read: {error}. {_REMEDY}") from error
    return Reference(hours, numbers[:, :-1], numbers[:, -1])


_REFERENCE_HEADER = ("DateTime", *RAW_COLUMNS, "prediction")
_REMEDY = "Make it with: python generate_reference_dataset.py"


def _read_rows(rows: Iterable[Sequence[str]]) -> tuple[Hours, Floats]:
    cells = list(rows)
    hours = np.array([hour_of(datetime.fromisoformat(row[0])) for row in cells], dtype=np.int64)
    numbers = np.array([[float(cell) if cell else math.nan for cell in row[1:]] for row in cells], dtype=np.float64)
    return hours, numbers


def load_judge(dataset_dir: Path) -> Judge:
    """Read the reference and its calibration from ``dataset_dir``.

    Raises:
        UsageError: either is absent; the message says how to make it.
        ContractError: either cannot be read, or the calibration was made for another reference.
    """
    reference = read_reference(dataset_dir / REFERENCE_NAME)
    path = dataset_dir / CALIBRATION_NAME
    if not path.exists():
        raise UsageError(f"{path} does not exist. {_REMEDY}")
    try:
        calibration = Calibration.from_json(json.loads(path.read_bytes()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ContractError(f"{path} is of another release or cannot be read ({error!r}). {_REMEDY}") from error
    if calibration.reference_hash != reference.digest():
        raise ContractError(f"{path} was calibrated for another {REFERENCE_NAME} than the one beside it. {_REMEDY}")
    return Judge(reference, calibration)
