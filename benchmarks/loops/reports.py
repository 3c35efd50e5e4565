"""Reports of one station as the report process writes them: CPU seconds of each kind, and the peak of its memory."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from airquality.truth.kinds import DAILY, WEEKLY
from benchmarks.ground import Ground
from benchmarks.lives import life
from benchmarks.report_parts import ReportParts

#: Four weeks of the test period, which begins here.
_START, _HOURS = 7_953, 4 * 168


def main(_: dict[str, Any]) -> None:
    """Write every window of four weeks once; the first of each kind imports and compiles, and is not counted."""
    with tempfile.TemporaryDirectory() as folder, Ground(Path(folder)) as ground:
        windows = life(ground, 0, _START, _HOURS).windows
        before_mb = _peak_mb()
        parts = ReportParts(ground.settings)
        measured: dict[str, Any] = {"before_mb": before_mb}
        for kind in (DAILY, WEEKLY):
            spent, sizes = [], []
            for window in (each for each in windows if each.kind is kind):
                began = time.process_time()
                path = parts.write(window)
                spent.append(time.process_time() - began)
                sizes.append(path.stat().st_size / 2**20)
            measured[kind.name] = {"cpu_seconds": sum(spent[1:]) / len(spent[1:]), "mb": max(sizes)}
        print(json.dumps({**measured, "peak_mb": _peak_mb()}), flush=True)


def _peak_mb() -> float:
    """Return the peak since this program began: getrusage's is that of its parent, too, where that was larger."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
