"""A bound and deadlines for uvicorn's connections. By itself it waits for ever for the head of a request.

Without them a few hundred sockets that say nothing use up the process's file descriptors, and nobody else gets in.
"""

from __future__ import annotations

import asyncio
import resource
from typing import Any

from uvicorn import Config

#: Sooner than most clients give up, later than any that works.
HEAD_SECONDS = 10.0
#: From the head of a request to the end of its answer, the body of the one and a slow reader of the other included.
ANSWER_SECONDS = 60.0
MAX_CONNECTIONS = 256


def capacity() -> int:
    """Return how many connections may be open: half of the process's file descriptors, at most :data:`MAX_CONNECTIONS`."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if descriptors == resource.RLIM_INFINITY else max(8, min(MAX_CONNECTIONS, descriptors // 2))


def bound(config: Config) -> None:
    """Give every connection of a server that is about to start its deadlines, and let the stalest give way to a new one."""
    config.http_protocol_class = _bounded(config.http_protocol_class, capacity())


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
