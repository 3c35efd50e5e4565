"""Files as people have them: each is read to the bits of the published one, or refused with the flag that settles it."""

from __future__ import annotations

import argparse
import gzip
import io
import math
import os
import threading
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from airquality.data import incoming
from airquality.data.files import answers
from airquality.data.incoming import Incoming
from airquality.ground.errors import UsageError
from airquality.records import RAW_COLUMNS, datetime_of
from tests import data_files as files
from tests.data_files import NAMES, PLAIN, Cell, cell, month, published, rows, split, stamp, text

HEADER = ("DateTime", *NAMES)
DATED = ("Date", "Time", *NAMES)


def read(path: Path, *flags: str) -> Incoming:
    parser = argparse.ArgumentParser()
    answers.add_arguments(parser)
    return incoming.read(path, answers.from_arguments(parser.parse_args(flags)))


def require_same(found: Incoming, columns: slice = slice(None)) -> None:
    """Every hour and every bit of every value, whatever the order of the rows."""
    order = np.argsort(found.frame.hours, kind="stable")
    np.testing.assert_array_equal(found.frame.hours[order], month().hours)
    np.testing.assert_array_equal(found.frame.values[order][:, columns], month().values[:, columns])


@dataclass(frozen=True)
class Variant:
    """A file, and what settles it: no flag where it is read as it is, else what the refusal names."""

    content: Callable[[], str | bytes]  # made when its test asks: all of them together take seconds
    refused: str = ""
    flags: tuple[str, ...] = ()

    def bytes(self) -> bytes:
        content = self.content()
        return content.encode() if isinstance(content, str) else content


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

