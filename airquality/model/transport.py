"""HTTP with one peer: every request has a total deadline, every answer a bounded size, this machine no proxy."""

from __future__ import annotations

import socket
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import requests
from pydantic import SecretStr
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from airquality.ground.addresses import without_credentials
from airquality.ground.errors import Unavailable
from airquality.ground.proxies import is_loopback, proxy_hint
from airquality.ground.shown import shown

#: The predictions of 2,000 rows are some 50 KB.
MAX_ANSWER_BYTES = 1024 * 1024
#: A connection that is made only after the deadline is cut this soon.
_CUT_AGAIN_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Answer:
    """A status and the bytes that came with it."""

    status: int
    content: bytes

    @property
    def excerpt(self) -> str:
        """The beginning of the content, as it may be shown."""
        return shown(self.content[:300].decode(errors="replace").strip())


class Transport:
    """One peer over HTTP; close it when done. Credentials in ``url`` and ``key`` are sent, and never shown."""

    def __init__(self, url: str, timeout_seconds: float, key: SecretStr | None = None) -> None:
        self.shown_url = without_credentials(url)
        self._url = url
        self._timeout_seconds = timeout_seconds
        self._session = requests.Session()
        self._session.trust_env = not is_loopback(url)
        self._session.headers["Accept-Encoding"] = "identity"  # a few hundred bytes cannot become a gigabyte
        self._session.headers["Cache-Control"] = "no-store"
        if key:
            self._session.headers["X-API-Key"] = key.get_secret_value()
        #: Set whenever a request is sent, and its answer waited for.
        self.sent = threading.Event()
        self._connections = _Connections(self.sent)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, self._connections)

    def ask(self, method: str, path: str, body: bytes | None = None, media_type: str = "application/json") -> Answer:
        """Return the answer, whatever its status; redirects are not followed. ``media_type`` says what the body is.

        Raises:
            Unavailable: there was none within ``timeout_seconds`` in all, or it is larger than :data:`MAX_ANSWER_BYTES`.
        """
        with self._deadline() as passed:
            try:
                answer = self._exchange(method, path, body, {"Content-Type": media_type} if body else {})
            except (requests.RequestException, HTTPError, OSError, ValueError) as error:
                why = f"no whole answer within {self._timeout_seconds:g} s" if passed.is_set() else type(error).__name__
                raise self.unavailable(f"does not answer: {why}") from error
            if passed.is_set():  # a connection that was cut can look like one that ended
                raise self.unavailable(f"does not answer: no whole answer within {self._timeout_seconds:g} s")
        if len(answer.content) > MAX_ANSWER_BYTES:
            raise self.unavailable(f"answers more than {MAX_ANSWER_BYTES} bytes")
        return answer

    def unavailable(self, what: str) -> Unavailable:
        """Return the error that says ``what`` of this peer, and which proxy is in between."""
        return Unavailable(f"the prediction service at {self.shown_url} {what}{proxy_hint(self._url)}")

    def close(self) -> None:
        """Drop the connections."""
        self._session.close()

    def _exchange(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Answer:
        with self._session.request(
            method,
            self._url + path,
            data=body,
            headers=headers,
            timeout=self._timeout_seconds,
            stream=True,
            allow_redirects=False,
        ) as response:
            return Answer(response.status_code, response.raw.read(MAX_ANSWER_BYTES + 1, decode_content=False))

    @contextmanager
    def _deadline(self) -> Iterator[threading.Event]:
        """Cut the connection once the time is up: the client's own timeout begins anew with every byte."""
        done, passed = threading.Event(), threading.Event()
        watch = threading.Thread(target=self._cut_when_late, args=(done, passed), daemon=True)
        watch.start()
        try:
            yield passed
        finally:
            done.set()

    def _cut_when_late(self, done: threading.Event, passed: threading.Event) -> None:
        seconds = self._timeout_seconds
        while not done.wait(seconds):
            passed.set()
            self._connections.cut()
            seconds = _CUT_AGAIN_SECONDS


class _Connections(HTTPAdapter):
    """Keeps the sockets it opens in reach, so that they can be cut from another thread; says when a request is sent."""

    def __init__(self, sent: threading.Event) -> None:
        self._sent = sent
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._lock = threading.Lock()
        super().__init__()

    def get_connection_with_tls_context(self, *args: Any, **options: Any) -> Any:
        """Return the pool of connections for a request."""
        pool: Any = super().get_connection_with_tls_context(*args, **options)
        kind = type(pool).ConnectionCls

        def connection(*args: Any, **options: Any) -> Any:
            made = kind(*args, **options)
            connect, getresponse = made.connect, made.getresponse

            def remembered() -> None:
                connect()
                with self._lock:
                    self._sockets.add(made.sock)

            def awaited() -> Any:
                self._sent.set()
                return getresponse()

            made.connect, made.getresponse = remembered, awaited
            return made

        pool.ConnectionCls = connection
        return pool

    def cut(self) -> None:
        """End whatever is being read from or written to."""
        with self._lock:
            sockets = list(self._sockets)
        for opened in sockets:
            with suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)
