"""Reports that are due: in which order they are made, by how many, and that neither a kill nor a snapshot loses one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from airquality.monitoring.drift import Window
from airquality.reports import makers
from airquality.reports.due import Due, DueFolder, Job, loaded
from airquality.reports.writer import ReportWriter
from airquality.stream import snapshots
from lab.waiting import wait_until
from tests import report_writers, stations
from tests.report_rig import FIRST, Rig, drain
from tests.test_settled_pages import day_and_its_truth

ROOT = Path(__file__).resolve().parent.parent
DAYS = stations.windows_of(stations.values_of(24 * 6, seed=6))


def waiting(folder: Path) -> list[Path]:
    """What the writers wait for that have the fault ``wait``."""
    return list(folder.glob("waiting-*"))


def release(folder: Path) -> None:
    (folder / "broken").unlink(missing_ok=True)
    for path in waiting(folder):
        path.unlink()


def ends(lines: Sequence[str], stage: str) -> list[int]:
    return [int(line.split()[2]) for line in lines if line.startswith(stage)]


@pytest.mark.slow
def test_queue_pages_come_before_any_evidence_and_both_newest_first(report_rig: Callable[..., Rig], tmp_path: Path) -> None:
    made = report_rig("wait", "once")
    made.run(24)
    wait_until(lambda: bool(waiting(tmp_path)), "the first page")
    made.run(24 * 6, first=FIRST + 24)
    made.poll_until(lambda: not any(ticket.job for ticket in made.service._reports._tickets.values()), "the others")
    release(tmp_path)
    drain(made.service)
    lines = report_writers.made(tmp_path)
    assert [line.split()[0] for line in lines] == ["page"] * 7 + ["evidence"] * 7
    assert ends(lines, "page")[1:] == sorted(ends(lines, "page")[1:], reverse=True)
    assert ends(lines, "evidence") == sorted(ends(lines, "evidence"), reverse=True)


@pytest.mark.slow
def test_queue_snapshot_is_not_held_back_by_reports(report_rig: Callable[..., Rig], tmp_path: Path) -> None:
    made = report_rig("hang", "daily")
    observer = made.run(24 * 5)
    made.poll_until(lambda: not observer.reports.outstanding, "five windows stored as due")
    assert made.service.backlog == 5
    saved = observer.snapshot("group", 0)
    made.service.close()
    again = report_rig()
    observer = again.service.open_station("station_1", snapshots.decode(saved))
    assert (observer.reports.generated["daily"], again.service.backlog) == (0, 5)
    drain(again.service)
    assert observer.reports.generated["daily"] == 5
    assert observer.state("group", 0).reports.generated["daily"] == 5


@pytest.mark.slow
@pytest.mark.parametrize("part", ["pages", "evidence"])
def test_queue_killed_in_the_middle_makes_each_report_once_in_the_end(
    report_rig: Callable[..., Rig], tmp_path: Path, part: str
) -> None:
    program = (
        "import pathlib, sys\n"
        "sys.path.insert(0, '.')\n"
        "from tests import report_rig, report_writers\n"
        "if __name__ == '__main__':\n"
        "    folder = pathlib.Path(sys.argv[1])\n"
        f"    rig = report_rig.Rig(folder, report_writers.faulty(folder, 'wait', {part!r}))\n"
        "    station = rig.run(24 * 6)\n"
        "    rig.poll_until(lambda: not station.reports.outstanding, 'all windows stored')\n"
        "    (folder / 'snapshot').write_bytes(station.snapshot('group', 0))\n"
        "    (folder / 'snapshot').replace(folder / 'saved')\n"
        "    report_rig.drain(rig.service)\n"
    )
    script = tmp_path / "consumer_to_kill.py"
    script.write_text(program)
    (tmp_path / "broken").touch()
    with subprocess.Popen([sys.executable, str(script), str(tmp_path)], cwd=ROOT) as parent:
        try:
            wait_until((tmp_path / "saved").exists, "the snapshot")
            wait_until(lambda: bool(waiting(tmp_path)), f"the middle of the {part}")
        finally:
            parent.kill()
    release(tmp_path)
    made = report_rig()
    observer = made.service.open_station("station_1", snapshots.decode((tmp_path / "saved").read_bytes()))
    drain(made.service)
    windows = {f"{window.kind.name}_{window.end_hour}.html" for window in DAYS}
    assert {path.name: path.read_text() for path in tmp_path.glob("*.html")} == dict.fromkeys(windows, "station_1, drawn")
    lines = report_writers.made(tmp_path)
    assert len(lines) == len(set(lines)) == 2 * len(windows)
    assert observer.reports.generated["daily"] == len(windows)
    assert not DueFolder(tmp_path).count()


@pytest.mark.slow
def test_queue_draws_with_as_many_processes_as_there_are_idle_cores(
    report_rig: Callable[..., Rig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cores, now = [3], [0.0]
    monkeypatch.setattr(makers, "LINGER_SECONDS", 0.1)
    (tmp_path / "broken").touch()
    made = report_rig("wait", "evidence", idle_cores=lambda ours: cores[0], clock=lambda: now[0])
    made.run(24 * 6)
    made.poll_until(lambda: len(waiting(tmp_path)) == 3, "three at work")
    now[0] += 10.0
    made.service.poll()
    assert made.metric("air_quality_evidence_processes") == 3
    assert made.metric("air_quality_evidence_backlog") == 6
    cores[0] = 1
    now[0] += 10.0
    made.service.poll()
    for path in waiting(tmp_path):
        path.unlink()
    made.poll_until(lambda: len(waiting(tmp_path)) == 1, "one more at work")
    made.poll_until(lambda: len(made.service._reports._makers.drawing) == 1, "the end of two processes")
    release(tmp_path)
    made.poll_until(lambda: not made.service.backlog, "all of them")
    made.poll_until(lambda: not made.service._reports._makers.drawing, "the end of the last process")


@pytest.mark.slow
def test_queue_evidence_that_fails_is_counted_and_made_once_its_cause_is_gone(
    report_rig: Callable[..., Rig], tmp_path: Path
) -> None:
    now = [0.0]
    (tmp_path / "broken").touch()
    made = report_rig("fail", "evidence", clock=lambda: now[0])
    observer = made.run(48)
    made.poll_until(lambda: not made.service.backlog, "two failures")
    assert (observer.reports.generated["daily"], observer.reports.failed["daily"]) == (0, 2)
    assert sorted(path.read_text() for path in tmp_path.glob("daily*.html")) == ["station_1"] * 2
    (tmp_path / "broken").unlink()
    now[0] += 1000.0
    made.poll_until(lambda: observer.reports.generated["daily"] == 2, "both")
    assert observer.reports.failed["daily"] == 0


def test_queue_window_that_cannot_be_stored_is_in_the_snapshot_and_stored_once_it_can_be(
    report_rig: Callable[..., Rig], tmp_path: Path
) -> None:
    now = [0.0]
    (tmp_path / ".monitoring").write_text("a file where a folder should be")
    made = report_rig(clock=lambda: now[0])
    observer = made.run(24)
    made.poll_until(lambda: observer.reports.failed["daily"] == 1, "a failure")
    assert len(observer.state("group", 0).reports.unmade) == 1
    saved = observer.snapshot("group", 0)
    made.service.close()
    made = report_rig()
    observer = made.service.open_station("station_1", snapshots.decode(saved))
    (tmp_path / ".monitoring").unlink()
    made.poll_until(lambda: observer.reports.generated["daily"] == 1, "its report")
    assert observer.reports.failed["daily"] == 0


def test_due_window_comes_back_as_it_was(tmp_path: Path) -> None:
    folder, (window, settled) = DueFolder(tmp_path), day_and_its_truth()
    windows = [window, *DAYS]
    jobs: list[Job] = [settled, *windows]
    for job in jobs:
        folder.store(job)
    assert again(folder, settled) == settled
    for each in windows[1:]:  # the last of two windows of one day is kept
        back = again(folder, each)
        assert isinstance(back, Window)
        assert back.digest() == each.digest()
    assert set(folder.of("station_1")) == {Due.of(job) for job in jobs}
    assert folder.count() == {"page": len({Due.of(each) for each in windows}), "truth": 1}


def again(folder: DueFolder, job: Job) -> Job:
    content = folder.read(Due.of(job))
    assert content is not None
    return loaded(content, stations.judge())


def test_writer_first_pages_of_several_stations_lie_where_each_belongs(tmp_path: Path) -> None:
    folder, windows = DueFolder(tmp_path), [replace(window, station_id=name) for window in DAYS for name in ("b", "a")]
    for window in windows:
        folder.store(window)
    writer = ReportWriter(tmp_path, stations.judge())
    pages = writer.write([Due.of(window) for window in windows])
    assert len(set(pages)) == len(windows)
    assert {page.parent.name for page in pages} == {"daily", "a"}
    assert writer.write([Due.of(window) for window in windows]) == pages
    for page, window in zip(pages, windows, strict=True):
        assert f"Daily report · {window.station_id}" in page.read_text()
        assert "They are being made, those of the newest windows first" in page.read_text()
    assert folder.count() == {"evidence": len(windows)}
    assert len({page.read_text().count('href="daily_') for page in pages[2:-2]}) == 1  # each is linked with two neighbours


@pytest.mark.parametrize("name", ["daily_20050213_020000.html", "hourly_20050213_020000.page", "daily_x.page", ".x.1.tmp"])
def test_due_foreign_file_is_passed_over(tmp_path: Path, name: str) -> None:
    folder = DueFolder(tmp_path)
    folder.store(DAYS[0])
    folder.path(Due.of(DAYS[0])).with_name(name).touch()
    assert folder.of("station_1") == [Due.of(DAYS[0])]


def test_due_stored_anew_while_it_is_made_stays_due(tmp_path: Path) -> None:
    folder, due = DueFolder(tmp_path), Due.of(DAYS[0])
    folder.store(DAYS[0])
    folder.advance(due, b"as it was before")
    assert folder.of("station_1") == [due]
