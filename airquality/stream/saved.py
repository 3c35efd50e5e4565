"""What a partition of the state topic says: the newest snapshot of each station."""

from __future__ import annotations

from collections.abc import Iterable

from airquality.stream.account import Note
from airquality.stream.kafka_io import Record

#: Headers of a snapshot's record: the note of its commit, and the Kafka timestamp of the station's first row.
NOTE_HEADER, SINCE_HEADER = "note", "since_ms"


class SavedStations:
    """What the records of a state partition say: the newest snapshot of each station, and which stations are forgotten.

    A record without our note in its headers is not ours and is passed over, so that it hides no snapshot before it.

    Attributes:
        snapshots: By station id, the newest record of ours.
        forgotten: By station id, the Kafka timestamp of the tombstone after it.
        foreign: The keys of records that are not ours and have no snapshot beside them.
        end: The offset after the last record.
    """

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self.snapshots: dict[str, Record] = {}
        self.forgotten: dict[str, int] = {}
        self.foreign: set[str] = set()
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
        elif note is None or not headers.get(SINCE_HEADER, b"").lstrip(b"-").isdigit():
            self.foreign.add(key)
        else:
            self.forgotten.pop(key, None)
            self.snapshots[key] = record
            self._notes[key] = note
