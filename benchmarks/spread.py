"""Stations over one and six partitions and one to three consumers of a group: how many rows a second they do together."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

from airquality.ground.errors import ContractError
from benchmarks.figures import Figure
from benchmarks.group import Group
from benchmarks.replay import environment_of
from benchmarks.sections import Bench, Outcome, section
from benchmarks.topics import Topics, encoded


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


#: Rows enough for some seconds of work.
_SPREADS = (
    Spread(1, 3_000, 6, 1),
    *(Spread(100, 150, partitions, consumers) for partitions, consumers in ((1, 1), (6, 1), (6, 2), (6, 3))),
    *(Spread(1_000, 15, partitions, consumers) for partitions, consumers in ((1, 1), (6, 1), (6, 3))),
)
#: Once each: half a gigabyte of snapshots is written and read for it.
_LARGE = (Spread(10_000, 3, 6, 1), Spread(10_000, 3, 6, 3))


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
    """Let the consumers share the fleet, send its first hour to warm and ready ones, and then all others at once."""
    rows = iter(list(encoded(topics.lives.rows(each.stations, each.hours))))
    settings = topics.around(topics.empty(each.partitions), each.partitions, each.stations)
    environment, module = environment_of(settings, API_URL=bench.ground.api.url), ["-m", "benchmarks.loops.product"]
    members = [bench.ground.start(sys.executable, module, {}, **environment) for _ in range(each.consumers)]
    with Group(settings, members) as group:
        group.await_shared(each.partitions)
        topics.fill(settings.raw_topic, islice(rows, each.stations), each.partitions)
        group.await_committed(each.stations)
        sent = time.perf_counter()  # one clock for all processes of the machine
        topics.fill(settings.raw_topic, rows, each.partitions)
        group.await_committed(each.stations * each.hours)
        return while_all_work(group.stopped(), sent)


def while_all_work(found: list[dict[str, Any]], since: float) -> dict[str, float]:
    """Return rows a second and CPU us a row between the last consumer's first commit and the first one's last.

    Args:
        found: What the clock of each consumer says.
        since: Monotonic seconds when all of them were ready; what they committed before does not count.
    """
    worked = [_since(each["commits"], since) for each in found]
    begin, end = max(commits[0][0] for commits in worked), min(commits[-1][0] for commits in worked)
    rows = cpu = 0.0
    for commits in worked:
        within = [commit for commit in commits if begin <= commit[0] <= end]
        if within:
            rows += within[-1][1] - within[0][1]
            cpu += within[-1][2] - within[0][2]
    if not rows:
        raise ContractError("the consumers did not work at the same time: there are too few rows")
    return {"rows/s": rows / (end - begin), "CPU us": cpu / rows * 1e6}


def _since(commits: list[list[float]], since: float) -> list[list[float]]:
    """Return the commits with predictions after a time."""
    before = max((commit[1] for commit in commits if commit[0] <= since), default=0.0)
    last = commits[-1][1]
    later = [commit for commit in commits if commit[1] > before]
    return later[: next(index for index, commit in enumerate(later) if commit[1] == last) + 1]
