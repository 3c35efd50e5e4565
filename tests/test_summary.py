"""The summary does not depend on who owns what, nor on restarts: its counts come from notes and snapshots."""

from __future__ import annotations

from pathlib import Path

import pytest

from airquality.reports.summary import SUMMARY_NAME, Owner, Part, SummaryFile
from airquality.truth.performance import Performance
from tests.partition_life import Life, stream_of

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
