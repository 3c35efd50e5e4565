"""The pages: what they say first, that they are well formed, escaped and need nothing from anywhere, and stay small."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from airquality.monitoring import calibration
from airquality.monitoring.alarms import Event
from airquality.monitoring.calibration import SmallestShift
from airquality.monitoring.drift import Window
from airquality.monitoring.promise import Promise
from airquality.records import datetime_of, hour_of, hour_of_isoformat, isoformat
from airquality.reports import pages
from airquality.reports.document import Describer, drawn
from airquality.reports.evidence_page import framed
from airquality.reports.findings import findings_of
from airquality.reports.folder import ReportsFolder
from airquality.reports.nav import Explained, Nav
from airquality.reports.overview import overview, strip
from airquality.reports.pages import Card
from tests import stations, watched, whole_reports

NOW = datetime(2026, 1, 1)
QUIET = stations.values_of(168, seed=6)
VOID = {"meta", "link", "br", "img", "input", "hr"}
NAV = Nav("../index.html", "before.html", None, "../windows/w.html", "../history/h.html", "../evidently/e.html")


@functools.cache
def describer(judge_source: str) -> Describer:
    return Describer(stations.judge(judge_source))


def document(window: Window, source: str = "uci", judge_source: str = "uci") -> dict[str, Any]:
    return drawn(describer(judge_source).sidecar(window, source, "digest"), {}, [])


def daily(values: np.ndarray = QUIET[:24], station_id: str = "station_1") -> Window:
    return stations.windows_of(values, station_id=station_id)[0]


class Reader(HTMLParser):
    """Check that every element is closed, and keep what matters: links, ids, text, images without a name."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.headings: list[int] = []
        self.unnamed: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag not in VOID and tag != "path":
            self.open.append(tag)
        if "id" in found:
            self.ids.append(str(found["id"]))
        if tag in ("a", "link", "script", "img", "iframe"):
            self.links.append(str(found.get("href") or found.get("src") or ""))
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "svg" and not (found.get("aria-label") or found.get("aria-hidden")):
            self.unnamed.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID and tag != "path":
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def read(page: str) -> Reader:
    """Parse a page and assert what holds for all: closed elements, unique ids, headings in steps, nothing from outside."""
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    assert len(set(reader.ids)) == len(reader.ids)
    assert all(after - before <= 1 for before, after in zip(reader.headings, reader.headings[1:], strict=False))
    assert reader.headings.count(1) == 1
    assert reader.unnamed == []
    assert not re.search(r"https?:|//[a-z]", page)
    assert not any(link.startswith("/") for link in reader.links)
    return reader


def folder_of(tmp_path: Path, windows: Sequence[Window], source: str = "uci") -> ReportsFolder:
    """A reports folder with pages of one word, as a process finds it that looks for the first time."""
    folder = ReportsFolder(tmp_path)
    for window in windows:
        with folder.locked():
            whole_reports.put(folder, window, document(window, source))
    return ReportsFolder(tmp_path)


def index_of(
    folder: ReportsFolder, now: datetime = NOW, pages_due: int = 0, evidence_due: int = 0, promise: Promise | None = None
) -> str:
    with folder.locked():
        seen = overview(folder, now)
        until = max((station.latest.end for station in seen.stations), default="") if seen.live else ""
        cards = [Card(station, strip(folder, station, until)) for station in seen.stations[:8]]
        newest = folder.newest(40)
        due = {"pages_due": pages_due, "evidence_due": evidence_due}
        return pages.index(seen, cards, [], newest, len(folder), written=now, **due, n_listed=150, promise=promise)


# ---- the report ----


def worst_of(made: dict[str, Any]) -> str:
    errors = [abs(p - m) for m, p in zip(made["series"]["measured"], made["series"]["predicted"], strict=True)]
    return isoformat(hour_of_isoformat(made["start"]) + errors.index(max(errors)))


def test_report_names_the_command_that_rebuilds_its_largest_error() -> None:
    made = document(daily(station_id="roof x"))
    page = pages.report(made, NAV)
    assert f"--station &#39;roof x&#39; --hour {worst_of(made)} --page" in page
    assert "were explained" not in page


def test_report_links_what_was_explained_of_its_hours_instead_of_the_command() -> None:
    made = document(daily())
    explained = Explained(worst_of(made), "../replay/station_1/worst.html")
    page = pages.report(made, dataclasses.replace(NAV, explained=(explained,)))
    assert read(page).links.count(explained.link) == 2
    assert "airquality replay" not in page


