"""The thresholds of the windows' verdicts: how one is bought from history, and what a set of them belongs to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airquality.ground.errors import ContractError, UsageError
from airquality.records import Served
from airquality.truth.performance import Performance

Floats = NDArray[np.float64]
Hours = NDArray[np.int64]

REFERENCE_NAME = "reference.csv"
CALIBRATION_NAME = "reference_calibration.json"

_SCALE_QUANTILE = 0.9
_BLOCK_HOURS = 28 * 24
#: A budget is bought in so many steps.
_SHARE_STEPS = 20


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
    """Return the threshold that at most a share ``budget`` of windows without known faults exceeds, counted held out.

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
    share, held_out_rate = _bought(statistics, starts // _BLOCK_HOURS, budget)
    scales, limit = _scales_and_limit(statistics, share)
    return Threshold(
        scales=dict(zip(columns, scales.tolist(), strict=True)),
        limit=limit,
        budget=budget,
        held_out_rate=held_out_rate,
        windows=n_windows,
        basis=basis,
    )


def _bought(statistics: Floats, blocks: Hours, budget: float) -> tuple[float, float]:
    """Return the largest share of the history's own windows that keeps the budget on held-out ones, and their rate.

    Where even the history's largest statistic as the limit does not, that limit is taken and the rate says so.
    """
    for step in range(_SHARE_STEPS, 0, -1):
        share = budget * step / _SHARE_STEPS
        rate = _held_out_rate(statistics, blocks, share)
        if rate <= budget:
            return share, rate
    return 0.0, _held_out_rate(statistics, blocks, 0.0)


def _scales_and_limit(statistics: Floats, share: float) -> tuple[Floats, float]:
    scales = np.nanquantile(statistics, _SCALE_QUANTILE, axis=0)
    return scales, float(np.quantile(_largest(statistics, scales), 1.0 - share, method="higher"))


def _largest(statistics: Floats, scales: Floats) -> Floats:
    return np.asarray(np.nanmax(statistics / scales, axis=1), dtype=np.float64)


def _held_out_rate(statistics: Floats, blocks: Hours, share: float) -> float:
    """Return the share of windows above a limit calibrated without the calendar block they lie in."""
    exceeding = 0
    for block in np.unique(blocks):
        held_out = blocks == block
        scales, limit = _scales_and_limit(statistics[~held_out], share)
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
