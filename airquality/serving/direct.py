"""Call the handlers as plain ASGI. FastAPI documents them, and answers whatever is none of them.

Its routing, dependencies and middleware cost more than the model does, and none of it is used here: a handler takes the
request and returns its response.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from airquality.serving.problems import RequestError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Refusal = Callable[[Request, RequestError], Response]
Breakdown = Callable[[Exception], Response]

#: Where in its scope a handler finds the label of the model that it was called for.
MODEL = "air_quality_model"


@dataclass(frozen=True, slots=True)
class Call:
    """A handler, and the label of the model that it is called for."""

    handler: Callable[[Request], Awaitable[Response]]
    model: str = ""


class Direct:
    """An ASGI layer above FastAPI: a request for one of ``calls``, by its method and its path, goes to its handler.

    Args:
        app: What the handlers find as ``request.app``.
        calls: The handlers, by method and path without parameters.
        refusal: Makes the answer to a request that cannot be answered.
        breakdown: Makes the answer to a request that met a fault of ours; the fault is raised on, and logged by the server.
        otherwise: Answers all other requests.
    """

    def __init__(
        self,
        app: FastAPI,
        calls: Mapping[tuple[str, str], Call],
        refusal: Refusal,
        breakdown: Breakdown,
        otherwise: App,
    ) -> None:
        self._app = app
        self.calls = calls
        self._refusal, self._breakdown, self._otherwise = refusal, breakdown, otherwise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection."""
        call = self.calls.get((scope["method"], _path(scope))) if scope["type"] == "http" else None
        if call is None:
            await self._otherwise(scope, receive, send)
            return
        scope["app"] = self._app
        scope[MODEL] = call.model
        request = Request(scope, receive)
        try:
            answer = await call.handler(request)
        except RequestError as error:
            answer = self._refusal(request, error)
        except Exception as error:
            await self._breakdown(error)(scope, receive, send)
            raise
        await answer(scope, receive, send)


def _path(scope: Scope) -> str:
    """Return the path below the one that a proxy in front may have added (``--root-path``)."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path.removeprefix(root) if root else path
