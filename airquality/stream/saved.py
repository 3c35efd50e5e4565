"""What a partition of the state topic says: the newest snapshot of each station."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from airquality.stream.account import Note
from airquality.stream.kafka_io import Record

#: Headers of a snapshot's record: the note of its commit, the Kafka timestamp of the station's first row, and the partition
#: it was written to, which earlier releases did not say.
NOTE_HEADER, SINCE_HEADER, PARTITION_HEADER = "note", "since_ms", "partition"
_SINCE = re.compile(rb"-?[0-9]{1,19}")


class SavedStations:
    """What the records of a state partition say: the newest snapshot of each station, and which stations are forgotten.

    A record without our note in its headers is not ours and is passed over, so that it hides no snapshot before it. So is a
    snapshot after a newer one of its station, which somebody copied there.

    Attributes:
        snapshots: By station id, the newest record of ours.
        forgotten: By station id, the Kafka timestamp of the tombstone after it.
        foreign: The keys of records that are not ours.
        stale: The stations after whose newest snapshot an older one came; the topic's cleaner keeps that one alone.
        end: The offset after the last record.
    """

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self.snapshots: dict[str, Record] = {}
        self.forgotten: dict[str, int] = {}
        self.foreign: set[str] = set()
        self.stale: set[str] = set()
        self._notes: dict[str, Note] = {}
        self.end = 0
        for record in records:
            self._add(record)

    @property
    def note(self) -> Note | None:
        """The newest note in the headers of these snapshots."""
        return max(reversed(self._notes.values()), key=lambda note: note.age, default=None)

    def since_ms(self, station_id: str) -> int:
        """Return since when the partition holds the station: the Kafka timestamp of its first row."""
        return int(dict(self.snapshots[station_id].headers)[SINCE_HEADER] or b"")

    def _add(self, record: Record) -> None:
        self.end = record.offset + 1
        key = (record.key or b"").decode(errors="backslashreplace")
        headers = {name: text or b"" for name, text in record.headers}
        note = Note.decode(headers.get(NOTE_HEADER, b""))
        if record.value is None:
            self.snapshots.pop(key, None)
            self._notes.pop(key, None)
            self.forgotten[key] = record.timestamp_ms
            self.stale.discard(key)
        elif note is None or not _SINCE.fullmatch(headers.get(SINCE_HEADER, b"")) or _is_moved(record.partition, headers):
            self.foreign.add(key)
        elif key in self._notes and note.age < self._notes[key].age:
            self.stale.add(key)
        else:
            self.forgotten.pop(key, None)
            self.stale.discard(key)
            self.snapshots[key] = record
            self._notes[key] = note


def headers_of(note: bytes, since_ms: int, partition: int) -> tuple[tuple[str, bytes], ...]:
    """Return the headers of a snapshot that is written to a partition."""
    return ((NOTE_HEADER, note), (SINCE_HEADER, b"%d" % since_ms), (PARTITION_HEADER, b"%d" % partition))


def _is_moved(partition: int, headers: Mapping[str, bytes]) -> bool:
    """Whether somebody copied a snapshot to another partition: there it would be a second state of its station."""
    return headers.get(PARTITION_HEADER, b"%d" % partition) != b"%d" % partition
