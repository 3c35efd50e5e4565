"""The summary does not depend on who owns what, nor on restarts: its counts come from notes and snapshots."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from airquality.reports.summary import SUMMARY_NAME, Owner, Part, PartitionFigures, SummaryFile
from airquality.truth.performance import Performance
from lab.waiting import wait_until
from tests import report_writers
from tests.partition_life import Life, stream_of
from tests.report_rig import COUNTS, Rig, drain, figures

OWNER = Owner("group", "raw", "uci", Performance(0.3, 0.2, 0.9, 600))
#: Two partitions: hours, repeats, conflicts, refusals, gaps.
PARTITIONS = (
    [("hours", 0, 1, 80), ("again", 0, 1, 5), ("hours", 1, 30, 80), ("conflict", 0, 1, 5), ("hours", 0, 1, 80)],
    [("hours", 2, 1, 80), ("garbage", 2, 1, 2), ("truth late", 2, 2, 30), ("hours", 1, 7, 80)],
)


def part(partition: int, life: Life) -> Part:
    return Part.of(OWNER, partition, life.state.figures())


@pytest.mark.parametrize("size", [90, 170])
def test_summary_of_two_consumers_that_restart_is_that_of_one_that_does_not(tmp_path: Path, size: int) -> None:
    alone, shared = SummaryFile(tmp_path / "alone"), SummaryFile(tmp_path / "shared")
    unharmed = [Life(stream_of(described).kafka, 10**9, 100) for described in PARTITIONS]
    for life in unharmed:
        life.finish()
    alone.write([part(0, unharmed[0]), part(1, unharmed[1])])
    for partition, described in enumerate(PARTITIONS):
        life = Life(stream_of(described).kafka, 1, 100)
        for dies in ("", "", "after", "", "after", "before"):
            life.step(size, dies)
            shared.write([part(partition, life)])
        life.finish()
        shared.write([part(partition, life)])
    assert (tmp_path / "shared" / SUMMARY_NAME).read_bytes() == (tmp_path / "alone" / SUMMARY_NAME).read_bytes()


@pytest.mark.slow
def test_summary_of_two_consumers_is_that_of_one(tmp_path: Path) -> None:
    counts = [{"rows_in": n, "predictions_total": n, "dead_letters": {"late": n}} for n in (100, 200, 300)]
    alone, one, other = (Rig(tmp_path / name, report_writers.plain(tmp_path)) for name in ("alone", "shared", "shared"))
    for rig, names in ((alone, "abc"), (one, "ac"), (other, "b")):
        owned = {}
        for name in names:
            place = "abc".index(name)
            owned[place] = rig.run(24 * (1 + place), name, T=80.0 if name == "b" else 0.0)
        drain(rig.service)
        rig.service.write_summary({place: figures(counts[place], station) for place, station in owned.items()})
    summary = json.loads((tmp_path / "alone" / SUMMARY_NAME).read_text())
    assert summary["rows_in"] == 600
    assert summary["dead_letters"] == {"late": 600}
    assert summary["reports_generated"] == {"daily": 6, "weekly": 0}
    assert [alarm["station_id"] for alarm in summary["open_alarms"]] == ["b"]
    assert json.loads((tmp_path / "shared" / SUMMARY_NAME).read_text()) == summary


def test_summary_of_another_group_is_not_added(tmp_path: Path) -> None:
    one = Rig(tmp_path, report_writers.plain(tmp_path))
    other = Rig(tmp_path, report_writers.plain(tmp_path), consumer_group="another")
    for rig in (one, other):
        rig.service.write_summary({0: PartitionFigures(COUNTS, ())})
    assert json.loads((tmp_path / SUMMARY_NAME).read_text())["rows_in"] == COUNTS["rows_in"]


@pytest.mark.slow
def test_summary_reports_generated_never_go_back_when_a_backlog_is_taken_over(tmp_path: Path) -> None:
    first, second = (Rig(tmp_path, report_writers.plain(tmp_path)) for _ in range(2))
    before = first.run(168)
    drain(first.service)
    first.service.write_summary({0: figures(COUNTS, before)})
    replayed = second.run(168)  # no report has been counted yet

    def generated() -> dict[str, int]:
        second.service.write_summary({0: figures(COUNTS, replayed)})
        generated: dict[str, int] = json.loads((tmp_path / SUMMARY_NAME).read_text())["reports_generated"]
        return generated

    assert generated() == {"daily": 7, "weekly": 1}
    drain(second.service)
    assert generated() == {"daily": 7, "weekly": 1}


def test_summary_of_fewer_rows_than_before_is_another_history(tmp_path: Path) -> None:
    first, second = (Rig(tmp_path, report_writers.plain(tmp_path)) for _ in range(2))
    station = first.run(24)
    drain(first.service)
    first.service.write_summary({0: figures(COUNTS, station)})
    second.service.write_summary({0: PartitionFigures({**COUNTS, "rows_in": 1}, ())})
    summary = json.loads((tmp_path / SUMMARY_NAME).read_text())
    assert (summary["rows_in"], summary["reports_generated"]["daily"]) == (1, 0)


@pytest.mark.parametrize("content", ["", "{}", "[]", "null", '{"rows_in": 1}'])
def test_summary_foreign_part_is_left_out(tmp_path: Path, content: str) -> None:
    made = Rig(tmp_path, report_writers.plain(tmp_path))
    owned = {0: PartitionFigures(COUNTS, ())}
    made.service.write_summary(owned)
    part = next((tmp_path / ".monitoring" / "summary").iterdir())
    part.with_name(part.name.replace("-0.json", "-1.json")).write_text(content)
    part.write_text(content)
    made.service.write_summary(owned)
    assert json.loads((tmp_path / SUMMARY_NAME).read_text())["rows_in"] == COUNTS["rows_in"]


@pytest.mark.parametrize("value", [None, "x", [], {}, 7, [None], ["x"], {"a": "b"}, {"rows_in": "many"}, [{"a": 1}]])
def test_summary_part_whose_fields_are_damaged_stops_no_summary(tmp_path: Path, value: object) -> None:
    n_rows = int(str(COUNTS["rows_in"]))
    ours, theirs = (Part.of(OWNER, partition, PartitionFigures(COUNTS, ())) for partition in (0, 1))
    SummaryFile(tmp_path).write([ours, theirs])
    place, fields = tmp_path / ".monitoring" / "summary" / theirs.file_name, json.loads(theirs.encode())
    for name in fields:
        for written in (ours, theirs):
            place.write_text(json.dumps({**fields, name: value}))
            SummaryFile(tmp_path).write([written])
            rows_in = json.loads((tmp_path / SUMMARY_NAME).read_text())["rows_in"]
            assert rows_in in (n_rows, 2 * n_rows), name


def test_summary_on_a_broken_disk_is_said_once_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = Rig(tmp_path, report_writers.plain(tmp_path), reports_dir=tmp_path / "file")
    (tmp_path / "file").write_text("no folder")
    owned = {0: PartitionFigures(COUNTS, ())}
    for _ in range(3):
        made.service.write_summary(owned)
    assert made.metric("air_quality_unwritten_summaries_total") == 3
    assert len([record for record in caplog.records if "predictions go on without it" in record.getMessage()]) == 1
    (tmp_path / "file").unlink()
    made.service.write_summary(owned)
    assert made.metric("air_quality_unwritten_summaries_total") == 3
    assert json.loads((tmp_path / "file" / SUMMARY_NAME).read_text())["rows_in"] == COUNTS["rows_in"]


@pytest.mark.slow
def test_summary_after_the_end_of_reports_is_written_though_one_held_the_folder(tmp_path: Path) -> None:
    made = Rig(tmp_path, report_writers.faulty(tmp_path, "hold", "daily"), reports_dir=tmp_path)
    made.run(24)
    wait_until(lambda: any(tmp_path.glob("waiting-*")), "a report holds the folder")
    made.service.close()
    made.service.write_summary({0: PartitionFigures(COUNTS, ())})
    assert made.metric("air_quality_unwritten_summaries_total") == 0
    assert json.loads((tmp_path / SUMMARY_NAME).read_text())["rows_in"] == COUNTS["rows_in"]
