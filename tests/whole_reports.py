"""Reports made from end to end in this process: stored as due, their pages written, Evidently's parts drawn."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from airquality.ground.files import write_atomically
from airquality.monitoring.drift import Judge, Window
from airquality.reports.due import Due, DueFolder, Job
from airquality.reports.evidence_page import Evidence
from airquality.reports.folder import Entry, ReportsFolder
from airquality.reports.writer import Draws, ReportWriter


def put(folder: ReportsFolder, window: Window, document: Mapping[str, Any]) -> Path:
    """Write the report of a window as the writer does, with a page of one word; the folder is locked."""
    page = folder.page_path(window)
    name = f"{window.kind.name}/{page.as_posix().rpartition(f'/{window.kind.name}/')[2]}"
    with folder.announced([Entry(name.replace(".html", ".json"), name, document)]):
        write_atomically(page, b"page")
        write_atomically(page.with_suffix(".json"), json.dumps(document).encode())
    return page


class DrawnOnce:
    """Evidently's part of each window, drawn once for all tests: what is drawn depends on window and reference alone."""

    _drawn: ClassVar[dict[tuple[str, str], Evidence]] = {}

    def __init__(self, judge: Judge) -> None:
        from airquality.reports.evidence import Artist  # two seconds, which who only stores pages should not wait

        self._artist, self._reference = Artist(judge), judge.reference.digest()

    def draw(self, window: Window) -> Evidence:
        key = self._reference, window.digest()
        if key not in self._drawn:
            self._drawn[key] = self._artist.draw(window)
        return self._drawn[key]


class WholeReports:
    """Writes whole reports, as the report processes of a consumer do one after the other."""

    def __init__(self, reports_dir: Path, judge: Judge, *arguments: Any, **named: Any) -> None:
        self.writer = ReportWriter(reports_dir, judge, *arguments, **named)
        self.artist: Draws = DrawnOnce(judge)
        self._due = DueFolder(reports_dir)

    def store(self, job: Job) -> Due:
        """Store what is due of a window, and return what that is."""
        self._due.store(job)
        return Due.of(job)

    def write(self, job: Job) -> Path:
        """Return the page of a window whose report is made."""
        due = self.store(job)
        [page] = self.writer.write([due])
        if isinstance(job, Window):
            self.writer.draw(due.then("evidence"), self.artist)
        return page
