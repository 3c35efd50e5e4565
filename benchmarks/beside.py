"""The catch-up once more with its reports made beside it: what Evidently takes from the predictions."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial

from benchmarks.figures import Figure
from benchmarks.replay import STATIONS, product, rates
from benchmarks.sections import Bench, Outcome, section
from benchmarks.topics import Topics

_HOURS = 2_500
#: One for the broker, one for the service, one for the consumer: only the next one is idle.
_CORES = 4


@section("beside", place=9, minutes=4, quick=False)
def beside(bench: Bench) -> Outcome:
    """The catch-up with its reports made in a process beside it, and without: by how much they slow the predictions."""
    topics = Topics(bench.ground)
    raw = topics.raw(STATIONS, _HOURS)
    found = bench.interleave({name: partial(_replay, bench, topics, raw, name == "with reports") for name in _NAMES})
    speed = {name: found[name]["rows/s"] for name in _NAMES}
    slowdown = Figure("", tuple(1 - a / b for a, b in zip(*speed.values(), strict=True)))
    cores = os.cpu_count() or 1
    idle = cores >= _CORES
    figures = {f"{name}: rows a second": Figure("rows/s", tuple(values)) for name, values in speed.items()}
    figures["slowdown" if idle else "slowdown, no core idle"] = slowdown
    return Outcome(figures, remark="" if idle else f"the target is about an idle core; a catch-up keeps all {cores} busy")


_NAMES = ("with reports", "without reports")


def _replay(bench: Bench, topics: Topics, raw: str, reports: bool) -> Mapping[str, float]:
    settings = topics.around(raw, 1, STATIONS)
    settings = settings.model_copy(update={"reports_dir": bench.ground.directory / settings.pred_topic})
    n_rows = _HOURS * STATIONS
    return rates(product(bench, settings, n_rows, STATIONS, reports=reports), n_rows)
