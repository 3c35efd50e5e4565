"""Rows to send: real or simulated ones, in order or out of it, and records that no consumer may trip over."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from airquality.data.dataset import Frame
from airquality.network.current import NETWORK
from airquality.records import RAW_COLUMNS
from lab.proof.oracle import iso
from lab.proof.topics import Sent

#: A column that may be 12.25 or 12.5 in any row.
COLUMN = NETWORK.of_role("weather")[0].name
#: How many hours a station lives where no report is needed: a day of predictions would take a second to draw.
HOURS = 190


def stations(count: int) -> tuple[str, ...]:
    """Return so many station ids; the first eight already cover three partitions (murmur2 of the key)."""
    return tuple(f"proof-{number}" for number in range(count))


STATIONS = stations(16)


@dataclass(frozen=True)
class Source:
    """A gap-free stretch of measured or simulated hours that stations are cut from."""

    frame: Frame

    def body(self, station: str, index: int, shift: int = 0) -> dict[str, Any]:
        """Return the record of row ``index`` as a station's, ``shift`` hours later than measured."""
        values = self.frame.values[index % len(self.frame)]
        numbers = (None if math.isnan(value) else float(value) for value in values)
        hour = int(self.frame.hours[0]) + index + shift
        return {"station_id": station, "DateTime": iso(hour), **dict(zip(RAW_COLUMNS, numbers, strict=True))}

    def row(self, station: str, index: int, shift: int = 0, **extra: Any) -> Sent:
        """Return a sound row."""
        return sent(self.body(station, index, shift), **extra)


def sent(body: dict[str, Any], expect: str = "row", **extra: Any) -> Sent:
    """Return the record of a body under its station's key."""
    return Sent(str(body["station_id"]).encode(), json.dumps(body).encode(), expect, **extra)


def interleaved(source: Source, stations: tuple[str, ...], n_rows: int, start: int = 0) -> Iterator[Sent]:
    """Yield ``n_rows`` hours of every station, hour by hour."""
    for index in range(start, start + n_rows):
        for offset, station in enumerate(stations):
            yield source.row(station, index + 97 * offset, shift=-97 * offset)


def disordered(source: Source, station: str, rng: np.random.Generator) -> Iterator[Sent]:
    """Yield a station's life with repeats, contradictions, late rows, and gaps of 3 h, 170 h and 30 days."""
    index = 0
    for stretch, gap in ((190, 3), (20, 170), (180, 720), (180, 0)):
        for position in range(stretch):
            row = source.row(station, index)
            yield row
            yield from _echoes(source, station, index, position, rng)
            index += 1
        index += gap


def _echoes(source: Source, station: str, index: int, position: int, rng: np.random.Generator) -> Iterator[Sent]:
    if position < 5 or rng.random() > 0.1:
        return
    back = source.body(station, index - int(rng.integers(0, 5)))
    choice = rng.integers(0, 3)
    if choice == 0:
        yield sent(back, "duplicate")
    elif choice == 1:
        yield sent({**back, COLUMN: 12.25 if back[COLUMN] != 12.25 else 12.5}, "conflict")
    else:
        yield sent(source.body(station, 0, shift=-1 - int(rng.integers(0, 50))), "late")
