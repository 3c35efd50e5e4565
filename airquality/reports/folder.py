"""The reports folder: which files in it are ours, where a report goes, and what has been written.

A report is a page, ``daily/daily_YYYYMMDD_HHMMSS.html``, and its sidecar, a ``.json`` of the same name. The first station
of a folder lies flat, every further one in a folder of its own inside ``daily/`` and ``weekly/``; no file ever moves.
Whatever else lies there is somebody else's: it is left alone, and named once.

What has been written is read from the sidecars once, when a process first looks. From then on the log of changes in
:data:`~airquality.reports.lock.OWN_FOLDER` says what other processes have added, so a report costs the same however many
there are.
"""

from __future__ import annotations

import bisect
import contextlib
import functools
import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson

from airquality.ground.files import is_folder, write_atomically
from airquality.records import datetime_of
from airquality.reports.findings import Finding
from airquality.reports.heads import head_of
from airquality.reports.lock import OWN_FOLDER, locked
from airquality.reports.paths import OfWindow
from airquality.truth.kinds import KINDS

_LOCK_SECONDS = 30.0
_RECENT = 200
_NAMED_AT_ONCE = 5
_OWN_NAME = re.compile(r"(daily|weekly)_\d{8}_\d{6}\.(json|html)")
_TEMPORARY = re.compile(r"\..+\.\d+\.tmp")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """One report: its sidecar and its page relative to the reports folder, and the head of the sidecar.

    ``path``, the page, is empty if somebody deleted it.
    """

    name: str
    path: str
    document: Mapping[str, Any]
    findings: tuple[Finding, ...] = ()

    @property
    def station_id(self) -> str:
        """The station's name."""
        return str(self.document["station_id"])

    @property
    def kind(self) -> str:
        """``daily`` or ``weekly``."""
        return str(self.document["kind"])

    @property
    def end(self) -> str:
        """ISO time of the window's last hour."""
        return str(self.document["end"])


@dataclass(frozen=True, slots=True)
class _State:
    """What the processes that share a folder tell each other: the flat station, and the sidecars changed of late."""

    flat_station: str | None
    changes: int
    recent: tuple[str, ...]


