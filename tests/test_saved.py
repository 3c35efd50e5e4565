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
