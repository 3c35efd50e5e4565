"""The same readings in the layouts in which people keep them, and how they are read back."""

from __future__ import annotations

import argparse
import io
import math
import zipfile
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from airquality.data import readings_file
from airquality.data.files import answers
from airquality.data.readings_file import ReadingsFile
from airquality.records import datetime_of
from tests.data_files import NAMES, Cell, cell, month, published, rows, text

HEADER = ("DateTime", *NAMES)


DATED = ("Date", "Time", *NAMES)


def read(path: Path, *flags: str) -> ReadingsFile:
    parser = argparse.ArgumentParser()
    answers.add_arguments(parser)
    return readings_file.read(path, answers.from_arguments(parser.parse_args(flags)))


def require_same(found: ReadingsFile, columns: slice = slice(None)) -> None:
    """Every hour and every bit of every value, whatever the order of the rows."""
    order = np.argsort(found.frame.hours, kind="stable")
    np.testing.assert_array_equal(found.frame.hours[order], month().hours)
    np.testing.assert_array_equal(found.frame.values[order][:, columns], month().values[:, columns])


def plain(**layout: str) -> str:
    return text(HEADER, rows(), **layout)


def changed(name: str, convert: Callable[[float], float], header: str | None = None) -> str:
    """Return a file with one column converted, and perhaps renamed."""

    def converted(column: str, value: float) -> str:
        known = value if column != name or math.isnan(value) else convert(value)
        return cell()(column, known)

    names = [header if header and column == name else column for column in NAMES]
    return text(("DateTime", *names), rows(values=converted))


def thousands(point: str, comma: str) -> Cell:
    return lambda _, value: (
        "" if math.isnan(value) else f"{value:,.4f}".replace(",", "x").replace(".", point).replace("x", comma)
    )


def excel_day(moment: datetime) -> list[str]:
    return [repr((moment - datetime(1899, 12, 30)) / timedelta(days=1))]


def hour_24(moment: datetime) -> list[str]:
    return [f"{moment - timedelta(days=1):%Y-%m-%d} 24:00" if moment.hour == 0 else f"{moment:%Y-%m-%d %H:%M}"]


def r_midnight(moment: datetime) -> list[str]:
    return [f"{moment:%Y-%m-%d}" if moment.hour == 0 else f"{moment:%Y-%m-%d %H:%M:%S}"]


def half_day(moment: datetime) -> list[str]:
    return [
        f"{moment.month}/{moment.day}/{moment.year}",
        f"{moment.hour % 12 or 12}:00:00 {'AM' if moment.hour < 12 else 'PM'}",
    ]


def summer_offset(moment: datetime) -> list[str]:
    """The station's clock is at +01:00 for ever; this program wrote summer time's offset from 28 March on."""
    summer = moment >= datetime(2004, 3, 28, 2)
    return [f"{moment + timedelta(hours=summer):%Y-%m-%dT%H:%M:%S}+0{1 + summer}:00"]


def half_converted(moment: datetime) -> list[str]:
    """What a spreadsheet of the other country makes of 13/03/2004 (a text) and of 12/03/2004 (a date)."""
    return [f"{moment:%d/%m/%Y}" if moment.day > 12 else f"{moment:%Y-%d-%m}", f"{moment:%H:%M:%S}"]


def archive(*names: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as made:
        for name in names:
            made.writestr(name, published())
    return packed.getvalue()


def degrees(names: tuple[str, ...], unit: str) -> tuple[str, ...]:
    return tuple(f"T ({unit})" if name == "T" else name for name in names)


def with_line(line: str, place: int) -> str:
    lines = plain().splitlines()
    return "\n".join([*lines[:place], line, *lines[place:]])


def seconds_1970(moment: datetime) -> list[str]:
    return [str(int((moment - datetime(1970, 1, 1)).total_seconds()))]


BY_TIME_OF_DAY = sorted(rows(), key=lambda row: (row[0][11:], row[0]))  # by time of day, as a spreadsheet sorts


def doubled_hour(moment: datetime) -> list[str]:
    """Local time of a zone with summer time: the file begins in summer and goes back an hour on 31 October."""
    summer = moment < datetime(2004, 10, 31, 2)
    return [f"{moment + timedelta(hours=summer):%Y-%m-%d %H:%M}"]


def in_autumn() -> list[list[str]]:
    shift = datetime(2004, 10, 20) - datetime_of(int(month().hours[0]))
    return rows(lambda moment: doubled_hour(moment + shift))


def every_ten_minutes() -> list[list[str]]:
    first = datetime_of(int(month().hours[0]))
    return rows(lambda moment: [f"{first + (moment - first) / 6:%Y-%m-%d %H:%M}"])


def swapped(left: str, right: str) -> str:
    names = list(HEADER)
    i, k = names.index(left), names.index(right)
    names[i], names[k] = names[k], names[i]
    return text(names, rows())
