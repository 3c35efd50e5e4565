"""From texts to hours of station-local time: one way of writing dates for the whole file, nothing guessed."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from airquality.data.files.answers import Answers
from airquality.data.files.columns import Columns
from airquality.data.files.grid import Grid
from airquality.ground.errors import UsageError

Hours = NDArray[np.int64]
_EPOCH, _EXCEL_EPOCH = np.datetime64("1970-01-01", "us"), np.datetime64("1899-12-30", "us")
#: Seconds are counted as they are, or in these parts: told apart because none of them is meant before 1973.
_UNITS_A_SECOND, _EARLIEST_SECOND = (10**9, 10**6, 10**3), 1e8
#: The last ones of the year 9999.
_LAST_EXCEL_DAY, _LAST_SECOND = 2_958_465.999, 253_402_300_799.0
_COMPACT = r"^((?:19|20)[0-9]{2})([0-9]{2})([0-9]{2})(?=$|[T ])"
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_NAMED = rf"^([0-9]{{1,2}})[-/. ]({'|'.join(_MONTHS)})[a-z]*[-/., ]+([0-9]{{4}})(?=$|[T ])"
_MOMENT = (
    r"^(?P<a>[0-9]{1,4})(?P<mark>[-/.])(?P<b>[0-9]{1,2})(?P=mark)(?P<c>[0-9]{1,4})"
    r"(?:(?:T|\s+)(?P<hour>[0-9]{1,2})[:.](?P<minute>[0-9]{2})(?:[:.](?P<second>[0-9]{2})(?:[.,](?P<fraction>[0-9]{1,9}))?)?"
    r"\s*(?P<half>[AaPp]\.?[Mm]\.?)?\s*(?P<zone>Z|UTC|GMT|[+-][0-9]{2}(?::?[0-9]{2})?)?)?$"
)
_ORDERS = {"day-first": ("c", "b", "a"), "month-first": ("c", "a", "b"), "year-first": ("a", "b", "c")}


class _Refusal:
    """Says of a row what is wrong with its time."""

    def __init__(self, path: Path, grid: Grid, texts: pd.Series[str]) -> None:
        self._path, self._grid, self._texts = path, grid, texts
        self.path = path

    def first(self, wrong: pd.Series[bool], why: str) -> None:
        """Raise ``UsageError`` for the first row of ``wrong``, if there is one; ``why`` follows its text."""
        if wrong.any():
            row = int(np.argmax(wrong.to_numpy()))
            more = f" ({wrong.sum():,} of {len(wrong):,} rows)" if wrong.sum() > 1 else ""
            place = f"{self._path}, line {self._grid.lines[row]}, column DateTime"
            raise UsageError(f"{place}: {self._texts[row]!r} {why}{more}")

    def text(self, row: int) -> str:
        return f"{self._texts[row]!r} (line {self._grid.lines[row]})"


def read(path: Path, grid: Grid, columns: Columns, answers: Answers) -> tuple[Hours, str, str]:
    """Return the hours of the rows in the file's order, how its dates are written, and whose time it is.

    Raises:
        UsageError: a text is no time, a row is not on the hour, or what is written can mean two things; the message says
            where and names the flag that settles it.
    """
    texts = _texts(grid, columns)
    refusal = _Refusal(path, grid, texts)
    if answers.dates in ("excel", "unix") and texts.str.fullmatch(r"[0-9]+(?:\.[0-9]+)?").all():
        moments, offsets, written = _serial(texts, refusal, answers)
    else:
        parts = _parts(texts, refusal)
        order = _order(parts, refusal, answers)
        moments, offsets, written = (
            _moments(parts, order, refusal, answers),
            _offsets(parts, refusal),
            order.replace("-", " "),
        )
    if columns.utc and offsets is None:
        offsets = pd.Series(0, index=texts.index)
    moments, clock = _station_time(moments, offsets, refusal, answers)
    _require_on_the_hour(moments, refusal)
    microseconds = moments.to_numpy(dtype="datetime64[us]").astype(np.int64)  # nanoseconds would not reach before 1677
    return microseconds // 3_600_000_000, written, clock


def _texts(grid: Grid, columns: Columns) -> pd.Series[str]:
    """Return one text a row; a date column of a spreadsheet may carry an empty time of its own."""
    first, *rest = (grid.table[position] for position in columns.when)
    if rest:
        midnight = r"(?:T|\s+)00:00(?::00(?:\.0+)?)?$"
        first = first.str.replace(midnight, "", regex=True) if first.str.contains(midnight).all() else first
        first = first + " " + rest[0]
    texts = first.str.strip().str.replace(_COMPACT, r"\1-\2-\3", regex=True)
    return texts.str.replace(_NAMED, _in_numbers, case=False, regex=True)


def _in_numbers(date: re.Match[str]) -> str:
    """Return ``10-Mar-2004`` as ``2004-3-10``."""
    return f"{date[3]}-{_MONTHS.index(date[2].lower()) + 1}-{date[1]}"


def _serial(
    texts: pd.Series[str], refusal: _Refusal, answers: Answers
) -> tuple[pd.Series[pd.Timestamp], pd.Series[int] | None, str]:
    """Return times that were exported as numbers: Excel's days, or seconds (or parts of them) since 1970 in UTC."""
    numbers = texts.astype(float)
    if answers.dates == "excel":
        refusal.first(numbers > _LAST_EXCEL_DAY, "is no day number of Excel, whose last one is 2958465, of the year 9999")
        seconds = (numbers * 86_400).round()  # a day's fraction has some 15 digits: good to far less than a second
        return _after(_EXCEL_EPOCH, seconds * 1_000_000), None, "Excel day numbers"
    units = next((units for units in _UNITS_A_SECOND if (numbers > _EARLIEST_SECOND * units).all()), 1)
    refusal.first(numbers > _LAST_SECOND * units, "counts no seconds, milliseconds, micro- or nanoseconds since 1970")
    return _after(_EPOCH, numbers * (1e6 / units)), pd.Series(0, index=texts.index), "seconds since 1970"


