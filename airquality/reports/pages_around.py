"""The pages that change with a report: its neighbours for their links, its month, all stations' window, the index."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from airquality.ground.files import write_atomically
from airquality.monitoring.promise import Promise
from airquality.records import DAILY_HOURS
from airquality.reports import pages, paths
from airquality.reports.asked import nav_of
from airquality.reports.document import Sidecar
from airquality.reports.due import DueFolder
from airquality.reports.folder import Entry, ReportsFolder
from airquality.reports.overview import FULL_STATIONS, LISTED_STATIONS, Station, overview, strip
from airquality.truth.kinds import KINDS

#: Windows in the table of the index, stations in the table of a window.
INDEX_ROWS = 20
WINDOW_ROWS = 200
#: While reports are due, the index is written at most this often.
INDEX_SECONDS = 2.0
_PLOT_DAYS = 7
_PLOTTED = ("measured", "predicted")

logger = logging.getLogger(__name__)


class PagesAround:
    """Writes the pages around reports. To be called while the folder is locked."""

    def __init__(
        self,
        reports_dir: Path,
        folder: ReportsFolder,
        due: DueFolder,
        promise: Promise | None,
        now: Callable[[], datetime],
    ) -> None:
        self._dir = reports_dir
        self._folder = folder
        self._due = due
        self._promise = promise
        self._now = now
        self._index_written = -math.inf
        self._damaged: set[str] = set()  # sidecars of which no page can be made, each said once

    def write(self, changed: Sequence[Entry]) -> None:
        """Write what changes with some reports, each page once; pages of their own are written already."""
        own = {entry.name for entry in changed}
        beside = {
            found.name: found
            for entry in changed
            for found in self._folder.neighbours(entry)
            if found is not None and found.name not in own
        }
        for neighbour in beside.values():
            self._write_report(neighbour)
        for entry in _one_each((*changed, *beside.values()), lambda entry: paths.month_page(entry.name, entry.end)):
            self._write_month(entry)
        for entry in _one_each(changed, lambda entry: paths.window_page(entry.kind, entry.end)):
            self._write_window(entry.kind, entry.end)

    def document(self, entry: Entry) -> Sidecar | None:
        """Return a sidecar, None where somebody has deleted or damaged it: that costs its own page, and no other."""
        try:
            return self._folder.document(entry)
        except FileNotFoundError:
            self._folder.refresh(entry.name)
        except ValueError as error:
            self._say_damaged(entry, error)
            self._folder.refresh(entry.name)
        return None

    def remove_old(self, station_id: str, keep: timedelta) -> None:
        """Remove a station's reports that end longer than ``keep`` before its newest."""
        oldest = self.oldest_kept(station_id, keep)
        for entry in [entry for kind in KINDS for entry in self._folder.until(station_id, kind.name, oldest)]:
            self._remove(entry)

    def oldest_kept(self, station_id: str, keep: timedelta) -> str:
        """Return the ISO time before which a station's reports are not kept, empty where it has none yet."""
        last = max((entry.end for kind in KINDS for entry in self._folder.of(station_id, kind.name, 1)), default="")
        return (datetime.fromisoformat(last) - keep).isoformat() if last else ""

    def write_index(self) -> None:
        """Write the index if nothing is due any more, or it is time to show how far the work has come."""
        due = self._due.count()
        if not due or time.monotonic() - self._index_written > INDEX_SECONDS:
            self._write_index(due["page"] + due["truth"], due["page"] + due["evidence"])
            self._index_written = time.monotonic()

    def _remove(self, entry: Entry) -> None:
        _, after = self._folder.neighbours(entry)
        page = entry.name.replace(".json", ".html")
        self._folder.remove(entry, self._dir / paths.evidence_page(page))
        self._write_month(entry)
        self._write_window(entry.kind, entry.end)
        if after is not None:
            self._write_report(after)
            self._write_month(after)

    def _write_report(self, entry: Entry) -> None:
        page = entry.name.replace(".json", ".html")
        if not entry.path and not (self._dir / page).exists():
            return  # somebody deleted it
        document = self.document(entry)
        if document is None:
            return
        try:
            text = pages.report(document, nav_of(self._dir, self._folder, page, entry))
        except ValueError as error:
            self._say_damaged(entry, error)
        else:
            self._write(page, text)

    def _say_damaged(self, entry: Entry, error: ValueError) -> None:
        if entry.name not in self._damaged:
            self._damaged.add(entry.name)
            logger.warning("%s/%s is damaged (%s): its page stays as it is", self._dir, entry.name, error)

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

    def _write_index(self, pages_due: int, evidence_due: int) -> None:
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
            pages_due=pages_due,
            evidence_due=evidence_due,
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
        start = last - timedelta(hours=_PLOT_DAYS * DAILY_HOURS - 1)
        lines: dict[str, list[float | None]] = {name: [None] * (_PLOT_DAYS * DAILY_HOURS) for name in _PLOTTED}
        for day in days:
            first = (datetime.fromisoformat(day.document["start"]) - start) // timedelta(hours=1)
            if first >= 0:
                for name, values in self._series(day).items():
                    lines[name][first : first + DAILY_HOURS] = values
        return pages.WeekPlot(station.station_id, start.isoformat(), lines["measured"], lines["predicted"])

    def _series(self, day: Entry) -> dict[str, list[float | None]]:
        """Return what is plotted of a day, by hour; nothing where its sidecar is gone or damaged."""
        document = self.document(day) or {}
        try:
            series = {name: list(document["series"][name]) for name in _PLOTTED}
        except (LookupError, TypeError):
            return {}
        return series if all(len(values) == DAILY_HOURS for values in series.values()) else {}

    def _write(self, page: str, text: str) -> None:
        """Write a page unless it is there just so."""
        path, content = self._dir / page, text.encode()
        try:
            if path.read_bytes() == content:
                return
        except OSError:
            pass  # absent or unreadable: write it
        write_atomically(path, content)


def _one_each(entries: Iterable[Entry], page: Callable[[Entry], str]) -> list[Entry]:
    """Return an entry for each page that shows some of them."""
    return list({page(entry): entry for entry in entries}.values())
