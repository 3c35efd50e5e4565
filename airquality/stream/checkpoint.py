"""What a commit says of a partition: its position, its note, and the snapshots that are due."""

from __future__ import annotations

from dataclasses import dataclass

from airquality.stream.account import Note


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A record for the state topic: a station's state, and in the headers the note of the same commit."""

    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a commit of a partition says: its position, its note, and the snapshots of the stations that are due.

    ``needed`` says whether it is to be committed even where no row came.
    """

    position: int
    note: Note
    snapshots: tuple[Snapshot, ...]
    station_ids: tuple[str, ...]
    needed: bool
