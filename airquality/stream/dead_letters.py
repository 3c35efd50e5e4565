"""Make the record that goes to the dead-letter topic."""

from __future__ import annotations

from airquality.ground.settings import Settings
from airquality.stream.partition import DeadLetter
from airquality.stream.transactions import Message


def dead_letter(letter: DeadLetter, settings: Settings) -> Message:
    """Return the dead-letter record: the original bytes untouched, with headers that say what was wrong and where."""
    record, error = letter.record, letter.error
    headers = {
        "error_class": type(error).__name__,
        "error_message": str(error),
        "reason": error.reason,
        "stage": "order" if error.reason in ("conflict", "late") else "parse",
        "source_topic": settings.raw_topic,
        "source_partition": str(record.partition),
        "source_offset": str(record.offset),
    }
    encoded = tuple((name, text.encode(errors="backslashreplace")) for name, text in headers.items())
    return Message(settings.dlq_topic, record.partition, record.key, record.value, encoded)
