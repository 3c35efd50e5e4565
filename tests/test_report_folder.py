"""The reports folder: what is not ours is skipped and named once, no file moves, the cost of a report does not grow."""

from __future__ import annotations

import functools
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airquality.monitoring.drift import Window
from airquality.records import datetime_of
from airquality.reports import folder as reports_folder
from airquality.reports.document import Describer
from airquality.reports.folder import ReportsFolder, folder_name
from airquality.reports.heads import LAYOUT
from airquality.reports.lock import OWN_FOLDER
from tests import stations, whole_reports

VALUES = stations.values_of(48, seed=6)
WINDOWS = stations.windows_of(VALUES)
#: The name of the later window's report, without its ending.
LATER = f"daily_{datetime_of(WINDOWS[1].end_hour):%Y%m%d_%H%M%S}"


@functools.cache
def describer() -> Describer:
    return Describer(stations.judge())


def put(folder: ReportsFolder, window: Window, digest: str = "digest") -> Path:
    """Write the report of a window, as the writer does, with a page of one word."""
    document = describer().sidecar(window, "uci", digest)
    with folder.locked():
        return whole_reports.put(folder, window, document)


def listed(reports_dir: Path) -> list[str]:
    """The pages that a process finds which has never looked before."""
    folder = ReportsFolder(reports_dir)
    with folder.locked():
        return [entry.path for entry in folder.newest(100)]


def of(station_id: str, window: Window = WINDOWS[0]) -> Window:
    return replace(window, station_id=station_id)


STRANGERS: dict[str, bytes] = {
    "daily/notes.json": b"{}",
    "daily/._daily_20050213_020000.json": b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X",
    "daily/daily_20050213_020000.json": b"",
    "daily/daily_20050214_020000.json": b"[]",
    "daily/daily_20050215_020000.json": b'{"digest": "x"}',
    "daily/daily_20050216_020000.json": b"\xff\xfe",
    "weekly/roof/weekly_20050216_020000.json": b"null",
    "daily/.DS_Store": b"Bud1",
}


@pytest.mark.parametrize("name", STRANGERS)
def test_folder_foreign_file_is_skipped_and_named_once(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_bytes(STRANGERS[name])
    folder = ReportsFolder(tmp_path)
    with caplog.at_level(logging.WARNING):
        pages_put = [put(folder, window) for window in WINDOWS]
    assert [page.exists() for page in pages_put] == [True, True]
    assert len([record for record in caplog.records if repr(name) in record.getMessage()]) == 1
    assert len(listed(tmp_path)) == 2
    assert (tmp_path / name).read_bytes() == STRANGERS[name]


def test_folder_unreadable_sidecar_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "daily").mkdir()
    (tmp_path / "daily" / "daily_20050213_020000.json").symlink_to("nowhere")
    put(ReportsFolder(tmp_path), WINDOWS[0])
    assert len(listed(tmp_path)) == 1


@pytest.mark.parametrize("name", ["daily/loop", "daily/roof/loop"])
def test_folder_link_in_a_circle_is_a_stranger_and_stops_no_report(tmp_path: Path, name: str) -> None:
    for window in (WINDOWS[0], of("roof")):
        put(ReportsFolder(tmp_path), window)
    (tmp_path / name).symlink_to("loop")
    assert len(listed(tmp_path)) == 2
    put(ReportsFolder(tmp_path), of("roof", WINDOWS[1]))
    assert len(listed(tmp_path)) == 3


def test_folder_sidecar_copied_elsewhere_is_not_a_second_report(tmp_path: Path) -> None:
    page = put(ReportsFolder(tmp_path), WINDOWS[0])
    copy = tmp_path / "daily" / "backup"
    copy.mkdir()
    (copy / page.with_suffix(".json").name).write_bytes(page.with_suffix(".json").read_bytes())
    assert len(listed(tmp_path)) == 1


@pytest.mark.parametrize(
    "station_id", ["roof2.json", "roof.HTML", ".hidden", "..", "a/../b", f"{LATER}.json", f"{LATER}.html", "ü", "x" * 255]
)
def test_folder_station_of_any_name_has_its_reports(tmp_path: Path, station_id: str) -> None:
    folder = ReportsFolder(tmp_path)
    put(folder, WINDOWS[0])
    page = put(folder, of(station_id))
    assert page.parent == tmp_path / "daily" / folder_name(station_id)
    assert put(folder, WINDOWS[1]).exists()
    assert len(listed(tmp_path)) == 3
    assert not folder_name(station_id).startswith(".")


