"""Figures, times and units as a person reads them."""

from __future__ import annotations

import math
from datetime import datetime

#: Three-letter months whatever the locale of the process.
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def figure(value: float | None) -> str:
    """Return a figure with the digits that matter, a dash where it is undefined.

    >>> figure(0.24231), figure(12.345), figure(1234.5), figure(None)
    ('0.24', '12.3', '1234', '–')
    """
    if value is None or math.isnan(value):
        return "–"
    digits = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:.{digits}f}".replace("-", "−")


def measured(value: float | None, unit: str) -> str:
    """Return a figure with its unit.

    >>> measured(24.92, "µg/m³"), measured(1034.0, "")
    ('24.9 µg/m³', '1034')
    """
    return f"{figure(value)} {unit}".rstrip()


def signed(value: float | None, unit: str) -> str:
    """Return a change with its sign and unit; percent without digits.

    >>> signed(207.4, "%"), signed(-1.25, "°C"), signed(None, "%")
    ('+207 %', '−1.25 °C', '')
    """
    if value is None or math.isnan(value):
        return ""
    text = f"{abs(value):.0f}" if unit == "%" else figure(abs(value))
    return f"{'−' if value < 0 else '+'}{text} {unit}".rstrip()


def p_value(value: float | None) -> str:
    """Return a p-value as it is read, a dash where there is none.

    >>> p_value(0.0417), p_value(1e-9), p_value(None)
    ('0.042', '< 0.001', '–')
    """
    if value is None or math.isnan(value):
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def moment(text: str) -> str:
    """Return an ISO time to the minute.

    >>> moment("2005-02-13T02:00:00")
    '2005-02-13 02:00'
    """
    return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M}"


def day(text: str) -> str:
    """Return an ISO time's day without the year.

    >>> day("2005-03-10T18:00:00")
    '10 Mar'
    """
    at = datetime.fromisoformat(text)
    return f"{at.day} {_MONTHS[at.month - 1]}"


def share(value: float) -> str:
    """Return a share in percent.

    >>> share(0.0333), share(1.0)
    ('3.3 %', '100 %')
    """
    return f"{100 * value:.1f} %" if 0 < value < 0.1 else f"{100 * value:.0f} %"
