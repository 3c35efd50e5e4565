"""Which hosts and which pages may call the service, and a start that cannot work."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from airquality.ground import log
from airquality.ground.settings import Settings
from airquality.model import registry
from airquality.serving.guard import Hosts
from lab.ports import free_port
from lab.waiting import PATIENCE_SECONDS
from tests.api_server import running

PROJECT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _log_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "configure", lambda *_: None)


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "localhost:8000", "LOCALHOST:8000", "127.0.0.1:8000", "127.8.8.8", "[::1]:8000", "api", "api:8000"),
        *("192.168.1.7:8010", "10.0.3.4:8000", "172.18.0.5:8000", "host.docker.internal:8000", "", socket.gethostname()),
    ],
)
def test_hosts_own_names_and_private_addresses_are_answered(host: str) -> None:
    assert Hosts().fault(host, "") is None


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8000", "localhost.evil.example", "api.evil.example:8000", "8.8.8.8", "evil"),
        *("127.0.0.1.nip.io", "[evil", "a@localhost.evil", "/", " "),
    ],
)
def test_hosts_any_other_name_is_refused_with_the_setting(host: str) -> None:
    assert "API_ALLOWED_HOSTS" in str(Hosts().fault(host, ""))


def test_hosts_added_names_are_answered_and_may_call() -> None:
    hosts = Hosts("Air.example.org, other.example")
    assert hosts.fault("air.example.org:443", "") is None
    assert hosts.fault("air.example.org", "https://other.example") is None
    assert hosts.fault("evil.example", "") is not None
    assert Hosts("*").fault("evil.example", "http://evil.example") is None


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "http://localhost:3000", "null", "http://127.0.0.1:8000", "file://"]
)
def test_hosts_page_from_elsewhere_is_refused(origin: str) -> None:
    assert "API_ALLOWED_HOSTS" in str(Hosts().fault("localhost:8000", origin))


def test_hosts_own_page_is_answered() -> None:
    assert Hosts().fault("localhost:8000", "http://localhost:8000") is None


def test_service_foreign_host_and_page_get_403_and_health_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "champion_version", lambda _: None)
    with running(Settings(), ready=False) as client:
        evil = {"Host": "evil.example"}
        assert requests.get(client.url + "/health", headers=evil, timeout=PATIENCE_SECONDS).status_code == 200
        for path in ("/ready", "/version", "/metrics", "/openapi.json"):
            assert requests.get(client.url + path, headers=evil, timeout=PATIENCE_SECONDS).status_code == 403
        refused = requests.post(client.url + "/predict", headers={"Origin": "http://evil.example"}, timeout=PATIENCE_SECONDS)
        assert (refused.status_code, "API_ALLOWED_HOSTS" in refused.text) == (403, True)
        own = requests.post(client.url + "/predict", headers={"Origin": client.url}, timeout=PATIENCE_SECONDS)
        assert own.status_code in (422, 503)


def served(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run uvicorn as a user does, until it ends by itself."""
    command = [sys.executable, "-m", "uvicorn", "api_service:app", "--port", str(free_port()), *arguments]
    return subprocess.run(
        command, cwd=PROJECT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=200, check=False
    )


@pytest.mark.slow
def test_service_with_two_workers_is_refused_with_what_to_do_instead(tmp_path: Path) -> None:
    done = served(
        "--workers", "2", "--timeout-worker-healthcheck", "20", MLFLOW_TRACKING_URI=f"sqlite:///{tmp_path}/mlflow.db"
    )
    assert "2 workers behind one port" in done.stderr
    assert "another port" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Application startup complete" not in done.stderr


@pytest.mark.slow
def test_service_with_a_wrong_setting_ends_with_one_sentence() -> None:
    done = served(MODEL_POLL_SECONDS="often")
    assert done.returncode != 0
    assert "MODEL_POLL_SECONDS=often" in done.stderr
    assert "Traceback" not in done.stderr


_NAMELESS = """
import pwd

def nameless(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")

pwd.getpwuid = nameless
import api_service
"""


@pytest.mark.slow
def test_service_can_be_imported_by_a_uid_without_a_name_and_home() -> None:
    environment = {"PATH": os.environ["PATH"]}
    command = [sys.executable, "-c", _NAMELESS]
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_service_never_shows_the_credentials_of_its_registry() -> None:
    settings = Settings(mlflow_tracking_uri="http://me:hunter2@127.0.0.1:9/registry")
    with running(settings, ready=False) as client:
        shown = [client.get("/ready").text, client.get("/version").text, client.post("/predict", {"features": {}}).text]
        while "being loaded" in shown[0]:
            shown = [client.get("/ready").text, client.get("/version").text, client.post("/predict", {"features": {}}).text]
    assert ["127.0.0.1" in text for text in shown] == [True] * 3
    assert not any("hunter2" in text or "me:" in text for text in shown)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("sqlite:/mlflow.db", "three slashes"),
        ("postgresql://localhost/x", "driver is not installed"),
        ('"sqlite:///mlflow.db"', "quotation marks"),
    ],
)
@pytest.mark.slow
def test_service_with_an_address_that_can_never_work_is_wrong_usage(uri: str, message: str) -> None:
    done = served(MLFLOW_TRACKING_URI=uri)
    assert done.returncode == 2
    [line] = [line for line in done.stderr.splitlines() if "error" in line.lower()]
    assert f"MLFLOW_TRACKING_URI={uri}: " in line
    assert message in line
