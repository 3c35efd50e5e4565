"""Files of three weeks of readings, written in the ways that people's programs write them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

from airquality.data import dataset
from airquality.data.dataset import Frame
from airquality.records import RAW_COLUMNS, datetime_of
from tests import real_data

ROOT = Path(__file__).resolve().parent.parent
N_ROWS = 500
NAMES = tuple(RAW_COLUMNS)
PLAIN = ("CO_GT", "PT08_S1_CO", "NMHC_GT", "C6H6_GT", "PT08_S2_NMHC", "NOx_GT", "PT08_S3_NOx", "NO2_GT", "PT08_S4_NO2",
         "PT08_S5_O3", "T", "RH", "AH")  # fmt: skip

#: The texts of the time columns of one row.
When = Callable[[datetime], Sequence[str]]
#: The text of a value of our column of that name; missing is NaN.
Cell = Callable[[str, float], str]


@cache
def month() -> Frame:
    """Return the first rows of the real data set where it is at hand, else of the simulated one: 10 to 31 March."""
    return (dataset.load(real_data.FILE) if real_data.FILE else dataset.simulate()).rows(0, N_ROWS)


def number(value: float) -> str:
    return repr(value).removesuffix(".0")


def cell(missing: str = "-200", mark: str = ".") -> Cell:
    return lambda name, value: missing if math.isnan(value) else number(value).replace(".", mark)


def stamp(pattern: str, shift_hours: float = 0) -> When:
    return lambda moment: [(moment + timedelta(hours=shift_hours)).strftime(pattern)]


def split(date: str, time: str) -> When:
    return lambda moment: [moment.strftime(date), moment.strftime(time)]


def unpadded(moment: datetime) -> Sequence[str]:
    return [f"{moment.month}/{moment.day}/{moment.year}", f"{moment:%H:%M:%S}"]


ISO = stamp("%Y-%m-%d %H:%M:%S")
MARKED = cell()


def rows(when: When = ISO, values: Cell = MARKED) -> list[list[str]]:
    """Return the cells of every row, times first."""
    frame = month()
    return [
        [*when(datetime_of(hour)), *map(values, NAMES, row)]
        for hour, row in zip(frame.hours.tolist(), frame.values.tolist(), strict=True)
    ]


def text(
    header: Sequence[str], body: Sequence[Sequence[str]], separator: str = ",", newline: str = "\n", quote: str = ""
) -> str:
    lines = [separator.join(f"{quote}{each}{quote}" for each in line) for line in (header, *body)]
    return newline.join([*lines, ""])


def published() -> str:
    """Return them in the published file's own format, its empty columns and last rows included."""
    body = [[*row, "", ""] for row in rows(split("%d/%m/%Y", "%H.%M.%S"), cell(mark=","))]
    return text(("Date", "Time", *NAMES, "", ""), [*body, *[[""] * 17] * 114], ";")
