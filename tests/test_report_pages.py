"""The index: every window, newest first, with its verdict, its error beside the baseline, and a link that works."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np

from airquality.monitoring.drift import Window
from airquality.reports import pages
from airquality.reports.folder import Entry
from tests import stations


def entry(window: Window, data_source: str = "uci") -> Entry:
    calibration = replace(stations.judge().calibration, data_source=data_source)
    return Entry(f"{window.kind.name}/{window.end_hour}.html", pages.sidecar(window, calibration, {}, [], "digest"))


def entries(values: np.ndarray, station_id: str = "station_1") -> list[Entry]:
    return [entry(window) for window in reversed(stations.windows_of(values, station_id=station_id))]


def index(made: Sequence[Entry]) -> str:
    return pages.index(made, len(made))


class Balance(HTMLParser):
    """Count the elements that are opened and never closed, cells and rows aside, whose end tags HTML lets go."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in {"meta", "hr", "td", "th", "tr"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag != "tr":
            assert self.open.pop() == tag


def test_pages_are_well_formed_and_need_no_assets() -> None:
    made = entries(stations.values_of(168, seed=6))
    for page in (index(made), *(pages.header(entry.document) for entry in made)):
        parser = Balance()
        parser.feed(page)
        assert parser.open == []
        assert "http" not in page
        assert "src=" not in page


def test_every_window_is_listed_newest_first() -> None:
    made = entries(stations.values_of(400, seed=6))
    page = index(made)
    ends = re.findall(r"<tr><td>\w+<td class='l'><a href='([^']+)'>([^<]+)<", page)
    assert len(ends) == len(made) == 18
    assert [moment for _, moment in ends] == sorted((moment for _, moment in ends), reverse=True)
    assert {path for path, _ in ends} == {entry.path for entry in made}


def test_a_row_tells_the_verdict_the_error_and_the_baseline() -> None:
    values = stations.values_of(24, seed=6)
    made = entries(stations.without(stations.changed(values, {"T": 80.0}), "RH", "CO(GT)"))
    page = index(made)
    assert "data drift: T" in page
    assert "silent: CO(GT), RH" in page
    assert "error not judged" in page
    assert f"<td>–<td>{made[0].document['baseline']['rmse']:.3f}<td>0" in page


def test_a_window_in_order_says_so() -> None:
    page = index(entries(stations.values_of(24, seed=6)))
    assert "nothing found" in page
    assert "SIMULATED" not in page


def test_one_simulated_window_is_enough_for_the_banner_and_is_named() -> None:
    window = stations.windows_of(stations.values_of(24, seed=6))[0]
    page = index([entry(window, "simulated"), entry(window)])
    assert "SIMULATED DATA" in page
    assert page.count(">simulated</span>") == 1
    assert "SIMULATED DATA" in pages.header(entry(window, "simulated").document)


def test_an_index_of_nothing_is_a_page() -> None:
    assert "No window has closed yet" in index([])


def test_each_station_and_kind_has_its_chart() -> None:
    made = [*entries(stations.values_of(168, seed=6)), *entries(stations.values_of(24, seed=6), "other")]
    page = index(made)
    assert page.count("<svg") == 3
    assert page.count("<rect") == 9


def test_a_long_history_is_cut_and_says_so() -> None:
    window = entry(stations.windows_of(stations.values_of(24, seed=6))[0])
    page = pages.index([window] * 10, 13)
    assert page.count("<tr><td>daily") == 10
    assert "3 older reports" in page
