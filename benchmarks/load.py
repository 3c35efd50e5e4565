"""Load on an HTTP service: connections that ask again as soon as they are answered, without a client library in the way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from airquality.ground.errors import AirQualityError


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of one service: the same body again and again."""

    port: int
    path: str
    body: bytes
    headers: Mapping[str, str]

    def to_bytes(self) -> bytes:
        """Return the request as it goes over the wire."""
        lines = [f"POST {self.path} HTTP/1.1", f"Host: 127.0.0.1:{self.port}", f"Content-Length: {len(self.body)}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return "\r\n".join([*lines, "", ""]).encode() + self.body


@dataclass(frozen=True, slots=True)
class Answered:
    """What came of a load: the latency of every request, in seconds, and how long it took in all."""

    latencies: tuple[float, ...]
    seconds: float

    @property
    def a_second(self) -> float:
        """Requests answered a second."""
        return len(self.latencies) / self.seconds

    def quantile_ms(self, level: float) -> float:
        """Return a quantile of the latencies in milliseconds."""
        return float(np.quantile(self.latencies, level)) * 1e3


def load(request: Request, n_connections: int, seconds: float) -> Answered:
    """Ask for so long; raises ``AirQualityError`` where an answer is not 200, or a connection ends."""
    return asyncio.run(_load(request, n_connections, seconds))


async def _load(request: Request, n_connections: int, seconds: float) -> Answered:
    loop, began = asyncio.get_running_loop(), time.perf_counter()
    latencies: list[float] = []
    connections = []
    for _ in range(n_connections):
        ended: asyncio.Future[None] = loop.create_future()
        await loop.create_connection(
            lambda done=ended: _Connection(request.to_bytes(), began + seconds, latencies, done),  # type: ignore[misc]
            "127.0.0.1",
            request.port,
        )
        connections.append(ended)
    await asyncio.gather(*connections)
    return Answered(tuple(latencies), time.perf_counter() - began)


class _Connection(asyncio.Protocol):
    """One connection: it sends, reads one whole answer, and sends again until the time is up."""

    def __init__(self, request: bytes, until: float, latencies: list[float], done: asyncio.Future[None]) -> None:
        self._request, self._until, self._latencies, self._done = request, until, latencies, done
        self._received = bytearray()
        self._wanted = 0
        self._asked = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        self._received.clear()
        self._wanted, self._asked = 0, time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._wanted:
            self._wanted = _length(self._received)
        if not self._wanted or len(self._received) < self._wanted:
            return
        now = time.perf_counter()
        self._latencies.append(now - self._asked)
        if not self._received.startswith(b"HTTP/1.1 200"):
            self._end(AirQualityError(f"answered {bytes(self._received[:500])!r}"))
        elif now < self._until:
            self._ask()
        else:
            self._end(None)

    def connection_lost(self, _: Exception | None) -> None:
        self._end(AirQualityError("the service closed the connection"))

    def _end(self, error: Exception | None) -> None:
        if self._done.done():
            return
        self._transport.close()
        if error is None:
            self._done.set_result(None)
        else:
            self._done.set_exception(error)


def _length(received: bytearray) -> int:
    r"""Return how many bytes the whole answer has, 0 while its head is not all there.

    >>> _length(bytearray(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n12"))
    43
    """
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return 0
    head = bytes(received[:end]).lower()
    if b"content-length: " not in head:
        raise AirQualityError(f"the answer has no length: {head!r}")
    return end + 4 + int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