class ReportsFolder:
    """The reports under one folder. Everything but the constructor is to be called while :meth:`locked`."""

    def __init__(self, reports_dir: Path) -> None:
        self._dir = reports_dir
        self._state = _State(None, 0, ())
        self._seen: int | None = None  # changes taken in so far
        self._entries: dict[str, Entry] = {}  # by the sidecar's path relative to the folder
        self._order: list[tuple[str, str]] = []  # (end, sidecar) of all reports, oldest first
        self._by_station: dict[tuple[str, str], list[tuple[str, str]]] = {}  # the same by station and kind
        self._by_window: dict[tuple[str, str], set[str]] = {}  # sidecars by kind and end
        self._named: set[str] = set()
        self._chosen = False  # whether the flat station was, since the folder is locked

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder's lock, and know what other processes have written.

        Raises:
            OSError: the folder cannot be read or written, or another process holds the lock too long.
        """
        if self._seen is None:  # the first look takes long, and need not keep the others waiting: files change as a whole
            self._state = self._load()
            self._scan()
            self._seen = self._state.changes
        with locked(self._dir, _LOCK_SECONDS):
            self._catch_up()
            self._chosen = False
            yield

    def page_path(self, window: OfWindow) -> Path:
        """Return where the report of ``window`` goes."""
        kind = window.kind.name
        return self._dir / self._station_folder(kind, window.station_id) / f"{report_stem(kind, window.end_hour)}.html"

    def has(self, page: Path, digest: str) -> bool:
        """Whether exactly this report is there, page and sidecar."""
        entry = self._entries.get(self._relative(page.with_suffix(".json")))
        return entry is not None and entry.document["digest"] == digest and page.is_file()

    @contextlib.contextmanager
    def announced(self, entries: Sequence[Entry]) -> Iterator[None]:
        """Say that reports change, to other processes too; here they are listed at once, so that pages can link to them.

        What became of them, after an error too, is read again in the end.
        """
        self._announce(*(entry.name for entry in entries))
        try:
            for entry in entries:
                self._replace(entry.name, entry)
            yield
        finally:
            for entry in entries:
                self._replace(entry.name, self._read(entry.name))

    def newest(self, n_entries: int) -> list[Entry]:
        """Return the newest reports of all stations, newest first."""
        return [self._entries[name] for _, name in reversed(self._order[-n_entries:])]

    def stations(self) -> list[str]:
        """Return the stations that have reports."""
        return sorted({station_id for station_id, _ in self._by_station})

    def of(self, station_id: str, kind: str, n_entries: int | None = None) -> list[Entry]:
        """Return the newest reports of a station, all of them if no number is given, oldest first."""
        ordered = self._by_station.get((station_id, kind), [])
        return [self._entries[name] for _, name in (ordered if n_entries is None else ordered[-n_entries:])]

    def within(self, station_id: str, kind: str, first: str, last: str) -> list[Entry]:
        """Return a station's reports whose end lies between two ISO times, both inclusive, oldest first."""
        ordered = self._by_station.get((station_id, kind), [])
        start, stop = bisect.bisect_left(ordered, (first, "")), bisect.bisect_right(ordered, (last, "\uffff"))
        return [self._entries[name] for _, name in ordered[start:stop]]

    def around(self, station_id: str, kind: str, first: str, last: str) -> list[Entry]:
        """Return a station's nearest reports that end before ``first`` and after ``last``, as far as there are any."""
        ordered = self._by_station.get((station_id, kind), [])
        start, stop = bisect.bisect_left(ordered, (first, "")), bisect.bisect_right(ordered, (last, "\uffff"))
        return [self._entries[name] for _, name in (*ordered[max(start - 1, 0) : start], *ordered[stop : stop + 1])]

    def until(self, station_id: str, kind: str, end: str) -> list[Entry]:
        """Return a station's reports that end before ISO time ``end``, oldest first."""
        ordered = self._by_station.get((station_id, kind), [])
        return [self._entries[name] for _, name in ordered[: bisect.bisect_left(ordered, (end, ""))]]

    def neighbours(self, entry: Entry) -> tuple[Entry | None, Entry | None]:
        """Return the same station's reports of the same kind before and after this one, which need not be there yet."""
        ordered = self._by_station.get((entry.station_id, entry.kind), [])
        start = bisect.bisect_left(ordered, (entry.end, entry.name))
        stop = bisect.bisect_right(ordered, (entry.end, entry.name))
        before = self._entries[ordered[start - 1][1]] if start else None
        after = self._entries[ordered[stop][1]] if stop < len(ordered) else None
        return before, after

    def same_window(self, kind: str, end: str) -> list[Entry]:
        """Return every station's report of one window, in the order of their names."""
        entries = (self._entries[name] for name in self._by_window.get((kind, end), ()))
        return sorted(entries, key=lambda entry: entry.station_id)

    def entry(self, page: Path) -> Entry | None:
        """Return the report at ``page``, None if there is none."""
        return self._entries.get(self._relative(page.with_suffix(".json")))

    def document(self, entry: Entry) -> dict[str, Any]:
        """Return the whole sidecar of a report.

        Raises:
            OSError, ValueError: it has gone, or was damaged, since it was listed.
        """
        document: dict[str, Any] = json.loads((self._dir / entry.name).read_bytes())
        return document

    def remove(self, entry: Entry, *beside: Path) -> None:
        """Delete a report and what lies ``beside`` it, the sidecar last."""
        self._announce(entry.name)
        for path in (*beside, self._dir / entry.name.replace(".json", ".html"), self._dir / entry.name):
            path.unlink(missing_ok=True)
        self.refresh(entry.name)

    def __len__(self) -> int:
        return len(self._entries)

    def _relative(self, path: Path) -> str:
        return path.relative_to(self._dir).as_posix()

    # ---- where a station lies ----

    def _station_folder(self, kind: str, station_id: str) -> str:
        if self._flat_station(station_id) == station_id:
            return kind
        return f"{kind}/{folder_name(station_id)}"

    def _flat_station(self, station_id: str) -> str | None:
        """Return the station that lies flat: the first one of the folder, which is ``station_id`` if there was none.

        A folder without a single report has been emptied, and begins anew.
        """
        if self._state.flat_station is None or not (self._entries or self._chosen):
            self._chosen = True  # the reports of others may be asked for before its first one is written
            flat = (entry.document["station_id"] for name, entry in self._entries.items() if name.count("/") == 1)
            found = next(flat, None)
            if found is None and not self._has_own_folder(station_id):
                found = station_id
            if found is not None:
                self._save(_State(found, self._state.changes, self._state.recent))
        return self._state.flat_station

    def _has_own_folder(self, station_id: str) -> bool:
        return any((self._dir / kind.name / folder_name(station_id)).is_dir() for kind in KINDS)

    # ---- what other processes have written ----

    def _catch_up(self) -> None:
        self._state = self._load()
        missed = self._state.changes - (self._seen or 0)
        if self._seen is None or not 0 <= missed <= len(self._state.recent):  # away for too long, or a damaged log
            self._scan()
        else:
            for name in self._state.recent[len(self._state.recent) - missed :]:
                self.refresh(name)
        self._seen = self._state.changes

    def _announce(self, *names: str) -> None:
        """Say that reports change, before they do: whoever comes after a crash looks at what became of them."""
        changes = self._state.changes + len(names)
        self._save(_State(self._state.flat_station, changes, (*self._state.recent, *names)[-_RECENT:]))
        self._seen = self._state.changes

    def _save(self, state: _State) -> None:
        write_atomically(self._dir / OWN_FOLDER / "folder.json", json.dumps(asdict(state)).encode())
        self._state = state

    def _load(self) -> _State:
        try:
            fields = json.loads((self._dir / OWN_FOLDER / "folder.json").read_bytes())
            return _State(fields["flat_station"], int(fields["changes"]), tuple(map(str, fields["recent"])))
        except FileNotFoundError:
            return _State(None, 0, ())
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("what is known of %s cannot be read (%r) and is found out anew", self._dir, error)
            self._seen = None
            return _State(None, 0, ())

    def _scan(self) -> None:
        for listing in (self._entries, self._order, self._by_station, self._by_window):
            listing.clear()
        foreign: list[str] = []
        for kind in KINDS:
            for name in _files(self._dir, kind.name):
                if not _OWN_NAME.fullmatch(base := name.rpartition("/")[2]):
                    if not _TEMPORARY.fullmatch(base):
                        foreign.append(name)
                elif name.endswith(".json"):
                    entry = self._read(name)
                    if entry is None:
                        foreign.append(name)
                    else:
                        self._add(entry)
        self._name(foreign)

    def refresh(self, name: str) -> None:
        """Take in what a sidecar says now."""
        self._replace(name, self._read(name))

    def _replace(self, name: str, entry: Entry | None) -> None:
        if (known := self._entries.pop(name, None)) is not None:
            self._drop(known)
        if entry is not None:
            self._add(entry)

    def _add(self, entry: Entry) -> None:
        self._entries[entry.name] = entry
        bisect.insort(self._order, (entry.end, entry.name))
        bisect.insort(self._by_station.setdefault((entry.station_id, entry.kind), []), (entry.end, entry.name))
        self._by_window.setdefault((entry.kind, entry.end), set()).add(entry.name)

    def _drop(self, entry: Entry) -> None:
        for ordered in (self._order, self._by_station[entry.station_id, entry.kind]):
            del ordered[bisect.bisect_left(ordered, (entry.end, entry.name))]
        self._by_window[entry.kind, entry.end].discard(entry.name)
        if not self._by_station[entry.station_id, entry.kind]:
            del self._by_station[entry.station_id, entry.kind]

    def _read(self, name: str) -> Entry | None:
        """Return the report whose sidecar is ``name``; None if that is no sidecar of this release, or not in its place."""
        try:
            head = head_of(orjson.loads((self._dir / name).read_bytes()))
            end, kind, station_id = datetime.fromisoformat(head["end"]), head["kind"], head["station_id"]
            findings = tuple(map(Finding.from_json, head["findings"]))
            own_place = f"{kind}/{folder_name(station_id)}/{kind}_{end:%Y%m%d_%H%M%S}.json"
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        if name not in (own_place, f"{kind}/{own_place.rpartition('/')[2]}"):
            return None
        page = name.removesuffix(".json") + ".html"
        return Entry(name, page if (self._dir / page).is_file() else "", head, findings)

    def _name(self, foreign: list[str]) -> None:
        new = [name for name in foreign if name not in self._named]
        if new:
            self._named.update(new)
            others = f" and {len(new) - _NAMED_AT_ONCE} more" if len(new) > _NAMED_AT_ONCE else ""
            listed = ", ".join(map(repr, new[:_NAMED_AT_ONCE]))
            logger.warning("no reports of this release, left alone in %s: %s%s", self._dir, listed, others)


