"""Which column of a file is which of ours: by name, and only where the name leaves no doubt."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from airquality.data.files import units
from airquality.data.files.answers import Answers
from airquality.ground.errors import UsageError
from airquality.network.current import NETWORK
from airquality.records import RAW_COLUMNS

_TIMES = {
    "DateTime": ("DateTime", "Date and Time", "Date/Time", "Timestamp", "Time stamp", "local datetime", "local time"),
    "Date": ("Date",),
    "Time": ("Time",),
}
#: These say in their own name that their times are UTC.
_UTC_TIMES = ("DateTime UTC", "Timestamp UTC", "Time UTC", "UTC time", "UTC datetime", "UTC timestamp", "UTC")
_STATIONS = frozenset({"station", "stationid", "site", "siteid", "sensorid", "deviceid", "device", "location", "locationid"})


@dataclass(frozen=True, slots=True)
class Columns:
    """Positions in the file, counted from 0: of our columns, of the time (one, or date and time), of what else there is."""

    values: Mapping[str, int]
    units: Mapping[str, str]
    when: tuple[int, ...]
    utc: bool
    stations: tuple[int, ...]
    ignored: tuple[str, ...]


def n_known(header: Sequence[str]) -> int:
    """Return how many of the names are known: of ours, or of a time."""
    return sum(_simple(units.split_name(name)[0]) in _KNOWN for name in header)


def find(path: Path, header: Sequence[str], answers: Answers) -> Columns:
    """Return where our columns are.

    Raises:
        UsageError: two columns of the file could be one of ours, one of ours is not there, or a header names a unit that is
            not ours; the message names the flag that settles it.
    """
    chosen = {ours: _position(path, header, theirs) for ours, theirs in answers.columns.items()}
    places = dict(chosen)
    for position, name in enumerate(header):
        ours = _KNOWN.get(_simple(units.split_name(name)[0]))
        if ours is None or ours in chosen or ours in answers.without or position in chosen.values():
            continue
        if ours in places:
            raise UsageError(
                f"{path}: both {header[places[ours]]!r} (column {places[ours] + 1}) and {name!r} (column {position + 1}) "
                f"could be {ours}: say which with --column '{ours}=#{places[ours] + 1}'."
            )
        places[ours] = position
    when = _when(path, places, answers)
    _require_all(path, header, places, answers, "DateTime" in answers.columns or bool(when))
    used = {*when, *(places[name] for name in RAW_COLUMNS if name in places)}
    return Columns(
        values={name: places[name] for name in RAW_COLUMNS if name in places},
        units=_units(path, header, places, answers),
        when=when,
        utc=len(when) == 1 and _simple(header[when[0]]) in map(_simple, _UTC_TIMES),
        stations=tuple(k for k, name in enumerate(header) if _simple(name) in _STATIONS and k not in used),
        ignored=tuple(name or f"column {k + 1}, which has no name" for k, name in enumerate(header) if k not in used),
    )


def _simple(name: str) -> str:
    """Return a name without what exports change: case, brackets, dots, blanks, underscores.

    >>> _simple("PT08.S1(CO)") == _simple("pt08_s1_co")
    True
    """
    return re.sub(r"[^a-z0-9]", "", unicodedata.normalize("NFKC", name).casefold())


def _known_names() -> dict[str, str]:
    known = {_simple(name): name for name in RAW_COLUMNS}
    known |= {_simple(other): column.name for column in NETWORK.columns for other in column.aliases}
    known |= {_simple(other): ours for ours, others in _TIMES.items() for other in others}
    return known | {_simple(other): "DateTime" for other in _UTC_TIMES}


_KNOWN = _known_names()


def _position(path: Path, header: Sequence[str], theirs: str) -> int:
    if re.fullmatch(r"#[0-9]+", theirs) and 0 < int(theirs[1:]) <= len(header):
        return int(theirs[1:]) - 1
    if header.count(theirs) != 1:
        raise UsageError(
            f"{path} has {header.count(theirs) or 'no'} columns {theirs!r}: name one of "
            f"{', '.join(filter(None, header))}, or its place (#1 is the first)."
        )
    return header.index(theirs)


def _when(path: Path, places: Mapping[str, int], answers: Answers) -> tuple[int, ...]:
    if answers.start is not None:
        if found := [name for name in _TIMES if name in places]:
            raise UsageError(f"{path} has a {found[0]} column; --start is only for a CSV without one.")
        return ()
    if "DateTime" in places:
        return (places["DateTime"],)
    return tuple(places[name] for name in ("Date", "Time") if name in places)


def _require_all(path: Path, header: Sequence[str], places: Mapping[str, int], answers: Answers, dated: bool) -> None:
    absent = [name for name in RAW_COLUMNS if name not in places and name not in answers.without]
    others = [name for k, name in enumerate(header) if name and k not in places.values()]
    if absent:
        raise UsageError(
            f"{path} has no column that is {absent[0]} beyond doubt: say --column '{absent[0]}=ITS NAME', or --without "
            f"'{absent[0]}' if it was not measured."
            f"\n  expected: DateTime, {', '.join(RAW_COLUMNS)}\n  missing:  {', '.join(absent)}"
            f"\n  found:    {', '.join(header)}" + (f"\n  unknown:  {', '.join(others)}" if others else "")
        )
    if not dated and answers.start is None:
        raise UsageError(
            f"{path} has no DateTime column: say with --start which hour its first row is, or with "
            "--column 'DateTime=ITS NAME' which column it is."
        )


def _units(path: Path, header: Sequence[str], places: Mapping[str, int], answers: Answers) -> dict[str, str]:
    """Return the unit of each column that the owner says is in another than ours; a header that names another is refused."""
    for column in RAW_COLUMNS:
        unit = units.split_name(header[places[column]])[1] if column in places else None
        if unit is None or column in answers.units or units.is_ours(column, unit):
            continue
        can = unit in units.choices(column)
        how = f"--unit '{column}={unit}' converts it" if can else "convert it before"
        raise UsageError(
            f"{path}: {header[places[column]]!r} is in {unit}, {column} is expected in {units.ours(column)}: {how}; if the "
            f"header is wrong, --unit '{column}={units.ours(column)}' says so."
        )
    return {column: unit for column, unit in answers.units.items() if column in places}
