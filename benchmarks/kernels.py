"""The arithmetic alone, in this process: features, the model, the detectors, by how many rows are done at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from prometheus_client import CollectorRegistry

from airquality.data import dataset
from airquality.metrics import ConsumerMetrics
from airquality.monitoring import calibration
from airquality.stream import heap
from benchmarks import detectors, feature_rows
from benchmarks.figures import Figure, ratio
from benchmarks.lives import Lives
from benchmarks.replay import model_rows
from benchmarks.sections import Bench, Contender, Outcome, section
from monitoring_service import MonitoringService

_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
#: Stations, rows of each, rows at a time.
_DETECTOR_CASES = {
    "one row": (1, 48, 1),
    "512 rows of one station": (1, 512, 512),
    "one row of 1,000 stations": (1000, 1, 1),
}
_SECONDS = 0.4


@section("kernels", place=4, minutes=1)
def kernels(bench: Bench) -> Outcome:
    """CPU time of features, model and detectors a row, by how many rows are done at a time; no Kafka, no HTTP."""
    heap.map_large_arrays()  # as the consumer does
    contenders: dict[str, Contender] = {}
    for n_rows in _BATCHES if not bench.quick else (1, 16, 64, 512):
        matrix = model_rows(bench, n_rows)
        contenders[_rows("model", n_rows)] = _cost(partial(bench.ground.model.predict, matrix), n_rows)
        own = partial(bench.ground.model.booster.inplace_predict, matrix, missing=np.nan)
        contenders[_rows("XGBoost", n_rows)] = _cost(own, n_rows)
    monitoring = MonitoringService.open(bench.ground.settings, ConsumerMetrics(CollectorRegistry()))
    for case in feature_rows.cases(Lives(bench.ground), monitoring.open_station):
        contenders[f"features, {case.name}"] = _cost(case.call, case.n_rows, case.prepare)
    contenders |= {f"detectors, {name}": partial(_detectors, bench, *size) for name, size in _DETECTOR_CASES.items()}
    found = bench.interleave(contenders)
    figures = {name: Figure("us", tuple(measured["CPU us"])) for name, measured in found.items()}
    ours, theirs = (found[_rows(name, 512)]["CPU us"] for name in ("model", "XGBoost"))
    figures["model / XGBoost, 512 rows"] = ratio(ours, theirs)
    return Outcome(figures, remark="CPU us a row; the smallest call of each round")


def _rows(what: str, n_rows: int) -> str:
    return f"{what}, {n_rows} row{'s' if n_rows > 1 else ''}"


def _nothing() -> None: ...


def _cost(call: Callable[[], object], n_rows: int, prepare: Callable[[], object] = _nothing) -> Contender:
    return lambda: {"CPU us": microseconds(call, n_rows, prepare)}


def _detectors(bench: Bench, n_stations: int, n_rows: int, at_once: int) -> Mapping[str, float]:
    fitted = calibration.load(bench.ground.settings.dataset_dir)
    stream = dataset.split(bench.ground.frame).test.values[:n_rows]
    return {"CPU us": detectors.cost(fitted, stream, n_stations, at_once, rounds=1)}


def microseconds(call: Callable[[], object], n_rows: int, prepare: Callable[[], object] = _nothing) -> float:
    """Return own CPU us a row, of the cheapest call in :data:`_SECONDS`; ``prepare``, before each, is not timed."""
    prepare()
    call()
    best, until = float("inf"), time.perf_counter() + _SECONDS
    while time.perf_counter() < until:
        prepare()
        began = time.process_time()
        call()
        best = min(best, time.process_time() - began)
    return best / n_rows * 1e6
