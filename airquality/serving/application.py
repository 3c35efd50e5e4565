"""The application: FastAPI behind its guard, put together from settings when the server starts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import product
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
from airquality.serving.key import EXEMPT, Key
from airquality.serving.readings import NewestFeatures
from airquality.serving.service import Service
from airquality.serving.slots import SLOTS, Slot


class Application(FastAPI):
    """FastAPI behind its guard, which must be outermost: only there can uvicorn's own configuration be seen."""

    def __init__(
        self, slots: Sequence[Slot], prepare: Callable[[uvicorn.Config | None], tuple[Hosts, Key]], **options: Any
    ) -> None:
        super().__init__(**options)
        self._slots = slots
        handlers.add_to(self, slots)
        self._guard = Guard(handlers.direct(self, slots, super().__call__), prepare)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection."""
        await self._guard(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document, with the bodies that the handlers parse themselves."""
        if self.openapi_schema is None:
            document = super().openapi()
            document.setdefault("components", {}).setdefault("schemas", {}).update(documents.schemas())
            for slot, path in product(self._slots, ("/predict", "/predict/batch", "/predict/from-readings")):
                name = path.strip("/").replace("/", "_").replace("-", "_")
                document["paths"][slot.prefix + path]["post"]["requestBody"] = documents.body(name)
            self.openapi_schema = document
        return self.openapi_schema


def create(
    settings: Settings | None, newest_features: NewestFeatures, description: str, slots: Sequence[Slot] = SLOTS
) -> Application:
    """Return the application; settings are read (where None) and models are loaded when it starts, not when it is made."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        following = [asyncio.create_task(model.follow()) for model in app.state.service.models.values()]
        yield
        for task in following:
            task.cancel()

    def prepare(server: uvicorn.Config | None) -> tuple[Hosts, Key]:
        chosen = settings or read_settings()
        log.configure(chosen.log_level, chosen.log_format)
        exempt_loopback()
        registry.configure()
        registry.require_address(chosen)
        if server:
            refuse_several_workers(server)
            connections.bound(server)
        app.state.service = Service(chosen, newest_features, slots)
        handlers.show_reports(app, chosen.reports_dir)
        exempt = {*EXEMPT, *(f"{slot.prefix}/ready" for slot in slots)}
        return Hosts(chosen.api_allowed_hosts), Key(chosen.api_key, open_to_all=chosen.api_open, exempt=exempt)

    app = Application(
        slots,
        prepare,
        title=pages.TITLE,
        version=command.VERSION,
        description=description,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    return app
