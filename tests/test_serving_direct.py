"""Handlers are called without FastAPI's routing: each of them, and nothing else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fastapi import FastAPI, Request, Response

from airquality.serving import handlers
from airquality.serving.direct import MODEL, Call, Direct, Message, Receive, Scope, Send
from airquality.serving.problems import RequestError, invalid
from airquality.serving.slots import Slot


async def known(request: Request) -> Response:
    return Response(f"known to {request.app.title} {request.scope[MODEL]}".encode())


async def refused(_: Request) -> Response:
    raise invalid("no")


async def broken(_: Request) -> Response:
    raise ZeroDivisionError("a bug")


async def otherwise(scope: Scope, receive: Receive, send: Send) -> None:
    await Response(b"somebody else's", 299)(scope, receive, send)


def refusal(_: Request, error: RequestError) -> Response:
    return Response(str(error).encode(), error.status)


def breakdown(error: Exception) -> Response:
    return Response(type(error).__name__.encode(), 500)


def answer(layer: Direct, method: str, path: str, root_path: str = "") -> tuple[int, bytes, Exception | None]:
    """Return the status and the body that one request gets, and what the server was raised."""
    sent: list[Message] = []
    raised: list[Exception] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def ask() -> None:
        scope: dict[str, Any] = {"type": "http", "method": method, "path": root_path + path, "root_path": root_path}
        try:
            await layer({**scope, "headers": []}, receive, send)
        except ZeroDivisionError as error:
            raised.append(error)

    asyncio.run(ask())
    return sent[0]["status"], sent[1]["body"], raised[0] if raised else None


@pytest.fixture
def layer() -> Direct:
    calls = {
        ("POST", "/known"): Call(known),
        ("POST", "/models/b/known"): Call(known, "b"),
        ("POST", "/refused"): Call(refused),
        ("POST", "/broken"): Call(broken),
    }
    return Direct(FastAPI(title="the app"), calls, refusal, breakdown, otherwise)


@pytest.mark.parametrize("root_path", ["", "/behind/a/proxy"])
def test_direct_known_route_calls_its_handler(layer: Direct, root_path: str) -> None:
    assert answer(layer, "POST", "/known", root_path) == (200, b"known to the app ", None)
    assert answer(layer, "POST", "/models/b/known", root_path) == (200, b"known to the app b", None)


@pytest.mark.parametrize(("method", "path"), [("GET", "/known"), ("POST", "/known/"), ("POST", "/"), ("POST", "/unknown")])
def test_direct_any_other_request_goes_on(layer: Direct, method: str, path: str) -> None:
    assert answer(layer, method, path) == (299, b"somebody else's", None)


def test_direct_refused_request_is_answered_with_the_refusal(layer: Direct) -> None:
    assert answer(layer, "POST", "/refused") == (422, b"no", None)


def test_direct_fault_of_ours_is_answered_and_raised_for_the_servers_log(layer: Direct) -> None:
    status, body, raised = answer(layer, "POST", "/broken")
    assert (status, body) == (500, b"ZeroDivisionError")
    assert isinstance(raised, ZeroDivisionError)


def test_direct_every_documented_call_is_one_of_the_handlers() -> None:
    app = FastAPI()
    slots = Slot(), Slot("b")
    handlers.add_to(app, slots)
    documented = {(m.upper(), path) for path, calls in app.openapi()["paths"].items() for m in calls}
    assert {("POST", "/predict"), ("POST", "/models/b/predict")} <= documented
    assert documented <= set(handlers.direct(app, slots, otherwise).calls)
