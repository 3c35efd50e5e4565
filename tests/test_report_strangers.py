"""Reports that somebody deletes or damages while reports are being made: each costs its own page, and no other."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from airquality.monitoring.drift import Window
from airquality.records import isoformat
from airquality.reports import export, pages_around
from airquality.reports.asked import link_from_reports
from airquality.reports.due import Due, DueFolder
from airquality.reports.evidence_page import Evidence
from airquality.reports.writer import ReportWriter
from tests import stations

DAYS = [window for window in stations.windows_of(stations.values_of(96, seed=6)) if window.kind.name == "daily"]


class Pages:
    """Writes pages in this process, one window after the other."""

    def __init__(self, reports_dir: Path) -> None:
        self.due = DueFolder(reports_dir)
        self.writer = ReportWriter(reports_dir, stations.judge())

    def write(self, day: int) -> Path:
        self.due.store(DAYS[day])
        [page] = self.writer.write([Due.of(DAYS[day])])
        return page


def delete(page: Path) -> None:
    page.unlink()
    page.with_suffix(".json").unlink()


def empty(page: Path) -> None:
    page.with_suffix(".json").write_bytes(b"")


def change(name: str, value: object) -> Callable[[Path], None]:
    def damage(page: Path) -> None:
        sidecar = page.with_suffix(".json")
        sidecar.write_text(json.dumps({**json.loads(sidecar.read_bytes()), name: value}))

    return damage


FINDING = {
    "key": "k", "column": "T", "what": "is odd", "size": None, "unit": "", "direction": "", "since": "2005-02-13T02:00:00",
    "advice": "Look.", "weight": 1.0,
}  # fmt: skip
DAMAGES: dict[str, Callable[[Path], None]] = {
    "deleted": delete,
    "empty": empty,
    "finding of text": change("findings", [{**FINDING, "weight": "heavy"}]),
    "finding since when": change("findings", [{**FINDING, "since": "some day"}]),
    "no figures": change("performance", {}),
    "error judged of none": change("performance", {"rmse": None, "mae": None, "r2": None, "n": 24}),
    "learning until never": change("learning", {"T": "never"}),
    "operations of one": change("operations", [["2005-02-13T02:00:00"]]),
    "series null": change("series", {"measured": None, "predicted": None}),
    "columns null": change("columns", None),
    "series gone": change("series", {}),
    "series short": change("series", {"measured": [1.0], "predicted": [1.0]}),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
def test_writer_neighbour_deleted_or_damaged_costs_no_other_report(
    tmp_path: Path, damage: str, restarted: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages_around, "INDEX_SECONDS", -1.0)
    pages = Pages(tmp_path)
    first = pages.write(0)
    DAMAGES[damage](first)
    if restarted:
        pages = Pages(tmp_path)
    with caplog.at_level(logging.WARNING):
        made = [pages.write(1), pages.write(2)]
    assert [page.is_file() for page in made] == [True, True]
    assert pages.due.count()["page"] == 0
    index = (tmp_path / "index.html").read_text()
    assert all(f"daily/{page.name}" in index for page in made)
    assert sum("is damaged" in record.getMessage() for record in caplog.records) <= 1


@pytest.mark.parametrize("damage", DAMAGES)
def test_export_and_links_of_a_damaged_report_are_refused_in_words(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    page = Pages(tmp_path).write(0)
    DAMAGES[damage](page)
    out = tmp_path / "out.html"
    assert export.main(["export", str(page), "--out", str(out)]) == (0 if damage == "series short" else 2)
    assert "Traceback" not in capsys.readouterr().err
    linked = link_from_reports(tmp_path, DAYS[0].station_id, isoformat(DAYS[0].start_hour))
    assert linked == (1 if out.exists() else 0)


@pytest.mark.parametrize("damage", ["deleted", "empty"])
def test_writer_report_deleted_or_damaged_while_its_plots_wait_is_waited_for_no_longer(tmp_path: Path, damage: str) -> None:
    pages = Pages(tmp_path)
    DAMAGES[damage](pages.write(0))
    pages.writer.draw(Due.of(DAYS[0]).then("evidence"), NeverAsked())
    assert pages.due.count() == {}


class NeverAsked:
    """Draws nothing: nobody may ask it."""

    def draw(self, window: Window) -> Evidence:
        raise AssertionError("nobody waits for these plots")
