"""HTTP on one side, :class:`~airquality.serving.service.Service` on the other: one function for each route."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from airquality.model import rows
from airquality.serving import documents, pages, problems
from airquality.serving.direct import MODEL, App, Call, Direct
from airquality.serving.documents import answers
from airquality.serving.problems import RequestError, invalid, named
from airquality.serving.served import ServedModel, describe
from airquality.serving.service import Service
from airquality.serving.slots import SLOTS, Slot

#: A larger body, of some 30 rows, is worked on in a thread, so that others are answered meanwhile; a small one is answered
#: sooner than a thread begins.
_INLINE_BYTES = 32 * 1024

_NO_REPORT = "no such report: the first one of a station comes 24 predictions after its warm-up, into REPORTS_DIR"
_NO_CALL = {404: "no such path; /docs lists every call", 405: "not by this method; /docs lists every call"}

logger = logging.getLogger(__name__)
#: Routes of the process, and those that every model has.
router, model_router = APIRouter(), APIRouter()


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _model(request: Request) -> ServedModel:
    """Return the model that a route of ``model_router`` was called for."""
    return _service(request).models[request.scope[MODEL]]


def _answer(content: dict[str, Any]) -> Response:
    return Response(problems.to_bytes(content), media_type=documents.JSON)


def _refusal(content: dict[str, Any]) -> Response:
    return Response(problems.to_bytes(content), content["status"], media_type=problems.MEDIA_TYPE)


async def _body(request: Request) -> bytes:
    body = await _service(request).uploads.read(request.receive)
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding != "identity":
        raise RequestError(415, "invalid_request", f"a body in {named([coding])[0]!r} is not read: send it uncompressed")
    if not body and "upgrade" in request.headers:  # httptools takes what follows such a head for another protocol
        raise invalid("the body is not read with an Upgrade header: ask by HTTP/1.1 (curl --http1.1, Java HTTP_1_1)")
    return body


def _is_binary(media_type: str) -> bool:
    """Whether a header names the binary form, with or without parameters.

    >>> _is_binary("Application/vnd.air-quality.float64-rows; v=1"), _is_binary("application/json")
    (True, False)
    """
    return media_type.partition(";")[0].strip().lower() == rows.MEDIA_TYPE


async def _worked(work: Callable[[bytes], dict[str, Any]], body: bytes) -> dict[str, Any]:
    return work(body) if len(body) <= _INLINE_BYTES else await asyncio.to_thread(work, body)


@model_router.post("/predict", responses=answers(documents.Prediction, 401, 403, 408, 413, 415, 422, 503))
async def predict(request: Request) -> Response:
    """Predict the hour of one feature row. Null is a missing value; an absent or unknown name is an error."""
    return _answer(await _worked(_model(request).predict, await _body(request)))


@model_router.post("/predict/batch", responses=answers(documents.BatchPrediction, 401, 403, 408, 413, 415, 422, 503))
async def predict_batch(request: Request) -> Response:
    """Predict many rows at once, up to 2,000: the names once, then one array of values a row, in that order.

    With `Content-Type: application/vnd.air-quality.float64-rows` the body is `{"features": [names]}` as one line of JSON,
    then the values as little-endian float64, row by row, NaN where missing. With `Accept` of that type so are the
    predictions, after a line `{"model_version": "1"}`. An answer in JSON to that form has `request_crc32`, the CRC-32 of the
    body that it is for.
    """
    model, body = _model(request), await _body(request)
    binary = _is_binary(request.headers.get("content-type", ""))
    answer = await _worked(model.predict_rows if binary else model.predict_batch, body)
    if not _is_binary(request.headers.get("accept", "")):
        return _answer(answer)
    predictions = np.array(answer["predictions"])
    return Response(rows.encode({"model_version": answer["model_version"]}, predictions), media_type=rows.MEDIA_TYPE)


@model_router.post(
    "/predict/from-readings", responses=answers(documents.ReadingsPrediction, 401, 403, 408, 413, 415, 422, 503)
)
async def predict_from_readings(request: Request) -> Response:
    """Predict the hour of the last of some raw readings of one station, in JSON or CSV.

    Up to 1,000 readings in time order, of which the last 169 hours count: the hour that is predicted and the 168 before it.
    Hours and values may be missing, but the first reading must be 168 hours before the last, or earlier. The answer is the
    one the stream would publish, to the bit.
    """
    model, body = _model(request), await _body(request)
    content_type = request.headers.get("content-type", "")
    return _answer(await asyncio.to_thread(model.predict_from_readings, body, content_type))


@model_router.get("/ready", responses=answers(documents.Ready, 403, 503))
async def ready(request: Request) -> Response:
    """Say whether a model is loaded: 200 or 503, with the reason."""
    model = _model(request)
    if model.loaded is None:
        return _not_ready(model)
    return _answer({"status": "ready", "model_version": model.loaded.version})


@model_router.get("/version", responses=answers(documents.Version, 401, 403, 503))
async def version(request: Request) -> Response:
    """Say which model answers, and what it carries."""
    model = _model(request)
    return _answer(describe(model.loaded)) if model.loaded else _not_ready(model)


def _not_ready(model: ServedModel) -> Response:
    return _refusal(problems.problem(503, f"not ready: {model.why_not_ready}"))


@router.get("/health", responses=answers(documents.Health))
async def health(_: Request) -> Response:
    """Say that the process is alive."""
    return _answer({"status": "ok"})


@router.get("/metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """Expose the Prometheus metrics."""
    return Response(generate_latest(_service(request).registry), media_type=CONTENT_TYPE_LATEST)


@router.get("/", include_in_schema=False)
async def start(request: Request) -> Response:
    """Show the start page."""
    models = _service(request).models.values()
    states = [pages.state(model.loaded, model.why_not_ready) for model in models]
    return HTMLResponse(pages.start(states), headers=pages.HEADERS)


@router.get("/docs", include_in_schema=False)
async def docs(_: Request) -> Response:
    """Show the documentation, to be tried."""
    return HTMLResponse(pages.docs(), headers=pages.HEADERS)


@router.get("/redoc", include_in_schema=False)
async def redoc(_: Request) -> Response:
    """Show the documentation, to be read."""
    return HTMLResponse(pages.redoc(), headers=pages.HEADERS)


@router.get("/reports", include_in_schema=False)
async def reports(_: Request) -> Response:
    """Lead to the folder, whose pages link to each other relative to it."""
    return RedirectResponse("/reports/")


def refuse(request: Request, error: RequestError) -> Response:
    """Answer a request that cannot be answered, count it, and end a connection whose body nobody will read."""
    _model(request).metrics.errors.labels(error.reason).inc()
    if error.reason == "upload":
        logger.info("%s %s: %s", request.method, request.url.path, error)
    answer = _refusal(error.problem())
    if error.status in (408, 413) or "upgrade" in request.headers:
        answer.headers["connection"] = "close"  # or a caller who goes on sending is listened to for ever
    return answer


async def refuse_by_status(request: Request, error: Exception) -> Response:
    """Answer what the framework refuses (no such path, no such method) in the same shape."""
    assert isinstance(error, HTTPException)
    no_report = error.status_code == 404 and request.url.path.startswith("/reports")
    detail = _NO_REPORT if no_report else _NO_CALL.get(error.status_code, error.detail)
    answer = _refusal(problems.problem(error.status_code, detail))
    answer.headers.update(error.headers or {})
    return answer


def break_down(error: Exception) -> Response:
    """Answer a request that met a fault of ours; the log has its traceback."""
    return _refusal(problems.problem(500, f"an internal error: {type(error).__name__}; the service's log says more"))


async def break_down_elsewhere(_: Request, error: Exception) -> Response:
    """Answer alike where the framework or its files met the fault."""
    return break_down(error)


def add_to(app: FastAPI, slots: Sequence[Slot] = SLOTS) -> None:
    """Add every route, those of models once for each slot, and every refusal to an application."""
    for slot in slots:
        app.include_router(model_router, prefix=slot.prefix, generate_unique_id_function=partial(_function_name, slot))
    app.include_router(router, generate_unique_id_function=partial(_function_name, Slot()))
    app.mount(pages.ASSETS, StaticFiles(packages=[pages.ASSETS_PACKAGE]))
    app.add_exception_handler(HTTPException, refuse_by_status)
    app.add_exception_handler(Exception, break_down_elsewhere)


def _function_name(slot: Slot, route: APIRoute) -> str:
    """Return what a generated client calls its function for a route."""
    return f"{route.name}_{slot.label}" if slot.label else route.name


def direct(app: FastAPI, slots: Sequence[Slot], otherwise: App) -> Direct:
    """Return the layer that calls the handlers of this module itself, and ``otherwise`` for what is none of theirs."""
    calls = {call: Call(handler) for call, handler in _calls(router)}
    for slot in slots:
        calls |= {(method, slot.prefix + path): Call(h, slot.label) for (method, path), h in _calls(model_router)}
    return Direct(app, calls, refuse, break_down, otherwise)


def _calls(routes: APIRouter) -> Iterator[tuple[tuple[str, str], Callable[..., Any]]]:
    for route in routes.routes:
        if isinstance(route, APIRoute):
            yield from (((method, route.path), route.endpoint) for method in route.methods or ())


def show_reports(app: FastAPI, folder: Path) -> None:
    """Serve the reports folder, whether it is there yet or not; nothing outside it can be reached."""
    app.mount("/reports", StaticFiles(directory=folder, html=True, check_dir=False))
