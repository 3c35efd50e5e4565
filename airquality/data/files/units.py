"""Units in headers: which are ours, which can be converted exactly, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from airquality.records import UNITS

Values = NDArray[np.float64]
#: A column may have no unit of its own: what its header says of it is not compared, its values are.
_UNNAMED = "as published"
_SPELLINGS = {
    "°C": r"°\s*C|deg(?:rees?)?[ _.]*C|celsius|C",
    "K": r"kelvin|K",
    "°F": r"°\s*F|deg(?:rees?)?[ _.]*F|fahrenheit|F",
    "%": r"%|percent|pct",
    "fraction": r"fraction",
    "mg/m³": r"mg[ _./·*]*m[ _]*(?:\^?-?3|³)",
    "µg/m³": r"(?:[uµμ]g|microg)[ _./·*]*m[ _]*(?:\^?-?3|³)",
    "g/m³": r"g[ _./·*]*m[ _]*(?:\^?-?3|³)",
    "ppb": r"ppb",
    "ppm": r"ppm",
    "kohm": r"k(?:ohms?|Ω|Ω)",
    "ohm": r"ohms?|Ω|Ω",
    "kPa": r"kpa",
    "hPa": r"hpa|mbar",
}
_ANY = "|".join(pattern for pattern in _SPELLINGS.values())
_LETTERS = r"[\s_,;:/-]"
_IN_NAME = re.compile(
    rf"(?P<base>.+?)(?:{_LETTERS}*[\[(]\s*(?P<bracket>{_ANY})\s*[\])]|{_LETTERS}+(?P<word>{_ANY})|\s*(?P<sign>%|°\s*[CF]))",
    re.IGNORECASE,
)
#: From a unit to ours, exact but for the last bit; rounded so that a converted value has no tail of digits.
_CONVERSIONS: dict[tuple[str, str], Callable[[Values], Values]] = {
    ("K", "°C"): lambda x: x - 273.15,
    ("°F", "°C"): lambda x: (x - 32.0) / 1.8,
    ("µg/m³", "mg/m³"): lambda x: x / 1000.0,
    ("g/m³", "mg/m³"): lambda x: x * 1000.0,
    ("mg/m³", "µg/m³"): lambda x: x * 1000.0,
    ("ppm", "ppb"): lambda x: x * 1000.0,
    ("fraction", "%"): lambda x: x * 100.0,
    ("kohm", "ohm"): lambda x: x * 1000.0,
}
_DECIMALS = 9


def ours(column: str) -> str:
    """Return the unit of one of our columns.

    >>> ours("T"), ours("PT08.S1(CO)")
    ('°C', 'ohm')
    """
    return UNITS[column] or _UNNAMED


def phrase(column: str) -> str:
    """Return how a sentence says that a value is in our unit: ``in °C``, or ``AH as published`` where it has no unit."""
    return f"{column} {_UNNAMED}" if ours(column) == _UNNAMED else f"in {ours(column)}"


def choices(column: str) -> tuple[str, ...]:
    """Return what ``--unit`` may say of a column: its own unit, and those that are converted exactly."""
    return (ours(column), *(unit for unit, own in _CONVERSIONS if own == ours(column)))


def canonical(text: str) -> str:
    """Return a unit in the one spelling that is compared, the text itself where it is no unit this knows.

    >>> canonical("ug/m3"), canonical("degC"), canonical("furlongs")
    ('µg/m³', '°C', 'furlongs')
    """
    for name, pattern in _SPELLINGS.items():
        if re.fullmatch(pattern, text.strip(), re.IGNORECASE):
            return name
    return text.strip()


def split_name(name: str) -> tuple[str, str | None]:
    """Return a header without its unit, and the unit.

    >>> split_name("T [K]"), split_name("CO(GT)_mg/m3"), split_name("CO(GT)"), split_name("RH%")
    (('T', 'K'), ('CO(GT)', 'mg/m³'), ('CO(GT)', None), ('RH', '%'))
    """
    match = _IN_NAME.fullmatch(name.strip())
    if match is None:
        return name.strip(), None
    return match["base"].strip(), canonical(match["bracket"] or match["word"] or match["sign"])


def is_ours(column: str, unit: str) -> bool:
    """Whether a header's unit of a column is the one the data set has it in."""
    return ours(column) in (unit, _UNNAMED)


def converted(column: str, unit: str, values: Values) -> Values:
    """Return values of ``column`` in our unit; ``unit`` is one of :func:`choices`."""
    if unit == ours(column):
        return values
    return np.round(_CONVERSIONS[unit, ours(column)](values), _DECIMALS)