READ = {
    "published": Variant(lambda: published()),
    "published, CRLF": Variant(lambda: published().replace("\n", "\r\n")),
    "published, CR": Variant(lambda: published().replace("\n", "\r")),
    "published, BOM": Variant(lambda: "\ufeff" + published()),
    "published, no empty rows": Variant(lambda: published().rstrip(";\n") + ";;\n"),
    "published, -200,0": Variant(lambda: published().replace("-200", "-200,0")),
    "published, UTF-16": Variant(lambda: published().encode("utf-16")),
    "published, UTF-16 without BOM": Variant(lambda: published().encode("utf-16-le")),
    "published, UTF-16, big end first": Variant(lambda: published().encode("utf-16-be")),
    "published, gzip": Variant(lambda: gzip.compress(published().encode())),
    "published, zip": Variant(lambda: archive("AirQualityUCI.csv", "readme.pdf")),
    "published, empty names cut": Variant(
        lambda: text(DATED, [[*r, "", ""] for r in rows(split("%d/%m/%Y", "%H.%M.%S"), cell(mark=","))], ";")
    ),
    "comma copy": Variant(lambda: text(DATED, rows(split("%d/%m/%Y", "%H.%M.%S")))),
    "comma copy, m/d/y": Variant(lambda: text(DATED, rows(files.unpadded))),
    "comma copy, y/m/d and NA, sorted by time of day": Variant(
        lambda: text(DATED, sorted(rows(split("%Y/%m/%d", "%H:%M:%S"), cell("NA")), key=lambda row: (row[1], row[0])))
    ),
    "stream": Variant(lambda: text(HEADER, rows(stamp("%Y-%m-%dT%H:%M:%S"), cell("")))),
    "Timestamp": Variant(lambda: text(("Timestamp", *NAMES), rows())),
    "timestamp, lower case, renamed": Variant(lambda: text(("timestamp", *[name.lower() for name in PLAIN]), rows())),
    "renamed": Variant(lambda: text(("Date", "Time", *PLAIN), rows(split("%d/%m/%Y", "%H:%M:%S")))),
    "PT08.S1 without its gas": Variant(
        lambda: text([name.split("(")[0] if name.startswith("PT08") else name for name in HEADER], rows())
    ),
    "spelled out": Variant(lambda: plain().replace(",T,RH,AH", ",Temperature,Relative Humidity,Absolute Humidity")),
    "our units in the header": Variant(
        lambda: (
            plain()
            .replace(",T,RH,AH", ",T (°C),RH [%],AH")
            .replace("CO(GT),", "CO(GT) [mg/m3],")
            .replace("NOx(GT)", "NOx(GT)_ppb")
        )
    ),
    "our units, latin-1": Variant(lambda: text(degrees(HEADER, "°C"), rows()).encode("latin-1")),
    "tab": Variant(lambda: plain(separator="\t")),
    "bar": Variant(lambda: plain(separator="|")),
    "tab, decimal comma": Variant(lambda: text(HEADER, rows(values=cell(mark=",")), "\t")),
    "comma, decimal comma in quotes": Variant(lambda: text(HEADER, rows(values=cell(mark=",")), quote='"')),
    "quoted": Variant(lambda: plain(quote='"')),
    "blanks after separators": Variant(lambda: plain(separator=", ")),
    "Excel's sep=;": Variant(lambda: "sep=;\n" + plain(separator=";")),
    "#N/A": Variant(lambda: text(HEADER, rows(values=cell("#N/A")))),
    "--": Variant(lambda: text(HEADER, rows(values=cell("--")))),
    "NaN": Variant(lambda: text(HEADER, rows(values=cell("NaN")))),
    "null": Variant(lambda: text(HEADER, rows(values=cell("null")))),
    "constant UTC offset": Variant(lambda: text(HEADER, rows(stamp("%Y-%m-%dT%H:%M:%S+01:00")))),
    "compact dates": Variant(lambda: text(HEADER, rows(stamp("%Y%m%d %H:%M")))),
    "months by name": Variant(lambda: text(HEADER, rows(stamp("%d-%b-%Y %H:%M")))),
    "months by their whole name": Variant(lambda: text(HEADER, rows(stamp("%d %B %Y %H:%M")))),
    "AM and PM": Variant(lambda: text(DATED, rows(half_day))),
    "midnight left out, as R does": Variant(lambda: text(HEADER, rows(r_midnight))),
    "Date with an empty time": Variant(lambda: text(DATED, rows(split("%Y-%m-%d 00:00:00", "%H:%M:%S")))),
    "fractions of a second": Variant(lambda: text(HEADER, rows(stamp("%Y-%m-%d %H:%M:%S.000")))),
    "index column": Variant(lambda: text(("", *HEADER), [[str(k), *row] for k, row in enumerate(rows())])),
    "Unnamed: 0": Variant(lambda: text(("Unnamed: 0", *HEADER), [[str(k), *row] for k, row in enumerate(rows())])),
    "extra columns": Variant(lambda: text((*HEADER, "Hour", "wind"), [[*row, "1", "x y"] for row in rows()])),
    "other order": Variant(lambda: text(tuple(reversed(HEADER)), [row[::-1] for row in rows()])),
    "time last": Variant(
        lambda: text((*NAMES, "Date", "Time"), [[*r[2:], *r[:2]] for r in rows(split("%d/%m/%Y", "%H:%M"))])
    ),
    "shuffled": Variant(lambda: text(HEADER, [rows()[k] for k in np.random.default_rng(1).permutation(len(rows()))])),
    "sorted by time of day": Variant(lambda: text(HEADER, BY_TIME_OF_DAY)),
    "header again in the middle": Variant(lambda: with_line(",".join(HEADER), 250)),
    "every row twice": Variant(lambda: text(HEADER, [*rows(), *rows()])),
    "exponents": Variant(lambda: text(HEADER, rows(values=lambda _, value: "" if math.isnan(value) else f"{value:.17e}"))),
    "two digits of a year, year first": Variant(
        lambda: text(HEADER, rows(stamp("%y-%m-%d %H:%M"))), "years with two digits.*--dates", ("--dates", "year-first")
    ),
    "two digits of a year, day first": Variant(
        lambda: text(HEADER, rows(stamp("%d/%m/%y %H:%M"))), "years with two digits.*--dates", ("--dates", "day-first")
    ),
    "Excel's day numbers": Variant(
        lambda: text(HEADER, rows(excel_day)), "day number of Excel: say --dates excel", ("--dates", "excel")
    ),
    "seconds since 1970": Variant(
        lambda: text(HEADER, rows(seconds_1970)),
        "seconds since 1970: say --dates unix",
        ("--dates", "unix", "--utc-offset", "0"),
    ),
    "24:00": Variant(lambda: text(HEADER, rows(hour_24)), "--midnight-is-24", ("--midnight-is-24",)),
    "UTC": Variant(
        lambda: text(HEADER, rows(stamp("%Y-%m-%dT%H:%M:%SZ", -1))), "time zone.*--utc-offset", ("--utc-offset", "+01:00")
    ),
    "UTC in the header": Variant(
        lambda: text(("timestamp_utc", *NAMES), rows(stamp("%Y-%m-%dT%H:%M", -1))),
        "UTC.*--utc-offset",
        ("--utc-offset", "+1"),
    ),
    "summer time's offset": Variant(
        lambda: text(HEADER, rows(summer_offset)), "another time zone.*--utc-offset \\+01:00", ("--utc-offset", "+01:00")
    ),
    "thousands, English": Variant(
        lambda: text(HEADER, rows(values=thousands(".", ",")), quote='"'),
        "decimal points and decimal commas.*--decimal",
        ("--decimal", "point"),
    ),
    "thousands, German": Variant(
        lambda: text(HEADER, rows(values=thousands(",", ".")), ";"),
        "decimal points and decimal commas.*--decimal",
        ("--decimal", "comma"),
    ),
    "latin-1 beyond units": Variant(
        lambda: text((*HEADER, "Gerät"), [[*row, "Süd"] for row in rows()]).encode("latin-1"),
        "--encoding",
        ("--encoding", "latin-1"),
    ),
    "T in K, the header says so": Variant(
        lambda: changed("T", lambda t: round(t + 273.15, 9), "T [K]"), "'T \\[K\\]' is in K.*--unit 'T=K'", ("--unit", "T=K")
    ),
    "T in K, nothing says so": Variant(
        lambda: changed("T", lambda t: round(t + 273.15, 9)), "median of T.*--unit 'T=K'", ("--unit", "T=K")
    ),
    "T in °F": Variant(lambda: changed("T", lambda t: t * 1.8 + 32), "median of T is.*--unit 'T=°F'", ("--unit", "T=F")),
    "CO in µg/m3, the header says so": Variant(
        lambda: changed("CO(GT)", lambda v: v * 1000, "CO(GT) µg/m³"),
        "--unit 'CO\\(GT\\)=µg/m³'",
        ("--unit", "CO(GT)=ug/m3"),
    ),
    "CO in µg/m3, nothing says so": Variant(
        lambda: changed("CO(GT)", lambda v: v * 1000), "median of CO.*--unit 'CO\\(GT\\)=µg/m³'", ("--unit", "CO(GT)=ug/m3")
    ),
    "RH as a fraction": Variant(lambda: changed("RH", lambda v: v / 100), "--unit 'RH=fraction'", ("--unit", "RH=fraction")),
    "the header's unit is wrong": Variant(lambda: changed("T", float, "T_F"), "--unit 'T=°C' says so", ("--unit", "T=°C")),
    "-999, as the owner says": Variant(lambda: text(HEADER, rows(values=cell("-999"))), "", ("--missing-value", "-999")),
    "9999": Variant(
        lambda: text(HEADER, rows(values=cell("9999"))),
        "9999 is impossible in one column.*--missing-value 9999",
        ("--missing-value", "9999"),
    ),
    "ERR": Variant(
        lambda: text(HEADER, rows(values=cell("ERR"))),
        "line .*, column .*'ERR' is no number.*--missing-value",
        ("--missing-value", "ERR"),
    ),
    "CO alone": Variant(
        lambda: plain().replace("CO(GT),", "CO,"), "CO\\(GT\\) beyond doubt: say --column", ("--column", "CO(GT)=CO")
    ),
    "a column twice": Variant(
        lambda: text((*HEADER, "RH"), [[*row, row[12]] for row in rows()]),
        "could be RH: say which with --column",
        ("--column", "RH=#13"),
    ),
    "time under another name": Variant(
        lambda: plain().replace("DateTime", "when"), "--column 'DateTime=", ("--column", "DateTime=when")
    ),
}


