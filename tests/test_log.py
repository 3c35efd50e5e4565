"""The log: readable lines on a terminal, one JSON object a line otherwise, always on standard error."""

from __future__ import annotations

import io
import logging
import os
import subprocess
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


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_configure_no_control_character_and_no_credential_reaches_a_line(
    monkeypatch: pytest.MonkeyPatch, log_format: str
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    log.configure("info", log_format)
    odd = "roof\x1b[2J\nforged \u202e \ud800 http://ann:secret@mlflow:5000"
    try:
        raise ValueError(odd)
    except ValueError:
        logging.getLogger("consumer").exception("station %s", odd, extra={"station": odd, "other": Path("a\x1b")})
    written = stream.getvalue()
    assert "secret" not in written
    assert all(line.isprintable() for line in written.splitlines())
    assert [line for line in written.splitlines() if line.startswith("forged")] == (
        ["forged \\u202e \\ud800 http://mlflow:5000"] if log_format == "text" else []  # inside its traceback only
    )


def test_configure_a_locale_without_the_letters_stops_no_output() -> None:
    program = "from airquality.ground import log; log.configure(); print('Z\\u00fcrich \\u2713 \\ud800')"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii:strict"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "Z\\xfcrich \\u2713 \\ud800\n")


@pytest.mark.parametrize(("level", "told"), [("INFO", 0), ("DEBUG", 1)])
def test_configure_the_kafka_client_is_heard_in_full_only_at_debug(
    monkeypatch: pytest.MonkeyPatch, level: str, told: int
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    log.configure(level, "text")
    logging.getLogger("kafka.net.manager").error("Connection failed: KafkaConnectionError: 111 ECONNREFUSED")
    assert len(stream.getvalue().splitlines()) == told
