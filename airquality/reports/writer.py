"""Write the reports of windows in two steps: the page, with every page that changes with it, then Evidently's part.

Pages are made of sidecars, so a page that must change because a neighbour came, the report before for its link to the next
one, is made anew from its sidecar; whatever the order in which reports were made, the same reports give the same files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from airquality.events import WindowSettled
from airquality.ground.files import write_atomically
from airquality.monitoring.drift import Judge, Window
from airquality.monitoring.promise import Promise
from airquality.reports import pages, paths
from airquality.reports.asked import nav_of
from airquality.reports.document import Describer, Sidecar, drawn
from airquality.reports.document import settled as described
from airquality.reports.due import Due, DueFolder, Job, loaded
from airquality.reports.evidence_page import ASSETS_PLACE, Evidence, framed
from airquality.reports.folder import Entry, ReportsFolder
from airquality.reports.pages_around import PagesAround
from airquality.reports.sources import KnownRows


class Draws(Protocol):
    """Draws Evidently's part; see ``airquality.reports.evidence.Artist``."""

    def draw(self, window: Window) -> Evidence:
        """Return Evidently's part of the report of ``window``."""


@dataclass(frozen=True, slots=True)
class _Taken:
    """What is due, with what its file holds."""

    due: Due
    content: bytes
    job: Job

    @property
    def window(self) -> Window | None:
        """The window to report; None for a truth."""
        return self.job if isinstance(self.job, Window) else None