@pytest.mark.parametrize("name", READ)
def test_read_file_gives_the_published_bits_or_asks(tmp_path: Path, name: str) -> None:
    variant = READ[name]
    path = tmp_path / "file.csv"
    path.write_bytes(variant.bytes())
    if variant.refused:
        with pytest.raises(UsageError, match=f"(?s){variant.refused}"):
            read(path)
    found = read(path, *variant.flags)
    if name == "every row twice":
        assert "500 rows repeat an hour" in found.remarks[0]
        found = Incoming(found.frame.rows(0, files.N_ROWS), found.understood, found.remarks, None)
    require_same(found)
    assert "13 of 13 columns" in found.understood[0]


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


def test_read_says_what_was_understood(tmp_path: Path) -> None:
    path = tmp_path / "file.csv"
    path.write_text(published())
    first, *more = read(path).understood
    assert first.startswith(f"{path}: 500 hourly rows 2004-03-10 to 2004-03-31, 13 of 13 columns, ")
    assert first.endswith(" % missing, decimal comma, station time")
    assert more[0] == "  UTF-8, separated by semicolon, dates day first"
    assert more[2] == "  114 empty rows left out"


def test_read_fahrenheit_of_a_winter_is_recognised_by_the_vapour(tmp_path: Path) -> None:
    """Twenty degrees colder, so that °F could be °C; RH and AH as such a winter has them."""
    celsius = month().values[:, RAW_COLUMNS.index("T")] - 20
    vapour = month().values[:, RAW_COLUMNS.index("RH")] / 100 * 0.6112 * np.exp(17.62 * celsius / (243.12 + celsius))
    made = {"T": iter((celsius * 1.8 + 32).tolist()), "AH": iter(vapour.tolist())}
    body = rows(values=lambda name, value: cell()(name, next(made[name]) if name in made else value))
    path = tmp_path / "file.csv"
    path.write_text(text(HEADER, body))
    with pytest.raises(UsageError, match=r"AH is 0\.[0-9]+ times what follows from T and RH.*--unit 'T=°F'"):
        read(path)
    read_t = read(path, "--unit", "T=F").frame.values[:, RAW_COLUMNS.index("T")]
    np.testing.assert_allclose(read_t, celsius, atol=1e-8)


