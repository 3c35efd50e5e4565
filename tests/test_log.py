"""The log: readable lines on a terminal, one JSON object a line otherwise, always on standard error."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from airquality.ground import log


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _root_logger() -> Iterator[None]:
    root, kafka = logging.getLogger(), logging.getLogger("kafka")
    handlers, level, kafka_level = root.handlers[:], root.level, kafka.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    kafka.setLevel(kafka_level)


def written(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, log_format: str = "auto") -> list[str]:
    monkeypatch.setattr(sys, "stderr", stream)
    log.configure("info", log_format)
    logging.getLogger("consumer").info("partition %d restored", 2, extra={"stations": 5, "file": Path("a")})
    logging.getLogger("consumer").debug("not shown")
    return stream.getvalue().splitlines()


def test_a_terminal_gets_readable_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    [line] = written(monkeypatch, Terminal())
    assert line.endswith("INFO    partition 2 restored")


@pytest.mark.parametrize(("stream", "log_format"), [(io.StringIO(), "auto"), (Terminal(), "json")])
def test_everything_else_gets_one_json_object_a_line(
    monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, log_format: str
) -> None:
    [line] = written(monkeypatch, stream, log_format)
    found = orjson.loads(line)
    assert found.pop("time").endswith("+00:00")
    assert found == {
        "level": "info",
        "logger": "consumer",
        "message": "partition 2 restored",
        "stations": 5,
        "file": "a",
    }


def test_text_can_be_asked_for_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    [line] = written(monkeypatch, io.StringIO(), "text")
    assert line.endswith("INFO    partition 2 restored")


def test_an_exception_stays_on_the_line_of_its_message(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    log.configure("INFO", "json")
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logging.getLogger("api").exception("it failed")
    [line] = stream.getvalue().splitlines()
    assert "ValueError: two\nlines" in orjson.loads(line)["exception"]


def test_configuring_twice_logs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    log.configure("info", "json")
    assert len(written(monkeypatch, io.StringIO())) == 1


def test_libraries_that_chatter_are_kept_to_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    log.configure("debug", "json")
    logging.getLogger("kafka.net").info("connected")
    logging.getLogger("urllib3.pool").info("starting a connection")
    assert stream.getvalue() == ""
