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
from tests import data_files

ROOT = Path(__file__).resolve().parent.parent


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _root_logger() -> Iterator[None]:
    root, kafka = logging.getLogger(), logging.getLogger("kafka")
    handlers, level, kafka_level, hook = root.handlers[:], root.level, kafka.level, sys.excepthook
    yield
    logging.captureWarnings(False)
    sys.excepthook = hook
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
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "Z\\xfcrich \\u2713 \\ud800\n")


@pytest.mark.parametrize(("level", "n_lines"), [("INFO", 0), ("DEBUG", 1)])
def test_configure_the_kafka_client_is_heard_in_full_only_at_debug(
    monkeypatch: pytest.MonkeyPatch, level: str, n_lines: int
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    log.configure(level, "text")
    logging.getLogger("kafka.net.manager").error("Connection failed: KafkaConnectionError: 111 ECONNREFUSED")
    assert len(stream.getvalue().splitlines()) == n_lines


def test_configure_level_and_format_hold_for_libraries_with_handlers_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    own, theirs = io.StringIO(), logging.getLogger("library")
    theirs.propagate, theirs.level = False, logging.INFO
    theirs.addHandler(logging.StreamHandler(own))
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    log.configure("warning", "json")
    theirs.info("quiet")
    theirs.warning("loud", extra={"color_message": "\x1b[1mloud"})
    [line] = map(orjson.loads, stream.getvalue().splitlines())
    assert own.getvalue() == ""
    assert (line["logger"], line["message"]) == ("library", "loud")
    assert "color_message" not in line


@pytest.mark.parametrize(
    ("program", "code"),
    [
        (["producer.py", "--csv", "none.csv"], 2),
        (["producer.py"], 2),
        (["producer.py", "--csv", "{csv}", "--dry-run"], 0),
        (["consumer.py"], 2),
        (["-m", "airquality", "check"], 2),
        (["-m", "airquality", "topics"], 1),
    ],
)
@pytest.mark.slow
def test_programs_with_json_say_nothing_else_on_standard_error(tmp_path: Path, program: list[str], code: int) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(data_files.published().replace(";48,9;", ";-999;", 1))
    environment = {
        **os.environ,
        "LOG_FORMAT": "json",
        "DATASET_DIR": str(tmp_path),  # has no reference, whatever `make run` has left in this checkout
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "CONSUMER_METRICS_PORT": "0",
    }
    done = subprocess.run(
        [sys.executable, *(part.format(csv=path) for part in program)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stderr
    lines = [orjson.loads(line) for line in done.stderr.splitlines()]
    assert lines
    assert all({"time", "level", "message"} <= set(line) for line in lines)
    assert done.stdout == ""


def test_configure_with_json_warnings_and_defects_are_json(tmp_path: Path) -> None:
    program = (
        "import warnings; from airquality.ground import log; log.configure('INFO', 'json'); warnings.warn('old'); 1 / 0"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    warning, defect = map(orjson.loads, done.stderr.splitlines())
    assert "UserWarning: old" in warning["message"]
    assert "ZeroDivisionError" in defect["exception"]
    assert done.returncode == 1


def test_speaker_prints_for_people_and_logs_where_all_is_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log.speaker("consumer", "auto")("Prediction 24: CO(GT) = 1.87")
    assert capsys.readouterr().out == "Prediction 24: CO(GT) = 1.87\n"
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    log.configure("info", "json")
    log.speaker("consumer", "json")("100 % of 2")
    assert orjson.loads(stream.getvalue())["message"] == "100 % of 2"
    assert capsys.readouterr().out == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
def test_speaker_on_a_full_disk_goes_on_and_says_it_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    say = log.speaker("consumer", "text")
    full = os.fdopen(os.open("/dev/full", os.O_WRONLY), "w")
    monkeypatch.setattr(sys, "stdout", full)
    say("Prediction 1")
    say("Prediction 2")
    assert [record.getMessage() for record in caplog.records] == [
        "standard output cannot be written (No space left on device): its lines are lost, the work goes on"
    ]
    with pytest.raises(OSError, match="No space"):  # what is unsaid is still in it
        full.close()
