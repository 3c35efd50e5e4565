"""The catch-up with its reports made on a core that nothing else uses, and without: what they take from the predictions."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from functools import partial

import psutil

from airquality.ground.errors import Unavailable
from benchmarks.figures import Figure
from benchmarks.replay import STATIONS, product, rates
from benchmarks.sections import Bench, Outcome, section
from benchmarks.topics import Topics

_HOURS = 2_500


@section("beside", place=9, minutes=4, quick=False)
def beside(bench: Bench) -> Outcome:
    """The catch-up with its reports made on a core of their own, and without: by how much they slow the predictions."""
    topics = Topics(bench.ground)
    raw = topics.raw(STATIONS, _HOURS)
    print(f"  beside {bench.ground.broker.bootstrap_servers} and {bench.ground.api.url}")  # started before cores are given
    with _idle_core() as core:
        found = bench.interleave(
            {
                "with reports": partial(_replay, bench, topics, raw, reports=True, reports_core=core),
                "without reports": partial(_replay, bench, topics, raw),
            }
        )
    speed = {name: measured["rows/s"] for name, measured in found.items()}
    slowdown = tuple(1 - a / b for a, b in zip(speed["with reports"], speed["without reports"], strict=True))
    figures = {f"{name}: rows a second": Figure("rows/s", tuple(values)) for name, values in speed.items()}
    return Outcome(
        {**figures, "slowdown": Figure("", slowdown)},
        remark="broker, service and consumer are kept off one core, which the report process has for itself",
    )


def _replay(bench: Bench, topics: Topics, raw: str, **task: int) -> Mapping[str, float]:
    settings = topics.around(raw, 1, STATIONS)
    settings = settings.model_copy(update={"reports_dir": bench.ground.directory / settings.pred_topic})
    n_rows = _HOURS * STATIONS
    return rates(product(bench, settings, n_rows, STATIONS, **task), n_rows)


@contextmanager
def _idle_core() -> Iterator[int]:
    """Keep this process and all that it started, and starts meanwhile, off one core, and say which.

    Raises:
        Unavailable: there is one core only, or the system does not let a process choose.
    """
    if not hasattr(os, "sched_getaffinity"):
        raise Unavailable("a core is kept free by Linux's sched_setaffinity, which this system has not: measure it on Linux")
    cores = os.sched_getaffinity(0)
    if len(cores) == 1:
        raise Unavailable("the reports need a core that nothing else uses, and this machine has one: measure on two or more")
    core = max(cores)
    _keep_to(cores - {core})
    try:
        yield core
    finally:
        _keep_to(cores)


def _keep_to(cores: Set[int]) -> None:
    """Let this process and its children run on these cores only; a thread that is started later follows its starter."""
    own = psutil.Process()
    for process in (own, *own.children(recursive=True)):
        for thread in process.threads():
            os.sched_setaffinity(thread.id, cores)
