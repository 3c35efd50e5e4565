"""Whole reports, made here and now: both parts of a window's report, as the report processes make them."""

from __future__ import annotations

from pathlib import Path

from airquality.ground.settings import Settings
from airquality.monitoring.drift import Window
from airquality.reports.child import PARTS, evidently_writer
from airquality.reports.due import Due, DueFolder


class ReportParts:
    """What makes both parts of a report, opened once: the first report of each kind imports and compiles besides."""

    def __init__(self, settings: Settings) -> None:
        self._due = DueFolder(settings.reports_dir)
        self._writers = [evidently_writer(settings, part) for part in PARTS]

    def write(self, window: Window) -> Path:
        """Make the report of a closed window; return its page."""
        self._due.store(window)
        for write, part in zip(self._writers, (Due.of(window), Due.of(window).then("evidence")), strict=True):
            [path] = write([part])
        return path
