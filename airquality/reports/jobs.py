"""What the report process is asked for, and what comes back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from airquality.events import WindowSettled
from airquality.monitoring.drift import Window

#: What the child is given: a window that closed, whose report is to be written, or one whose truth is final, which its
#: report is to say.
Job = Window | WindowSettled


@dataclass(frozen=True, slots=True)
class ReportResult:
    """The end of one window's report: its file, or why there is none; ``settled`` where it was made anew for its truth."""

    station_id: str
    kind: str
    end_hour: int
    result: Literal["generated", "failed"]
    path: Path | None = None
    error: str = ""
    settled: bool = False
