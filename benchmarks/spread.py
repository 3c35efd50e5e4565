"""One and six partitions, one to three consumers of a group: how many rows a second they do together."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

from airquality.ground.errors import ContractError
from benchmarks.figures import Figure
from benchmarks.replay import environment_of
from benchmarks.sections import Bench, Contender, Outcome, section
from benchmarks.topics import Topics

_STATIONS, _HOURS = 100, 300
#: Partitions and consumers.
_SPREADS = ((1, 1), (6, 1), (6, 2), (6, 3))
_IDLE_SECONDS = 4.0


@section("spread", place=7, minutes=6, quick=False)
def spread(bench: Bench) -> Outcome:
    """1 and 6 partitions, 1 to 3 consumers: rows a second of all together while all of them work, and CPU a row."""
    topics = Topics(bench.ground)
    contenders: dict[str, Contender] = {
        f"{partitions} partition{'s' if partitions > 1 else ''}, {n} consumer{'s' if n > 1 else ''}": partial(
            _together, bench, topics, partitions, n
        )
        for partitions, n in _SPREADS
    }
    found = bench.interleave(contenders)
    figures = {f"{name}: rows a second": Figure("rows/s", tuple(measured["rows/s"])) for name, measured in found.items()}
    figures |= {f"{name}: CPU a row": Figure("us", tuple(measured["CPU us"])) for name, measured in found.items()}
    return Outcome(figures, remark="broker, service and consumers share the machine's cores")


def _together(bench: Bench, topics: Topics, partitions: int, n_consumers: int) -> Mapping[str, float]:
    settings = topics.around(topics.raw(_STATIONS, _HOURS, partitions), partitions, _STATIONS)
    environment = environment_of(settings, API_URL=bench.ground.api.url)
    task = {"idle_seconds": _IDLE_SECONDS}
    module = ["-m", "benchmarks.loops.product"]
    running = [bench.ground.start(sys.executable, module, task, **environment) for _ in range(n_consumers)]
    found = [each.result() for each in running]
    committed = sum(each["commits"][-1][1] for each in found if each["commits"])
    if committed != _STATIONS * _HOURS:
        raise ContractError(f"{n_consumers} consumers committed {committed} predictions of {_STATIONS * _HOURS} rows")
    return while_all_work([each for each in found if each["commits"]])


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
