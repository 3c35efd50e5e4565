"""Who may come in from beyond this machine: the key, and the reports folder that nothing leaves."""

from __future__ import annotations

import asyncio
import hmac
from base64 import b64encode
from pathlib import Path
from typing import Any

import orjson
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from airquality.serving import handlers
from airquality.serving.guard import Guard, Hosts
from airquality.serving.key import Key

SECRET = "s3cret-key"
ELSEWHERE = "172.18.0.5"


def asked(key: Key, path: str = "/predict", address: str = ELSEWHERE, **headers: str) -> tuple[int, dict[str, Any]]:
    """Return what the guard answers a request that arrives on ``address``; the service behind it answers 200."""
    guard = Guard(_service, lambda _: (Hosts(), key))
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(dict(message))

    async def ask() -> None:
        await guard({"type": "lifespan"}, _nothing, send)
        listed = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        await guard({"type": "http", "path": path, "headers": listed, "server": (address, 8000)}, _nothing, send)

    asyncio.run(ask())
    return sent[0]["status"], orjson.loads(sent[1]["body"])


async def _nothing() -> dict[str, Any]:
    return {"type": "http.request"}


async def _service(scope: Any, _: Any, send: Any) -> None:
    if scope["type"] == "http":
        await send({"status": 200})
        await send({"body": b"{}"})


def basic(credentials: str) -> str:
    return "Basic " + b64encode(credentials.encode()).decode()


@pytest.mark.parametrize(
    "headers",
    [
        {"x_api_key": SECRET},
        {"authorization": f"Bearer {SECRET}"},
        {"authorization": f"bearer  {SECRET} "},
        {"authorization": basic(f"anyone:{SECRET}")},
        {"x_api_key": "wrong", "authorization": basic(f":{SECRET}")},
    ],
)
def test_guard_request_with_the_key_is_answered(headers: dict[str, str]) -> None:
    assert asked(Key(SecretStr(SECRET)), **headers)[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x_api_key": ""},
        {"x_api_key": SECRET[:-1]},
        {"x_api_key": SECRET + "x"},
        {"x_api_key": SECRET.upper()},
        {"x_api_key": "schl\u00fcssel"},
        {"authorization": SECRET},
        {"authorization": "Bearer"},
        {"authorization": "Basic not-base64!"},
        {"authorization": basic(SECRET)},
        {"authorization": basic(f"{SECRET}:")},
        {"cookie": f"x-api-key={SECRET}"},
    ],
)
def test_guard_request_without_the_key_is_401_and_does_not_get_it(headers: dict[str, str]) -> None:
    status, problem = asked(Key(SecretStr(SECRET)), **headers)
    assert (status, "X-API-Key" in problem["detail"]) == (401, True)
    assert SECRET not in str(problem)


def test_guard_without_any_key_says_which_setting_lets_others_in() -> None:
    status, problem = asked(Key(), x_api_key="")
    assert status == 401
    assert "API_KEY" in problem["detail"]
    assert "API_OPEN=1" in problem["detail"]


@pytest.mark.parametrize("address", ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"])
def test_guard_request_on_loopback_needs_no_key(address: str) -> None:
    assert asked(Key(SecretStr(SECRET)), address=address)[0] == 200
    assert asked(Key(), address=address)[0] == 200


@pytest.mark.parametrize("address", ["172.18.0.5", "192.168.1.2", "8.8.8.8", "0.0.0.0", "fe80::1%eth0", "/run/api.sock", ""])
def test_guard_request_on_any_other_address_needs_the_key(address: str) -> None:
    assert asked(Key(SecretStr(SECRET)), address=address)[0] == 401


@pytest.mark.parametrize("secret", [None, SecretStr(SECRET)])
def test_guard_open_service_answers_everybody(secret: SecretStr | None) -> None:
    assert asked(Key(secret, open_to_all=True))[0] == 200


def test_guard_probes_need_no_key_and_nothing_else_is_exempt() -> None:
    key = Key(SecretStr(SECRET))
    assert [asked(key, path)[0] for path in ("/health", "/ready", "/metrics")] == [200] * 3
    others = ("/", "/predict/batch", "/version", "/docs", "/openapi.json", "/reports/", "/health/x", "/metrics/", "//health")
    assert [asked(key, path)[0] for path in others] == [401] * len(others)


def test_guard_host_is_checked_before_the_key() -> None:
    assert asked(Key(SecretStr(SECRET)), x_api_key=SECRET, host="evil.example")[0] == 403
    assert asked(Key(SecretStr(SECRET)), host="evil.example", path="/ready")[0] == 403


def test_key_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def compare(left: bytes, right: bytes) -> bool:
        compared.append({left, right})
        return False

    monkeypatch.setattr(hmac, "compare_digest", compare)
    assert asked(Key(SecretStr(SECRET)), x_api_key=SECRET)[0] == 401
    assert compared == [{SECRET.encode()}]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a reports folder with a page, beside a file that is nobody's business and ways that lead to it."""
    reports = tmp_path / "reports"
    (reports / "daily").mkdir(parents=True)
    (reports / "index.html").write_text("index")
    (tmp_path / "secret.txt").write_text(SECRET)
    (reports / "link.txt").symlink_to(tmp_path / "secret.txt")
    (reports / "up").symlink_to(tmp_path)
    return reports


@pytest.mark.parametrize(
    "path",
    [
        *("/../secret.txt", "/daily/../../secret.txt", "//secret.txt", "/./../secret.txt", "/link.txt", "/up/secret.txt"),
        *("/\\..\\secret.txt", "/..\\secret.txt", "/%2e%2e/secret.txt", "/\0/../../secret.txt", "/index.html\0.txt"),
        *("/{absolute}", "//{absolute}", "/" + "x" * 5000),
    ],
)
def test_reports_nothing_outside_their_folder_is_served(folder: Path, path: str) -> None:
    app = FastAPI()
    handlers.add_to(app)
    handlers.show_reports(app, folder)
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(dict(message))

    path = "/reports" + path.replace("{absolute}", str(folder.parent / "secret.txt"))
    scope = {"type": "http", "method": "GET", "path": path, "root_path": "", "query_string": b"", "headers": []}
    asyncio.run(app(scope, _nothing, send))
    assert SECRET.encode() not in b"".join(message.get("body", b"") for message in sent)
    assert sent[0]["status"] == 404
