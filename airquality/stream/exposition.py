"""The consumer's own HTTP port: ``/metrics`` for Prometheus, ``/health`` for whoever asks whether it can work.

One thread serves all connections. A connection costs one descriptor, there are at most :data:`MAX_CONNECTIONS` of them (the
oldest makes room for the next), and each must be over within :data:`DEADLINE_SECONDS`: nobody who connects can take the
descriptors that predictions need.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from airquality.ground.errors import UsageError

MAX_CONNECTIONS = 16
#: From the connection to the last byte of the answer. Prometheus gives up after 10 s.
DEADLINE_SECONDS = 5.0
MAX_REQUEST_BYTES = 8 * 1024
#: Connections taken in one turn of the event loop, before any of them is counted.
ACCEPTED_AT_ONCE = 8
#: Connections the kernel keeps for the next turns; they cost this process no descriptor.
BACKLOG = 128
LOOPBACK = "127.0.0.1"
#: The network interface whose address containers know as ``host.docker.internal``.
DOCKER_BRIDGE = "docker0"
_SIOCGIFADDR = 0x8915

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Page:
    """One answer."""

    body: bytes
    content_type: str = "application/json"
    status: HTTPStatus = HTTPStatus.OK

    def to_bytes(self) -> bytes:
        """Return the whole response; the connection ends with it."""
        head = f"HTTP/1.1 {self.status.value} {self.status.phrase}\r\nContent-Type: {self.content_type}\r\n"
        return f"{head}Content-Length: {len(self.body)}\r\nConnection: close\r\n\r\n".encode() + self.body


def metrics_page(registry: CollectorRegistry) -> Page:
    """Return the registry in Prometheus's text format."""
    return Page(generate_latest(registry), CONTENT_TYPE_LATEST)


def health_page(faults: Sequence[str]) -> Page:
    """Return 200 where there is no fault, else 503 and the faults in words."""
    status = HTTPStatus.SERVICE_UNAVAILABLE if faults else HTTPStatus.OK
    return Page(orjson.dumps({"status": "waiting" if faults else "ok", "faults": list(faults)}), status=status)


def listen_addresses(setting: str) -> list[str]:
    """Return the addresses that CONSUMER_METRICS_HOST names.

    ``auto`` is this machine, and Docker's bridge where there is one: the stack's Prometheus reaches a consumer that was
    started by hand through it, and other machines do not.
    """
    if setting == "auto":
        bridge = interface_address(DOCKER_BRIDGE)
        return [LOOPBACK, bridge] if bridge else [LOOPBACK]
    return [address.strip() for address in setting.split(",")]


def interface_address(name: str) -> str | None:
    """Return the IPv4 address of a network interface; None where there is none, or no way to ask."""
    try:
        import fcntl  # not on Windows, where Docker Desktop's containers reach the loopback address anyway
    except ImportError:
        return None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, suppress(OSError):
        answer = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, struct.pack("256s", name.encode()))
        return socket.inet_ntoa(answer[20:24])
    return None


@contextmanager
def exposed(setting: str, port: int, pages: Mapping[str, Callable[[], Page]]) -> Iterator[int]:
    """Serve ``pages`` by path while entered, and yield the port.

    Args:
        setting: Where to listen, as :func:`listen_addresses` reads it.
        port: 0 for any free one.
        pages: What makes each page, called on a thread of the page's own.

    Raises:
        UsageError: the port is taken, or an address is not this machine's.
    """
    addresses = listen_addresses(setting)
    with ExitStack() as stack:
        listeners = []
        for address in addresses:
            listeners.append(stack.enter_context(_listener(address, port)))
            port = listeners[0].getsockname()[1]
        logger.info("metrics on %s", ", ".join(f"http://{_in_url(address)}:{port}/metrics" for address in addresses))
        loop, ended = asyncio.new_event_loop(), asyncio.Event()
        server = _Server(pages)
        thread = threading.Thread(
            target=loop.run_until_complete, args=(server.serve(listeners, ended),), name="exposition", daemon=True
        )
        thread.start()
        try:
            yield port
        finally:
            loop.call_soon_threadsafe(ended.set)
            thread.join()
            loop.close()


def _listener(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        if not address:
            raise OSError("empty, which would be every address")
        return socket.create_server((address, port), family=family, backlog=BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            why = f"port {port} for metrics is taken: stop the other consumer or set CONSUMER_METRICS_PORT"
        else:
            why = (
                f"cannot listen for metrics on {address!r} ({error.strerror or error}): "
                "CONSUMER_METRICS_HOST must name addresses of this machine"
            )
        raise UsageError(why) from error


def _in_url(address: str) -> str:
    return f"[{address}]" if ":" in address else address


class _Server:
    """Answer one request a connection, all on one event loop. Each page has a thread: one that waits holds up no other."""

    def __init__(self, pages: Mapping[str, Callable[[], Page]]) -> None:
        self._pages = pages
        self._open: dict[asyncio.Task[None], None] = {}  # oldest first
        self._makers = {path: ThreadPoolExecutor(1, f"exposition {path}") for path in pages}

    async def serve(self, listeners: Sequence[socket.socket], ended: asyncio.Event) -> None:
        servers = [
            await asyncio.start_server(self._converse, sock=listener, limit=MAX_REQUEST_BYTES, backlog=ACCEPTED_AT_ONCE)
            for listener in listeners
        ]
        for listener in listeners:
            listener.listen(BACKLOG)  # asyncio has set it to what it takes at once
        await ended.wait()
        for listener in listeners:
            asyncio.get_running_loop().remove_reader(listener)
        await asyncio.sleep(0)  # what has been accepted gets its transport, which a closed server would refuse and leak
        for server in servers:
            server.close()
        while others := asyncio.all_tasks() - {asyncio.current_task()}:  # one that is being accepted opens another
            await asyncio.sleep(0)  # a task cancelled before it has begun would not close its connection
            for task in others:
                task.cancel()
            await asyncio.wait(others)
        await asyncio.sleep(0)  # an aborted connection is closed in the loop's next turn
        for maker in self._makers.values():
            maker.shutdown(wait=False, cancel_futures=True)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._open) >= MAX_CONNECTIONS:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.cancel()
        self._open[task] = None
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                writer.write(await self._answer(await reader.readuntil(b"\r\n\r\n")))
                writer.close()
                await writer.wait_closed()  # an answer that nobody reads is under the deadline, too
        except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass  # late, gone, too long, or in the way of the next: there is nobody to tell
        finally:
            self._open.pop(task, None)
            writer.transport.abort()

    async def _answer(self, request: bytes) -> bytes:
        method, _, rest = request.partition(b" ")
        path = rest.split(b" ", 1)[0].split(b"?", 1)[0].decode("latin-1")
        make = self._pages.get(path)
        if make is None:
            answer = Page(b"no such page\n", "text/plain", HTTPStatus.NOT_FOUND).to_bytes()
        elif method not in (b"GET", b"HEAD"):
            answer = Page(b"only GET\n", "text/plain", HTTPStatus.METHOD_NOT_ALLOWED).to_bytes()
        else:
            page = await asyncio.get_running_loop().run_in_executor(self._makers[path], make)
            answer = page.to_bytes()
        return answer if method != b"HEAD" else answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
