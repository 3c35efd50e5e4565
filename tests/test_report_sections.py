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
    return {"operations": [[shown.document["end"], "toy"]]} if shown.document["findings"] else None


#: A section of one's own, under a template that is there; it shows itself where there are findings.
TOY = Section("operations", _operated)


def test_section_one_line_in_the_list_shows_it_where_it_stands_and_leaves_it_out_where_it_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sections, "SECTIONS", (*SECTIONS, "tests.test_report_sections:TOY"))
    quiet = pages.report(document(daily()), NAV)
    found = pages.report(document(daily(stations.changed(QUIET[:24], {"C6H6(GT)": 207.0}))), NAV)
    assert "toy" not in quiet
    assert read(found).ids == ["target", "found", "profile", "figures", "evidence", "operations"]


@pytest.mark.parametrize("place", SECTIONS)
def test_section_registered_has_a_template_of_its_own(place: str) -> None:
    assert sections.load(place).name == re.sub(r".*\.|:.*", "", place)


def test_section_that_is_not_there_is_named_with_what_to_write() -> None:
    with pytest.raises(UsageError, match=r"sections.nowhere:SECTION: nothing there .* name it as module:NAME"):
        sections.load("airquality.reports.sections.nowhere:SECTION")
