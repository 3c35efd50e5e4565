"""A catch-up: the product, a bare loop, Quix Streams and pandas on the same rows, one after the other in every round."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from airquality.ground.errors import ContractError
from airquality.ground.settings import Settings
from airquality.model import features
from airquality.records import HISTORY_HOURS
from benchmarks import environments
from benchmarks.figures import Figure, ratio
from benchmarks.ground import PROJECT
from benchmarks.sections import Bench, Contender, Outcome, section
from benchmarks.stages import POINTS
from benchmarks.stages import unseen as stages_unseen
from benchmarks.topics import Topics

STATIONS = 4
#: The rows of the contenders that are ten and a hundred times slower: a rate needs no more.
_QUIX_ROWS, _PANDAS_ROWS = (6_000, 1_500), (300, 60)
_MODEL_ROWS = 512


#: The settings by which a program finds a round's topics and everything else.
_PASSED = (
    "raw_topic", "pred_topic", "state_topic", "dlq_topic", "events_topic", "kafka_bootstrap_servers", "consumer_group",
    "max_poll_records", "mlflow_tracking_uri", "reports_dir", "dataset_dir", "artifacts_dir",
)  # fmt: skip


def environment_of(settings: Settings, **more: str) -> dict[str, str]:
    """Return the environment in which a program finds a round's topics."""
    return {**{name.upper(): str(getattr(settings, name)) for name in _PASSED}, "CONSUMER_METRICS_PORT": "0", **more}


def product(bench: Bench, settings: Settings, n_rows: int, n_stations: int, **task: Any) -> dict[str, Any]:
    """Run the consumer until it has committed ``n_rows`` predictions, and return what its clock says.

    Raises:
        ContractError: it predicted another number of rows.
    """
    before = bench.ground.api.cpu_seconds()
    environment = environment_of(settings, API_URL=bench.ground.api.url)
    found = bench.ground.measure("benchmarks.loops.product", {"n_rows": n_rows, **task}, **environment)
    counts = found["counts"]
    if (counts["predictions"], counts["dead"], counts["warmup"]) != (n_rows, 0, n_stations * HISTORY_HOURS):
        raise ContractError(f"{n_rows} rows of {n_stations} warm stations were to be predicted, but: {counts}")
    return {**found, "api_cpu": bench.ground.api.cpu_seconds() - before}


def bare(bench: Bench, settings: Settings, n_rows: int) -> dict[str, Any]:
    """Run the bare loop until it has committed ``n_rows`` records, and return what its clock says."""
    return bench.ground.measure("benchmarks.loops.bare", {"n_rows": n_rows}, **environment_of(settings))


def rates(found: Mapping[str, Any], n_rows: int) -> dict[str, float]:
    """Return rows a second and CPU us a row from the first row to the commit of the last, without the program's end."""
    at, _, cpu, _ = next(commit for commit in found["commits"] if commit[1] >= n_rows)
    return {"rows/s": n_rows / (at - found["began"]), "CPU us": (cpu - found["cpu_began"]) / n_rows * 1e6}


@section("replay", place=1, minutes=3)
def replay(bench: Bench) -> Outcome:
    """A catch-up of 4 stations with transactions, detectors and windows, beside what others need for the same rows."""
    topics = Topics(bench.ground)
    n_hours = bench.scaled(5_000, 1_250)
    n_rows = n_hours * STATIONS
    raw = topics.raw(STATIONS, n_hours)
    cold = topics.raw(STATIONS, bench.scaled(1_600, 400), past_hours=HISTORY_HOURS)
    contenders: dict[str, Contender] = {
        "bare": lambda: rates(bare(bench, topics.around(raw), n_rows), n_rows),
        "product": lambda: rates(product(bench, topics.around(raw, 1, STATIONS), n_rows, STATIONS), n_rows),
        "by stage": lambda: _by_stage(bench, topics.around(raw, 1, STATIONS), n_rows),
        "quix": partial(_quix, bench, topics, cold),
        "pandas": partial(_pandas, bench, topics, cold),
        "model": partial(model_alone, bench),
    }
    found = bench.interleave(contenders)
    stages = {name: Figure("us", tuple(values)) for name, values in _stages(found).items()}
    speed = {name: found[name]["rows/s"] for name in ("bare", "product", "quix", "pandas")}
    figures = {f"{name}, rows a second": Figure("rows/s", tuple(values)) for name, values in speed.items()}
    figures |= {f"{name}, CPU a row": Figure("us", tuple(found[name]["CPU us"])) for name in speed}
    figures |= {f"product / {name}": ratio(speed["product"], speed[name]) for name in ("bare", "quix", "pandas")}
    whole = [sum(values) for values in zip(*(stage.values for stage in stages.values()), strict=True)]
    figures["monitoring share"] = ratio(stages["monitor"].values, whole)
    return Outcome(figures, stages, f"{n_rows:,} predicted rows a round of the product and the bare loop")