def _after(epoch: np.datetime64, microseconds: pd.Series[float]) -> pd.Series[pd.Timestamp]:
    """Return the moments so long after ``epoch``; pandas' own durations end after 292 years."""
    return pd.Series(epoch + microseconds.round().to_numpy().astype("timedelta64[us]"))


def _parts(texts: pd.Series[str], refusal: _Refusal) -> pd.DataFrame:
    """Return the named parts of every text; rows without a time of day are midnights only where R would have left it out."""
    parts = texts.str.extract(_MOMENT)
    wrong = parts["a"].isna()
    number = texts.str.fullmatch(r"[0-9]{5}(?:\.[0-9]+)?")
    refusal.first(wrong & number, "looks like a day number of Excel: say --dates excel")
    refusal.first(
        wrong & texts.str.fullmatch(r"[0-9]{10}(?:[0-9]{3}){0,3}"), "looks like seconds since 1970: say --dates unix"
    )
    refusal.first(
        wrong,
        "is not a time this reads (2004-03-10 18:00, 10/03/2004 18.00.00, 3/10/2004 6:00 PM, 2004-03-10T18:00:00+01:00)",
    )
    short = parts["hour"].isna()
    zero = parts["hour"].isin(["00", "0", "24"])
    refusal.first(
        short & (short.all() or zero.any() or short.sum() > 1 + len(short) / 12),
        "has no time of day; hourly rows are expected",
    )
    return parts.fillna({"hour": "0", "minute": "0"})


def _order(parts: pd.DataFrame, refusal: _Refusal, answers: Answers) -> str:
    """Return in which order day, month and year are written."""
    if parts["mark"].nunique() > 1:
        other = int(np.argmax((parts["mark"] != parts["mark"][0]).to_numpy()))
        raise UsageError(f"{refusal.path} writes dates in two ways: {refusal.text(0)} and {refusal.text(other)}.")
    lengths = parts[["a", "c"]].apply(lambda part: part.str.len())
    if (lengths["a"] == 4).all() and (lengths["c"] <= 2).all():
        return "year-first"
    if (lengths["a"] <= 2).all() and lengths["c"].isin([2, 4]).all() and lengths["c"].nunique() == 1:
        return _order_of_short(parts, lengths["c"][0] == 2, refusal, answers)
    odd = (lengths["a"] != lengths["a"][0]) & ((lengths["a"] > 2) | (lengths["a"][0] > 2)) | (
        lengths["c"] != lengths["c"][0]
    )
    other = int(np.argmax(odd.to_numpy()))
    raise UsageError(f"{refusal.path} writes dates in two ways: {refusal.text(0)} and {refusal.text(other)}.")


def _order_of_short(parts: pd.DataFrame, two_digits: bool, refusal: _Refusal, answers: Answers) -> str:
    if answers.dates in ("day-first", "month-first") or (answers.dates == "year-first" and two_digits):
        return answers.dates
    if two_digits:
        raise UsageError(
            f"{refusal.path} writes years with two digits: {refusal.text(0)}. Say --dates day-first, month-first or "
            "year-first."
        )
    first, second = parts["a"].astype(int) > 12, parts["b"].astype(int) > 12
    if first.any() and second.any():
        texts = " and ".join(refusal.text(int(np.argmax(part.to_numpy()))) for part in (first, second))
        raise UsageError(f"{refusal.path} has the day first in one row and the month in another: {texts}.")
    if not first.any() and not second.any():
        raise UsageError(
            f"{refusal.path}: in {refusal.text(0)}, as in every row, either number can be the day. Say --dates day-first or "
            "--dates month-first."
        )
    return "day-first" if first.any() else "month-first"