def test_report_without_truths_names_no_largest_error() -> None:
    assert "largest error" not in pages.report(document(daily(stations.without(QUIET[:24], "CO(GT)"))), NAV)


def test_report_of_a_quiet_day_says_all_is_well_and_opens_nothing() -> None:
    page = pages.report(document(daily()), NAV)
    reader = read(page)
    assert "All is well" in page
    assert "<details open" not in page
    assert "What is wrong" not in page
    assert reader.links == ["../index.html", "before.html", "../windows/w.html", "../history/h.html", "../evidently/e.html"]
    assert "rows: uci, judged by: uci-360" in page
    assert "SIMULATED" not in page


def test_report_says_what_is_wrong_with_size_direction_unit_and_since() -> None:
    page = pages.report(document(daily(stations.changed(QUIET[:24], {"C6H6(GT)": 207.0}))), NAV)
    read(page)
    assert re.search(r"C6H6\(GT\) median \d+ µg/m³, normally \d+(\.\d)? µg/m³, \+\d+ %, since \d+ \w{3}", page)
    assert "▲" in page
    assert "Compare C6H6(GT) with a second instrument" in page
    found = page.partition("What is wrong")[2].partition("The hours of the day")[0]
    assert "C6H6(GT)</th>" in found
    assert "RH</th>" not in found


def test_report_plots_measured_and_predicted_on_a_clock() -> None:
    page = pages.report(document(daily()), NAV)
    first = page.partition("<figure>")[2].partition("</figure>")[0]
    assert "class='measured'" in first
    assert "class='predicted'" in first
    assert re.findall(r">(\d\d:00)<", first)
    assert page.index("<figure>") < page.index("<table>")


def test_report_of_rows_of_unknown_origin_names_rows_and_judge() -> None:
    assert "rows: unlabelled, judged by: uci-360" in pages.report(document(daily(), "unlabelled"), NAV)


@pytest.mark.parametrize(("rows", "judge"), [("simulated", "uci"), ("unlabelled", "simulated")])
def test_report_simulated_data_are_called_so_loudly(rows: str, judge: str) -> None:
    assert "SIMULATED DATA" in pages.report(document(daily(), rows, judge), NAV)


def test_report_station_name_does_not_turn_the_text_around() -> None:
    made = document(daily(station_id="roof\u202e\u2066 llew"))
    for page in (pages.report(made, NAV), framed("<html><head></head><body></body></html>", made, "..")):
        assert "roof\\u202e\\u2066 llew" in page
        assert not {"\u202e", "\u2066"} & set(page)


def test_report_station_name_is_text_and_not_markup() -> None:
    page = pages.report(document(daily(station_id="<script>alert('1')</script>")), NAV)
    read(page)
    assert "<script" not in page


def test_report_without_truth_and_of_a_silent_station_are_pages() -> None:
    no_truth = document(daily(stations.without(QUIET[:24], "CO(GT)")))
    silent = document(stations.windows_of(np.full((24, 13), np.nan), np.full(24, 2.5))[0])
    for found in (no_truth, silent):
        read(pages.report(found, NAV))
    assert "0 measured CO in this window are too few" in pages.report(no_truth, NAV)
    assert silent["state"] == "silent"
    assert "the station sent rows without any value for 24 h" in pages.report(silent, NAV)


def test_report_of_a_full_week_is_small() -> None:
    shifted = stations.changed(QUIET, {"T": 80.0, "RH": 80.0, "C6H6(GT)": 80.0})
    assert len(pages.report(document(stations.windows_of(shifted)[-1]), NAV)) < 200_000


# ---- the index ----


def test_index_of_nothing_is_a_page(tmp_path: Path) -> None:
    page = index_of(ReportsFolder(tmp_path))
    read(page)
    assert "No window has closed yet" in page


def test_index_opens_with_one_sentence_and_the_freshness(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, stations.windows_of(QUIET))
    page = index_of(folder, pages_due=3, evidence_due=5)
    read(page)
    last = f"{datetime_of(stations.FIRST_HOUR + 167):%Y-%m-%d %H:%M}"
    assert "<h1>All is well</h1>" in page
    assert f"Model version 1 · last hour judged {last} (station time) · page written 2026-01-01 00:00:00 UTC" in page
    assert "3 reports waiting, Evidently's plots of 5 still being made" in page


