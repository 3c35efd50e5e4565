"""Line plots as inline SVG: small, without code, in the page's own colours, twice: for narrow and for wide screens.

Text in an SVG shrinks with it, so a plot that is to be read at 390 px is drawn for 390 px. The style sheet shows one of the
two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from markupsafe import Markup

from airquality.reports.figures import day, figure

Values = Sequence[float | None]

_HEIGHT = 190.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 34.0, 8.0, 10.0, 24.0
_DAY_WIDTH = 56.0  # of a day's name on the axis
_WIDTHS = {"narrow": 350.0, "wide": 1080.0}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a plot: its name in the legend, its CSS class, and a value an hour, None where there is none."""

    name: str
    style: str
    values: Values


@dataclass(frozen=True, slots=True)
class Band:
    """A shaded range behind the lines, by hour."""

    name: str
    low: Values
    high: Values


def clock_plot(title: str, unit: str, start: str, lines: Sequence[Line], band: Band | None = None) -> Markup:
    """Return a plot over time, one value an hour from ISO time ``start`` on, with the hours or days on its axis."""
    n_hours = max(len(line.values) for line in lines)
    return _both(title, unit, n_hours, lines, band, datetime.fromisoformat(start))


def profile_plot(title: str, unit: str, lines: Sequence[Line], band: Band) -> Markup:
    """Return a plot over the 24 hours of the day, narrow, with the normal range behind."""
    return _legend(lines, band) + _svg("narrow only", title, unit, 24, lines, band, None)


def _both(title: str, unit: str, n_hours: int, lines: Sequence[Line], band: Band | None, start: datetime | None) -> Markup:
    drawn = (_svg(size, title, unit, n_hours, lines, band, start) for size in _WIDTHS)
    return _legend(lines, band) + Markup("").join(drawn)


def _legend(lines: Sequence[Line], band: Band | None) -> Markup:
    items = [_key(f"<path class='{line.style}' d='M0 4H26'/>", line.name) for line in lines]
    if band is not None:
        items.append(_key("<path class='band' d='M0 0H26V8H0Z'/>", band.name))
    return Markup("<ul class='legend'>{}</ul>").format(Markup("").join(items))


def _key(drawn: str, name: str) -> Markup:
    key = "<li><svg class='key' viewBox='0 0 26 8' aria-hidden='true'>{}</svg>{}</li>"
    return Markup(key).format(Markup(drawn), name)


@dataclass(frozen=True, slots=True)
class _Scale:
    """From hours and values to places in the drawing."""

    width: float
    n_hours: int
    low: float
    high: float

    def x(self, hour: float) -> float:
        return _LEFT + (self.width - _LEFT - _RIGHT) * hour / max(self.n_hours - 1, 1)

    def y(self, value: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1.0 - (value - self.low) / (self.high - self.low))


def _svg(
    size: str, title: str, unit: str, n_hours: int, lines: Sequence[Line], band: Band | None, start: datetime | None
) -> Markup:
    width = _WIDTHS[size.split()[0]]
    series = [line.values for line in lines] + ([band.low, band.high] if band else [])
    ticks = _ticks([value for values in series for value in values if value is not None])
    scale = _Scale(width, n_hours, ticks[0], ticks[-1])
    marks = _hours_of_day(width) if start is None else _clock(start, n_hours, width)
    body = Markup("").join(
        (
            _grid(scale, ticks, unit),
            _axis(scale, marks),
            _area(scale, band) if band else Markup(""),
            *(_path(scale, line) for line in lines),
        )
    )
    head = "<svg class='plot {}' viewBox='0 0 {:.0f} {:.0f}' role='img' aria-label='{}'>{}</svg>"
    return Markup(head).format(size, width, _HEIGHT, title, body)


def _ticks(values: Sequence[float]) -> list[float]:
    """Return four to six round values that enclose all ``values``.

    >>> _ticks([0.3, 4.1]), _ticks([]), _ticks([-3.0, 12.0])
    ([0.0, 2.0, 4.0, 6.0], [0.0, 1.0], [-5.0, 0.0, 5.0, 10.0, 15.0])
    """
    if not values:
        return [0.0, 1.0]
    low, high = min(*values, 0.0) if min(values) < 0.4 * max(values) else min(values), max(values)
    step = _round_step((high - low) / 4 or abs(high) / 4 or 1.0)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(step * number, 10) for number in range(first, max(last, first + 1) + 1)]


