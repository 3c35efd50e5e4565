"""``backtest.csv``: out-of-sample predictions of the hours before the test block, and what made them.

The file beside it, ``backtest.json``, says which data and which configuration that was, so that predictions of another
data set, or of an earlier champion, are never taken for this one's.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airquality.data import dataset
from airquality.data.dataset import Frame
from airquality.ground.errors import UsageError
from airquality.ground.files import write_atomically
from airquality.records import TARGET, hour_of_isoformat

Floats = NDArray[np.float64]

FILE_NAME = "backtest.csv"
_COMMAND = "python -m training.backtest"


@dataclass(frozen=True)
class Origin:
    """What predictions were made of: the rows up to the test block, the declared features, XGBoost's parameters."""

    data_source: str
    data_hash: str
    features_hash: str
    parameters: Mapping[str, Any]


def write(path: Path, frame: Frame, predicted: Floats, origin: Origin) -> int:
    """Write the hours of ``frame`` that have a prediction as ``DateTime``, target, ``prediction``; their origin beside them.

    Args:
        path: The CSV; the origin goes to a ``.json`` of the same name.
        frame: The rows up to the test block.
        predicted: In the target's unit, shape ``(len(frame),)``, NaN where there is none.
        origin: Read back by :func:`read`.

    Returns:
        The number of hours written.
    """
    rows = np.flatnonzero(~np.isnan(predicted))
    table = np.column_stack((frame.truths[rows], predicted[rows]))
    dataset.write_table(path, (TARGET, "prediction"), frame.hours[rows], table)
    document = {**asdict(origin), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    write_atomically(path.with_suffix(".json"), (json.dumps(document, indent=1) + "\n").encode())
    return len(rows)


def read(path: Path, frame: Frame, expected: Origin) -> Floats:
    """Return the predictions ``path`` holds for the hours of ``frame``, NaN elsewhere; all NaN without a file.

    Raises:
        UsageError: they are not of the ``expected`` origin, or cannot be read; the message says how they differ.
    """
    if not path.exists():
        return np.full(len(frame), np.nan)
    try:
        content = path.read_bytes()
        _require_origin(path, content, expected)
        return _predictions(content.decode(), frame)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} cannot be used: {error!r}. {_remedy(path)}") from error


def _require_origin(path: Path, content: bytes, expected: Origin) -> None:
    beside = path.with_suffix(".json")
    if not beside.exists():
        raise UsageError(f"{path} does not say what it was made of: {beside.name} is absent. {_remedy(path)}")
    found = json.loads(beside.read_bytes())
    if found.pop("sha256") != hashlib.sha256(content).hexdigest():
        raise UsageError(f"{path} was changed after {beside.name} was written. {_remedy(path)}")
    differing = [name for name, value in asdict(expected).items() if found[name] != value]
    if differing:
        name = differing[0]
        raise UsageError(
            f"{path} was made with another {name.replace('_', ' ')} than the model's: "
            f"{_short(found[name])}, not {_short(asdict(expected)[name])}. {_remedy(path)}"
        )


def _short(value: object) -> str:
    return value[:12] if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _remedy(path: Path) -> str:
    return f"Make it anew ({_COMMAND}), or delete it: it is optional ({path.name})."


def _predictions(text: str, frame: Frame) -> Floats:
    predictions = np.full(len(frame), np.nan)
    for row in csv.DictReader(io.StringIO(text)):
        position = hour_of_isoformat(row["DateTime"]) - int(frame.hours[0])
        if 0 <= position < len(frame) and row["prediction"]:
            predictions[position] = float(row["prediction"])
    return predictions
