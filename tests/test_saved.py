"""What a partition of the state topic holds: snapshots of ours, and whatever else is there."""

from __future__ import annotations

import pytest

from airquality.stream.account import Note
from airquality.stream.kafka_io import Record
from airquality.stream.saved import NOTE_HEADER, SINCE_HEADER, SavedStations

NOTE = Note().encode().encode()


def test_saved_stations_reads_its_own_headers() -> None:
    saved = SavedStations([Record(0, 3, b"roof", b"{}", 0, ((NOTE_HEADER, NOTE), (SINCE_HEADER, b"7")))])
    assert (saved.note, saved.since_ms("roof"), saved.foreign, saved.end) == (Note(), 7, set(), 4)


@pytest.mark.parametrize(
    "headers", [(), ((NOTE_HEADER, None), (SINCE_HEADER, b"7")), ((NOTE_HEADER, NOTE), (SINCE_HEADER, None))], ids=str
)
def test_saved_stations_record_without_our_headers_or_with_null_ones_is_foreign(
    headers: tuple[tuple[str, bytes | None], ...],
) -> None:
    saved = SavedStations([Record(0, 0, b"roof", b"{}", 0, headers)])
    assert (saved.foreign, saved.snapshots) == ({"roof"}, {})


def snapshot(offset: int, position: int, value: bytes | None = b"{}", era: int = 0) -> Record:
    note = Note(position, era=era).encode().encode()
    headers = () if value is None else ((NOTE_HEADER, note), (SINCE_HEADER, b"7"))
    return Record(0, offset, b"roof", value, 0, headers)


def test_saved_stations_older_snapshot_after_a_newer_one_is_passed_over_and_named() -> None:
    saved = SavedStations([snapshot(0, 100), snapshot(1, 50)])
    assert (saved.snapshots["roof"].offset, saved.note, saved.stale) == (0, Note(100), {"roof"})
    assert SavedStations([snapshot(0, 100), snapshot(1, 50), snapshot(2, 100)]).stale == set()
    assert SavedStations([snapshot(0, 100), snapshot(1, 50, era=1)]).stale == set()  # the log began anew


def test_saved_stations_after_a_tombstone_no_snapshot_is_old() -> None:
    saved = SavedStations([snapshot(0, 100), snapshot(1, 50), snapshot(2, 0, None), snapshot(3, 50)])
    assert (saved.snapshots["roof"].offset, saved.stale, saved.forgotten) == (3, set(), {})


@pytest.mark.parametrize("since", [b"--5", b"-", b"", b"9" * 5_000, "\u0663".encode()])
def test_saved_stations_record_whose_first_row_has_no_time_is_foreign(since: bytes) -> None:
    saved = SavedStations([Record(0, 0, b"roof", b"{}", 0, ((NOTE_HEADER, NOTE), (SINCE_HEADER, since)))])
    assert (saved.foreign, saved.snapshots) == ({"roof"}, {})
