"""Is a file with the published data set's name a copy of it? If its values are not the same, what differs."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from airquality.data.files import reader
from airquality.data.files.reader import Understood
from airquality.ground.errors import UsageError
from airquality.records import RAW_COLUMNS, isoformat

Hours = NDArray[np.int64]
Values = NDArray[np.float64]

#: Of the published file, by column: how many values are missing, and a checksum of all of them.
COLUMNS = {
    "CO(GT)": (1683, 0xB52AFC01),
    "PT08.S1(CO)": (366, 0x2A3F7C0A),
    "NMHC(GT)": (8443, 0xE847C407),
    "C6H6(GT)": (366, 0x98943835),
    "PT08.S2(NMHC)": (366, 0xF5856C68),
    "NOx(GT)": (1639, 0x40D89C4E),
    "PT08.S3(NOx)": (366, 0x7C44F676),
    "NO2(GT)": (1642, 0xE9D48A88),
    "PT08.S4(NO2)": (366, 0x13C5A14C),
    "PT08.S5(O3)": (366, 0x017A3550),
    "T": (366, 0xE40FF8D2),
    "RH": (366, 0xC33CA162),
    "AH": (366, 0xA17913FF),
}
FIRST_HOUR, N_ROWS = 299_706, 9_357
_EMPTY_ROWS = "114 empty rows left out"


def read(path: Path) -> tuple[Hours, Values, list[str]]:
    """Return the published hours and values from a copy of the file, and what about the copy is not as published.

    Raises:
        UsageError: a value differs, or the file cannot be read; the message says what, and what to do.
    """
    try:
        table = reader.read(path)
    except UsageError as error:
        why = str(error).splitlines()[0].removeprefix(str(path)).lstrip(" ,:").rstrip(".")
        raise _refusal(path, [f"it cannot be read: {why}"]) from error
    order = np.argsort(table.hours, kind="stable")
    hours, values = table.hours[order], table.values[order]
    form = list(_form(table.understood, sorted_rows=bool(np.all(np.diff(table.hours) > 0))))
    differences = list(_differences(hours, values))
    if differences:
        raise _refusal(path, [*differences, *form])
    return hours, values, form


def _refusal(path: Path, differences: list[str]) -> UsageError:
    return UsageError(
        f"{path} is not the published data set: {'; '.join(differences)}. Move it away and run again to fetch the "
        "real one, or set AIR_QUALITY_DATA_SOURCE=simulated. To send it as somebody's readings: "
        "producer.py --csv FILE --station-id NAME."
    )


def _form(found: Understood, sorted_rows: bool) -> Iterator[str]:
    """Name what of the file's form is not as published; none of it changes a value."""
    if found.encoding != "UTF-8":
        yield f"encoding {found.encoding}"
    if found.separator != "semicolon":
        yield f"separated by {found.separator}"
    if found.decimal != "comma":
        yield f"decimal {found.decimal}"
    if found.dates != "day first":
        yield f"dates {found.dates}"
    if _EMPTY_ROWS not in found.remarks:
        yield "without the 114 empty last rows"
    if not sorted_rows:
        yield "rows in another order"
    yield from (remark for remark in found.remarks if remark != _EMPTY_ROWS)


def _differences(hours: Hours, values: Values) -> Iterator[str]:
    """Name the hours and columns whose values are not the published ones."""
    expected = np.arange(FIRST_HOUR, FIRST_HOUR + N_ROWS)
    if not np.array_equal(hours, expected):
        absent, extra = len(np.setdiff1d(expected, hours)), len(hours) - len(np.intersect1d(expected, hours))
        first, last = (isoformat(int(hour)) for hour in (hours[0], hours[-1])) if len(hours) else ("no row", "no row")
        yield f"{len(hours):,} rows, {first} to {last}: {absent:,} published hours are absent, {extra:,} rows are of others"
        return
    for column, (missing, checksum) in fingerprints(values).items():
        expected_missing, expected_checksum = COLUMNS[column]
        if missing < expected_missing:
            yield f"{column}: {expected_missing - missing:,} of {expected_missing:,} missing values (-200) are filled"
        elif missing > expected_missing:
            yield f"{column}: {missing - expected_missing:,} more values are missing"
        elif checksum != expected_checksum:
            yield f"{column}: other values"


def fingerprints(values: Values) -> dict[str, tuple[int, int]]:
    """Return by column how many values are missing, and a checksum of all; equal values have equal ones."""
    alike = np.where(np.isnan(values), np.nan, values).astype("<f8")
    return {
        column: (int(np.isnan(known).sum()), zlib.crc32(known.tobytes()))
        for column, known in zip(RAW_COLUMNS, alike.T, strict=True)
    }
