"""What a report costs: CPU time of a daily and of a weekly one, the memory of the processes that make them, their size."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from airquality.monitoring.drift import Window
from airquality.reports.child import PARTS
from airquality.reports.due import DueFolder
from benchmarks.figures import Figure
from benchmarks.lives import life
from benchmarks.sections import Bench, Outcome, section

#: Four weeks of the test period, which begins here.
_START, _HOURS = 7_953, 4 * 168


@section("reports", place=10, minutes=3, quick=False)
def reports(bench: Bench) -> Outcome:
    """Every report of four weeks of one station, written one after the other: CPU seconds, peak memory, size."""
    windows, numbers = life(bench.ground, 0, _START, _HOURS).windows, itertools.count()
    found = bench.interleave({"reports": lambda: _written(bench, windows, next(numbers))})["reports"]
    return Outcome(
        {
            "daily, CPU": Figure("s", tuple(found["daily s"])),
            "weekly, CPU": Figure("s", tuple(found["weekly s"])),
            "peak memory": Figure("MB", tuple(found["peak MB"])),
            "daily, size": Figure("MB", tuple(found["daily MB"])),
            "weekly, size": Figure("MB", tuple(found["weekly MB"])),
        },
        remark="both parts of a report together, each made by a process of its own as in the product; the peak is that of "
        "the larger of the two; the first report of each kind is left out",
    )


def _written(bench: Bench, windows: Sequence[Window], number: int) -> Mapping[str, float]:
    """Have every window's report made in a new folder, by a process for each part."""
    folder = bench.ground.directory / f"reports-{number}"
    for window in windows:
        DueFolder(folder).store(window)
    places = {"REPORTS_DIR": str(folder), "DATASET_DIR": str(bench.ground.settings.dataset_dir)}
    task = {"station_id": windows[0].station_id}
    parts = [bench.ground.measure("benchmarks.loops.reports", {**task, "part": part}, **places) for part in PARTS]
    costs = {f"{kind} s": sum(part[kind]["cpu_seconds"] for part in parts) for kind in ("daily", "weekly")}
    sizes = {f"{kind} MB": parts[-1][kind]["mb"] for kind in ("daily", "weekly")}
    return {**costs, **sizes, "peak MB": max(part["peak_mb"] for part in parts)}
