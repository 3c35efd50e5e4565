"""The templates: Jinja2, everything escaped, what is not given is an error. Filters say figures and times in words."""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template, UndefinedError
from markupsafe import Markup

from airquality.monitoring.calibration import STALE_HOURS
from airquality.monitoring.promise import Promise
from airquality.network.current import NETWORK
from airquality.records import hour_of_isoformat, isoformat
from airquality.reports import figures
from airquality.reports.paths import link
from airquality.reports.plots import Band, Line, described, profile_plot

#: Marks that say in which direction text runs (Unicode Standard Annex 9).
_TURNS = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_TEMPLATES = Path(__file__).with_name("templates")


def page(template: str, **values: Any) -> str:
    """Return a template filled in; raises ``LookupError`` where something that it needs is not there."""
    return _filled(_environment().get_template(template), values)


def page_of(source: str, **values: Any) -> str:
    """Return a template that is given as text, filled in; raises ``LookupError`` as :func:`page`."""
    return _filled(_environment().from_string(source), values)


def _filled(template: Template, values: Mapping[str, Any]) -> str:
    try:
        return template.render(values)
    except UndefinedError as error:
        raise LookupError(str(error)) from error


@functools.lru_cache(maxsize=1)
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_unturned,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters.update(
        figure=figures.figure,
        measured=figures.measured,
        signed=figures.signed,
        p_value=figures.p_value,
        share=figures.share,
        moment=figures.moment,
        day=figures.day,
        shell=shlex.quote,
        css=lambda state: state.replace(" ", "-"),
        change=_change,
        hour=lambda hour: figures.moment(isoformat(hour)),
        age=_age,
        profile_plot=_profile,
    )
    made.globals.update(
        target=NETWORK.target.spoken,
        unit=NETWORK.target.unit,
        link=link,
        style=Markup((_TEMPLATES / "pages.css").read_text()),
    )
    return made


def _unturned(value: Any) -> Any:
    """Return a text without what turns the text around it: a station's name may hold it, and shows it by its number."""
    return _TURNS.sub(lambda found: f"\\u{ord(found[0]):04x}", value) if type(value) is str else value


def _age(end: str, promise: Promise) -> str:
    """Say how old the thresholds are at the end of a window, in words."""
    hour = hour_of_isoformat(end)
    weeks = promise.age_hours(hour) / 168
    stale = f": older than {STALE_HOURS // 168} weeks, make them anew" if promise.is_stale(hour) else ""
    return f"thresholds {weeks:.1f} weeks old{stale}" if weeks < 100 else f"thresholds {weeks:,.0f} weeks old{stale}"


def _change(column: Mapping[str, Any]) -> str:
    """Say how far the median is from normal, with the direction."""
    now, normal, unit = column["median"], column["normal"], column["unit"]
    if now is None or normal is None:
        return "–"
    arrow = "▲" if now > normal else "▼" if now < normal else ""
    if unit in ("°C", "%") or normal <= 0:
        return f"{arrow} {figures.signed(now - normal, 'points' if unit == '%' else unit)}".strip()
    return f"{arrow} {figures.signed(100 * (now / normal - 1), '%')}".strip()


def _profile(column: Mapping[str, Any]) -> Markup:
    profile, unit = column["profile"], column["unit"]
    lines = [Line("this window", "now", profile["now"]), Line("normal", "usual", profile["normal"])]
    band = Band("8 of 10 normal hours", profile["low"], profile["high"])
    return profile_plot(f"By hour of the day: {described(lines, unit)}", unit, lines, band)