def test_index_station_in_need_comes_first_in_words(tmp_path: Path) -> None:
    shifted = stations.changed(QUIET, {"RH": 80.0})
    folder = folder_of(tmp_path, [*stations.windows_of(QUIET), *stations.windows_of(shifted, station_id="zebra")])
    page = index_of(folder)
    read(page)
    assert "<h1>1 of 2 stations needs attention</h1>" in page
    assert page.index("<h3>zebra") < page.index("<h3>station_1")
    card = page.partition("<h3>zebra")[2].partition("<h3>")[0]
    start = datetime_of(stations.FIRST_HOUR)
    assert re.search(rf"RH</strong> median [\d.]+ %, normally [\d.]+ %, .*\+[\d.]+ points</b>, since {start.day} ", card)
    assert "CO error" in card
    assert "Do:" in card


def test_index_fault_of_the_week_that_the_last_day_does_not_show_needs_attention(tmp_path: Path) -> None:
    values = QUIET.copy()
    values[:144] = stations.changed(values[:144], {"T": 80.0})
    page = index_of(folder_of(tmp_path, stations.windows_of(values)))
    read(page)
    assert "1 of 1 station needs attention" in page
    assert "Over the last whole week, though not on the last day" in page
    assert "<strong>T</strong> median" in page


def test_index_strip_shows_every_day_silent_ones_too(tmp_path: Path) -> None:
    values = stations.values_of(24 * 12, seed=6)
    hours = [hour for hour in range(24 * 12) if not 24 * 4 <= hour < 24 * 6]
    station = stations.new()
    windows: list[Window] = []
    rows = stations.readings_of(values)
    for hour in hours:
        windows += stations.observe(station, rows[hour], 2.5)
    folder = folder_of(tmp_path, [window for window in windows if window.kind.name == "daily"])
    with folder.locked():
        cells = strip(folder, overview(folder, NOW).stations[0])
    assert len(cells) == 12
    assert [number for number, cell in enumerate(cells) if cell.state == "silent"] == [4, 5]
    assert [bool(cell.href) for cell in cells] == [number not in (4, 5) for number in range(12)]


def test_index_station_that_stays_away_needs_attention_where_data_are_live(tmp_path: Path) -> None:
    windows = [*stations.windows_of(QUIET), *stations.windows_of(QUIET[:24], station_id="gone")]
    folder = folder_of(tmp_path, windows)
    end = datetime_of(stations.FIRST_HOUR + 167)
    live, replay = index_of(folder, end), index_of(folder, NOW)
    assert "sent no rows for 144 h while others do" in live
    assert "1 of 2 stations needs attention" in live
    assert "All is well" in replay


def test_index_page_deleted_by_hand_is_no_link(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, stations.windows_of(QUIET[:48]))
    gone = sorted(tmp_path.glob("daily/*.html"))[0]
    gone.unlink()
    page = index_of(ReportsFolder(tmp_path))
    del folder
    assert gone.name not in page
    assert "(page deleted)" in page


@pytest.mark.slow
def test_index_of_many_stations_with_many_findings_is_small(tmp_path: Path) -> None:
    bad = stations.changed(QUIET[:24], dict.fromkeys(("T", "RH", "AH", "C6H6(GT)", "PT08.S1(CO)", "NO2(GT)"), 900.0))
    window = daily(bad)
    windows = [replace(window, station_id=f"station with a long name {number}") for number in range(170)]
    page = index_of(folder_of(tmp_path, windows))
    read(page)
    assert len(page) < 200_000
    assert "170 of 170 stations need attention" in page


# ---- month and window ----


def test_month_lists_windows_newest_first_with_silent_days(tmp_path: Path) -> None:
    windows = [window for window in stations.windows_of(QUIET) if window.kind.name == "daily"]
    folder = folder_of(tmp_path, [*windows[:2], *windows[4:]])
    with folder.locked():
        entries = folder.of("station_1", "daily")
        page = pages.month("history/2004-03.html", entries, "history/2004-02.html", None)
    reader = read(page)
    assert page.count(">silent</span>") == 2
    assert "../history/2004-02.html" in reader.links
    ends = re.findall(r"<th scope=\"row\">(?:<a[^>]*>)?(\d{4}-\d\d-\d\d)", page)
    assert ends == sorted(ends, reverse=True)
    assert len(ends) == 7


