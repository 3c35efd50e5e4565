"""A prediction service that misbehaves on demand: it stands between the consumer and the real one."""

from __future__ import annotations

import http.client
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

import numpy as np

Answer = tuple[int, bytes]
#: Given the real answer of a prediction request, what to do instead: return another one, or take one's time.
Fault = Callable[["_Handler", Answer], Answer | None]


class Service:
    """Forwards to the real service; ``fault`` is applied to answers of prediction requests, None for none."""

    def __init__(self, host: str, port: int) -> None:
        self.fault: Fault | None = None
        self.requests = 0
        #: The answers of the real service to prediction requests, by status.
        self.answers: Counter[int] = Counter()
        service = self

        class Handler(_Handler):
            def __init__(self, *args: object) -> None:
                self.service, self.upstream = service, (host, port)
                super().__init__(*args)  # type: ignore[arg-type]

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    service: Service
    upstream: tuple[str, int]

    def do_GET(self) -> None:
        self._reply(self._forward("GET", None))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.service.requests += 1
        answer: Answer | None = self._forward("POST", body)
        self.service.answers[answer[0] if answer else 0] += 1
        if self.service.fault and answer:
            answer = self.service.fault(self, answer)
        if answer:
            self._reply(answer)

    def _forward(self, method: str, body: bytes | None) -> Answer:
        connection = http.client.HTTPConnection(*self.upstream, timeout=30)
        try:
            kind = self.headers.get("content-type", "application/json")  # rows come as they lie in memory
            connection.request(method, self.path, body, {"content-type": kind})
            response = connection.getresponse()
            return response.status, response.read()
        except OSError:
            return 503, b'{"error": "the real service is away"}'
        finally:
            connection.close()

    def _reply(self, answer: Answer) -> None:
        status, body = answer
        with suppress(OSError):
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def trickle(self, body: bytes, seconds: float) -> None:
        """Send an answer a byte at a time, each within any timeout between two bytes."""
        with suppress(OSError):
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            until = time.monotonic() + seconds
            for number in range(len(body)):
                if time.monotonic() > until:
                    break
                self.wfile.write(body[number : number + 1])
                self.wfile.flush()
                time.sleep(0.3)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def away(_: _Handler, __: Answer) -> Answer:
    """Answer 503."""
    return 503, b'{"error": "away"}'


def flaky(share: float, rng: np.random.Generator) -> Fault:
    """Answer 503 to a share of the requests."""
    lock = threading.Lock()

    def fault(_: _Handler, answer: Answer) -> Answer:
        with lock:
            return (503, b'{"error": "busy"}') if rng.random() < share else answer

    return fault


def slow(seconds: float) -> Fault:
    """Answer rightly, after a while."""

    def fault(_: _Handler, answer: Answer) -> Answer:
        time.sleep(seconds)
        return answer

    return fault


def trickling(seconds: float) -> Fault:
    """Answer a byte at a time and never to the end."""

    def fault(handler: _Handler, answer: Answer) -> None:
        handler.trickle(answer[1], seconds)

    return fault


def lying(lies: Sequence[Answer]) -> Fault:
    """Tell each lie once, then the truth."""
    told = iter(lies)
    lock = threading.Lock()

    def fault(_: _Handler, answer: Answer) -> Answer:
        with lock:
            return next(told, answer)

    return fault


#: Answers that are none: each must be a wait, never state.
LIES: list[Answer] = [
    (200, b""),
    (200, b"<html>hello</html>"),
    (200, b"[]"),
    (200, b"{}"),
    (200, b'{"predictions": [], "model_version": "1"}'),
    (200, b'{"predictions": null, "model_version": "1"}'),
    (200, b'{"predictions": ["a"], "model_version": "1"}'),
    (200, b'{"predictions": [1.0], "model_version": 7}'),
    (200, b'{"predictions": [1.0], "model_version": ""}'),
    (200, b'{"predictions": [NaN], "model_version": "1"}'),
    (200, b'{"predictions": [1.0, 2.0, 3.0], "model_version": "1"}'),
    (204, b""),
    (302, b""),
    (400, b"{}"),
    (401, b"{}"),
    (403, b"{}"),
    (404, b"{}"),
    (408, b"{}"),
    (429, b"{}"),
    (500, b"{}"),
    (502, b"<html>bad gateway</html>"),
    (503, b"{}"),
    (504, b"{}"),
]
