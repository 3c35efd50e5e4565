"""Serve CO(GT) predictions of the registry's champion over HTTP: ``uvicorn api_service:app``.

The model is loaded while the service starts and again whenever the champion alias moves; a request is answered by one
model from beginning to end. Bodies are parsed by orjson into one float64 matrix: no DataFrame, no per-field validation.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import chain
from typing import Any

import numpy as np
import orjson
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import Response
from numpy.typing import NDArray
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from airquality.ground import log
from airquality.ground.addresses import without_credentials
from airquality.ground.errors import AirQualityError
from airquality.ground.proxies import exempt_loopback
from airquality.ground.settings import Settings, read_settings
from airquality.metrics import ApiMetrics, expose_process
from airquality.model import features, registry
from airquality.model.model import Model
from airquality.model.registry import RegisteredModel
from airquality.serving import connections
from airquality.serving.guard import Guard, Hosts, Receive, Scope, Send, refuse_several_workers
from airquality.serving.refusals import RequestError
from airquality.serving.uploads import Uploads

#: A refusal names at most so many of the rows the model has no value for; the caller leaves them out and asks again.
_NAMED_ROWS = 1_000

TITLE = "Air quality: CO(GT) prediction"
_NUMBER_TYPES = {float, int, type(None)}
_FLOAT32_MAX = float(np.finfo(np.float32).max)

logger = logging.getLogger(__name__)


class Service:
    """The served model and its metrics. Transport-free: bytes in, answers out."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.registry = CollectorRegistry()
        self.metrics = ApiMetrics(self.registry)
        expose_process(self.registry)
        self.uploads = Uploads()
        self.why_not_ready = "the model is being loaded"
        self._served: RegisteredModel | None = None

    @property
    def served(self) -> RegisteredModel | None:
        """The model that answers now; None before the first one is loaded."""
        return self._served

    def serve(self, registered: RegisteredModel) -> None:
        """Answer with this model from the next request on."""
        self.metrics.model.clear()
        self.metrics.model.labels(registered.name, registered.version).set(1)
        self._served = registered
        logger.info(
            "serving %s version %s (%s data)", registered.name, registered.version, registered.model.card.data_source
        )

    def refresh(self) -> None:
        """Load the champion if it is not the version being served; blocking. On failure keep what is served, and say so."""
        try:
            version = registry.champion_version(self.settings)
            if self._served is None or version not in (None, self._served.version):
                self.serve(registry.load(self.settings, version))
        except AirQualityError as error:
            self._stay(str(error))
        except Exception as error:  # whatever the registry's client raises: the polling must go on
            self._stay(f"{type(error).__name__}: {error}")
            logger.debug("", exc_info=True)

    def _stay(self, why: str) -> None:
        why = without_credentials(why)
        self.why_not_ready = why
        logger.warning("%s; %s", why, "still serving the version before" if self._served else "not ready")

    def predict(self, body: bytes) -> dict[str, Any]:
        """Answer ``{"features": {name: number | null}}``."""
        with self._observed():
            row = _field(_json(body), "features", dict)
            predictions, version = self._predict(list(row), [list(row.values())])
            return {"prediction": predictions[0], "model_version": version}

    def predict_batch(self, body: bytes) -> dict[str, Any]:
        """Answer ``{"features": [names], "rows": [[number | null, ...], ...]}``, names once and a list of values a row."""
        with self._observed():
            request = _json(body)
            predictions, version = self._predict(_field(request, "features", list), _field(request, "rows", list))
            return {"predictions": predictions, "model_version": version}

    def _predict(self, names: list[str], rows: list[list[float | None]]) -> tuple[list[float], str]:
        served = self._served
        if served is None:
            raise RequestError(503, "model_not_loaded", {"error": f"no model is loaded: {self.why_not_ready}"})
        expected = served.model.card.features
        _check_names(names, expected)
        matrix = _matrix(rows, len(names))
        if names != list(expected):
            matrix = matrix[:, [names.index(name) for name in expected]]
        predictions = _scored(served.model, matrix)
        self.metrics.value.set(predictions[-1])
        missing = np.isnan(matrix).sum(axis=1)
        self.metrics.missing.set(int(missing[-1]))
        self.metrics.missing_total.inc(int(missing.sum()))
        self.metrics.predictions.inc(len(predictions))
        return predictions, served.version

    @contextmanager
    def _observed(self) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        except RequestError:
            raise  # counted where it is answered, with those of the transport
        except Exception:
            self.metrics.errors.labels("internal").inc()
            raise
        finally:
            self.metrics.latency.observe(time.perf_counter() - started)


def _json(body: bytes) -> dict[str, Any]:
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _invalid(f"the body is not JSON: {error}") from error
    if not isinstance(request, dict):
        raise _invalid("the body must be a JSON object")
    return request


def _field(request: dict[str, Any], name: str, kind: type) -> Any:
    value = request.get(name)
    if not isinstance(value, kind):
        raise _invalid(f"{name!r} must be a JSON {'object' if kind is dict else 'array'}")
    return value


def _check_names(names: list[str], expected: tuple[str, ...]) -> None:
    """Refuse absent, unknown and repeated names, all of them at once."""
    if names == list(expected):
        return
    given, known = Counter(map(str, names)), set(expected)
    faults = {
        "absent": [name for name in expected if name not in given],
        "unknown": [name for name in given if name not in known],
        "repeated": sorted(name for name, count in given.items() if count > 1),
    }
    found = {fault: listed for fault, listed in faults.items() if listed}
    if found:
        raise _invalid("the features are not the model's", **found)


