"""Stations over one and six partitions and one to three consumers of a group: how many rows a second they do together."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from airquality.ground.errors import ContractError
from benchmarks.figures import Figure
from benchmarks.replay import environment_of
from benchmarks.sections import Bench, Outcome, section
from benchmarks.topics import Topics


@dataclass(frozen=True)
class Spread:
    """A fleet, the partitions that it is spread over, and the consumers that share these."""

    stations: int
    hours: int
    partitions: int
    consumers: int

    @property
    def name(self) -> str:
        """It in words."""
        return ", ".join(
            f"{number:,} {noun}{'s' if number > 1 else ''}"
            for noun, number in (("station", self.stations), ("partition", self.partitions), ("consumer", self.consumers))
        )


#: Rows enough that all consumers still work once the last one has restored its stations.
_SPREADS = (
    Spread(1, 3_000, 6, 1),
    *(Spread(100, 300, partitions, consumers) for partitions, consumers in ((1, 1), (6, 1), (6, 2), (6, 3))),
    *(Spread(1_000, 30, partitions, consumers) for partitions, consumers in ((1, 1), (6, 1), (6, 3))),
)
#: Once each: half a gigabyte of snapshots is written and read for it.
_LARGE = (Spread(10_000, 8, 6, 1), Spread(10_000, 8, 6, 3))
_IDLE_SECONDS = 4.0


@section("spread", place=7, minutes=14, quick=False)
def spread(bench: Bench) -> Outcome:
    """1 to 10,000 stations, 1 and 6 partitions, 1 to 3 consumers: rows a second of all together, and CPU a row."""
    topics = Topics(bench.ground)
    found = bench.interleave({each.name: partial(_together, bench, topics, each) for each in _SPREADS})
    if not bench.quick:
        once = replace(bench, rounds=1)
        found |= once.interleave({each.name: partial(_together, bench, topics, each) for each in _LARGE})
    figures = {f"{name}: rows a second": Figure("rows/s", tuple(measured["rows/s"])) for name, measured in found.items()}
    figures |= {f"{name}: CPU a row": Figure("us", tuple(measured["CPU us"])) for name, measured in found.items()}
    return Outcome(
        figures,
        remark="while all consumers work; broker, service and consumers share the machine's cores; 10,000 stations once",
    )


def _together(bench: Bench, topics: Topics, each: Spread) -> Mapping[str, float]:
    n_rows = each.stations * each.hours
    raw = topics.raw(each.stations, each.hours, each.partitions)
    environment = environment_of(topics.around(raw, each.partitions, each.stations), API_URL=bench.ground.api.url)
    task = {"idle_seconds": _IDLE_SECONDS}
    module = ["-m", "benchmarks.loops.product"]
    running = [bench.ground.start(sys.executable, module, task, **environment) for _ in range(each.consumers)]
    found = [one.result() for one in running]
    committed = sum(one["commits"][-1][1] for one in found if one["commits"])
    if committed != n_rows:
        raise ContractError(f"{each.name}: {committed} predictions were committed of {n_rows} rows")
    return while_all_work([one for one in found if one["commits"]])


def while_all_work(found: list[dict[str, Any]]) -> dict[str, float]:
    """Return rows a second and CPU us a row between the last consumer's first commit and the first one's last."""
    begin = max(each["commits"][0][0] for each in found)
    end = min(next(c[0] for c in each["commits"] if c[1] == each["commits"][-1][1]) for each in found)
    rows = cpu = 0.0
    for each in found:
        within = [commit for commit in each["commits"] if begin <= commit[0] <= end]
        if within:
            rows += within[-1][1] - within[0][1]
            cpu += within[-1][2] - within[0][2]
    if not rows:
        raise ContractError("the consumers did not work at the same time: there are too few rows")
    return {"rows/s": rows / (end - begin), "CPU us": cpu / rows * 1e6}
