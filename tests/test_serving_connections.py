"""Half-open connections and uploads: the service goes on answering, and they end."""

from __future__ import annotations

import resource
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
import uvicorn

from airquality.ground import log
from airquality.ground.errors import Unavailable
from airquality.ground.settings import Settings
from airquality.model import registry
from airquality.serving import connections, uploads
from api_service import create_app
from lab.ports import free_port
from lab.waiting import PATIENCE_SECONDS, wait_until
from tests.api_server import Client

HALF_UPLOAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nhalf"
HALF_HEAD = b"GET /health HTTP/1.1\r\nHost: loc"


@pytest.fixture(autouse=True)
def _no_log_and_no_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(_: Settings) -> str:
        raise Unavailable("no registry is needed here")

    monkeypatch.setattr(log, "configure", lambda *_: None)
    monkeypatch.setattr(registry, "champion_version", away)


@contextmanager
def serving(http: str) -> Iterator[tuple[int, uvicorn.Server]]:
    """Run the service without a model, on one of uvicorn's protocol implementations."""
    port = free_port()
    app = create_app(Settings())
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, access_log=False, http=http))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started, "started")
        yield port, server
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(params=["h11", "httptools"])
def http(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def opened(stack: ExitStack, port: int, content: bytes) -> socket.socket:
    connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS))
    connection.sendall(content)
    return connection


def received(connection: socket.socket) -> bytes:
    """Return what the server sends until it hangs up."""
    content = b""
    try:
        while chunk := connection.recv(65536):
            content += chunk
    except ConnectionResetError:
        pass
    return content


@pytest.mark.parametrize("content", [b"", HALF_HEAD, HALF_UPLOAD], ids=["silent", "half a head", "half a body"])
def test_more_half_open_connections_than_the_bound_never_block_health(
    monkeypatch: pytest.MonkeyPatch, http: str, content: bytes
) -> None:
    monkeypatch.setattr(connections, "capacity", lambda: 16)
    with serving(http) as (port, server), ExitStack() as stack:
        for _ in range(60):
            opened(stack, port, content)
        assert Client(port).get("/health").status_code == 200
        wait_until(lambda: len(server.server_state.connections) <= 17, "the bound holds")


@pytest.mark.parametrize("content", [b"", HALF_HEAD], ids=["silent", "half a head"])
def test_connection_that_never_sends_its_head_is_closed(monkeypatch: pytest.MonkeyPatch, http: str, content: bytes) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.2)
    with serving(http) as (port, _), ExitStack() as stack:
        assert received(opened(stack, port, content)) == b""


def test_connection_that_is_kept_alive_and_then_says_half_a_head_is_closed(
    monkeypatch: pytest.MonkeyPatch, http: str
) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.2)
    with serving(http) as (port, server), ExitStack() as stack:
        server.config.timeout_keep_alive = 1
        connection = opened(stack, port, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200 OK" in connection.recv(65536)
        connection.sendall(HALF_HEAD)
        assert received(connection) == b""


def test_upload_that_stalls_is_answered_408_and_counted(monkeypatch: pytest.MonkeyPatch, http: str) -> None:
    monkeypatch.setattr(uploads, "BODY_SECONDS", 0.2)
    with serving(http) as (port, _), ExitStack() as stack:
        assert received(opened(stack, port, HALF_UPLOAD)).startswith(b"HTTP/1.1 408 ")
        assert 'inference_errors_total{reason="upload"} 1.0' in Client(port).get("/metrics").text


def test_upload_more_than_the_bound_the_oldest_gives_way(monkeypatch: pytest.MonkeyPatch, http: str) -> None:
    monkeypatch.setattr(uploads, "MAX_UPLOADS", 3)
    with serving(http) as (port, _), ExitStack() as stack:
        stalled = [opened(stack, port, HALF_UPLOAD) for _ in range(4)]
        assert received(stalled[0]).startswith(b"HTTP/1.1 408 ")
        assert Client(port).post("/predict", {"features": {}}).status_code == 503  # whole, and so answered: no model yet


def test_upload_that_is_aborted_is_one_log_line_and_one_count(caplog: pytest.LogCaptureFixture, http: str) -> None:
    caplog.set_level("INFO")
    with serving(http) as (port, _), ExitStack() as stack:
        opened(stack, port, HALF_UPLOAD).close()
        counted = 'inference_errors_total{reason="upload"} 1.0'
        wait_until(lambda: counted in Client(port).get("/metrics").text, "counted")
    lines = [record.getMessage() for record in caplog.records if "hung up" in record.getMessage()]
    assert lines == ["POST /predict: the caller hung up after 4 bytes of the body"]
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize(("soft", "expected"), [(128, 64), (65536, 256), (-1, 256), (10, 8)])
def test_capacity_leaves_half_of_the_descriptors(monkeypatch: pytest.MonkeyPatch, soft: int, expected: int) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, soft))
    assert connections.capacity() == expected
