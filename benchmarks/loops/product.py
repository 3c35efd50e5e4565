"""The consumer as it is typed, with a clock at its client library; its reports are made only where that is measured."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

import consumer
from airquality.ground import log
from airquality.ground.program import stop_on_signals
from airquality.ground.settings import read_settings
from airquality.reports import makers
from airquality.reports.ledger import ReportLedger
from airquality.reports.queue import ReportQueue
from airquality.stream.limits import Limits
from benchmarks.clock import Clock
from benchmarks.stages import Stages


def _let_go(_: ReportQueue, ledger: ReportLedger, *__: object) -> None:
    """Let go of a window as if its report had been made."""
    ledger.outstanding -= 1


def _make_on(core: int) -> None:
    """Let the threads that have reports made run on one core, and so the processes that they start."""
    for owner, name in ((makers._Maker, "_run"), (makers.ReportMakers, "_store")):
        setattr(owner, name, _pinned(getattr(owner, name), core))


def _pinned(work: Callable[[Any], None], core: int) -> Callable[[Any], None]:
    def pinned(owner: Any) -> None:
        os.sched_setaffinity(0, {core})  # of this thread alone
        work(owner)

    return pinned


def main(task: dict[str, Any]) -> None:
    """Consume until a signal, until nothing came for ``idle_seconds``, or without these until ``n_rows`` are committed.

    Where nothing came for a while every report is made before the end.
    """
    settings = read_settings()
    log.configure(settings.log_level, settings.log_format)
    limits = Limits(**({"idle_exit_seconds": task["idle_seconds"]} if "idle_seconds" in task else {}))
    stop_on_signals(lambda: setattr(limits, "stopped", True))
    n_rows = None if "idle_seconds" in task else task.get("n_rows")
    clock = Clock(settings.raw_topic, settings.pred_topic, n_rows, lambda: setattr(limits, "stopped", True))
    stages = Stages()
    if not task.get("reports"):
        ReportQueue.put = _let_go  # type: ignore[assignment,method-assign]
    if "reports_core" in task:
        _make_on(task["reports_core"])
    if task.get("stages"):
        stages.install()
    clock.install()
    counts = consumer.run(settings, limits)
    accounted = {"predictions": counts.predictions, "warmup": counts.warmup, "dead": sum(counts.dead_letters.values())}
    print(json.dumps({**clock.report(), "counts": accounted, "stages": stages.seconds}), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
