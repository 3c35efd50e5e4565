"""Call the handlers as plain ASGI. FastAPI documents them, and answers whatever is none of them.

Its routing, dependencies and middleware cost more than the model does, and none of it is used here: a handler takes the
request and returns its response.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from airquality.serving.problems import RequestError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Refusal = Callable[[Request, RequestError], Response]
Breakdown = Callable[[Exception], Response]


class Direct:
    """An ASGI layer above FastAPI: a request for one of ``routes``, by its method and its path, goes to its handler.

    Args:
        app: What the handlers find as ``request.app``.
        routes: Routes without parameters in their paths, whose endpoints take a request and return a response.
        refusal: Makes the answer to a request that cannot be answered.
        breakdown: Makes the answer to a request that met a fault of ours; the fault is raised on, and logged by the server.
        otherwise: Answers all other requests.

    Attributes:
        routes: The handlers, by method and path.
    """

    def __init__(
        self, app: FastAPI, routes: Sequence[BaseRoute], refusal: Refusal, breakdown: Breakdown, otherwise: App
    ) -> None:
        self._app = app
        self.routes = {
            (method, route.path): route.endpoint
            for route in routes
            if isinstance(route, APIRoute)
            for method in route.methods or ()
        }
        self._refusal, self._breakdown, self._otherwise = refusal, breakdown, otherwise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection."""
        handler = scope["type"] == "http" and self.routes.get((scope["method"], _path(scope)))
        if not handler:
            await self._otherwise(scope, receive, send)
            return
        scope["app"] = self._app
        request = Request(scope, receive)
        try:
            answer: Response = await handler(request)
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
