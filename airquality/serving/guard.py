"""Keep web pages out: a page that somebody opens may not reach the service through their browser.

A page can send requests from the browser's machine (known by their Origin), or have its own name point at it (known by their
Host). Programs send no Origin, and name a host that is known. Those from beyond this machine are asked for the key, too.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
from collections.abc import Callable
from functools import lru_cache
from urllib.parse import urlsplit

from uvicorn import Config

from airquality.ground import command
from airquality.ground.errors import AirQualityError, UsageError
from airquality.ground.shown import shown
from airquality.serving import key, problems
from airquality.serving.direct import App, Receive, Scope, Send
from airquality.serving.key import Key

#: Besides addresses of this machine and of private networks, which no page can have as its name.
KNOWN_HOSTS = ("localhost", "api", "host.docker.internal")
_ANY = "*"

logger = logging.getLogger(__name__)


class Hosts:
    """The names under which this service may be called, and the pages that may call it."""

    def __init__(self, more: str = "") -> None:
        self._added = frozenset(name.strip().lower() for name in more.split(",") if name.strip())
        self._names = self._added | {*KNOWN_HOSTS, socket.gethostname().lower()}
        self.fault = lru_cache(maxsize=1024)(self._fault)

    def _fault(self, host: str, origin: str) -> str | None:
        """Return what is wrong with a request's Host and Origin headers, None if nothing is; each is empty if absent."""
        if _ANY in self._added:
            return None
        if host and not self._is_known(_name(host)):
            return _logged(f"requests for host {host[:100]!r} are refused: to allow it, add its name to API_ALLOWED_HOSTS")
        if origin and not self._is_own(origin, host):
            return _logged(
                f"requests of pages from {origin[:100]!r} are refused: to allow them, add its host to API_ALLOWED_HOSTS"
            )
        return None

    def _is_known(self, name: str) -> bool:
        return name in self._names or _is_private_address(name)

    def _is_own(self, origin: str, host: str) -> bool:
        place = origin.partition("://")[2].lower()
        return bool(place) and (place == host.lower() or _name(place) in self._added)


def _logged(fault: str) -> str:
    logger.warning("%s", fault)
    return fault


def _name(host: str) -> str:
    """Return the name or address of ``name:port``, in lower case; empty if it is neither."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_private_address(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_private
    except ValueError:
        return False


class Guard:
    """The outermost ASGI layer: refuse what :class:`Hosts` and :class:`Key` refuse, and a start that cannot work.

    ``prepare`` is called once, when the server starts, with its configuration (None if it is not uvicorn); what it raises
    as :class:`AirQualityError` is the reason why the service does not start, in one sentence.
    """

    def __init__(self, app: App, prepare: Callable[[Config | None], tuple[Hosts, Key]]) -> None:
        self._app = app
        self._prepare = prepare
        self._hosts, self._key = Hosts(), Key()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection."""
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        elif scope["type"] == "http" and (fault := self._fault(scope)):
            await _refuse(403, fault, send)
        elif scope["type"] == "http" and (fault := self._key.fault(_address(scope), scope["path"], scope["headers"])):
            await _refuse(401, fault, send, (b"www-authenticate", key.CHALLENGE))
        else:
            await self._app(scope, receive, send)

    def _fault(self, scope: Scope) -> str | None:
        if scope["path"] == "/health":  # asked by whoever runs the container, under any name
            return None
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        origins = [value for name, value in scope["headers"] if name == b"origin"]
        if len(hosts) > 1 or len(origins) > 1:
            return "the Host and the Origin may be given once each"
        return self._hosts.fault(b"".join(hosts).decode("latin-1"), b"".join(origins).decode("latin-1"))

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        server = _server(receive)
        try:
            self._hosts, self._key = self._prepare(server)
        except AirQualityError as error:
            await receive()
            await send({"type": "lifespan.startup.failed", "message": shown(str(error))})  # uvicorn logs it here
            if server and server.workers == 1 and isinstance(error, UsageError):
                os._exit(command.USAGE)  # uvicorn would end with 3, which no supervisor can tell from an outage
        else:
            await self._app(scope, receive, send)


def _address(scope: Scope) -> str:
    """Return the address of this machine at which a request has arrived, empty if it is not known."""
    server = scope.get("server")
    return str(server[0]) if server else ""


def _server(receive: Receive) -> Config | None:
    """Return the configuration of the uvicorn that calls: its lifespan passes a method of an object that has it."""
    config = getattr(getattr(receive, "__self__", None), "config", None)
    return config if isinstance(config, Config) else None


def refuse_several_workers(config: Config) -> None:
    """Raise ``UsageError`` if several processes would share one port: each counts only what it happens to answer."""
    if config.workers > 1:
        raise UsageError(
            f"{config.workers} workers behind one port would each expose their own counters, which then seem to fall: "
            "start it without --workers and WEB_CONCURRENCY. For more throughput start another service on another port."
        )


async def _refuse(status: int, fault: str, send: Send, *more: tuple[bytes, bytes]) -> None:
    body = problems.to_bytes(problems.problem(status, fault))
    headers = [
        (b"content-type", problems.MEDIA_TYPE.encode()),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
        *more,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
