"""Serve predictions of the registry's champion over HTTP.

The model is loaded while the service starts and again whenever the champion alias moves; a request is answered by one
model from beginning to end.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI
from numpy.typing import NDArray

from airquality.ground import command, log
from airquality.ground.errors import UsageError
from airquality.ground.proxies import exempt_loopback
from airquality.ground.settings import Settings, read_settings
from airquality.model import features, registry
from airquality.records import HISTORY_HOURS, Reading
from airquality.serving import connections, documents, handlers, pages
from airquality.serving.direct import Receive, Scope, Send
from airquality.serving.guard import Guard, Hosts, refuse_several_workers
from airquality.serving.key import Key
from airquality.serving.service import Service
from feature_buffer import FeatureBuffer

_DESCRIPTION = """Serve predictions of the registry's champion over HTTP (MLFLOW_TRACKING_URI says which registry).

It starts without a model and says why it is not ready until one is the champion. Ctrl-C stops it."""
_EXAMPLES = """examples:
  python api_service.py                          http://localhost:8000/ : start page, documentation, reports
  python api_service.py --port 8010              beside another one
  API_KEY=... python api_service.py --host 0.0.0.0
                                                 for other machines that send X-API-Key; API_OPEN=1 for all of them. They
                                                 name this one by its address, or by a name in API_ALLOWED_HOSTS
"""


class Application(FastAPI):
    """FastAPI behind its guard, which must be outermost: only there can uvicorn's own configuration be seen."""

    def __init__(self, prepare: Callable[[uvicorn.Config | None], tuple[Hosts, Key]], **options: Any) -> None:
        super().__init__(**options)
        self._guard = Guard(handlers.direct(self, super().__call__), prepare)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection."""
        await self._guard(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document, with the bodies that the handlers parse themselves."""
        if self.openapi_schema is None:
            document = super().openapi()
            document.setdefault("components", {}).setdefault("schemas", {}).update(documents.schemas())
            for path in ("/predict", "/predict/batch", "/predict/from-readings"):
                name = path.strip("/").replace("/", "_").replace("-", "_")
                document["paths"][path]["post"]["requestBody"] = documents.body(name)
            self.openapi_schema = document
        return self.openapi_schema


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the application; settings are read and the model is loaded when it starts, not when it is made."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        refreshing = asyncio.create_task(_keep_fresh(app.state.service))
        yield
        refreshing.cancel()

    def prepare(server: uvicorn.Config | None) -> tuple[Hosts, Key]:
        chosen = settings or read_settings()
        log.configure(chosen.log_level, chosen.log_format)
        exempt_loopback()
        registry.configure()
        registry.require_address(chosen)
        if server:
            refuse_several_workers(server)
            connections.bound(server)
        app.state.service = Service(chosen, newest_features)
        handlers.show_reports(app, chosen.reports_dir)
        return Hosts(chosen.api_allowed_hosts), Key(chosen.api_key, open_to_all=chosen.api_open)

    app = Application(
        prepare,
        title=pages.TITLE,
        version=command.VERSION,
        description=__doc__ or "",
        lifespan=lifespan,
        generate_unique_id_function=lambda route: route.name,  # what a generated client calls its functions
        docs_url=None,
        redoc_url=None,
    )
    handlers.add_to(app)
    return app


async def _keep_fresh(service: Service) -> None:
    """Follow the champion alias until cancelled; requests go on meanwhile."""
    while True:
        await asyncio.to_thread(service.refresh)
        await asyncio.sleep(service.settings.model_poll_seconds if service.served else 1.0)


def newest_features(readings: Sequence[Reading]) -> NDArray[np.float64] | None:
    """Return the feature row of the newest reading, shape ``(1, n_features)``, as the stream computes it.

    The station counts as warm before the first reading: a caller who sends a station's last week knows no more of it. None
    if a silence of 168 hours or more lies behind the newest reading, after which it would have to warm up again.

    Raises:
        InvalidRecord: the readings are not in time order, or contradict each other.
    """
    buffer = FeatureBuffer()
    buffer.warmed_hours = HISTORY_HOURS
    for reading in readings:
        buffer.push(reading)
    grid, ready = buffer.take()
    if not ready or ready[-1][1] != buffer.newest_hour:
        return None
    position, hour = ready[-1]
    return features.rows(grid, np.array([hour], dtype=np.int64), np.array([position], dtype=np.intp))


def main(argv: list[str] | None = None) -> int:
    """Run the program and return its exit code."""
    args = _parser().parse_args(argv)
    return command.run("api_service.py", lambda: _serve(args.host, args.port))


def _parser() -> argparse.ArgumentParser:
    parser = command.parser("python api_service.py", _DESCRIPTION, _EXAMPLES)
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (%(default)s: this machine only)")
    parser.add_argument("--port", type=_port, default=8000, help="%(default)s")
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port (0 to 65535)")
    return int(text)


def _serve(host: str, port: int) -> None:
    settings = read_settings()
    log.configure(settings.log_level, settings.log_format)
    with _listening(host, port) as listener:
        shown = "localhost" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
        say = log.speaker("api_service", settings.log_format)
        say(f"http://{shown}:{listener.getsockname()[1]}/ (documentation at /docs; Ctrl-C stops it)")
        config = uvicorn.Config(
            create_app(settings), access_log=False, log_config=None, timeout_graceful_shutdown=5, workers=1
        )
        with contextlib.suppress(KeyboardInterrupt):  # uvicorn has finished its requests, then says how it was asked to
            uvicorn.Server(config).run(sockets=[listener])


def _listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens; raises ``UsageError`` at once if the address cannot be had."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=2048)
    except OSError as error:
        raise UsageError(
            f"cannot listen on {host}:{port}: {error.strerror or error}. Another program may have it: choose another --port "
            f"(and API_URL=http://localhost:<port> for the consumer)"
        ) from error


app = create_app()


if __name__ == "__main__":
    sys.exit(main())
