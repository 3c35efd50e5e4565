"""What only the owner of a file can say of it: the flags that settle what a reader would have to guess."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from zoneinfo import ZoneInfo, available_timezones

from airquality.data.files import units
from airquality.records import RAW_COLUMNS, hour_of_isoformat

Dates = Literal["day-first", "month-first", "year-first", "excel", "unix"]
#: What ``--column`` may name beside the thirteen columns.
TIME_COLUMNS = ("DateTime", "Date", "Time")


@dataclass(frozen=True, slots=True)
class Answers:
    """The owner's answers; by default none, and then whatever is in doubt is refused.

    Attributes:
        columns: Which of the file's columns is which of ours, ours first; ``#3`` is the file's third.
        without: Our columns that the file does not have: all missing.
        units: The unit of a column, by which its values are converted, or the header and the limits overruled.
        missing: Further spellings of a missing value.
        dates: How dates are written.
        decimal: The decimal mark; the other mark then only groups thousands.
        encoding: The file's encoding, by Python's name.
        utc_offset: Minutes; times with an offset are converted to this one, which is constant.
        time_zone: Times follow the summer time of this zone; they are converted to its standard time.
        midnight_is_24: 24:00 is the first hour of the next day.
        start: The hour of the first row of a file without times, whose rows are one hour apart.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    without: frozenset[str] = frozenset()
    units: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    dates: Dates | None = None
    decimal: Literal["point", "comma"] | None = None
    encoding: str | None = None
    utc_offset: int | None = None
    time_zone: str | None = None
    midnight_is_24: bool = False
    start: int | None = None


NO_ANSWERS = Answers()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give ``parser`` the flags, in a group of their own."""
    group = parser.add_argument_group("what only the owner of a file can say", "each is asked for where it is needed")
    group.add_argument("--start", type=_hour, metavar="DATETIME", help="hour of the first row of a file without times")
    group.add_argument(
        "--column",
        action="append",
        type=_column,
        default=[],
        metavar="OURS=THEIRS",
        help="which column is which; #3: the third",
    )
    group.add_argument(
        "--without", action="append", choices=RAW_COLUMNS, default=[], metavar="OURS", help="a column the file does not have"
    )
    group.add_argument(
        "--unit",
        action="append",
        type=_unit,
        default=[],
        metavar="OURS=UNIT",
        help="convert from this unit, such as K to degrees Celsius",
    )
    group.add_argument(
        "--missing-value", action="append", default=[], metavar="TEXT", help="how the file writes a missing value (-999)"
    )
    group.add_argument("--dates", choices=Dates.__args__, help="how its dates are written")  # type: ignore[attr-defined]
    group.add_argument("--decimal", choices=("point", "comma"), help="its decimal mark; the other one groups thousands")
    group.add_argument("--encoding", type=_encoding, metavar="NAME", help="its encoding (cp1252)")
    group.add_argument("--utc-offset", type=_offset, metavar="+HH:MM", help="the station's own, for times that carry one")
    group.add_argument("--time-zone", type=_zone, metavar="ZONE", help="times follow its summer time (Europe/Rome)")
    group.add_argument("--midnight-is-24", action="store_true", help="24:00 is the first hour of the next day")


def from_arguments(args: argparse.Namespace) -> Answers:
    """Return the answers that the parsed flags give."""
    return Answers(
        columns=dict(args.column),
        without=frozenset(args.without),
        units=dict(args.unit),
        missing=tuple(args.missing_value),
        dates=args.dates,
        decimal=args.decimal,
        encoding=args.encoding,
        utc_offset=args.utc_offset,
        time_zone=args.time_zone,
        midnight_is_24=args.midnight_is_24,
        start=args.start,
    )


def _hour(text: str) -> int:
    try:
        return hour_of_isoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error} (expected: 2005-02-05T03:00)") from error


def _column(text: str) -> tuple[str, str]:
    ours, _, theirs = text.partition("=")
    if ours not in (*RAW_COLUMNS, *TIME_COLUMNS) or not theirs:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected is OURS=THEIRS, ours one of {', '.join(RAW_COLUMNS)}, DateTime"
        )
    return ours, theirs


def _unit(text: str) -> tuple[str, str]:
    ours, _, unit = text.partition("=")
    known = units.choices(ours) if ours in RAW_COLUMNS else ()
    if units.canonical(unit) not in known:
        expected = f"{ours}= and one of {', '.join(known)}" if known else "OURS=UNIT, such as T=K"
        raise argparse.ArgumentTypeError(f"{text!r}: expected is {expected}")
    return ours, units.canonical(unit)


def _encoding(text: str) -> str:
    try:
        "".encode(text)
    except LookupError as error:
        raise argparse.ArgumentTypeError(f"{error}; such as cp1252, latin-1, utf-16") from error
    return text


def _offset(text: str) -> int:
    match = re.fullmatch(r"([+-]?)([0-9]{1,2})(?::?([0-9]{2}))?", text)
    if match is None or int(match[2]) > 14:
        raise argparse.ArgumentTypeError(f"{text!r} is no offset from UTC, such as +01:00")
    minutes = int(match[2]) * 60 + int(match[3] or 0)
    return -minutes if match[1] == "-" else minutes


def _zone(text: str) -> str:
    if text not in available_timezones():
        raise argparse.ArgumentTypeError(f"{text!r} is no time zone this machine knows, such as Europe/Rome")
    return ZoneInfo(text).key