def test_read_zero_in_every_sensor_is_announced(tmp_path: Path) -> None:
    path = tmp_path / "file.csv"
    lines = plain().splitlines()
    lines[7] = ",".join([lines[7].split(",")[0], *["0"] * 13])
    path.write_text("\n".join(lines))
    assert read(path).remarks == ("1 rows have 0 in every sensor: if it stands for a missing value, say --missing-value 0",)


def test_read_daily_rows_are_called_so(tmp_path: Path) -> None:
    path = tmp_path / "file.csv"
    path.write_text(text(HEADER, rows()[::24]))
    assert read(path).odd_steps == "20 of 20 steps are 24 h"
    assert ": 21 rows 2004-03-10 to 2004-03-30," in read(path).understood[0]


def test_read_columns_without_use_are_named(tmp_path: Path) -> None:
    path = tmp_path / "file.csv"
    path.write_text(text((*HEADER, "wind"), [[*row, "1"] for row in rows()]))
    assert "  not read: wind" in read(path).understood


@pytest.mark.parametrize(
    ("given", "message"),
    [("https://example.org/a.csv", "is an address: download it"), (".", "is a folder"), ("none.csv", "No such file")],
)
def test_read_no_file_is_refused(given: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read(Path(given))


def test_read_pipe_is_read_like_a_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=(published(),))
    writer.start()
    require_same(read(pipe))
    writer.join(10)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--start", "2004-03-10T18:30"), "not on the hour"),
        (("--unit", "T=furlongs"), "T= and one of °C, K, °F"),
        (("--unit", "CO(GT)=ppm"), "one of mg/m³"),
        (("--column", "Ozone=O3"), "OURS=THEIRS"),
        (("--encoding", "klingon"), "unknown encoding"),
        (("--utc-offset", "east"), "no offset from UTC"),
        (("--time-zone", "Mars/Olympus"), "no time zone this machine knows"),
    ],
)
def test_flags_that_mean_nothing_are_usage_errors(
    tmp_path: Path, flags: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        read(tmp_path / "none.csv", *flags)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--column", "T=warmth"), "no columns 'warmth'"),
        (("--start", "2004-03-10T18:00"), "--start is only for"),
        (("--utc-offset", "+1"), "--utc-offset is for times that carry an offset"),
        (("--dates", "day-first", "--decimal", "comma"), "is no number"),
    ],
)
def test_flags_that_do_not_fit_the_file_are_refused(tmp_path: Path, flags: tuple[str, ...], message: str) -> None:
    path = tmp_path / "file.csv"
    path.write_text(plain())
    with pytest.raises(UsageError, match=message):
        read(path, *flags)


def test_start_counts_the_hours_of_a_file_without_times(tmp_path: Path) -> None:
    path = tmp_path / "file.csv"
    path.write_text(text(NAMES, [row[1:] for row in rows()]))
    with pytest.raises(UsageError, match="no DateTime column: say with --start"):
        read(path)
    require_same(read(path, "--start", "2004-03-10T18:00"))