def _matrix(rows: list[list[float | None]], width: int) -> NDArray[np.float64]:
    """Return the rows as float64, null as NaN, shape ``(len(rows), width)``."""
    if not rows:
        raise _invalid("there are no rows to predict")
    for index, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != width:
            raise _invalid(f"row {index} must be an array of {width} values")
    if not _types(rows) <= _NUMBER_TYPES:
        raise _invalid("values must be numbers or null")
    matrix = np.array(rows, dtype=np.float64).reshape(-1, width)
    if np.any(np.abs(matrix) > _FLOAT32_MAX):
        raise _invalid(f"values must lie within +-{_FLOAT32_MAX:.4g}")
    return matrix


def _scored(model: Model, matrix: NDArray[np.float64]) -> list[float]:
    """Predict, or refuse a row the target transform is not defined for (its base is negative): its answer would be null."""
    with np.errstate(invalid="ignore"):
        predictions = model.predict(matrix)
    if not np.isfinite(predictions).all():
        rows = np.flatnonzero(~np.isfinite(predictions))[:_NAMED_ROWS].tolist()
        raise _invalid(f"row {rows[0]} has no finite prediction", row=rows[0], rows=rows, reason="unpredictable")
    scored: list[float] = predictions.tolist()
    return scored


def _types(rows: Iterable[list[float | None]]) -> set[type]:
    return set(map(type, chain.from_iterable(rows)))


def _invalid(message: str, **detail: object) -> RequestError:
    return RequestError(422, "invalid_request", {"error": message, **detail})


def _answer(content: dict[str, Any], status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")


def _example_row() -> dict[str, float]:
    return {name: 1.8 if name == features.BASE_FEATURE else 0.1 for name in features.NAMES}


def _documented(example: dict[str, Any]) -> dict[str, Any]:
    """Describe a body that the handler parses itself, with an example that runs as pasted."""
    return {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"type": "object"}, "example": example}},
        }
    }


async def _keep_fresh(service: Service) -> None:
    """Follow the champion alias until cancelled; requests go on meanwhile."""
    while True:
        await asyncio.to_thread(service.refresh)
        await asyncio.sleep(service.settings.model_poll_seconds if service.served else 1.0)


class Application(FastAPI):
    """FastAPI behind its guard, which must be outermost: only there can uvicorn's own configuration be seen."""

    def __init__(self, prepare: Callable[[uvicorn.Config | None], Hosts], **options: Any) -> None:
        super().__init__(**options)
        self._guard = Guard(super().__call__, prepare)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection."""
        await self._guard(scope, receive, send)


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the application; settings are read and the model is loaded when it starts, not when it is made."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        refreshing = asyncio.create_task(_keep_fresh(app.state.service))
        yield
        refreshing.cancel()

    def prepare(server: uvicorn.Config | None) -> Hosts:
        chosen = settings or read_settings()
        log.configure(chosen.log_level, chosen.log_format)
        exempt_loopback()
        registry.configure()
        registry.require_address(chosen)
        if server:
            refuse_several_workers(server)
            connections.bound(server)
        app.state.service = Service(chosen)
        return Hosts(chosen.api_allowed_hosts)

    app = Application(
        prepare, title="Air quality: CO(GT) prediction", version="1", lifespan=lifespan, description=__doc__ or ""
    )
    _add_routes(app)
    return app


def _add_routes(app: FastAPI) -> None:
    row = _example_row()

    @app.exception_handler(RequestError)
    async def refuse(request: Request, error: RequestError) -> Response:
        request.app.state.service.metrics.errors.labels(error.reason).inc()
        answer = _answer(error.detail, error.status)
        if error.reason == "upload":
            logger.info("%s %s: %s", request.method, request.url.path, error)
        if error.status in (408, 413):
            answer.headers["connection"] = "close"  # or a caller who goes on sending is listened to for ever
        return answer

    @app.post("/predict", openapi_extra=_documented({"features": row}))
    async def predict(request: Request) -> Response:
        """Predict CO(GT) in mg/m3 for one feature row. Null is a missing value; an absent or unknown name is an error."""
        service: Service = request.app.state.service
        return _answer(service.predict(await service.uploads.read(request.receive)))

    @app.post("/predict/batch", openapi_extra=_documented({"features": list(row), "rows": [list(row.values())] * 2}))
    async def predict_batch(request: Request) -> Response:
        """Predict many rows at once: the names once, then one array of values a row, in that order."""
        service: Service = request.app.state.service
        return _answer(service.predict_batch(await service.uploads.read(request.receive)))

    @app.get("/health")
    async def health() -> Response:
        """Say that the process is alive."""
        return _answer({"status": "ok"})

    @app.get("/ready")
    async def ready(request: Request) -> Response:
        """Say whether a model is loaded: 200 or 503, with the reason."""
        service: Service = request.app.state.service
        if service.served is None:
            return _answer({"status": "not ready", "error": service.why_not_ready}, 503)
        return _answer({"status": "ready", "model_version": service.served.version})

    @app.get("/version")
    async def version(request: Request) -> Response:
        """Say which model answers, and what it carries."""
        service: Service = request.app.state.service
        if service.served is None:
            return _answer({"status": "not ready", "error": service.why_not_ready}, 503)
        return _answer(_described(service.served))

    @app.get("/metrics")
    async def metrics(request: Request) -> Response:
        """Expose the Prometheus metrics."""
        service: Service = request.app.state.service
        return Response(generate_latest(service.registry), media_type=CONTENT_TYPE_LATEST)


def _described(served: RegisteredModel) -> dict[str, Any]:
    card = served.model.card
    return {
        "model_name": served.name,
        "model_version": served.version,
        "model_hash": served.model.hash,
        "features_hash": card.features_hash,
        "data_hash": card.data_hash,
        "data_source": card.data_source,
        "target": card.target,
        "history_hours": card.history_hours,
        "scores": card.scores,
    }


app = create_app()
