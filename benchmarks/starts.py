"""How long programs take to start: the help of each, the service until it is ready, and all of ``make run``."""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import partial

from airquality.__main__ import installed
from benchmarks.figures import Figure
from benchmarks.ground import PROJECT
from benchmarks.sections import Bench, Contender, Outcome, section
from lab.waiting import Failed

#: What users and operators type, and every tool of ``python -m airquality``.
_PROGRAMS = (
    ("producer.py",),
    ("consumer.py",),
    ("api_service.py",),
    ("generate_reference_dataset.py",),
    ("dataset/create_dataset.py",),
    ("training/train.py",),
    ("-m", "lab.demo"),
    ("-m", "airquality"),
    *(("-m", "airquality", tool) for tool in installed()),
)
_FINISHED = re.compile(r"^finished in (\d+) s$", re.MULTILINE)
_RUNS = 2


@section("starts", place=12, minutes=4, quick=False)
def starts(bench: Bench) -> Outcome:
    """Seconds until --help of every program has answered, until the service is ready, and of make run (its own words)."""
    contenders: dict[str, Contender] = {" ".join(program): partial(_help, program) for program in _PROGRAMS}
    contenders["API ready"] = partial(_ready, bench)
    found = bench.interleave(contenders)
    figures = {f"{' '.join(p)} --help": Figure("s", tuple(found[" ".join(p)]["s"])) for p in _PROGRAMS}
    slowest = max(figures, key=lambda name: statistics.median(figures[name].values))
    figures["slowest --help"] = figures[slowest]
    figures["API ready"] = Figure("s", tuple(found["API ready"]["s"]))
    if not bench.quick:
        figures["make run"] = Figure("s", tuple(_make_run() for _ in range(_RUNS)))
    return Outcome(figures, remark=f"the slowest help is that of {slowest.removesuffix(' --help')}; make run {_RUNS} times")


def _help(program: tuple[str, ...]) -> Mapping[str, float]:
    began = time.perf_counter()
    done = subprocess.run([sys.executable, *program, "--help"], cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"{' '.join(program)} --help ended with {done.returncode}: {done.stderr[-1000:]}")
    return {"s": time.perf_counter() - began}


def _ready(bench: Bench) -> Mapping[str, float]:
    registry = bench.ground.registry
    command = [sys.executable, "api_service.py", "--port", "{port}"]
    began = time.perf_counter()
    server = bench.ground.serve(command, "/ready", MLFLOW_TRACKING_URI=registry)
    seconds = time.perf_counter() - began
    server.child.end()
    return {"s": seconds}


def _make_run() -> float:
    done = subprocess.run([sys.executable, "-m", "lab.demo"], cwd=PROJECT, capture_output=True, text=True, check=False)
    said = _FINISHED.search(done.stdout)
    if done.returncode or not said:
        raise Failed(f"make run ended with {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")
    print(f"  make run: {said[1]} s", flush=True)
    return float(said[1])
