"""Requests and answers as OpenAPI describes them. They document; bodies are parsed by :mod:`airquality.serving.bodies`."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from functools import cache
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.json_schema import models_json_schema

from airquality.data import simulator
from airquality.model import features
from airquality.network.current import NETWORK
from airquality.records import HISTORY_HOURS, RAW_COLUMNS, TARGET, TARGET_UNIT, isoformat
from airquality.serving.problems import MEDIA_TYPE
from airquality.serving.readings import MAX_READINGS, WINDOW_HOURS

JSON, CSV = "application/json", "text/csv"
_SIMULATED = "The example is SIMULATED by this project's simulator; no measurement is in it."


def _identifier(column: str) -> str:
    return re.sub(r"\W+", "_", column).strip("_").lower()


_FEATURES: dict[str, Any] = dict.fromkeys(features.NAMES, (float | None, ...))
_COLUMNS: dict[str, Any] = {
    "date_time": (str, Field(alias="DateTime", description="local time on the hour, such as 2005-02-05T03:00:00")),
    **{
        _identifier(column.name): (float | None, Field(alias=column.name, description=column.ascii_unit or "as published"))
        for column in NETWORK.columns
    },
}
FeatureRow = create_model(
    "FeatureRow",
    __config__=ConfigDict(extra="forbid"),
    __doc__="Every feature of the model once; null is a missing value.",
    **_FEATURES,
)
Reading = create_model("Reading", __doc__="One hour of one station; null (or -200) is a missing value.", **_COLUMNS)


class PredictionRequest(BaseModel):
    """One feature row."""

    features: FeatureRow


class BatchRequest(BaseModel):
    """The names once, then one array of values a row, in that order."""

    features: list[str] = Field(description="every feature of the model once, in any order")
    rows: list[list[float | None]] = Field(description="null is a missing value")


class ReadingsRequest(BaseModel):
    """Hourly readings of one station in time order; the last one is predicted."""

    readings: list[Reading] = Field(
        description=f"of which the last {WINDOW_HOURS} hours count", min_length=1, max_length=MAX_READINGS
    )


class Prediction(BaseModel):
    """What the model says of one row."""

    model_config = ConfigDict(protected_namespaces=())

    prediction: float = Field(description=f"{TARGET} in {TARGET_UNIT}")
    model_version: str = Field(description="the version of the registry's model that answered")


class BatchPrediction(BaseModel):
    """What the model says of each row, in the order of the rows."""

    model_config = ConfigDict(protected_namespaces=())

    predictions: list[float] = Field(description=f"{TARGET} in {TARGET_UNIT}")
    model_version: str


class ReadingsPrediction(Prediction):
    """What the model says of the hour of the last reading."""

    unit: str = Field(json_schema_extra={"const": TARGET_UNIT})
    date_time: str = Field(alias="DateTime", description="the hour that was predicted")
    hours_used: int = Field(description=f"readings among the last {WINDOW_HOURS} hours")
    missing_features: list[str] = Field(description="features without a value, because readings or values are missing")


class Health(BaseModel):
    """The process is alive."""

    status: Literal["ok"]


class Ready(BaseModel):
    """A model is loaded."""

    model_config = ConfigDict(protected_namespaces=())

    status: Literal["ready"]
    model_version: str


class Version(BaseModel):
    """Which model answers, and what it carries. Scores are by block, of measured hours only, in the unit of predictions."""

    model_config = ConfigDict(protected_namespaces=())

    model_name: str
    model_version: str
    model_hash: str
    features_hash: str
    data_hash: str
    data_source: str = Field(description="uci or simulated")
    target: str
    history_hours: int
    scores: dict[str, dict[str, float]]


class Problem(BaseModel):
    """Why a request is not answered (RFC 9457). Lists name the first 200 at most."""

    model_config = ConfigDict(extra="allow")

    title: str
    status: int
    detail: str = Field(description="what is wrong, in a sentence")
    reason: str | None = Field(None, description="the reason it is counted by in inference_errors_total")
    absent: list[str] | None = Field(None, description="names that are needed")
    unknown: list[str] | None = Field(None, description="names the model does not know")
    repeated: list[str] | None = Field(None, description="names that are there twice")
    row: int | None = Field(None, description="the first row (or reading) that is wrong, counted from 0")
    rows: list[int] | None = Field(None, description="rows the model has no value for")


_MODELS: tuple[type[BaseModel], ...] = (
    PredictionRequest,
    BatchRequest,
    ReadingsRequest,
    Prediction,
    BatchPrediction,
    ReadingsPrediction,
    Health,
    Ready,
    Version,
    Problem,
)
_PROBLEMS = {
    401: "the request comes from beyond the service's machine without its key",
    403: "the Host or the Origin is not allowed",
    408: "the body did not arrive in time",
    413: "the body, or the number of rows in it, is too large",
    415: "the body is compressed",
    422: "the request is not what it should be",
    503: "no model is loaded yet",
}


def schemas() -> dict[str, Any]:
    """Return the JSON schema of every request and answer, by name."""
    _, definitions = models_json_schema(
        [(model, "validation") for model in _MODELS], ref_template="#/components/schemas/{model}"
    )
    found: dict[str, Any] = definitions["$defs"]
    return found


def answers(model: type[BaseModel], *problems: int) -> dict[int | str, dict[str, Any]]:
    """Return the ``responses`` of a route: its answer, and the problems it may answer instead."""
    refused: dict[int | str, dict[str, Any]] = {
        status: {"description": _PROBLEMS[status], "content": {MEDIA_TYPE: {"schema": _reference(Problem)}}}
        for status in problems
    }
    return {200: {"description": model.__doc__ or "", "content": {JSON: {"schema": _reference(model)}}}, **refused}


def body(name: str) -> dict[str, Any]:
    """Return the ``requestBody`` of the route ``name``, with an example that runs as pasted."""
    contents: dict[str, Callable[[], dict[str, Any]]] = {
        "predict": lambda: {JSON: {"schema": _reference(PredictionRequest), "example": {"features": example_row()}}},
        "predict_batch": lambda: {JSON: {"schema": _reference(BatchRequest), "example": _example_batch()}},
        "predict_from_readings": lambda: {
            JSON: {"schema": _reference(ReadingsRequest), "example": {"readings": example_readings()}},
            CSV: {"schema": {"type": "string"}, "example": _as_csv(example_readings())},
        },
    }
    return {"required": True, "description": _SIMULATED, "content": contents[name]()}


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}


@cache
def _simulated() -> tuple[Any, Any]:
    """Return the hours and the values of simulated readings whose last one has all it needs."""
    hours, values = simulator.simulate(360)
    missing = np.isnan(values[:, [column.used for column in NETWORK.columns]]).sum(axis=1)
    last = next(i for i in range(WINDOW_HOURS, len(hours)) if missing[i - 24 : i + 1].sum() == 0)
    return hours[last - HISTORY_HOURS : last + 1], values[last - HISTORY_HOURS : last + 1]


def example_readings() -> list[dict[str, Any]]:
    """Return 169 simulated hours, enough for one prediction."""
    hours, values = _simulated()
    return [
        {"DateTime": isoformat(int(hour)), **dict(zip(RAW_COLUMNS, map(_number, row), strict=True))}
        for hour, row in zip(hours, values.tolist(), strict=True)
    ]


def example_row() -> dict[str, float | None]:
    """Return the feature row of the last of the simulated hours."""
    hours, values = _simulated()
    return dict(zip(features.NAMES, map(_number, features.batch(hours, values)[-1].tolist()), strict=True))


def _example_batch() -> dict[str, Any]:
    row = list(example_row().values())
    return {"features": list(features.NAMES), "rows": [row, [None, *row[1:]]]}


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value


def _as_csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(rows[0])
    lines.writerows(row.values() for row in rows)
    return text.getvalue()