def test_window_lists_its_stations_worst_first(tmp_path: Path) -> None:
    quiet = daily()
    windows = [quiet, replace(daily(stations.changed(QUIET[:24], {"RH": 80.0})), station_id="roof")]
    folder = folder_of(tmp_path, windows)
    with folder.locked():
        entries = folder.same_window("daily", document(quiet)["end"])
        page = pages.window("windows/x.html", entries, 200)
    reader = read(page)
    assert page.index("roof") < page.index("station_1")
    assert any("daily/roof/" in link for link in reader.links)


def test_index_says_what_would_be_seen_beside_the_rate_of_false_alarms(tmp_path: Path) -> None:
    shifts = tuple(SmallestShift(hours, hours * 10.0, -hours / 10, "degC") for hours in (8, 24, 72, 168))
    end = hour_of(datetime.fromisoformat(document(daily())["end"]))
    promise = Promise("", end - 3 * 168, 1.0, 0.894, 1.04, {"T": shifts, "CO(GT)": (SmallestShift(336, 19.0, -32.0, "%"),)})
    text = index_of(folder_of(tmp_path, [daily()]), promise=promise)
    read(text)
    assert "at most 1 false page a month: 0.89 on months held out, 1.04" in text
    assert '<th scope="row">T</th><td>+240 / −2.4 °C</td><td>+1680 / −17 °C</td>' in text
    assert '<th scope="row">CO(GT)</th><td>–</td><td>+19 / −32 % (after 336 h)</td>' in text
    assert "thresholds 3.0 weeks old<" in text


@pytest.mark.parametrize(("weeks", "stale"), [(13, False), (14, True), (1100, True)])
def test_index_says_when_the_thresholds_are_too_old_for_the_rows(tmp_path: Path, weeks: int, stale: bool) -> None:
    end = hour_of(datetime.fromisoformat(document(daily())["end"]))
    text = index_of(folder_of(tmp_path, [daily()]), promise=Promise(last_hour=end - weeks * 168))
    assert ("older than 13 weeks, make them anew" in text) is stale


def test_index_says_why_the_detectors_are_off(tmp_path: Path) -> None:
    text = index_of(folder_of(tmp_path, [daily()]), promise=Promise("3.1 months of history are too few"))
    assert "Nothing is judged hour by hour: the detectors are off. 3.1 months of history are too few" in text
    assert "weeks old" not in text


def test_promise_read_is_what_the_calibration_wrote(tmp_path: Path) -> None:
    made = watched.calibration()
    calibration.write(made, tmp_path)
    found = Promise.read(tmp_path, 1.5)
    assert (found.why_off, found.last_hour, found.budget) == ("", made.last_hour, 1.0)
    assert found.smallest is not None
    assert found.smallest["T"][0] == made.smallest_shifts()["T"][0]
    assert found.age_hours(made.last_hour + 30) == 30


def test_promise_of_a_short_history_or_none_says_why_it_is_off(tmp_path: Path) -> None:
    assert "detectors.json is absent or cannot be read" in Promise.read(tmp_path, 1.0).why_off
    calibration.write_refusal("3.1 months are too few", tmp_path)
    assert Promise.read(tmp_path, 1.0).why_off == "3.1 months are too few"


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (Event("opened", "stuck", "RH", 30, 27, 83.0, "%"), "RH is stuck at 83 %, since 2 Jan"),
        (
            Event("opened", "missing", "RH", 30, 27, 12.0, "h of 24"),
            "RH is missing while the others report, 12 h of 24",
        ),
        (
            Event("opened", "level", "T", 30, 27, -4.5, "°C"),
            "T is off the level the other sensors tell, −4.50 °C",
        ),
        (Event("changed", "level", "T", 30, 27, 4.5, "°C", "ann", 29), "(acknowledged by ann, 1970-01-02 05:00), +4.50 °C"),
    ],
)
def test_alarm_finding_says_a_shift_with_its_sign_and_anything_else_without(event: Event, said: str) -> None:
    found = findings_of(replace(daily(), alarms=(event,)), stations.judge("uci"))
    (alarm,) = [finding for finding in found if finding.key.startswith("alarm:")]
    assert said in alarm.sentence()