def test_folder_first_station_stays_flat_when_others_come(tmp_path: Path) -> None:
    folder = ReportsFolder(tmp_path)
    first = put(folder, of("first"))
    assert first.parent == tmp_path / "daily"
    assert put(folder, of("second")).parent == tmp_path / "daily" / "second"
    assert put(ReportsFolder(tmp_path), of("first", WINDOWS[1])).parent == tmp_path / "daily"
    assert first.exists()


@pytest.mark.parametrize("loss", ["flat files", "what is known"])
def test_folder_first_station_stays_flat_after_a_loss(tmp_path: Path, loss: str) -> None:
    first = put(ReportsFolder(tmp_path), of("first"))
    put(ReportsFolder(tmp_path), of("second"))
    if loss == "flat files":
        first.unlink()
        first.with_suffix(".json").unlink()
    else:
        (tmp_path / OWN_FOLDER / "folder.json").write_text("{")
    assert put(ReportsFolder(tmp_path), of("second", WINDOWS[1])).parent.name == "second"
    if loss == "flat files":
        assert put(ReportsFolder(tmp_path), of("third")).parent.name == "third"
    assert put(ReportsFolder(tmp_path), of("first")) == first


def test_folder_that_was_emptied_begins_anew(tmp_path: Path) -> None:
    first = put(ReportsFolder(tmp_path), of("first"))
    for path in (first, first.with_suffix(".json")):
        path.unlink()
    assert put(ReportsFolder(tmp_path), of("another")) == first


def test_folder_page_deleted_by_hand_is_listed_without_a_link_and_made_again(tmp_path: Path) -> None:
    folder = ReportsFolder(tmp_path)
    page = put(folder, WINDOWS[0])
    page.unlink()
    assert listed(tmp_path) == [""]
    with folder.locked():
        assert not folder.has(page, "digest")


def test_folder_knows_what_another_process_wrote_removed_and_rewrote(tmp_path: Path) -> None:
    one, other = ReportsFolder(tmp_path), ReportsFolder(tmp_path)
    put(one, WINDOWS[0])
    put(other, of("second"))
    put(other, WINDOWS[0], "another")
    with one.locked():
        assert len(one) == 2
        assert {entry.document["digest"] for entry in one.newest(2)} == {"digest", "another"}


def test_folder_process_that_was_away_for_long_looks_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports_folder, "_RECENT", 3)
    one, other = ReportsFolder(tmp_path), ReportsFolder(tmp_path)
    put(one, WINDOWS[0])
    for number in range(5):
        put(other, of(f"station {number}"))
    with one.locked():
        assert len(one) == 6


def test_folder_report_cost_does_not_grow_with_their_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted, not timed: how many sidecars are opened for one more report."""
    opened: list[str] = []
    read = ReportsFolder._read

    def counting(self: ReportsFolder, name: str) -> Any:
        opened.append(name)
        return read(self, name)

    monkeypatch.setattr(ReportsFolder, "_read", counting)
    folder = ReportsFolder(tmp_path)
    for number in range(50):
        put(folder, of(f"station {number}"))
    opened.clear()
    put(folder, WINDOWS[1])
    assert len(opened) == 1


def test_folder_sidecar_of_another_layout_is_another_releases(tmp_path: Path) -> None:
    page = put(ReportsFolder(tmp_path), WINDOWS[0])
    sidecar = page.with_suffix(".json")
    sidecar.write_text(sidecar.read_text().replace(f'"layout": {LAYOUT}', '"layout": 1', 1))
    assert listed(tmp_path) == []


def test_folder_lock_held_by_a_frozen_process_is_an_error_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports_folder, "_LOCK_SECONDS", 0.0)
    with ReportsFolder(tmp_path).locked(), pytest.raises(TimeoutError, match="locked by another process"):
        put(ReportsFolder(tmp_path), WINDOWS[0])
    assert [path.name for path in tmp_path.iterdir()] == [OWN_FOLDER]
