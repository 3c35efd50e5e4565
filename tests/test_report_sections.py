"""The sections of a report are a list: what is registered is shown in that order; what has nothing to show is left out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest

from airquality.ground.errors import UsageError
from airquality.reports import pages, sections
from airquality.reports.sections import SECTIONS, Section, Shown
from tests import stations
from tests.test_report_pages import NAV, QUIET, daily, document, read


def _operated(shown: Shown) -> Mapping[str, Any] | None:
    return {"said": "<toy>"} if shown.document["findings"] else None


#: A section of one's own, with its template; it shows itself where there are findings.
TOY = Section("toy", _operated, '<section id="toy"><p>{{ said }} of {{ report.station_id }}</p></section>\n')


def test_section_one_line_in_the_list_shows_it_in_that_order_and_leaves_out_one_without_values(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changed = document(daily(stations.changed(QUIET[:24], {"C6H6(GT)": 207.0})))
    before = read(pages.report(changed, NAV)).ids
    monkeypatch.setattr(sections, "SECTIONS", (*SECTIONS, "tests.test_report_sections:TOY"))
    quiet, found = pages.report(document(daily()), NAV), pages.report(changed, NAV)
    assert "toy" not in quiet
    assert read(found).ids == [*before, "toy"]
    assert "<p>&lt;toy&gt; of station_1</p>" in found  # escaped as in a template of a file


@pytest.mark.parametrize("place", SECTIONS)
def test_section_registered_has_a_template_of_its_own(place: str) -> None:
    assert sections.load(place).name == re.sub(r".*\.|:.*", "", place)


def test_section_that_is_not_there_is_named_with_what_to_write() -> None:
    with pytest.raises(UsageError, match=r"sections.nowhere:SECTION: nothing there .* name it as module:NAME"):
        sections.load("airquality.reports.sections.nowhere:SECTION")
