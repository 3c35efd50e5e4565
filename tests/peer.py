"""A peer of the prediction client that answers as a test says, and badly where it says so."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import orjson

from airquality.model import rows
from lab.waiting import PATIENCE_SECONDS

#: What a served model says of itself beside its version and its features.
ORIGIN = {"data_source": "uci", "data_hash": "abc", "scores": {}}
#: Rows whose every bit matters.
ROWS = np.array([[np.nan, 0.1, 1 / 3, -0.0], [5e-324, 1.7976931348623157e308, 1.0, np.nan]])


class Peer(ThreadingHTTPServer):
    """A service that gives the answers it is made with, and remembers what it was asked.

    Predictions name the request they answer, as the service's do, unless ``names_request`` is another one's.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.status = 200
        self.answer: bytes = b""
        self.pages: dict[str, bytes] = {}  # what one path answers, with 200
        self.answers: Callable[[bytes], tuple[int, Any]] | None = None  # what a body is answered
        self.claimed: int | None = None  # the length the head claims
        self.encoding = ""
        self.names_request: int | None = None
        self.silent = False
        self.trickles = ""  # "head" or "body": a byte now and then, for ever
        self.released = threading.Event()
        self.asked: list[tuple[str, str, bytes]] = []
        self.accepted = self.authorization = self.key = self.media_type = self.caching = ""

    def says(self, answer: Any, status: int = 200) -> None:
        self.status, self.answer = status, answer if isinstance(answer, bytes) else orjson.dumps(answer)


class Handler(BaseHTTPRequestHandler):
    server: Peer

    def do_GET(self) -> None:
        server = self.server
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        server.asked.append((self.command, self.path, body))
        server.accepted, server.authorization = (self.headers.get(n, "") for n in ("Accept-Encoding", "Authorization"))
        server.key = self.headers.get("X-API-Key", "")
        server.media_type, server.caching = (self.headers.get(n, "") for n in ("Content-Type", "Cache-Control"))
        if server.silent:
            server.released.wait(PATIENCE_SECONDS)
            return
        with contextlib.suppress(OSError):  # the client may have had enough
            if server.trickles:
                self.trickle(server.trickles == "body")
            else:
                self.reply(body)

    def reply(self, body: bytes) -> None:
        status, answer = self.server.status, self.server.answer
        if self.path in self.server.pages:
            status, answer = 200, self.server.pages[self.path]
        elif self.server.answers:
            status, content = self.server.answers(body)
            answer = orjson.dumps(content)
        answer = self.named(answer, body)
        self.send_response(status)
        self.send_header("Content-Length", str(self.server.claimed or len(answer)))
        if self.server.encoding:
            self.send_header("Content-Encoding", self.server.encoding)
        self.end_headers()
        self.wfile.write(answer)

    def named(self, answer: bytes, body: bytes) -> bytes:
        with contextlib.suppress(orjson.JSONDecodeError):
            content = orjson.loads(answer)
            if isinstance(content, dict) and content.keys() & {"predictions", "reason"}:
                request = self.server.names_request
                return orjson.dumps({**content, rows.ANSWERED: rows.checksum(body) if request is None else request})
        return answer

    def trickle(self, body: bool) -> None:
        self.wfile.write(b"HTTP/1.0 200 OK\r\n" + (b"\r\n" if body else b"X-Padding: "))
        while not self.server.released.wait(0.05):
            self.wfile.write(b" ")

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[Peer]:
    """Answer in a thread while entered."""
    with Peer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