def _moments(parts: pd.DataFrame, order: str, refusal: _Refusal, answers: Answers) -> pd.Series[pd.Timestamp]:
    year, month, day = (parts[name] for name in _ORDERS[order])
    pattern = "%y-%m-%d" if year.str.len().max() <= 2 else "%Y-%m-%d"
    dates = pd.to_datetime(year + "-" + month + "-" + day, format=pattern, errors="coerce")
    refusal.first(dates.isna(), f"is no date with the {order.replace('-', ' ')}")
    hour = _hour(parts, refusal, answers)
    minute, second = parts["minute"].astype(int), parts["second"].fillna("0").astype(int)
    refusal.first((minute > 59) | (second > 59) | ((hour == 24) & (minute + second > 0)), "is no time of day")
    fraction = parts["fraction"].fillna("0").str.ljust(6, "0").str[:6].astype(int)
    return dates + pd.to_timedelta(hour * 3600 + minute * 60 + second, unit="s") + pd.to_timedelta(fraction, unit="us")


def _hour(parts: pd.DataFrame, refusal: _Refusal, answers: Answers) -> pd.Series[int]:
    """Return the hour of the day, 0 to 24: 24 only where the owner says what it means."""
    hour, half = parts["hour"].astype(int), parts["half"].str[0].str.upper()
    if half.notna().any():
        refusal.first(half.isna(), "has no AM or PM, as other rows have")
        refusal.first((hour < 1) | (hour > 12), "is no time of day with AM or PM")
        return hour % 12 + 12 * (half == "P")
    refusal.first(hour > 24, "is no time of day")
    if not answers.midnight_is_24:
        refusal.first(hour == 24, "can be the last hour of its day or the first of the next: --midnight-is-24 says the next")
    return hour


def _offsets(parts: pd.DataFrame, refusal: _Refusal) -> pd.Series[int] | None:
    """Return each row's minutes ahead of UTC, None where no row says."""
    zone = parts["zone"]
    if zone.isna().all():
        return None
    refusal.first(zone.isna(), "carries no time zone, as other rows do")
    return zone.map(_minutes)


def _minutes(zone: str) -> int:
    if zone[0] not in "+-":
        return 0
    digits = zone[1:].replace(":", "").ljust(4, "0")
    return int(zone[0] + "1") * (int(digits[:2]) * 60 + int(digits[2:]))


def _station_time(
    moments: pd.Series[pd.Timestamp], offsets: pd.Series[int] | None, refusal: _Refusal, answers: Answers
) -> tuple[pd.Series[pd.Timestamp], str]:
    """Return the times by the station's clock, which is never set, and what to call it."""
    if offsets is None:
        if answers.utc_offset is not None:
            raise UsageError(f"{refusal.path}: --utc-offset is for times that carry an offset from UTC; these do not.")
        return _standard_time(moments, refusal, answers.time_zone) if answers.time_zone else (moments, "station time")
    if answers.time_zone:
        raise UsageError(f"{refusal.path}: --time-zone is for times without an offset from UTC; say --utc-offset.")
    if answers.utc_offset is not None:
        utc = moments - pd.to_timedelta(offsets, unit="m")
        return utc + pd.Timedelta(minutes=answers.utc_offset), f"UTC{_signed(answers.utc_offset)}, converted"
    refusal.first(
        offsets == 0,
        "carries a time zone, UTC, and the station's own hours are expected: say --utc-offset +01:00, or what the station "
        "has; --utc-offset 0 takes the times as they are",
    )
    refusal.first(
        offsets != offsets[0],
        f"carries another time zone than the first row: say which to keep to, --utc-offset {_signed(int(offsets.min()))}",
    )
    return moments, f"UTC{_signed(int(offsets[0]))}, as written"


def _signed(minutes: int) -> str:
    """Return an offset as it is written.

    >>> _signed(-210)
    '-03:30'
    """
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"


def _standard_time(moments: pd.Series[pd.Timestamp], refusal: _Refusal, zone: str) -> tuple[pd.Series[pd.Timestamp], str]:
    """Return local times with summer time as the zone's standard time; the order of rows tells doubled hours apart."""
    try:
        aware = pd.DatetimeIndex(moments).tz_localize(zone, ambiguous="infer", nonexistent="raise")
    except ValueError as error:
        raise UsageError(f"{refusal.path} does not follow the summer time of {zone}: {error}") from error
    year = moments.iloc[0].year
    offset = min(_utc_offset(ZoneInfo(zone), datetime(year, month, 1)) for month in (1, 7))
    local = aware.tz_convert("UTC").tz_localize(None) + offset
    return pd.Series(local), f"standard time of {zone}, converted"


def _utc_offset(zone: ZoneInfo, moment: datetime) -> timedelta:
    return zone.utcoffset(moment) or timedelta(0)


def _require_on_the_hour(moments: pd.Series[pd.Timestamp], refusal: _Refusal) -> None:
    odd = moments != moments.dt.floor("h")
    if not odd.any():
        return
    steps = moments.drop_duplicates().sort_values().diff().dropna()
    usual = f"; most rows are {_span(steps.mode()[0])} apart" if len(steps) else ""
    refusal.first(odd, f"is not on the hour{usual}: hourly rows are expected")


def _span(step: pd.Timedelta) -> str:
    seconds = step.total_seconds()
    return f"{seconds / 3600:g} h" if seconds >= 3600 else f"{seconds / 60:g} min"
