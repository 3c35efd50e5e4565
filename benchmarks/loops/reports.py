"""A report process as the product starts it, on what is due in a folder: CPU seconds of each kind and peak of its memory."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from airquality.ground.settings import read_settings
from airquality.reports.child import evidently_writer
from airquality.reports.due import DueFolder
from airquality.truth.kinds import DAILY, WEEKLY


def main(task: dict[str, Any]) -> None:
    """Make one part of every report that is due; the first of each kind imports and compiles, and is not counted."""
    settings = read_settings()
    due = DueFolder(settings.reports_dir).of(task["station_id"])
    write = evidently_writer(settings, task["part"])
    measured: dict[str, Any] = {}
    for kind in (DAILY, WEEKLY):
        spent, sizes = [], []
        for each in sorted((each for each in due if each.kind is kind), key=lambda each: each.end_hour):
            began = time.process_time()
            [page] = write([each])
            spent.append(time.process_time() - began)
            sizes.append(page.stat().st_size / 2**20)
        measured[kind.name] = {"cpu_seconds": sum(spent[1:]) / len(spent[1:]), "mb": max(sizes)}
    print(json.dumps({**measured, "peak_mb": _peak_mb()}), flush=True)


def _peak_mb() -> float:
    """Return the peak since this program began: getrusage's is that of its parent, too, where that was larger."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