def _by_stage(bench: Bench, settings: Settings, n_rows: int) -> dict[str, float]:
    found = product(bench, settings, n_rows, STATIONS, stages=True)
    if unseen := stages_unseen(found["stages"]):
        raise ContractError(f"nothing was timed of {', '.join(unseen)}: benchmarks/stages.py lists what is not called")
    stages = {f"stage/{name}": found["stages"].get(name, 0.0) / n_rows * 1e6 for name in POINTS}
    return {**rates(found, n_rows), **stages, "stage/api": found["api_cpu"] / n_rows * 1e6}


def _stages(found: Mapping[str, Mapping[str, list[float]]]) -> dict[str, list[float]]:
    """Return CPU us a row by stage: those of the consumer, what is left of it, the model, and the rest of the service."""
    staged = found["by stage"]
    stages = {name: staged[f"stage/{name}"] for name in POINTS}
    known = [sum(values) for values in zip(*stages.values(), strict=True)]
    model = found["model"]["CPU us"]
    return {
        **stages,
        "rest": [whole - part for whole, part in zip(staged["CPU us"], known, strict=True)],
        "model": model,
        "service": [whole - part for whole, part in zip(staged["stage/api"], model, strict=True)],
    }


def _quix(bench: Bench, topics: Topics, raw: str) -> dict[str, float]:
    settings = topics.around(raw)
    task = {
        "servers": settings.kafka_bootstrap_servers,
        "group": settings.state_topic,
        "raw_topic": raw,
        "pred_topic": settings.pred_topic,
        "state_dir": str(bench.ground.directory / settings.state_topic),
        "artifacts": str(settings.artifacts_dir),
        "n_rows": bench.scaled(*_QUIX_ROWS),
        "batch": settings.max_poll_records,
    }
    script = str(environments.CONTENDERS / "quix" / "pipeline.py")
    run = bench.ground.start(environments.python_of("quix"), [script], task, PYTHONPATH=str(PROJECT))
    return _rate(run.result())


def _pandas(bench: Bench, topics: Topics, raw: str) -> dict[str, float]:
    settings = topics.around(raw)
    task = {
        "artifacts": str(settings.artifacts_dir),
        "n_warm": STATIONS * HISTORY_HOURS,
        "n_rows": bench.scaled(*_PANDAS_ROWS),
    }
    return _rate(bench.ground.measure("benchmarks.loops.pandas_row", task, **environment_of(settings)))


def _rate(found: Mapping[str, float]) -> dict[str, float]:
    return {"rows/s": found["rows"] / found["seconds"], "CPU us": found["cpu_seconds"] / found["rows"] * 1e6}


def model_alone(bench: Bench) -> dict[str, float]:
    """Measure the champion alone on as many rows as a batch of the consumer has."""
    matrix = model_rows(bench, _MODEL_ROWS)
    began, cpu_began = time.perf_counter(), time.process_time()
    calls = 20
    for _ in range(calls):
        bench.ground.model.predict(matrix)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu_began
    return {"rows/s": calls * len(matrix) / seconds, "CPU us": cpu / calls / len(matrix) * 1e6}


def model_rows(bench: Bench, n_rows: int) -> np.typing.NDArray[np.float64]:
    """Return feature rows of measured hours, shape ``(n_rows, n_features)``."""
    frame = bench.ground.frame.rows(0, HISTORY_HOURS + n_rows)
    return features.batch(frame.hours, frame.values)[-n_rows:]
