"""Request bodies: bounded in size, in time, and in how many may be half here at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from airquality.serving.problems import RequestError

#: A batch of 2,000 rows with full-length numbers is about 6 MB. While a body is parsed nobody else is answered, so no more.
MAX_BODY_BYTES = 8 * 1024 * 1024
BODY_SECONDS = 15.0
MAX_UPLOADS = 64
#: Of all bodies together that are not complete yet.
MAX_PENDING_BYTES = 64 * 1024 * 1024

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


@dataclass(eq=False, slots=True)
class _Upload:
    deadline: asyncio.Timeout
    size: int = 0


class Uploads:
    """The bodies that are being received. Where there are too many, the oldest gives way: a whole request takes no time."""

    def __init__(self) -> None:
        self._pending: dict[_Upload, None] = {}  # oldest first
        self._pending_bytes = 0

    async def read(self, receive: Receive) -> bytes:
        """Return the body of one request.

        Raises:
            RequestError: 413 if it is larger than :data:`MAX_BODY_BYTES`; 408 if it is not complete after
                :data:`BODY_SECONDS`, or had to give way; 400 if the caller hung up.
        """
        upload = _Upload(asyncio.timeout(BODY_SECONDS))
        try:
            async with upload.deadline:
                self._pending[upload] = None
                return await self._read(receive, upload)
        except TimeoutError as error:
            message = f"the body was not complete after {BODY_SECONDS:g} s, or too many others were being sent"
            raise RequestError(408, "upload", message) from error
        finally:
            self._pending.pop(upload, None)
            self._pending_bytes -= upload.size

    async def _read(self, receive: Receive, upload: _Upload) -> bytes:
        chunks: list[bytes] = []
        while True:
            self._make_room(upload)
            message = await receive()
            if message["type"] == "http.disconnect":
                raise RequestError(400, "upload", f"the caller hung up after {upload.size} bytes of the body")
            chunk = message.get("body", b"")
            upload.size += len(chunk)
            self._pending_bytes += len(chunk)
            if upload.size > MAX_BODY_BYTES:
                raise RequestError(413, "invalid_request", f"the body is larger than {MAX_BODY_BYTES} bytes")
            chunks.append(chunk)
            if not message.get("more_body", False):
                return b"".join(chunks)

    def _make_room(self, newcomer: _Upload) -> None:
        if len(self._pending) > MAX_UPLOADS or self._pending_bytes > MAX_PENDING_BYTES:
            oldest = next(iter(self._pending))
            if oldest is not newcomer:
                del self._pending[oldest]
                oldest.deadline.reschedule(asyncio.get_running_loop().time())
