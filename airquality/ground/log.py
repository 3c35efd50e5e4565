"""Set up what a process says: readable log lines on a terminal, one JSON object a line otherwise; output that never fails.

``LOG_FORMAT=json`` holds for everything a program says of itself: its own lines, those of the libraries in it, warnings, the
message it ends with, and the lines a person would follow on a console. A command's result stays what it is.
Whatever a record, a station's name or an answer may hold, no control character and no credential gets into a line.
"""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson

from airquality.ground.kafka_log import KafkaLines
from airquality.ground.shown import shown

#: What is not shown beside the message; ``color_message`` is uvicorn's, for terminals.
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "color_message"}


class TextFormatter(logging.Formatter):
    """Format a record as a line for people, followed by its traceback if it has one."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line."""
        record.message = shown(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        """Return the traceback."""
        return "\n".join(shown(line) for line in super().formatException(ei).split("\n"))


class JsonFormatter(logging.Formatter):
    """Format a record as one JSON object; ``extra=`` fields stand beside the message. Times are UTC."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": shown(record.getMessage()),
        }
        line |= {k: shown(v) if isinstance(v, str) else v for k, v in record.__dict__.items() if k not in _STANDARD}
        if record.exc_info:
            line["exception"] = "\n".join(shown(text) for text in self.formatException(record.exc_info).split("\n"))
        return orjson.dumps(line, default=lambda value: shown(str(value))).decode()


def configure(level: str = "INFO", log_format: str = "auto") -> None:
    """Send the process's log to standard error, and let no character stop what is printed. Called once, from ``main``.

    Libraries that brought handlers of their own (uvicorn, MLflow) lose them: level and format hold for every line.

    Args:
        level: A standard level name.
        log_format: ``text``, ``json``, or ``auto``: text where standard error is a terminal.
    """
    handler = logging.StreamHandler(sys.stderr)
    as_json = log_format == "json" or (log_format == "auto" and not sys.stderr.isatty())
    handler.setFormatter(
        JsonFormatter() if as_json else TextFormatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")
    )
    handler.setLevel(level.upper())
    if level.upper() != "DEBUG":
        handler.addFilter(KafkaLines())
    _take_over()
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a locale may lack the letters of a station's name
    if log_format == "json":
        logging.captureWarnings(True)
        sys.excepthook = _log_uncaught
    logging.getLogger("kafka").setLevel(logging.WARNING)
    logging.getLogger("urllib3").setLevel(logging.WARNING)


def _take_over() -> None:
    """Let loggers with handlers of their own speak through the process's."""
    for logger in list(logging.root.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger) and any(isinstance(h, logging.StreamHandler) for h in logger.handlers):
            logger.handlers.clear()
            logger.propagate = True


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    logging.getLogger("program").critical("ended by a defect", exc_info=(kind, error, trace))


def speaker(name: str, log_format: str) -> Callable[[str], None]:
    """Return what says a line for a person: printed as it is, or logged under ``name`` where every line is to be JSON.

    A line that cannot be printed is lost, and said once: a log file on a full disk may not end what goes on without it. A
    reader that is gone ends the program as it ends any other.
    """
    logger = logging.getLogger(name)
    if log_format == "json":
        return logger.info
    lost = False

    def say(line: str) -> None:
        nonlocal lost
        try:
            print(line, flush=True)
            lost = False
        except BrokenPipeError:
            raise
        except OSError as error:
            if not lost:
                why = error.strerror
                logger.warning("standard output cannot be written (%s): its lines are lost, the work goes on", why)
            lost = True

    return say


def is_json() -> bool:
    """Whether the environment wants every line as JSON; asked where the settings are not read yet, or wrong."""
    return os.environ.get("LOG_FORMAT", "").strip() == "json"


def complain(prog: str, message: str) -> None:
    """Say on standard error why the program ``prog`` ends, also before the settings are read."""
    if is_json():
        record = logging.LogRecord(prog, logging.ERROR, "", 0, message, None, None)
        print(JsonFormatter().format(record), file=sys.stderr, flush=True)
    else:
        print(f"{prog}: ", "\n".join(map(shown, message.splitlines())), sep="", file=sys.stderr, flush=True)
