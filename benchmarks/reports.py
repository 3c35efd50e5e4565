"""What a report costs: CPU time of a daily and of a weekly one, the memory of the process that makes them, their size."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.figures import Figure
from benchmarks.sections import Bench, Outcome, section


@section("reports", place=10, minutes=3, quick=False)
def reports(bench: Bench) -> Outcome:
    """Every report of four weeks of one station, written one after the other: CPU seconds, peak memory, size."""

    def written() -> Mapping[str, float]:
        found = bench.ground.measure("benchmarks.loops.reports", {})
        return {
            "daily s": found["daily"]["cpu_seconds"],
            "weekly s": found["weekly"]["cpu_seconds"],
            "peak MB": found["peak_mb"],
            "daily MB": found["daily"]["mb"],
            "weekly MB": found["weekly"]["mb"],
        }

    found = bench.interleave({"reports": written})["reports"]
    return Outcome(
        {
            "daily, CPU": Figure("s", tuple(found["daily s"])),
            "weekly, CPU": Figure("s", tuple(found["weekly s"])),
            "peak memory": Figure("MB", tuple(found["peak MB"])),
            "daily, size": Figure("MB", tuple(found["daily MB"])),
            "weekly, size": Figure("MB", tuple(found["weekly MB"])),
        },
        remark="a round is a new process; its first report of each kind is left out",
    )