class ReportWriter:
    """Writes what is due under one folder; several processes may share it."""

    def __init__(
        self,
        reports_dir: Path,
        judge: Judge,
        known_rows: KnownRows | None = None,
        keep_days: int | None = None,
        promise: Promise | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC).replace(tzinfo=None),
    ) -> None:
        self._dir = reports_dir
        self._folder = ReportsFolder(reports_dir)
        self._due = DueFolder(reports_dir)
        self._around = PagesAround(reports_dir, self._folder, self._due, promise, now)
        self._judge = judge
        self._describer = Describer(judge)
        self._known_rows = known_rows or KnownRows()
        self._keep = timedelta(days=keep_days) if keep_days else None
        self._basis = hashlib.sha256(json.dumps(judge.calibration.to_json()).encode()).hexdigest()

    def write(self, dues: Sequence[Due]) -> list[Path]:
        """Write pages of windows that closed, and once more of windows whose truth is final; return where they lie.

        A page that is there just so stays; one that is made anew waits for Evidently's part again. A truth whose window has
        no page makes none.

        Raises:
            OSError: the folder cannot be written.
        """
        taken = [found for due in dues if (found := self._take(due)) is not None]
        new = [(found.job, self._sidecar(found.job)) for found in taken if isinstance(found.job, Window)]
        with self._folder.locked():
            self._write_new([(job, sidecar) for job, sidecar in new if self._is_wanted(job, sidecar)])
            for found in taken:
                if not isinstance(found.job, WindowSettled) or self._settle(found.job, found.due):
                    self._due.advance(found.due, found.content)
            self._remove_old({found.due.station_id for found in taken})
            self._around.write_index()
            return [self._folder.page_path(due) for due in dues]

    def draw(self, due: Due, artist: Draws) -> Path:
        """Draw Evidently's part of a window whose page waits for it, and return the page's path.

        Raises:
            OSError: the folder cannot be written.
        """
        found = self._take(due)
        with self._folder.locked():
            path = self._folder.page_path(due)
            window = found.window if found and self._waiting_page(found.window, path) else None
        evidence = None if window is None else artist.draw(window)
        with self._folder.locked():
            if evidence is not None and (waiting := self._waiting_page(window, path)) is not None:
                self._put_evidence(*waiting, evidence)
            if found is not None:
                self._due.advance(due, found.content)
            self._around.write_index()
        return path

    def _take(self, due: Due) -> _Taken | None:
        content = self._due.read(due)
        return None if content is None else _Taken(due, content, loaded(content, self._judge))

    def _sidecar(self, window: Window) -> dict[str, Any]:
        return self._describer.sidecar(window, self._known_rows.source_of(window), self._digest(window))

    def _digest(self, window: Window) -> str:
        """Return the digest of all a report is made from; equal digests mean an equal report."""
        source = self._known_rows.source_of(window)
        return hashlib.sha256(f"{self._basis} {source} {window.digest()}".encode()).hexdigest()

    # ---- pages ----

    def _is_wanted(self, window: Window, sidecar: Mapping[str, Any]) -> bool:
        """Whether the report is not there yet, and not too old to be kept."""
        if self._keep and sidecar["end"] < self._around.oldest_kept(window.station_id, self._keep):
            return False
        return not self._folder.has(self._folder.page_path(window), sidecar["digest"])

    def _write_new(self, new: Sequence[tuple[Window, dict[str, Any]]]) -> None:
        documents = [(self._folder.page_path(window), document) for window, document in new]
        entries = [self._entry(path, document) for path, document in documents]
        if not entries:
            return
        with self._folder.announced(entries):
            for (path, document), entry in zip(documents, entries, strict=True):
                self._put(path, entry, document)
        self._write_around(path for path, _ in documents)

    def _entry(self, path: Path, document: dict[str, Any]) -> Entry:
        page = path.relative_to(self._dir).as_posix()
        return Entry(page.removesuffix(".html") + ".json", page, document)

    def _put(self, path: Path, entry: Entry, document: dict[str, Any]) -> None:
        """Write page and sidecar, the sidecar last; what a crash leaves is made anew."""
        nav = nav_of(self._dir, self._folder, entry.path, entry)
        write_atomically(path, pages.report(document, nav).encode())
        write_atomically(path.with_suffix(".json"), json.dumps(document, ensure_ascii=False).encode())

    def _settle(self, settled: WindowSettled, due: Due) -> bool:
        """Write once more the page of a window whose truth is final; return whether it is not to wait for a page."""
        entry = self._folder.entry(self._folder.page_path(settled))
        document = self._around.document(entry) if entry is not None and entry.path else None
        if entry is not None and document is not None:  # else its report has failed, or somebody deleted it
            self._rewrite(entry, described(document, settled.truth))
            self._write_around([self._dir / entry.path])
        return self._due.read(due.then("page")) is None

    def _rewrite(self, entry: Entry, document: dict[str, Any]) -> None:
        with self._folder.announced([entry]):
            self._put(self._dir / entry.path, entry, document)

    def _write_around(self, written: Iterable[Path]) -> None:
        entries = [entry for path in written if (entry := self._folder.entry(path)) is not None]
        self._around.write(entries)

    def _remove_old(self, station_ids: Iterable[str]) -> None:
        if self._keep is not None:
            for station_id in sorted(station_ids):
                self._around.remove_old(station_id, self._keep)

    # ---- Evidently's part ----

    def _waiting_page(self, window: Window | None, path: Path) -> tuple[Entry, Sidecar] | None:
        """Return the report that waits for Evidently's part of this very window, None where there is none any more."""
        entry = self._folder.entry(path)
        if window is None or entry is None or not entry.path or entry.document["digest"] != self._digest(window):
            return None
        document = self._around.document(entry)
        return (entry, document) if document is not None and document["has_evidence"] is None else None

    def _put_evidence(self, entry: Entry, document: Sidecar, evidence: Evidence) -> None:
        place = paths.evidence_page(entry.path)
        text = evidence.page.replace(ASSETS_PLACE, paths.link(place, f"{paths.ASSETS}/"))
        for name, content in evidence.assets.items():
            if not (self._dir / paths.ASSETS / name).exists():
                write_atomically(self._dir / paths.ASSETS / name, content.encode())
        write_atomically(self._dir / place, framed(text, document, paths.link(place, entry.path)).encode())
        self._rewrite(entry, drawn(document, evidence.ks_p_values, evidence.left_out))
