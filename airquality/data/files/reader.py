"""Read a file of hourly readings as it is, and say what was understood of it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from airquality.data.files import columns, content, grid, numbers, times, units
from airquality.data.files.answers import NO_ANSWERS, Answers
from airquality.data.steps import why_not_hourly
from airquality.ground.errors import UsageError
from airquality.ground.shown import shown
from airquality.records import DEVICE_COLUMNS, RAW_COLUMNS, datetime_of, hour_of

#: What a date can say.
_FIRST_HOUR, _LAST_HOUR = hour_of(datetime(1, 1, 1)), hour_of(datetime(9999, 12, 31, 23))


@dataclass(frozen=True, slots=True)
class Understood:
    """How a file was read. ``remarks`` say what was left out of it; ``n_columns`` are those of ours that it has."""

    n_columns: int
    encoding: str
    separator: str
    decimal: str | None
    dates: str
    clock: str
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """The rows of a file in its order, with its gaps and repeated hours.

    ``hours`` is ``(n,)`` int64 as :func:`airquality.records.hour_of` counts them, ``values`` is ``(n, 13)`` float64 in our
    order and units, NaN where nothing was measured; ``sha256`` is of the file's bytes.
    """

    hours: NDArray[np.int64]
    values: NDArray[np.float64]
    understood: Understood
    sha256: str


def read(path: Path, answers: Answers = NO_ANSWERS) -> Table:
    """Return the rows of a file; nothing in it is guessed, and no value is changed but by a unit that was asked for.

    Raises:
        UsageError: it is no file of readings, or something in it is in doubt; the message says where and names the flag
            that settles it.
    """
    text = content.load(path, answers.encoding)
    cells = grid.parse(path, text.text, columns.n_known)
    places = columns.find(path, cells.header, answers)
    _require_one_station(path, cells, places.stations)
    values, decimal = _values(path, cells, places, answers)
    hours, dates, clock = _hours(path, cells, places, answers)
    packed = [f"unpacked from {text.packed}"] if text.packed else []
    ignored = [f"not read: {', '.join(places.ignored)}"] if places.ignored else []
    understood = Understood(
        n_columns=len(places.values),
        encoding=text.encoding,
        separator=grid.SEPARATORS.get(cells.separator, repr(cells.separator)),
        decimal=decimal,
        dates=dates,
        clock=clock,
        remarks=(*packed, *cells.remarks, *ignored),
    )
    return Table(hours, values, understood, hashlib.sha256(text.stored).hexdigest())


def _require_one_station(path: Path, cells: grid.Grid, positions: Sequence[int]) -> None:
    for position in positions:
        names = cells.table[position].unique()
        if len(names) > 1:
            raise UsageError(
                f"{path} holds {len(names)} stations (column {cells.header[position]!r}: {names[0]!r}, {names[1]!r}, ...); "
                "a file of one station is expected: give them one by one."
            )


def _values(
    path: Path, cells: grid.Grid, places: columns.Columns, answers: Answers
) -> tuple[NDArray[np.float64], str | None]:
    """Return the thirteen columns in our units; one that the file does not have is missing."""
    values = np.full((len(cells.lines), len(RAW_COLUMNS)), np.nan)
    read_values, decimal = numbers.read(path, cells, list(places.values.values()), answers)
    for name, column in zip(places.values, read_values.T, strict=True):
        unit = places.units.get(name, units.ours(name))
        values[:, RAW_COLUMNS.index(name)] = units.converted(name, unit, column)
    return values, decimal


def _hours(path: Path, cells: grid.Grid, places: columns.Columns, answers: Answers) -> tuple[NDArray[np.int64], str, str]:
    if answers.start is not None:
        hours = np.arange(answers.start, answers.start + len(cells.lines), dtype=np.int64)
        dates, clock = "counted from --start", "station time"
    elif not len(cells.lines):
        return np.zeros(0, dtype=np.int64), "", "station time"
    else:
        hours, dates, clock = times.read(path, cells, places, answers)
    beyond = np.flatnonzero((hours < _FIRST_HOUR) | (hours > _LAST_HOUR))
    if len(beyond):
        raise UsageError(f"{path}, line {cells.lines[beyond[0]]}: its hour is not of the years 1 to 9999.")
    return hours, dates, clock


def sentences(path: Path, table: Table) -> list[str]:
    """Return what was understood of a file that has rows, for the person who knows what is in it."""
    found = table.understood
    hourly = "hourly rows" if why_not_hourly(table.hours) is None else "rows"
    first, last = (f"{datetime_of(int(hour)):%Y-%m-%d}" for hour in (table.hours.min(), table.hours.max()))
    devices = [RAW_COLUMNS.index(name) for name in DEVICE_COLUMNS]
    missing = 100 * np.isnan(table.values[:, devices]).mean()
    marks = {"point": "decimal point", "comma": "decimal comma", None: "no decimals"}
    return [
        shown(line)
        for line in (
            f"{path}: {len(table.hours):,} {hourly} {first} to {last}, {found.n_columns} of {len(RAW_COLUMNS)} columns, "
            f"{missing:.1f} % missing, {marks[found.decimal]}, {found.clock}",
            f"  {found.encoding}, separated by {found.separator}, dates {found.dates}",
            f"  missing, %: {_missing_by_column(table)}",
            *(f"  {remark}" for remark in found.remarks),
        )
    ]


def _missing_by_column(table: Table) -> str:
    shares = 100 * np.isnan(table.values).mean(axis=0)
    return ", ".join(f"{name} {share:.1f}" for name, share in zip(RAW_COLUMNS, shares.tolist(), strict=True))
