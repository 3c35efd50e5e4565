"""The prediction service run in this process as uvicorn runs it, and a caller of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import orjson
import pytest
import requests
import uvicorn

from airquality.ground import log
from airquality.ground.settings import Settings
from airquality.model import registry
from airquality.model.model import Model
from airquality.serving.slots import SLOTS, Slot
from api_service import create_app
from lab.ports import free_port
from lab.waiting import PATIENCE_SECONDS, wait_until
from tests.system import ARTIFACTS


class Client:
    """A caller of a running service; every request is a connection of its own."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def get(self, path: str) -> requests.Response:
        return requests.get(self.url + path, timeout=PATIENCE_SECONDS, allow_redirects=False)

    def post(self, path: str, body: Any, headers: Mapping[str, str] | None = None) -> requests.Response:
        data = orjson.dumps(body) if isinstance(body, dict) else body
        return requests.post(self.url + path, data=data, headers=headers, timeout=PATIENCE_SECONDS, allow_redirects=False)


@contextmanager
def running_artifacts(settings: Settings) -> Iterator[Client]:
    """Run the service with the model in ``artifacts/`` as its champion; no registry is asked."""
    served = registry.RegisteredModel(Model.load(ARTIFACTS), "air-quality-co", "1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log, "configure", lambda *_: None)
        patch.setattr(registry, "champion_version", lambda _: "1")
        patch.setattr(registry, "load", lambda *_: served)
        with running(settings) as made:
            yield made


@contextmanager
def running(settings: Settings, *, ready: bool = True, slots: Sequence[Slot] = SLOTS) -> Iterator[Client]:
    """Run the service as uvicorn does, and yield a caller of it once it is ready, or at least there."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(create_app(settings, slots), port=port, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        client = Client(port)
        wait_until(lambda: server.started, "started")
        wait_until(lambda: not ready or client.get("/ready").status_code == 200, "ready")
        yield client
    finally:
        server.should_exit = True
        thread.join()
