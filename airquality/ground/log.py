"""Set up what a process says: readable log lines on a terminal, one JSON object a line otherwise; output that never fails.

Whatever a record, a station's name or an answer may hold, no control character and no credential gets into a line.
"""

from __future__ import annotations

import io
import logging
import sys
from datetime import UTC, datetime
from typing import Any

import orjson

from airquality.ground.kafka_log import KafkaLines
from airquality.ground.shown import shown

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}


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

    Args:
        level: A standard level name.
        log_format: ``text``, ``json``, or ``auto``: text where standard error is a terminal.
    """
    handler = logging.StreamHandler(sys.stderr)
    as_json = log_format == "json" or (log_format == "auto" and not sys.stderr.isatty())
    handler.setFormatter(
        JsonFormatter() if as_json else TextFormatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")
    )
    if level.upper() != "DEBUG":
        handler.addFilter(KafkaLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a locale may lack the letters of a station's name
    logging.getLogger("kafka").setLevel(logging.WARNING)
    logging.getLogger("urllib3").setLevel(logging.WARNING)
