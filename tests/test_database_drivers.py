"""Drivers of databases: an address whose driver is not installed is wrong usage, said in a line."""

from __future__ import annotations

import sys

import pytest

from airquality.ground.database_drivers import require_driver
from airquality.ground.errors import UsageError


@pytest.mark.parametrize("uri", ["sqlite:///mlflow.db", "http://mlflow:5000", "https://ann:secret@mlflow"])
def test_require_driver_that_is_there_says_nothing(uri: str) -> None:
    require_driver("MLFLOW_TRACKING_URI", uri)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("postgresql://localhost/x", "pip install psycopg"),
        ("mysql+pymysql://ann:secret@db/x", "pip install pymysql"),
        ("oracles://localhost/x", "no such kind of database"),
        ("postgresql://localhost:port/x", "no such kind of database"),
    ],
)
def test_require_driver_that_is_not_there_is_wrong_usage_in_a_line(uri: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        require_driver("MLFLOW_TRACKING_URI", uri)
    assert str(caught.value).startswith(f"MLFLOW_TRACKING_URI={uri.replace('ann:secret@', '')}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_require_driver_without_the_database_part_names_what_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sqlalchemy.engine", None)
    with pytest.raises(UsageError, match=r"reaches a registry over http:// only"):
        require_driver("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
