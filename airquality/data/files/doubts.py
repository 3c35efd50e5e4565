"""Doubts that only the values raise: another unit, summer time, several stations, a marker of missing values."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from airquality.data.files import units
from airquality.data.files.answers import Answers
from airquality.data.files.reader import Table
from airquality.ground.errors import UsageError
from airquality.network.current import NETWORK
from airquality.records import DEVICE_COLUMNS, HARD_LIMITS, HOUR_LIMITS, RAW_COLUMNS, datetime_of, hour_of, isoformat

#: A column of fewer values is not judged: one strange value is a matter for its row alone.
LEAST_VALUES = 5
#: The vapour that a station reports is within some per cent of what follows from its temperature and humidity; a temperature
#: in °F that could be one in °C makes it less than a fifth.
VAPOUR_LIMITS = (0.5, 2.0)
#: This share of hours with two different rows is no summer time and no slip: it is a file of several stations.
SEVERAL_STATIONS = 0.05
#: Clocks are set back in these months, north or south of the equator, in the night to a Sunday.
_SUMMER_TIME_MONTHS = (3, 4, 9, 10, 11)
_SUNDAY = 6


def settle(path: Path, table: Table, answers: Answers) -> list[str]:
    """Return remarks on what will be refused row by row.

    Raises:
        UsageError: values cannot be in our unit, or hours are there twice in a way that has a cause; the message names the
            flag that settles it.
    """
    for column, values in zip(RAW_COLUMNS, table.values.T, strict=True):
        if column not in answers.units:
            _require_possible(path, column, values[~np.isnan(values)])
    _require_vapour(path, table.values, answers)
    _require_possible_hours(path, table)
    _require_no_marker(path, table.values)
    return [*_impossible(table.values), *_alike(table.values), *_repeated(path, table)]


def _require_possible(path: Path, column: str, known: NDArray[np.float64]) -> None:
    """Raise if half of the values, or their median, cannot be of this column in our unit."""
    if len(known) < LEAST_VALUES:
        return
    low, high = HARD_LIMITS[column]
    median = float(np.median(known))
    lowest, highest = NETWORK[column].median_limits or (low, high)
    if lowest <= median <= highest and np.mean((known < low) | (known > high)) <= 0.5:
        return
    values, counts = np.unique(known, return_counts=True)
    own = units.ours(column)
    if counts.max() > len(known) / 2 and not low <= (usual := float(values[np.argmax(counts)])) <= high:
        why = f"if {usual:g} stands for a missing value, say --missing-value {usual:g}"
    else:
        others = " or ".join(f"--unit '{column}={unit}'" for unit in units.choices(column)[1:])
        why = f"in another unit? Say {others}" if others else "in another unit? Convert it before"
    raise UsageError(
        f"{path}: the median of {column} is {median:g}, which cannot be {units.phrase(column)}: {why}; if it is right, say "
        f"--unit '{column}={own}'."
    )


def _require_vapour(path: Path, values: NDArray[np.float64], answers: Answers) -> None:
    """Raise if temperature, humidity and vapour contradict each other: one of them is in another unit, or is another column.

    The vapour is a pressure in kPa: humidity x 0.6112 exp(17.62 t / (243.12 + t)) (Magnus' formula, WMO-No. 8).
    """
    weather = {str(column.simulated): column.name for column in NETWORK.columns if column.role == "weather"}
    names = [weather.get(kind) for kind in ("temperature", "humidity", "vapour")]
    if None in names or any(name in answers.units for name in names):
        return
    known = values[:, [RAW_COLUMNS.index(str(name)) for name in names]]
    known = known[~np.isnan(known).any(axis=1) & (known > [-90.0, 0.0, 0.0]).all(axis=1)]
    if len(known) < LEAST_VALUES:
        return
    temperature, humidity, vapour = known.T
    ratio = float(np.median(vapour / (humidity / 100 * 0.6112 * np.exp(17.62 * temperature / (243.12 + temperature)))))
    if not VAPOUR_LIMITS[0] <= ratio <= VAPOUR_LIMITS[1]:
        raise UsageError(
            f"{path}: {names[2]} is {ratio:.2g} times what follows from {names[0]} and {names[1]}: is one in another unit? "
            f"Say --unit '{names[0]}=°F', or what it is; if all are right, say "
            f"--unit '{names[2]}={units.ours(str(names[2]))}'."
        )


def _require_possible_hours(path: Path, table: Table) -> None:
    earliest, latest = map(hour_of, HOUR_LIMITS)
    if np.mean((table.hours < earliest) | (table.hours > latest)) > 0.5:
        raise UsageError(
            f"{path}: most rows are of no year that can be, {isoformat(int(table.hours.min()))} first: say with --dates how "
            "its dates are written."
        )


def _require_no_marker(path: Path, values: NDArray[np.float64]) -> None:
    """Raise if a number that one column cannot hold occurs in another that can: 9999 for a missing value."""
    low, high = np.array([HARD_LIMITS[name] for name in RAW_COLUMNS]).T
    impossible, counts = np.unique(values[(values < low) | (values > high)], return_counts=True)
    for value in impossible[counts >= LEAST_VALUES].tolist():
        elsewhere = ((values == value) & (low <= value) & (value <= high)).sum(axis=0)
        if elsewhere.max() >= LEAST_VALUES:
            column = RAW_COLUMNS[int(np.argmax(elsewhere))]
            raise UsageError(
                f"{path}: {value:g} is impossible in one column and occurs {elsewhere.max():,} times in {column}, where it "
                f"could be: if it stands for a missing value, say --missing-value {value:g}; if not, correct it in the file."
            )


def _alike(values: NDArray[np.float64]) -> Iterator[str]:
    devices = values[:, [RAW_COLUMNS.index(name) for name in DEVICE_COLUMNS]]
    alike = (devices == devices[:, :1]).all(axis=1)
    if alike.any():
        value = devices[alike][0, 0]
        yield (
            f"{int(alike.sum()):,} rows have {value:g} in every sensor: if it stands for a missing value, say "
            f"--missing-value {value:g}"
        )


def _impossible(values: NDArray[np.float64]) -> Iterator[str]:
    for column, known in zip(RAW_COLUMNS, values.T, strict=True):
        low, high = HARD_LIMITS[column]
        wrong = known[(known < low) | (known > high)]
        if len(wrong):
            yield (
                f"{len(wrong):,} rows have an impossible {column} (such as {wrong[0]:g}) and will be refused; if it stands "
                f"for a missing value, say --missing-value {wrong[0]:g}"
            )


def _repeated(path: Path, table: Table) -> Iterator[str]:
    """Yield what happens to hours that are there twice; raise where the cause is known and can be mended."""
    order = np.argsort(table.hours, kind="stable")
    hours, values = table.hours[order], table.values[order]
    again = np.flatnonzero(np.diff(hours) == 0)
    differ = again[~_same(values[again], values[again + 1])]
    if len(again) > len(differ):
        yield f"{len(again) - len(differ):,} rows repeat an hour with the same values: counted as duplicates"
    if not len(differ):
        return
    first = isoformat(int(hours[differ[0]]))
    if len(differ) > SEVERAL_STATIONS * len(np.unique(hours)):
        raise UsageError(
            f"{path}: {len(differ):,} hours are there twice with different values, {first} first: several stations, or AM "
            "and PM lost? Give one file a station."
        )
    if (turned := _summer_time_end(table.hours)) is not None:
        raise UsageError(
            f"{path}: {isoformat(turned)} is there twice, one row after the other, with different values: the end of summer "
            "time? Say --time-zone Europe/Rome, or what the station's clock follows."
        )
    yield f"{len(differ):,} hours are there twice with different values, {first} first: the later rows will be refused"


def _same(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.bool_]:
    same: NDArray[np.bool_] = ((left == right) | (np.isnan(left) & np.isnan(right))).all(axis=1)
    return same


def _summer_time_end(hours: NDArray[np.int64]) -> int | None:
    """Return the first hour of a Sunday night in spring or autumn that follows itself in the file, None if there is none."""
    for hour in hours[1:][np.diff(hours) == 0].tolist():
        moment = datetime_of(hour)
        if moment.hour <= 3 and moment.weekday() == _SUNDAY and moment.month in _SUMMER_TIME_MONTHS:
            return int(hour)
    return None
