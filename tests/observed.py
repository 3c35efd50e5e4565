"""A station that observes rows made of their hours alone, and what its snapshot holds of it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from airquality.ground.typed import plain
from airquality.monitoring.drift import Window
from airquality.records import Reading
from airquality.reports.due import Due
from airquality.stream import snapshots
from airquality.stream.station import Station
from tests import stations

FIRST = stations.FIRST_HOUR


def monitor() -> Station:
    return stations.new()


def observe_all(observer: Station, hours: Sequence[int], version: str = "1") -> list[list[Window]]:
    """Observe a row at each hour, its values and prediction made of the hour alone, and report every window as made."""
    return [
        report_at_once(observer, stations.observe(observer, row_at(hour), 2.0 + hour % 7 / 10, version)) for hour in hours
    ]


def row_at(hour: int) -> Reading:
    values = 100 + 10 * np.random.default_rng(hour).normal(size=13)
    values[0] = math.nan if hour % 5 == 0 else 2.5
    return Reading("station_1", hour, tuple(values.tolist()))


def report_at_once(observer: Station, windows: list[Window]) -> list[Window]:
    for window in windows:
        observer.reports.take_stored(Due.of(window))
        observer.reports.take_made(Due.of(window))
    return windows


def saved(station: Station) -> bytes:
    """Return the station's snapshot; the same state always gives the same bytes."""
    return snapshots.encode(plain(station.state("group", 0)))


def through_codec(station: Station) -> dict[str, Any]:
    """Return the document of the station's state as it comes back from a snapshot; its windows are under 40 KB."""
    windows = plain(station.state("group", 0))["windows"]
    arrays = {name: value for name, value in windows.items() if isinstance(value, np.ndarray)}
    text = json.dumps({name: value for name, value in windows.items() if name not in arrays}, allow_nan=False)
    assert len(text) + sum(array.nbytes for array in arrays.values()) < 40_000
    return snapshots.decode(saved(station))


def observe_values(observer: Station, values: np.ndarray, first: int) -> None:
    rows = stations.readings_of(values, hours=range(first, first + len(values)))
    for row, prediction in zip(rows, stations.predictions_of(np.nan_to_num(values, nan=2.5)).tolist(), strict=True):
        report_at_once(observer, stations.observe(observer, row, prediction))
