"""Write the report of one window, and every page that changes with it.

Pages are made of sidecars, so a page that must change because a neighbour came, the report before for its link to the next
one, is made anew from its sidecar; whatever the order in which reports were made, the same reports give the same files.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airquality.events import WindowSettled
from airquality.ground.files import write_atomically
from airquality.monitoring.drift import KINDS, Judge, Window
from airquality.monitoring.promise import Promise
from airquality.reports import pages, paths
from airquality.reports.asked import nav_of
from airquality.reports.document import Describer, Drawn
from airquality.reports.document import settled as described
from airquality.reports.evidence import Artist, Evidence
from airquality.reports.evidence_page import ASSETS_PLACE, framed
from airquality.reports.folder import Entry, ReportsFolder
from airquality.reports.jobs import Job
from airquality.reports.overview import FULL_STATIONS, LISTED_STATIONS, Station, overview, strip
from airquality.reports.sources import KnownRows

#: Windows in the table of the index, stations in the table of a window.
INDEX_ROWS = 20
WINDOW_ROWS = 200
#: While reports wait, the index is written at most this often.
INDEX_SECONDS = 2.0
_PLOT_DAYS = 7
_DAY_HOURS = 24


class ReportWriter:
    """Write reports, their sidecars and the pages around them under one folder; several processes may share it."""

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
        self._artist = Artist(judge)
        self._describer = Describer(judge)
        self._known_rows = known_rows or KnownRows()
        self._keep = timedelta(days=keep_days) if keep_days else None
        self._promise = promise
        self._now = now
        self._index_written = -math.inf
        self._basis = hashlib.sha256(json.dumps(judge.calibration.to_json()).encode()).hexdigest()

    def write(self, job: Job, waiting: int = 0) -> Path:
        """Write the report of a window that closed, or what is final of one whose report is there."""
        return self.settle(job, waiting) if isinstance(job, WindowSettled) else self.report(job, waiting)

    def settle(self, settled: WindowSettled, waiting: int = 0) -> Path:
        """Write once more the page of a window whose truth is final, and return its path; where there is none, none is made.

        Raises:
            OSError: the folder cannot be written.
        """
        with self._folder.locked():
            path = self._folder.page_path(settled)
            entry = self._folder.entry(path)
            if entry is None or not entry.path:  # its report has failed, or somebody deleted it
                return path
            document = described(self._folder.document(entry), settled.truth)
            nav = nav_of(self._dir, self._folder, entry.path, entry)
            sidecar = json.dumps(document, ensure_ascii=False).encode()
            self._folder.put(path, {path: pages.report(document, nav).encode(), path.with_suffix(".json"): sidecar})
            self._write_around(path, waiting)
        return path

    def report(self, window: Window, waiting: int = 0) -> Path:
        """Write the report of ``window``, unless the very same one is there already, and return the page's path.

        Args:
            window: The judged window.
            waiting: How many reports are due after this one, for the index.

        Raises:
            OSError: the folder cannot be written.
        """
        source = self._known_rows.source_of(window)
        digest = hashlib.sha256(f"{self._basis} {source} {window.digest()}".encode()).hexdigest()
        with self._folder.locked():
            path = self._folder.page_path(window)
            if self._folder.has(path, digest):
                self._write_around(path, waiting)
                return path
        evidence = self._artist.draw(window)
        drawn = Drawn(evidence.ks_p_values, evidence.left_out, bool(evidence.page))
        document = self._describer.sidecar(window, source, drawn, digest)
        with self._folder.locked():
            path = self._folder.page_path(window)
            self._put(path, document, evidence)
            self._write_around(path, waiting)
        return path

    def _put(self, path: Path, document: dict[str, Any], evidence: Evidence) -> None:
        """Write page, Evidently's part and sidecar."""
        page = path.relative_to(self._dir).as_posix()
        entry = Entry(page.removesuffix(".html") + ".json", page, document)
        nav = nav_of(self._dir, self._folder, page, entry)
        sidecar = json.dumps(document, ensure_ascii=False).encode()
        files = {path: pages.report(document, nav).encode(), path.with_suffix(".json"): sidecar}
        if evidence.page:
            place = paths.evidence_page(page)
            text = evidence.page.replace(ASSETS_PLACE, paths.link(place, f"{paths.ASSETS}/"))
            files[self._dir / place] = framed(text, document, paths.link(place, page)).encode()
            for name, content in evidence.assets.items():
                if not (self._dir / paths.ASSETS / name).exists():
                    files[self._dir / paths.ASSETS / name] = content.encode()
        self._folder.put(path, files)

    # ---- the pages around a report ----

    def _write_around(self, path: Path, waiting: int) -> None:
        entry = self._folder.entry(path)
        if entry is None:  # its sidecar was damaged in this very moment
            return
        before, after = self._folder.neighbours(entry)
        for neighbour in (entry, before, after):
            if neighbour is not None:
                self._write_report(neighbour)
        self._write_month(entry)
        for neighbour in (before, after):
            if neighbour is not None and neighbour.end[:7] != entry.end[:7]:
                self._write_month(neighbour)
        self._write_window(entry.kind, entry.end)
        self._remove_old(entry)
        if not waiting or time.monotonic() - self._index_written > INDEX_SECONDS:  # the last of a backlog writes it
            self._write_index(waiting)
            self._index_written = time.monotonic()

    def _write_report(self, entry: Entry) -> None:
        page = entry.name.replace(".json", ".html")
        if not entry.path and not (self._dir / page).exists():
            return  # somebody deleted it
        nav = nav_of(self._dir, self._folder, page, entry)
        self._write(page, pages.report(self._folder.document(entry), nav))

    def _write_month(self, entry: Entry) -> None:
        here, month = paths.month_page(entry.name, entry.end), entry.end[:7]
        entries = [
            found
            for kind in KINDS
            for found in self._folder.within(entry.station_id, kind.name, f"{month}-01", f"{month}-31T23")
        ]
        if not entries:
            (self._dir / here).unlink(missing_ok=True)
            return
        ends = [found for kind in KINDS for found in self._nearest_months(entry, kind.name)]
        before = max((found for found in ends if found.end[:7] < month), key=lambda found: found.end, default=None)
        after = min((found for found in ends if found.end[:7] > month), key=lambda found: found.end, default=None)
        ways = [paths.month_page(found.name, found.end) if found else None for found in (before, after)]
        self._write(here, pages.month(here, entries, *ways))

    def _nearest_months(self, entry: Entry, kind: str) -> Sequence[Entry]:
        return self._folder.around(entry.station_id, kind, f"{entry.end[:7]}-01", f"{entry.end[:7]}-31T23")

    def _write_window(self, kind: str, end: str) -> None:
        here, entries = paths.window_page(kind, end), self._folder.same_window(kind, end)
        if entries:
            self._write(here, pages.window(here, entries, WINDOW_ROWS))
        else:
            (self._dir / here).unlink(missing_ok=True)

    def _write_index(self, waiting: int) -> None:
        now = self._now()
        seen = overview(self._folder, now)
        until = max((station.latest.end for station in seen.stations), default="") if seen.live else ""
        full = seen.stations[:FULL_STATIONS]
        cards = [pages.Card(station, strip(self._folder, station, until)) for station in full]
        plots = [plot for station in full if (plot := self._week(station)) is not None]
        page = pages.index(
            seen,
            cards,
            plots,
            self._folder.newest(INDEX_ROWS),
            len(self._folder),
            written=now,
            waiting=waiting,
            n_listed=LISTED_STATIONS,
            promise=self._promise,
        )
        write_atomically(self._dir / paths.INDEX, page.encode())

    def _week(self, station: Station) -> pages.WeekPlot | None:
        """Return the last seven days of a station, hour by hour; None if it has no daily report."""
        days = self._folder.of(station.station_id, "daily", _PLOT_DAYS)
        if not days:
            return None
        last = datetime.fromisoformat(days[-1].end)
        start = last - timedelta(hours=_PLOT_DAYS * _DAY_HOURS - 1)
        lines: dict[str, list[float | None]] = {
            name: [None] * (_PLOT_DAYS * _DAY_HOURS) for name in ("measured", "predicted")
        }
        for day in days:
            document = self._folder.document(day)
            first = (datetime.fromisoformat(document["start"]) - start) // timedelta(hours=1)
            if first >= 0:
                for name, line in lines.items():
                    line[first : first + _DAY_HOURS] = document["series"][name]
        return pages.WeekPlot(station.station_id, start.isoformat(), lines["measured"], lines["predicted"])

    def _write(self, page: str, text: str) -> None:
        """Write a page unless it is there just so."""
        path, content = self._dir / page, text.encode()
        try:
            if path.read_bytes() == content:
                return
        except OSError:
            pass  # absent or unreadable: write it
        write_atomically(path, content)

    # ---- old reports ----

    def _remove_old(self, newest: Entry) -> None:
        """Remove the station's reports that end more than ``REPORTS_KEEP_DAYS`` before its newest."""
        if self._keep is None:
            return
        station_id = newest.station_id
        last = max(entry.end for kind in KINDS for entry in self._folder.of(station_id, kind.name, 1))
        oldest = (datetime.fromisoformat(last) - self._keep).isoformat()
        for kind in KINDS:
            for entry in self._folder.until(station_id, kind.name, oldest):
                self._remove(entry)

    def _remove(self, entry: Entry) -> None:
        _, after = self._folder.neighbours(entry)
        page = entry.name.replace(".json", ".html")
        self._folder.remove(entry, self._dir / paths.evidence_page(page))
        self._write_month(entry)
        self._write_window(entry.kind, entry.end)
        if after is not None:
            self._write_report(after)
            self._write_month(after)
