"""The application: FastAPI behind its guard, put together from settings when the server starts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI

from airquality.ground import command, log
from airquality.ground.proxies import exempt_loopback
from airquality.ground.settings import Settings, read_settings
from airquality.model import registry
from airquality.serving import connections, documents, handlers, pages
from airquality.serving.direct import Receive, Scope, Send
from airquality.serving.guard import Guard, Hosts, refuse_several_workers
from airquality.serving.key import Key
from airquality.serving.readings import NewestFeatures
from airquality.serving.service import Service


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


def create(settings: Settings | None, newest_features: NewestFeatures, description: str) -> Application:
    """Return the application; settings are read (where None) and the model is loaded when it starts, not when it is made."""

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
        description=description,
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
