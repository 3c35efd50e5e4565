"""One row and 512 rows over HTTP: the product, an empty endpoint, BentoML and ``mlflow models serve``, one worker each."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import orjson

from airquality.model import features, rows
from benchmarks import environments
from benchmarks.figures import Figure, ratio
from benchmarks.ground import Server
from benchmarks.load import Request as Asked
from benchmarks.load import load
from benchmarks.replay import model_alone, model_rows
from benchmarks.sections import Bench, Contender, Outcome, section

Row = np.typing.NDArray[np.float64]

_JSON = {"Content-Type": "application/json"}
_MANY = 512
_CONNECTIONS = (1, 16)


@dataclass(frozen=True)
class Contest:
    """A server, and how it is asked for rows."""

    server: Server
    request: Asked


@section("serving", place=5, minutes=4)
def serving(bench: Bench) -> Outcome:
    """Requests of one row and of 512 rows over HTTP, one worker each, beside an empty endpoint and two model servers."""
    seconds = 3.0 if not bench.quick else 1.0
    servers, matrix = _servers(bench), np.nan_to_num(model_rows(bench, _MANY), nan=0.1)
    one, many = _one_row(servers, matrix[0]), _many_rows(servers, matrix)
    contenders: dict[str, Contender] = {
        f"{name}, {n} connections": partial(_measure, contest, n, seconds)
        for name, contest in one.items()
        for n in _CONNECTIONS
    }
    contenders |= {f"{name}, {_MANY} rows": partial(_measure, contest, 1, seconds, _MANY) for name, contest in many.items()}
    contenders["model, 512 rows"] = partial(model_alone, bench)
    for contest in {**one, **many}.values():  # the first requests load, compile and connect
        load(contest.request, 2, 0.5)
    found = bench.interleave(contenders)
    figures: dict[str, Figure] = {}
    for name, measured in found.items():
        for what, unit in (("rows/s", "rows/s"), ("p50 ms", "ms"), ("p99 ms", "ms"), ("CPU us", "us")):
            if what in measured:
                figures[f"{name}: {what.removesuffix(' ms').removesuffix(' us')}"] = Figure(unit, tuple(measured[what]))
    speed = {name: measured["rows/s"] for name, measured in found.items()}
    ours = speed["product, 16 connections"]
    for name in ("empty", "bentoml", "mlflow"):
        figures[f"one row: product / {name}"] = ratio(ours, speed[f"{name}, 16 connections"])
    json_rows, byte_rows = speed["product as JSON, 512 rows"], speed["product as bytes, 512 rows"]
    for name in ("bentoml", "mlflow"):
        figures[f"512 rows: json / {name}"] = ratio(json_rows, speed[f"{name}, 512 rows"])
    figures["512 rows: binary / model"] = ratio(byte_rows, speed["model, 512 rows"])
    return Outcome(figures, remark="load generator and server share the machine; 512 rows go over one connection")


def _measure(contest: Contest, n_connections: int, seconds: float, n_rows: int = 1) -> Mapping[str, float]:
    before = contest.server.cpu_seconds()
    answered = load(contest.request, n_connections, seconds)
    cpu = contest.server.cpu_seconds() - before
    return {
        "rows/s": answered.a_second * n_rows,
        "p50 ms": answered.quantile_ms(0.5),
        "p99 ms": answered.quantile_ms(0.99),
        "CPU us": cpu / len(answered.latencies) / n_rows * 1e6,
    }


def _one_row(servers: Mapping[str, Server], row: Row) -> dict[str, Contest]:
    by_name = orjson.dumps({"features": dict(zip(features.NAMES, row.tolist(), strict=True))})
    asked = {
        "product": ("/predict", by_name),
        "empty": ("/predict", by_name),
        "bentoml": ("/predict", by_name),
        "mlflow": ("/invocations", _split(row[None, :])),
    }
    return {name: _contest(servers[name], path, body) for name, (path, body) in asked.items()}


def _many_rows(servers: Mapping[str, Server], matrix: Row) -> dict[str, Contest]:
    listed = matrix.tolist()
    binary = {"Content-Type": rows.MEDIA_TYPE, "Accept": rows.MEDIA_TYPE}
    ours, path = servers["product"], "/predict/batch"
    return {
        "product as JSON": _contest(ours, path, orjson.dumps({"features": features.NAMES, "rows": listed})),
        "product as bytes": _contest(ours, path, rows.encode_rows(features.NAMES, matrix), binary),
        "bentoml": _contest(servers["bentoml"], "/predict_batch", orjson.dumps({"rows": listed})),
        "mlflow": _contest(servers["mlflow"], "/invocations", _split(matrix)),
    }


def _split(matrix: Row) -> bytes:
    """Return rows as MLflow's scoring server reads them fastest."""
    return orjson.dumps({"dataframe_split": {"columns": features.NAMES, "data": matrix.tolist()}})


def _contest(server: Server, path: str, body: bytes, headers: Mapping[str, str] = _JSON) -> Contest:
    return Contest(server, Asked(server.port, path, body, headers))


def _servers(bench: Bench) -> dict[str, Server]:
    ground = bench.ground
    uvicorn = ["-m", "uvicorn", "benchmarks.empty:empty_app", "--factory", "--port", "{port}"]
    quiet = ["--no-access-log", "--log-level", "error"]
    bento = [environments.python_of("bentoml"), "-m", "bentoml", "serve", "service:AirQuality"]
    flow = [environments.python_of("mlflow"), "-m", "mlflow", "models", "serve", "--env-manager", "local", "--workers", "1"]
    here = ["--host", "127.0.0.1", "--port", "{port}"]
    return {
        "product": ground.api,
        "empty": ground.serve([sys.executable, *uvicorn, *quiet], "/openapi.json"),
        "bentoml": ground.serve(
            [*bento, *here, "--working-dir", str(environments.CONTENDERS / "bentoml")],
            "/livez",
            BENCH_MODEL=str(ground.settings.artifacts_dir),
            BENTOML_DO_NOT_TRACK="True",
        ),
        "mlflow": ground.serve(
            [*flow, *here, "--model-uri", f"models:/{ground.settings.model_name}@{ground.settings.model_alias}"],
            "/ping",
            MLFLOW_TRACKING_URI=ground.registry,
            PATH=environments.path_of("mlflow"),
        ),
    }
