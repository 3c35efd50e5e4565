from __future__ import annotations

import logging
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
import requests
from prometheus_client import CollectorRegistry, Counter

from airquality.ground.errors import UsageError
from airquality.stream import exposition
from airquality.stream.exposition import LOOPBACK, Page, exposed, health_page, interface_address, listen_addresses
from lab.waiting import PATIENCE_SECONDS
from tests.system import PROJECT


def counted() -> Page:
    registry = CollectorRegistry()
    Counter("seen", "Rows seen.", registry=registry).inc(3)
    return exposition.metrics_page(registry)


@contextmanager
def served(pages: dict[str, Callable[[], Page]], setting: str = LOOPBACK) -> Iterator[str]:
    with exposed(setting, 0, pages) as port:
        yield f"http://127.0.0.1:{port}"


def half_open(port: int, address: str = LOOPBACK) -> socket.socket:
    """Connect, and begin a request that never ends."""
    connection = socket.create_connection((address, port), timeout=PATIENCE_SECONDS)
    connection.sendall(b"GET /metrics HTTP/1.1\r\n")
    return connection


def test_exposed_metrics_are_the_registrys() -> None:
    with served({"/metrics": counted}) as url:
        answer = requests.get(f"{url}/metrics?name=x", timeout=PATIENCE_SECONDS)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert "seen_total 3.0" in answer.text


def test_exposed_head_has_no_body_and_other_methods_and_paths_are_refused() -> None:
    with served({"/metrics": counted}) as url:
        head = requests.head(f"{url}/metrics", timeout=PATIENCE_SECONDS)
        assert (head.status_code, head.text) == (200, "")
        assert int(head.headers["content-length"]) > 0
        assert requests.post(f"{url}/metrics", timeout=PATIENCE_SECONDS).status_code == 405
        assert requests.get(f"{url}/elsewhere", timeout=PATIENCE_SECONDS).status_code == 404


def test_health_page_with_a_fault_is_503_and_says_it() -> None:
    with served({"/health": lambda: health_page(["Kafka is away"])}) as url:
        answer = requests.get(f"{url}/health", timeout=PATIENCE_SECONDS)
    assert (answer.status_code, answer.json()) == (503, {"status": "waiting", "faults": ["Kafka is away"]})
    with served({"/health": lambda: health_page([])}) as url:
        assert requests.get(f"{url}/health", timeout=PATIENCE_SECONDS).json() == {"status": "ok", "faults": []}


def test_exposed_page_that_waits_holds_up_no_other() -> None:
    free = threading.Event()

    def slow() -> Page:
        assert free.wait(PATIENCE_SECONDS)
        return health_page([])

    with served({"/metrics": counted, "/health": slow}) as url, socket.socket() as asking:
        asking.connect(("127.0.0.1", int(url.rsplit(":", 1)[1])))
        asking.sendall(b"GET /health HTTP/1.1\r\n\r\n")
        assert requests.get(f"{url}/metrics", timeout=PATIENCE_SECONDS).status_code == 200
        free.set()


def test_exposed_half_open_connection_is_closed_at_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposition, "DEADLINE_SECONDS", 0.1)
    with exposed(LOOPBACK, 0, {"/metrics": counted}) as port, half_open(port) as connection:
        assert connection.recv(1) == b""  # the connection's own time-out would raise


def test_exposed_request_without_end_is_cut() -> None:
    endless = b"x" * (64 * 1024 * 1024)  # more than any socket's buffers hold
    with (
        exposed(LOOPBACK, 0, {"/metrics": counted}) as port,
        half_open(port) as connection,
        pytest.raises((ConnectionResetError, BrokenPipeError)),
    ):
        connection.sendall(endless)


_FEW_DESCRIPTORS = """
import resource, sys
from prometheus_client import CollectorRegistry
from airquality.metrics import expose_process
from airquality.stream.exposition import exposed, metrics_page
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
registry = CollectorRegistry()
expose_process(registry)
with exposed("127.0.0.1", 0, {"/metrics": lambda: metrics_page(registry)}) as port:
    print(port, flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
def test_exposed_under_many_half_open_connections_keeps_descriptors_for_others() -> None:
    command = [sys.executable, "-c", _FEW_DESCRIPTORS]
    with (
        subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program,
        ExitStack() as held,
    ):
        assert program.stdout
        port = int(program.stdout.readline())
        for _ in range(120):
            held.enter_context(half_open(port))
        page = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE_SECONDS).text
        open_descriptors = float(page.split("\nprocess_open_fds ")[1].split()[0])
        assert open_descriptors < 64 / 2
        assert program.poll() is None
        program.communicate("")
    assert program.returncode == 0


# --- where it listens


def test_listen_addresses_auto_is_this_machine_and_dockers_bridge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposition, "interface_address", {"docker0": "172.17.0.1"}.get)
    assert listen_addresses("auto") == ["127.0.0.1", "172.17.0.1"]
    monkeypatch.setattr(exposition, "interface_address", lambda _: None)
    assert listen_addresses("auto") == ["127.0.0.1"]
    assert listen_addresses("10.0.0.1, ::1") == ["10.0.0.1", "::1"]


def test_interface_address_of_loopback_and_of_none() -> None:
    assert interface_address("lo") == "127.0.0.1"
    assert interface_address("nosuch0") is None


def test_exposed_on_two_addresses_answers_on_both_and_on_no_other(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with exposed("127.0.0.1,127.0.0.2", 0, {"/metrics": counted}) as port:
        for address in ("127.0.0.1", "127.0.0.2"):
            assert requests.get(f"http://{address}:{port}/metrics", timeout=PATIENCE_SECONDS).status_code == 200
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.3", port))
    assert f"metrics on http://127.0.0.1:{port}/metrics, http://127.0.0.2:{port}/metrics" in caplog.text


@pytest.mark.parametrize("address", ["192.0.2.1", "no such name", "127.0.0.1,"])
def test_exposed_on_an_address_of_another_machine_is_wrong_usage(address: str) -> None:
    with pytest.raises(UsageError, match="CONSUMER_METRICS_HOST must name"), exposed(address, 0, {}):
        pass


def test_exposed_on_a_taken_port_is_wrong_usage() -> None:
    with (
        socket.create_server((LOOPBACK, 0)) as taken,
        pytest.raises(UsageError, match="stop the other consumer or set CONSUMER_METRICS_PORT"),
        exposed(LOOPBACK, taken.getsockname()[1], {}),
    ):
        pass