def _round_step(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next(power * factor for factor in (1.0, 2.0, 5.0, 10.0) if power * factor >= step * 0.999)


def _grid(scale: _Scale, ticks: Sequence[float], unit: str) -> Markup:
    parts = []
    for tick in ticks:
        y = scale.y(tick)
        parts.append(
            Markup("<path class='grid' d='M{:.0f} {:.1f}H{:.0f}'/><text class='y' x='{:.0f}' y='{:.1f}'>{}</text>").format(
                _LEFT, y, scale.width - _RIGHT, _LEFT - 5, y + 4, f"{tick:g}"
            )
        )
    if unit:
        parts.append(Markup("<text x='{:.0f}' y='{:.0f}'>{}</text>").format(_LEFT + 4, _TOP + 4, unit))
    return Markup("").join(parts)


def _axis(scale: _Scale, marks: Sequence[tuple[int, str]]) -> Markup:
    parts = [
        Markup("<path class='grid' d='M{:.1f} {:.0f}V{:.0f}'/><text class='{}' x='{:.1f}' y='{:.0f}'>{}</text>").format(
            scale.x(hour), _TOP, _HEIGHT - _BOTTOM, "end" if scale.x(hour) > scale.width - 30 else "x",
            scale.x(hour), _HEIGHT - 7, text,
        )
        for hour, text in marks
    ]  # fmt: skip
    return Markup("").join(parts)


def _clock(start: datetime, n_hours: int, width: float) -> list[tuple[int, str]]:
    """Return (hour, text) of the marks of a clock axis: days where there are many hours, else every third or sixth hour."""
    hours = [start + timedelta(hours=hour) for hour in range(n_hours)]
    if n_hours > 48:
        midnights = [(hour, at) for hour, at in enumerate(hours) if at.hour == 0]
        every = max(1 if width > 500 else 2, math.ceil(len(midnights) * _DAY_WIDTH / (width - _LEFT - _RIGHT)))
        return [(hour, day(at.isoformat())) for hour, at in midnights[::every]]
    step = 3 if width > 500 else 6
    return [(hour, f"{at:%H:%M}") for hour, at in enumerate(hours) if at.hour % step == 0]


def _hours_of_day(width: float) -> list[tuple[int, str]]:
    return [(hour, f"{hour:02d}:00") for hour in range(0, 24, 3 if width > 500 else 6)]


def _path(scale: _Scale, line: Line) -> Markup:
    """Draw a line that breaks where a value is missing; a value between two missing ones is a dot."""
    parts, values = [], line.values
    for hour, value in enumerate(values):
        if value is None:
            continue
        before = hour > 0 and values[hour - 1] is not None
        after = hour + 1 < len(values) and values[hour + 1] is not None
        place = f"{scale.x(hour):.1f} {scale.y(value):.1f}"
        parts.append(f"L{place}" if before else f"M{place}")
        if not before and not after:
            parts.append("h.01")
    return Markup("<path class='{}' d='{}'/>").format(line.style, "".join(parts)) if parts else Markup("")


def _area(scale: _Scale, band: Band) -> Markup:
    """Shade the range, each stretch of hours that has one by itself."""
    parts, stretch = [], list[tuple[int, float, float]]()
    for hour, (low, high) in enumerate([*zip(band.low, band.high, strict=True), (None, None)]):
        if low is not None and high is not None:
            stretch.append((hour, low, high))
        elif stretch:
            above = [f"{scale.x(at):.1f} {scale.y(top):.1f}" for at, _, top in stretch]
            below = [f"{scale.x(at):.1f} {scale.y(bottom):.1f}" for at, bottom, _ in reversed(stretch)]
            parts.append(f"M{'L'.join([*above, *below])}Z")
            stretch = []
    return Markup("<path class='band' d='{}'/>").format("".join(parts))


def described(lines: Sequence[Line], unit: str) -> str:
    """Return the plot in words, for those who cannot see it: the range of each line."""
    parts = []
    for line in lines:
        values = [value for value in line.values if value is not None]
        if values:
            parts.append(f"{line.name} from {figure(min(values))} to {figure(max(values))} {unit}".rstrip())
    return "; ".join(parts) or "no values"
