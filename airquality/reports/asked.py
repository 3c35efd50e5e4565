"""The pages that a person asked for, as reports link to them: explained predictions of a window's hours."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

from airquality.ground.files import write_atomically
from airquality.reports import pages, paths
from airquality.reports.folder import Entry, ReportsFolder, folder_name
from airquality.reports.lock import OWN_FOLDER
from airquality.reports.nav import Explained, Nav
from airquality.truth.kinds import KINDS

_HOUR = timedelta(hours=1)


def nav_of(reports_dir: Path, folder: ReportsFolder, page: str, entry: Entry) -> Nav:
    """Return the links of the report at ``page``: to its neighbours, and to what was explained of its hours."""
    return Nav.of(page, entry, *folder.neighbours(entry), _explained(reports_dir, page, entry))


def _explained(reports_dir: Path, page: str, entry: Entry) -> tuple[Explained, ...]:
    station = folder_name(entry.station_id)
    if not (reports_dir / paths.ASKED_FOR / station).is_dir():
        return ()
    moment, end, found = datetime.fromisoformat(entry.document["start"]), datetime.fromisoformat(entry.end), []
    while moment <= end:
        place = paths.prediction_page(station, moment.isoformat())
        if (reports_dir / place).is_file():
            found.append(Explained(moment.isoformat(), paths.link(page, place)))
        moment += _HOUR
    return tuple(found)


def link_from_reports(reports_dir: Path, station_id: str, moment: str) -> int:
    """Let the reports of the windows that hold an hour link to its explained page; return how many there are.

    Args:
        reports_dir: The reports folder; where it holds no reports, nothing happens.
        station_id: Whose hour.
        moment: The hour, an ISO time.

    Raises:
        OSError: the folder cannot be written.
    """
    if not (reports_dir / OWN_FOLDER).is_dir():
        return 0
    folder, hour, linked = ReportsFolder(reports_dir), datetime.fromisoformat(moment), 0
    with folder.locked():
        for kind in KINDS:
            last = (hour + (kind.hours - 1) * _HOUR).isoformat()
            for entry in folder.within(station_id, kind.name, moment, last):
                if not entry.path:  # somebody deleted its page
                    continue
                with suppress(ValueError):  # damaged: its page stays as it is
                    text = pages.report(folder.document(entry), nav_of(reports_dir, folder, entry.path, entry))
                    write_atomically(reports_dir / entry.path, text.encode())
                    linked += 1
    return linked
