"""What must become of every record: the raw topic read back, ruled upon row by row, predicted offline.

The rules are written down here once more, in as few lines as they need, so that a mistake of the consumer cannot excuse
itself. Only the features and the model are the product's: their offline form is the reference of what is served.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from airquality.model import features
from airquality.model.model import Model
from airquality.records import RAW_COLUMNS
from lab.proof.topics import Found

HISTORY = 168
EPOCH = datetime(1970, 1, 1)
#: How what must become of a late truth begins; what follows is an outcome, such as ``filled``.
TRUTH = "truth:"

Floats = NDArray[np.float64]
#: Partition and offset of a raw record; station, hour and value of a prediction.
Place = tuple[int, int]
Value = tuple[str, str, float]


@dataclass
class Ruling:
    """What must become of the raw records, by ``(partition, offset)``, and the values of the predictions."""

    warmup: set[tuple[int, int]] = field(default_factory=set)
    predictions: dict[Place, Value] = field(default_factory=dict)
    duplicates: set[tuple[int, int]] = field(default_factory=set)
    dead: dict[tuple[int, int], str] = field(default_factory=dict)
    truths: dict[tuple[int, int], str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.warmup) + len(self.predictions) + len(self.duplicates) + len(self.dead) + len(self.truths)


@dataclass(frozen=True, slots=True, order=True)
class _Row:
    hour: int
    place: tuple[int, int]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class _Truth:
    place: tuple[int, int]
    hour: int
    value: float


def rule(raw: Sequence[Found], artifacts: Path) -> Ruling:
    """Return what must become of the records, given in the order of their partitions."""
    ruling, stations = Ruling(), {}  # type: Ruling, dict[str, list[_Row]]
    late: dict[str, list[_Truth]] = {}
    seen: set[bytes | None] = set()
    for record in raw:
        place = record.partition, record.offset
        expect = record.headers.get("expect", b"").decode() or ("duplicate" if record.value in seen else "row")
        if expect in ("row", "duplicate"):  # who says no more than his rows repeats one where its bytes were accepted before
            seen.add(record.value)
        if expect == "row":
            body = json.loads(record.value or b"")
            values = tuple(_number(body[name]) for name in RAW_COLUMNS)
            stations.setdefault(body["station_id"], []).append(_Row(hour_of(body["DateTime"]), place, values))
        elif expect == "duplicate":
            ruling.duplicates.add(place)
        elif expect.startswith(TRUTH):
            ruling.truths[place] = expect.removeprefix(TRUTH)
            if expect == TRUTH + "filled":
                body = json.loads(record.value or b"")
                late.setdefault(body["station_id"], []).append(
                    _Truth(place, hour_of(body["DateTime"]), body[RAW_COLUMNS[0]])
                )
        else:
            ruling.dead[place] = expect
    model = Model.load(artifacts)
    for name, rows in stations.items():
        _rule_station(name, sorted(rows), late.get(name, []), model, ruling)  # moved, it has rows on two partitions
    return ruling


def named(ruling: Ruling, version: str, published: Sequence[Found]) -> dict[Place, Value]:
    """Return the ruling's predictions of the rows whose published record names a version."""
    bodies = [json.loads(record.value or b"") for record in published]
    places = {(body["source_partition"], body["source_offset"]) for body in bodies if body["model_version"] == version}
    return {place: value for place, value in ruling.predictions.items() if place in places}


def _rule_station(name: str, rows: Sequence[_Row], truths: Sequence[_Truth], model: Model, ruling: Ruling) -> None:
    first, last = rows[0].hour, rows[-1].hour
    grid = np.full((last - first + 1, len(RAW_COLUMNS)), math.nan)
    grid[[row.hour - first for row in rows]] = [row.values for row in rows]
    matrix = features.batch(np.arange(first, last + 1), grid)
    if truths:  # what a row sees is what had come before it; such stations stay on one partition
        matrix = np.concatenate([_seen(row, rows, truths) for row in rows])
    values = dict(zip((row.hour for row in rows) if truths else range(first, last + 1), model.predict(matrix), strict=True))
    warmed, previous = 0, first
    for row in rows:
        warmed = 0 if row.hour - previous > HISTORY else warmed
        previous = row.hour
        if warmed < HISTORY:
            warmed += 1
            ruling.warmup.add(row.place)
        else:
            ruling.predictions[row.place] = (name, iso(row.hour), float(values[row.hour]))


def _seen(row: _Row, rows: Sequence[_Row], truths: Sequence[_Truth]) -> Floats:
    """Return the feature row of ``row`` as known when it came: its 168 hours with the truths of lower offsets."""
    grid = np.full((HISTORY + 1, len(RAW_COLUMNS)), math.nan)
    for other in rows:
        if 0 <= row.hour - other.hour <= HISTORY:
            grid[HISTORY - (row.hour - other.hour)] = other.values
    for truth in truths:
        if truth.place < row.place and 0 <= row.hour - truth.hour <= HISTORY:
            grid[HISTORY - (row.hour - truth.hour), 0] = truth.value
    return features.rows(grid, np.array([row.hour]), np.array([HISTORY]))


def hour_of(text: str) -> int:
    """Return the hours since 1970 of a record's ``DateTime``."""
    return (datetime.fromisoformat(text) - EPOCH) // timedelta(hours=1)


def iso(hour: int) -> str:
    """Return an hour as it stands in records."""
    return (EPOCH + timedelta(hours=hour)).isoformat()


def _number(value: float | None) -> float:
    return math.nan if value is None or value == -200 else float(value)
