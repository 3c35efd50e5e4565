"""A consumer of 1,000 stations that is started again: how long until it commits predictions."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from functools import partial

from benchmarks.figures import Figure
from benchmarks.replay import environment_of
from benchmarks.sections import Bench, Outcome, section
from benchmarks.topics import Topics

_STATIONS = 1_000


@section("restart", place=8, minutes=1, quick=False)
def restart(bench: Bench) -> Outcome:
    """A consumer of 1,000 stations starts: seconds from its start until its first predictions are committed."""
    topics = Topics(bench.ground)
    found = bench.interleave({"product": partial(_started, bench, topics)})
    return Outcome({"serving again": Figure("s", tuple(found["product"]["s"]))}, remark="rows wait; snapshots hold the rest")


def _started(bench: Bench, topics: Topics) -> Mapping[str, float]:
    settings = topics.around(topics.raw(_STATIONS, 1), 1, _STATIONS)
    environment = environment_of(settings, API_URL=bench.ground.api.url)
    began = time.perf_counter()  # one clock for all processes of the machine
    running = bench.ground.start(sys.executable, ["-m", "benchmarks.loops.product"], {"n_rows": _STATIONS}, **environment)
    first = next(commit for commit in running.result()["commits"] if commit[1])
    return {"s": first[0] - began}
