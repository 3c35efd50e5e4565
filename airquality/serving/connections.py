"""Bounds and deadlines for uvicorn's connections. By itself it waits for ever for the head of a request, however long.

Without them a few hundred sockets that say nothing use up the process's file descriptors, and nobody else gets in.
"""

from __future__ import annotations

import asyncio
import resource
from http import HTTPStatus
from typing import Any

from uvicorn import Config

from airquality.serving import problems

#: Sooner than most clients give up, later than any that works.
HEAD_SECONDS = 10.0
#: From the head of a request to the end of its answer, the body of the one and a slow reader of the other included.
ANSWER_SECONDS = 60.0
MAX_CONNECTIONS = 256
#: Of the head of a request; browsers and proxies stay below 32 KB.
MAX_HEAD_BYTES = 64 * 1024
_NO_HTTP = "this is no HTTP/1.1 request that can be read: is it https, a malformed line or header, or a length given twice?"


def capacity() -> int:
    """Return how many connections may be open: half of the process's file descriptors, at most :data:`MAX_CONNECTIONS`."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if descriptors == resource.RLIM_INFINITY else max(8, min(MAX_CONNECTIONS, descriptors // 2))


def bound(config: Config) -> None:
    """Give every connection of a server that is about to start its deadlines, and let the stalest give way to a new one."""
    config.http_protocol_class = _bounded(_refusing(config.http_protocol_class), capacity())


def _bounded(base: Any, limit: int) -> Any:
    """Return uvicorn's protocol class with deadlines; ``base`` is its h11, its httptools or another implementation."""
    timers: dict[Any, asyncio.TimerHandle] = {}  # by connection, the one longest without progress first

    class Bounded(base):  # type: ignore[misc]
        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            self._allow(HEAD_SECONDS)
            if len(timers) > limit:
                next(iter(timers)).transport.abort()

        def data_received(self, data: bytes) -> None:
            was_answering = self._answering
            super().data_received(data)
            if self._answering and not was_answering:
                self._allow(ANSWER_SECONDS)

        def on_response_complete(self) -> None:
            super().on_response_complete()
            pipelined = self._answering
            self._allow(ANSWER_SECONDS if pipelined else self.config.timeout_keep_alive + HEAD_SECONDS)

        def connection_lost(self, exc: Exception | None) -> None:
            self._forget()
            super().connection_lost(exc)

        @property
        def _answering(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete

        def _allow(self, seconds: float) -> None:
            self._forget()
            timers[self] = self.loop.call_later(seconds, self.transport.abort)

        def _forget(self) -> None:
            timer = timers.pop(self, None)
            if timer:
                timer.cancel()

    return Bounded


def _refusing(base: Any) -> Any:
    """Return uvicorn's protocol class that answers a head it cannot read, or that is too long, like any other error."""

    class Refusing(base):  # type: ignore[misc]
        _in_head, _head_bytes = False, 0

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._head_bytes = self._head_bytes + len(data) if self._in_head else 0
            if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
                self._refuse(431, f"the head of the request is larger than {MAX_HEAD_BYTES} bytes")

        def on_message_begin(self) -> None:  # of httptools; h11 has a bound of its own
            super().on_message_begin()
            self._in_head = True

        def on_headers_complete(self) -> None:
            super().on_headers_complete()
            self._in_head = False

        def send_400_response(self, _: str) -> None:
            self._refuse(400, _NO_HTTP)

        def _refuse(self, status: int, detail: str) -> None:
            self.transport.write(_refusal(status, detail))
            self.transport.close()

    return Refusing


def _refusal(status: int, detail: str) -> bytes:
    """Return the whole answer to what is no request; the connection ends after it."""
    body = problems.to_bytes(problems.problem(status, detail))
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: {problems.MEDIA_TYPE}\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body
