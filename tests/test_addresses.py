"""Addresses: what is cut out of them before anybody reads them, and odd paths."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from airquality.ground.addresses import sqlite_path, without_credentials


@pytest.mark.parametrize(
    "address",
    [
        "http://me:secret@registry:5000/api",
        "https://secret@registry/api?x=1",
        "postgresql+psycopg2://me:sec@ret@registry/db",
        "http://me:/secret?#@registry:5000",
        "http://:secret@registry",
        "HTTP://ME:secret@registry",
    ],
)
def test_without_credentials_address_loses_user_and_password_only(address: str) -> None:
    text = f"GET {address} failed: '{address}', mail ops@example.org"
    shown = without_credentials(text)
    assert "secret" not in shown
    assert "sec@" not in shown
    assert shown.count("://registry") == 2
    assert "mail ops@example.org" in shown


@pytest.mark.parametrize(
    "text",
    [
        "sqlite:////home/me@work/mlflow.db",
        "http://registry:5000/path/me@work",
        "http://registry/a:b/me@work is one, ops@example.org another",
        "no address at all: a@b",
    ],
)
def test_without_credentials_text_without_any_is_unchanged(text: str) -> None:
    assert without_credentials(text) == text


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("sqlite:///run/mlflow.db", "run/mlflow.db"),
        ("sqlite:////data/50% #2/mlflow.db?timeout=3", "/data/50% #2/mlflow.db"),
        ("sqlite:////data/a%2520b%3F/mlflow.db", "/data/a%20b?/mlflow.db"),
    ],
)
def test_sqlite_path_is_what_sqlalchemy_opens(uri: str, path: str) -> None:
    assert sqlite_path(uri) == Path(path)
    assert make_url(uri).database == path


def test_sqlite_path_of_a_server_is_none() -> None:
    assert sqlite_path("http://registry:5000") is None
