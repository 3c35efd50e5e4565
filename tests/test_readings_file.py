"""Files as people have them: each is read to the bits of the published one, or refused with the flag that settles it."""

from __future__ import annotations

import gzip
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from airquality.data.readings_file import ReadingsFile
from airquality.ground.errors import UsageError
from airquality.records import RAW_COLUMNS
from tests import data_files as files
from tests.data_files import NAMES, PLAIN, cell, month, published, rows, split, stamp, text
from tests.data_layouts import (
    BY_TIME_OF_DAY,
    DATED,
    HEADER,
    archive,
    changed,
    degrees,
    excel_day,
    half_day,
    hour_24,
    plain,
    r_midnight,
    read,
    require_same,
    seconds_1970,
    summer_offset,
    thousands,
    with_line,
)


@dataclass(frozen=True)
class Variant:
    """A file, and what settles it: no flag where it is read as it is, else what the refusal names."""

    content: Callable[[], str | bytes]  # made when its test asks: all of them together take seconds
    refused: str = ""
    flags: tuple[str, ...] = ()

    def bytes(self) -> bytes:
        content = self.content()
        return content.encode() if isinstance(content, str) else content


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
#: Of so many layouts one is read by make test-fast.
ONE_OF = 3


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * bool(at % ONE_OF)) for at, name in enumerate(READ)]
)
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
        found = ReadingsFile(found.frame.rows(0, files.N_ROWS), found.understood, found.remarks, None)
    require_same(found)
    assert "13 of 13 columns" in found.understood[0]


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
