"""The reference that windows are compared with, and the files it and its calibration are in."""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from airquality.ground.errors import ContractError, UsageError
from airquality.monitoring.thresholds import CALIBRATION_NAME, REFERENCE_NAME, Calibration
from airquality.records import RAW_COLUMNS, hour_of_isoformat

Floats = NDArray[np.float64]
Hours = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """Validation hours with the predictions of a fit that never saw them: ``(n,)``, ``(n, 13)``, ``(n,)``."""

    hours: Hours
    values: Floats
    predictions: Floats

    def digest(self) -> str:
        """Return the SHA-256 of the three arrays."""
        return digest_of(self.hours, self.values, self.predictions)


def digest_of(hours: Hours, values: Floats, predictions: Floats) -> str:
    """Return the SHA-256 of a table of hours, every NaN written alike."""
    digest = hashlib.sha256(np.ascontiguousarray(hours, dtype="<i8").tobytes())
    for table in (values, predictions):
        digest.update(np.ascontiguousarray(np.where(np.isnan(table), np.nan, table), dtype="<f8").tobytes())
    return digest.hexdigest()


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
    hours = np.array([hour_of_isoformat(row[0]) for row in cells], dtype=np.int64)
    numbers = np.array([[float(cell) if cell else math.nan for cell in row[1:]] for row in cells], dtype=np.float64)
    return hours, numbers


def load_reference(dataset_dir: Path) -> tuple[Reference, Calibration]:
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
    return reference, calibration
