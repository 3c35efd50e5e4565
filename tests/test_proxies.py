"""Proxies in the environment: never between this process and its own machine."""

from __future__ import annotations

import os

import pytest
import requests

from airquality.ground.proxies import exempt_loopback, is_loopback, proxy_hint

PROXY = "http://proxy.example:3128"


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        for spelt in (name, name.upper()):
            monkeypatch.setenv(spelt, "")  # restored afterwards, also where the code under test sets it
            monkeypatch.delenv(spelt)


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:8000",
        "http://127.0.0.1",
        "http://127.8.8.8:1",
        "http://[::1]:8000",
        "http://a.localhost",
        "http://0.0.0.0:1",
    ],
)
def test_is_loopback_this_machine(url: str) -> None:
    assert is_loopback(url)


@pytest.mark.parametrize("url", ["http://api:8000", "http://10.0.0.1", "http://localhost.example", "sqlite:///m.db"])
def test_is_loopback_elsewhere(url: str) -> None:
    assert not is_loopback(url)


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy"])
@pytest.mark.parametrize("listed", ["", "example.org, 10.0.0.0/8"])
def test_exempt_loopback_requests_goes_around_the_proxy(monkeypatch: pytest.MonkeyPatch, variable: str, listed: str) -> None:
    monkeypatch.setenv(variable, PROXY)
    if listed:
        monkeypatch.setenv("NO_PROXY", listed)
    exempt_loopback()
    for url in ("http://localhost:8000", "http://127.0.0.1:8000", "http://127.1.2.3", "http://[::1]:8000"):
        assert requests.utils.get_environ_proxies(url) == {}
    assert requests.utils.get_environ_proxies("http://api:8000") != {}
    assert bool(requests.utils.get_environ_proxies("http://example.org")) != bool(listed)
    exempt_loopback()
    assert os.environ["no_proxy"].count("localhost") == 1


def test_exempt_loopback_without_proxies_changes_nothing() -> None:
    exempt_loopback()
    assert "no_proxy" not in os.environ


def test_exempt_loopback_everything_exempt_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", PROXY)
    monkeypatch.setenv("NO_PROXY", "*")
    exempt_loopback()
    assert requests.utils.get_environ_proxies("http://api:8000") == {}


def test_proxy_hint_names_the_variable_and_the_way_around(monkeypatch: pytest.MonkeyPatch) -> None:
    assert proxy_hint("http://api:8000") == ""
    monkeypatch.setenv("HTTP_PROXY", PROXY)
    assert "in HTTP_PROXY; NO_PROXY=api goes around it" in proxy_hint("http://api:8000")
    assert proxy_hint("https://api:8000") == proxy_hint("http://127.0.0.1:8000") == ""
    monkeypatch.setenv("all_proxy", PROXY)
    assert "in all_proxy" in proxy_hint("https://api:8000")
    monkeypatch.setenv("no_proxy", "api")
    assert proxy_hint("https://api:8000") == ""
