"""Reports link to the pages that a person asked for, once they are there."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from airquality.reports import paths
from airquality.reports.asked import link_from_reports, nav_of
from airquality.reports.folder import ReportsFolder
from tests import stations
from tests.test_report_pages import QUIET, folder_of, read


@pytest.fixture
def folder(tmp_path: Path) -> ReportsFolder:
    """Two days of a station, each with its report."""
    return folder_of(tmp_path, stations.windows_of(QUIET[:48]))


def hour(folder: ReportsFolder, day: int, index: int) -> str:
    """The ISO time of an hour of the first or the second day."""
    with folder.locked():
        start = datetime.fromisoformat(folder.of("station_1", "daily")[day].document["start"])
    return (start + timedelta(hours=index)).isoformat()


def test_link_from_reports_links_from_the_window_that_holds_the_hour_and_no_other(
    folder: ReportsFolder, tmp_path: Path
) -> None:
    moment = hour(folder, 1, 0)
    page = paths.prediction_page("station_1", moment)
    (tmp_path / page).parent.mkdir(parents=True)
    (tmp_path / page).write_text("explained")
    assert link_from_reports(tmp_path, "station_1", moment) == 1
    with folder.locked():
        before, after = (tmp_path / entry.path for entry in folder.of("station_1", "daily"))
    assert before.read_text() == "page"
    [link] = {link for link in read(after.read_text()).links if "replay/" in link}
    assert (after.parent / link).resolve() == tmp_path / page


@pytest.mark.parametrize(("index", "windows"), [(-1, 1), (0, 1), (23, 1), (24, 0)])
def test_link_from_reports_takes_both_ends_of_a_window_in(
    folder: ReportsFolder, tmp_path: Path, index: int, windows: int
) -> None:
    assert link_from_reports(tmp_path, "station_1", hour(folder, 1, index)) == windows


def test_link_from_reports_where_no_reports_are_makes_nothing(tmp_path: Path) -> None:
    assert link_from_reports(tmp_path, "station_1", "2005-03-01T08:00:00") == 0
    assert list(tmp_path.iterdir()) == []


def test_nav_of_a_window_without_explained_hours_links_none(folder: ReportsFolder, tmp_path: Path) -> None:
    with folder.locked():
        [entry] = folder.of("station_1", "daily", 1)
        assert nav_of(tmp_path, folder, entry.path, entry).explained == ()
