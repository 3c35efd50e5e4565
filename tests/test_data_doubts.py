"""Files that cannot be read without asking: each is refused with what was found, and a flag settles it."""

from __future__ import annotations

import gzip
import math
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from airquality.ground.errors import UsageError
from airquality.records import RAW_COLUMNS, datetime_of
from tests.data_files import cell, month, published, rows, split, stamp, text
from tests.data_layouts import (
    DATED,
    HEADER,
    archive,
    every_ten_minutes,
    half_converted,
    in_autumn,
    plain,
    read,
    swapped,
    with_line,
)

REFUSED: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "is empty"),
    "blanks": (" \n\n", "is empty"),
    "header only": (",".join(HEADER) + "\n", "a header but no rows"),
    "no header": (text(rows()[0], rows()[1:]), "does not begin with the names of its columns"),
    "preamble": ("# exported 2005\n" + plain(), "does not begin with the names"),
    "other table": ("a,b\n1,2\n", "does not begin with the names.*found:    a, b"),
    "day or month first": (
        text(DATED, rows(split("%d/%m/%Y", "%H:%M"))[:48]),
        "either number can be the day. Say --dates day-first or --dates month-first",
    ),
    "half-converted dates": (text(DATED, rows(half_converted)), "writes dates in two ways"),
    "day first and month first": (
        text(DATED, rows(lambda m: [m.strftime("%d/%m/%Y" if m.day < 15 else "%m/%d/%Y"), f"{m:%H:%M}"])),
        "the day first in one row and the month in another",
    ),
    "doubled hour": (text(HEADER, in_autumn()), "2004-10-31T02:00:00 is there twice.*--time-zone"),
    "ten minutes": (text(HEADER, every_ten_minutes()), "is not on the hour; most rows are 10 min apart"),
    "at half past": (text(HEADER, rows(stamp("%Y-%m-%d %H:30"))), "is not on the hour; most rows are 1 h apart"),
    "no time of day": (text(HEADER, rows(stamp("%Y-%m-%d"))), "has no time of day"),
    "total row": (plain() + "Total" + ",1" * 13 + "\n", "line 502, column DateTime: 'Total' is not a time"),
    "units below the header": (with_line("," + ",".join(["mg/m3"] * 13), 1), "line 2, column "),
    "cut off": (plain()[:-40], "line 501: [0-9]+ cells where the header has 14"),
    "one cell too many": (with_line(",".join([*rows()[0], "1"]), 5), "line 6: 15 cells where the header has 14"),
    "decimal commas between commas": (
        text(HEADER, rows(values=cell(mark=","))),
        "line 2: [0-9]+ cells where the header has 14",
    ),
    "semicolons in the header, commas in the rows": (
        ";".join(HEADER) + "\n" + plain().split("\n", 1)[1],
        "line 2: .* cells",
    ),
    "mixed marks": (plain(separator=";").replace("1.2;", "1,2;", 1), "decimal points and decimal commas.*--decimal"),
    "a number with its unit": (plain().replace("1360", "1360 ohm", 1), "'1360 ohm' is no number"),
    "infinite": (plain().replace(",1360,", ",inf,", 1), "'inf' is not a finite number"),
    "unmatched quote": (plain().replace(",1360,", ',"1360,', 1), "line .* cells|quotation marks do not match"),
    "times of two kinds": (with_line("2004-03-30T09:00:00Z" + ",1" * 13, 400), "carries no time zone, as other rows do"),
    "13:00 PM": (text(HEADER, rows(stamp("%Y-%m-%d %H:%M PM"))), "no time of day with AM or PM"),
    "25:00": (with_line("2004-03-11 25:00" + ",1" * 13, 3), "'2004-03-11 25:00' is no time of day"),
    "30 February": (with_line("2004-02-30 01:00" + ",1" * 13, 3), "line 4, .*'2004-02-30 01:00' is no date"),
    "PT08.S1 of another gas": (plain().replace("PT08.S1(CO)", "PT08.S1(NOx)"), "PT08.S1\\(CO\\) beyond doubt: say --column"),
    "T and RH under each other's name": (swapped("T", "PT08.S1(CO)"), "the median of T is"),
    "a column that is not there": (
        text([n for n in HEADER if n != "NMHC(GT)"], [[*r[:3], *r[4:]] for r in rows()]),
        "NMHC\\(GT\\) beyond doubt.*--without 'NMHC\\(GT\\)'",
    ),
    "several stations": (text(HEADER, [*rows(), *rows(values=lambda n, v: cell()(n, v + 1))]), "several stations"),
    "a column of stations": (text((*HEADER, "station"), [[*r, f"s{k % 2}"] for k, r in enumerate(rows())]), "one station"),
    "a unit nobody can convert": (plain().replace("CO(GT),", "CO(GT) [ppm],"), "is in ppm.*convert it before"),
    "years before there were sensors": (
        text(HEADER, [["0004" + r[0][4:], *r[1:]] for r in rows()]),
        "of no year that can be",
    ),
    "xlsx": (archive("xl/workbook.xml"), "is a spreadsheet: save the sheet as CSV"),
    "archive of two": (archive("a.csv", "b.csv"), "an archive of 2 CSV files"),
    "xls": (b"\xd0\xcf\x11\xe0" + bytes(500), "an old Excel workbook"),
    "parquet": (b"PAR1" + bytes(100), "a Parquet file: write it as CSV"),
    "xz": (b"\xfd7zXZ\0" + bytes(100), "packed with xz: unpack it"),
    "gzip cut off": (gzip.compress(published().encode())[:-2_000], "is packed and cannot be unpacked"),
    "HTML": ("<!doctype html><html>", "is HTML or XML"),
    "JSON": ('{"T": 1}', "is JSON"),
    "JSON of many rows": ('[\n {"T": 1}, {"T": 2}]', "is JSON"),
    "one line of two megabytes": ("a," * 1_000_000, "does not begin with the names of its columns"),
    "binary": (b"\x01\x02\0\x03" * 100, "it is not text"),
    "not UTF-8": (b"\xff\x81\xfe" * 50, "it is not UTF-8; say --encoding"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_read_doubtful_file_is_refused_with_what_was_found(tmp_path: Path, name: str) -> None:
    content, message = REFUSED[name]
    path = tmp_path / "file.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UsageError, match=f"(?s){message}") as refusal:
        read(path)
    assert str(path) in str(refusal.value)


def test_read_ambiguous_dates_are_read_as_the_flag_says(tmp_path: Path) -> None:
    path = tmp_path / "file.csv"
    path.write_text(text(DATED, rows(split("%d/%m/%Y", "%H:%M"))[:48]))
    assert read(path, "--dates", "day-first").frame.hours.tolist() == month().hours[:48].tolist()
    other = read(path, "--dates", "month-first").frame.hours
    assert datetime_of(int(other[0])) == datetime(2004, 10, 3, 18)


def test_read_doubled_hour_of_a_known_zone_is_resolved_by_its_order(tmp_path: Path) -> None:
    path = tmp_path / "file.csv"
    path.write_text(text(HEADER, in_autumn()))
    found = read(path, "--time-zone", "Europe/Rome")
    assert (np.diff(found.frame.hours) == 1).all()
    np.testing.assert_array_equal(found.frame.values, month().values)
    assert "standard time of Europe/Rome" in found.understood[0]
    with pytest.raises(UsageError, match="is there twice, one row after the other"):
        read(path, "--time-zone", "Asia/Tokyo")


def test_read_missing_column_is_missing_if_that_is_said(tmp_path: Path) -> None:
    path = tmp_path / "file.csv"
    path.write_text(text([n for n in HEADER if n != "NMHC(GT)"], [[*r[:3], *r[4:]] for r in rows()]))
    found = read(path, "--without", "NMHC(GT)")
    expected = month().values.copy()
    expected[:, RAW_COLUMNS.index("NMHC(GT)")] = np.nan
    np.testing.assert_array_equal(found.frame.values, expected)
    assert "12 of 13 columns" in found.understood[0]


def test_read_one_strange_value_is_left_to_its_row_and_announced(tmp_path: Path) -> None:
    path = tmp_path / "file.csv"
    lines = plain().splitlines()
    lines[7] = ",".join([*lines[7].split(",")[:-1], "-999"])
    path.write_text("\n".join(lines))
    found = read(path)
    assert found.frame.values[6, -1] == -999
    assert "1 rows have an impossible AH (such as -999)" in found.remarks[0]
    assert "--missing-value -999" in found.remarks[0]
    declared = read(path, "--missing-value", "-999.0")
    assert math.isnan(declared.frame.values[6, -1])
    assert declared.remarks == ()


def test_read_marker_that_fills_most_of_a_column_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "file.csv"
    path.write_text(text(HEADER, rows(values=lambda name, value: "-999" if name == "NMHC(GT)" else cell()(name, value))))
    with pytest.raises(UsageError, match=r"median of NMHC\(GT\) is -999.*--missing-value -999"):
        read(path)
    values = read(path, "--missing-value", "-999").frame.values
    assert np.isnan(values[:, RAW_COLUMNS.index("NMHC(GT)")]).all()
