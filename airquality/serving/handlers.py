"""HTTP on one side, :class:`~airquality.serving.service.Service` on the other: one function for each route."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from airquality.model import rows
from airquality.serving import documents, pages, problems
from airquality.serving.direct import App, Direct
from airquality.serving.documents import answers
from airquality.serving.problems import RequestError
from airquality.serving.service import Service, describe

#: A larger body, of some 30 rows, is worked on in a thread, so that others are answered meanwhile; a small one is answered
#: sooner than a thread begins.
_INLINE_BYTES = 32 * 1024

_NO_REPORT = "no such report: the first one of a station comes 24 predictions after its warm-up, into REPORTS_DIR"

logger = logging.getLogger(__name__)
router = APIRouter()


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _answer(content: dict[str, Any], status: int = 200) -> Response:
    return Response(problems.to_bytes(content), status, media_type=documents.JSON)


def _refusal(content: dict[str, Any]) -> Response:
    return Response(problems.to_bytes(content), content["status"], media_type=problems.MEDIA_TYPE)


async def _worked(work: Callable[[bytes], dict[str, Any]], body: bytes) -> dict[str, Any]:
    return work(body) if len(body) <= _INLINE_BYTES else await asyncio.to_thread(work, body)


@router.post("/predict", responses=answers(documents.Prediction, 401, 403, 408, 413, 422, 503))
async def predict(request: Request) -> Response:
    """Predict the hour of one feature row. Null is a missing value; an absent or unknown name is an error."""
    service = _service(request)
    return _answer(await _worked(service.predict, await service.uploads.read(request.receive)))


@router.post("/predict/batch", responses=answers(documents.BatchPrediction, 401, 403, 408, 413, 422, 503))
async def predict_batch(request: Request) -> Response:
    """Predict many rows at once, up to 2,000: the names once, then one array of values a row, in that order.

    With `Content-Type: application/vnd.air-quality.float64-rows` the body is `{"features": [names]}` as one line of JSON,
    then the values as little-endian float64, row by row, NaN where missing. With `Accept` of that type so are the
    predictions, after a line `{"model_version": "1"}`.
    """
    service = _service(request)
    body = await service.uploads.read(request.receive)
    binary = request.headers.get("content-type") == rows.MEDIA_TYPE
    answer = await _worked(service.predict_rows if binary else service.predict_batch, body)
    if request.headers.get("accept") != rows.MEDIA_TYPE:
        return _answer(answer)
    predictions = np.array(answer["predictions"])
    return Response(rows.encode({"model_version": answer["model_version"]}, predictions), media_type=rows.MEDIA_TYPE)


@router.post("/predict/from-readings", responses=answers(documents.ReadingsPrediction, 401, 403, 408, 413, 422, 503))
async def predict_from_readings(request: Request) -> Response:
    """Predict the hour of the last of some raw readings of one station, in JSON or CSV.

    Up to 1,000 readings in time order, of which the last 169 hours count: the hour that is predicted and the 168 before it.
    Hours and values may be missing, but the first reading must be 168 hours before the last, or earlier. The answer is the
    one the stream would publish, to the bit.
    """
    service = _service(request)
    body = await service.uploads.read(request.receive)
    content_type = request.headers.get("content-type", "")
    return _answer(await asyncio.to_thread(service.predict_from_readings, body, content_type))


@router.get("/health", responses=answers(documents.Health))
async def health(_: Request) -> Response:
    """Say that the process is alive."""
    return _answer({"status": "ok"})


@router.get("/ready", responses=answers(documents.Ready, 403, 503))
async def ready(request: Request) -> Response:
    """Say whether a model is loaded: 200 or 503, with the reason."""
    service = _service(request)
    if service.served is None:
        return _not_ready(service)
    return _answer({"status": "ready", "model_version": service.served.version})


@router.get("/version", responses=answers(documents.Version, 401, 403, 503))
async def version(request: Request) -> Response:
    """Say which model answers, and what it carries."""
    service = _service(request)
    return _answer(describe(service.served)) if service.served else _not_ready(service)


def _not_ready(service: Service) -> Response:
    return _refusal(problems.problem(503, f"not ready: {service.why_not_ready}"))


@router.get("/metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """Expose the Prometheus metrics."""
    return Response(generate_latest(_service(request).registry), media_type=CONTENT_TYPE_LATEST)


@router.get("/", include_in_schema=False)
async def start(request: Request) -> Response:
    """Show the start page."""
    service = _service(request)
    return HTMLResponse(pages.start(service.served, service.why_not_ready), headers=pages.HEADERS)


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
    _service(request).metrics.errors.labels(error.reason).inc()
    if error.reason == "upload":
        logger.info("%s %s: %s", request.method, request.url.path, error)
    answer = _refusal(error.problem())
    if error.status in (408, 413):
        answer.headers["connection"] = "close"  # or a caller who goes on sending is listened to for ever
    return answer


async def refuse_by_status(request: Request, error: Exception) -> Response:
    """Answer what the framework refuses (no such path, no such method) in the same shape."""
    assert isinstance(error, HTTPException)
    no_report = error.status_code == 404 and request.url.path.startswith("/reports")
    answer = _refusal(problems.problem(error.status_code, _NO_REPORT if no_report else error.detail))
    answer.headers.update(error.headers or {})
    return answer


def break_down(error: Exception) -> Response:
    """Answer a request that met a fault of ours; the log has its traceback."""
    return _refusal(problems.problem(500, f"an internal error: {type(error).__name__}; the service's log says more"))


async def break_down_elsewhere(_: Request, error: Exception) -> Response:
    """Answer alike where the framework or its files met the fault."""
    return break_down(error)


def add_to(app: FastAPI) -> None:
    """Add every route and every refusal to an application."""
    app.include_router(router)
    app.mount(pages.ASSETS, StaticFiles(packages=[pages.ASSETS_PACKAGE]))
    app.add_exception_handler(HTTPException, refuse_by_status)
    app.add_exception_handler(Exception, break_down_elsewhere)


def direct(app: FastAPI, otherwise: App) -> Direct:
    """Return the layer that calls the handlers of this module itself, and ``otherwise`` for what is none of theirs."""
    return Direct(app, router.routes, refuse, break_down, otherwise)


def show_reports(app: FastAPI, folder: Path) -> None:
    """Serve the reports folder, whether it is there yet or not; nothing outside it can be reached."""
    app.mount("/reports", StaticFiles(directory=folder, html=True, check_dir=False))