def _files(reports_dir: Path, kind: str) -> Iterator[str]:
    """Yield the files of a kind relative to the reports folder: the flat ones and those one folder down."""
    folder = reports_dir / kind
    if not folder.is_dir():
        return
    for child in sorted(os.scandir(folder), key=lambda child: child.name):
        if not is_folder(child):
            yield f"{kind}/{child.name}"
            continue
        try:
            inside = sorted(grandchild.name for grandchild in os.scandir(child) if not is_folder(grandchild))
        except OSError:  # not ours to read
            continue
        yield from (f"{kind}/{child.name}/{name}" for name in inside)


def report_stem(kind: str, end_hour: int) -> str:
    """Return the name of a window's report without its ending."""
    return f"{kind}_{datetime_of(end_hour):%Y%m%d_%H%M%S}"


@functools.lru_cache(maxsize=1_000)
def folder_name(station_id: str) -> str:
    """Return a folder name for ``station_id`` that cannot lead elsewhere, be hidden or be taken for a file.

    Distinct stations get distinct names.

    >>> folder_name("station_1"), folder_name("../x"), folder_name(".."), folder_name("roof2.json")
    ('station_1', '%2E.%2Fx', '%2E.', 'roof2%2Ejson')
    """
    name = quote(station_id, safe="")
    if name.startswith("."):
        name = f"%2E{name[1:]}"
    stem, dot, suffix = name.rpartition(".")
    if dot and suffix.lower() in ("json", "html", "tmp"):
        name = f"{stem}%2E{suffix}"
    return name if len(name) <= 200 else hashlib.sha256(station_id.encode()).hexdigest()
