"""The sections of a window's report, in the order of the page. One more is a module and a line in SECTIONS.

A section says from the window's document what its template is given: ``templates/sections/<name>.html``, or a text of its
own. The template also has the document itself, as ``report``. A section that has nothing to show leaves itself out.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from airquality.ground import places
from airquality.reports.document import Sidecar
from airquality.reports.nav import Nav
from airquality.reports.rendering import page, page_of

SECTIONS = (
    "airquality.reports.sections.learning:SECTION",
    "airquality.reports.sections.operations:SECTION",
    "airquality.reports.sections.target:SECTION",
    "airquality.reports.sections.wrong:SECTION",
    "airquality.reports.sections.profiles:SECTION",
    "airquality.reports.sections.figures:SECTION",
    "airquality.reports.sections.evidence:SECTION",
)


@dataclass(frozen=True, slots=True)
class Shown:
    """A window that is shown.

    Attributes:
        document: Its sidecar.
        nav: Its links; None for a page without others beside it.
        evidence: Evidently's page, for a page that holds it inside.
    """

    document: Sidecar
    nav: Nav | None
    evidence: str | None


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a report: its name, and what its template is given; None leaves the section out.

    ``template`` is the template itself, where it is not the file of the section's name.
    """

    name: str
    values: Callable[[Shown], Mapping[str, Any] | None]
    template: str = ""


@functools.cache
def load(place: str) -> Section:
    """Return a registered section."""
    section = places.load(place)
    assert isinstance(section, Section), f"{place} is no Section"
    return section


def rendered(shown: Shown) -> list[Markup]:
    """Return the sections of a window's report, as far as they have something to show."""
    given = [(section, section.values(shown)) for section in map(load, SECTIONS)]
    return [_render(section, shown, values) for section, values in given if values is not None]


def _render(section: Section, shown: Shown, values: Mapping[str, Any]) -> Markup:
    given = {"report": shown.document, **values}
    html = page_of(section.template, **given) if section.template else page(f"sections/{section.name}.html", **given)
    return Markup(html.strip())
