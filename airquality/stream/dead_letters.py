"""The record of the dead-letter topic: always one that can be published, whatever was refused."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from airquality.ground.errors import InvalidRecord
from airquality.ground.settings import Settings
from airquality.incoming import TYPE_HEADER
from airquality.records import DEAD_LETTER_REASONS, MAX_RECORD_BYTES, ORDER_REASONS, PARSE_REASONS
from airquality.stream.batch import DeadLetter
from airquality.stream.kafka_io import Record
from airquality.stream.transactions import Message

#: How much of a key is kept where key and value together are too large.
_KEPT_KEY_BYTES = 1024
#: The header for what the original said it is; sent again, it says so again.
SOURCE_TYPE = "source_type"
_KEPT_TYPE_CHARACTERS = 100
_OFFSET = re.compile("[0-9]{1,19}")


def dead_letter(letter: DeadLetter, settings: Settings) -> Message:
    """Return the dead-letter record: the original bytes, with headers that say what was wrong and where.

    A null value is named by the header ``value_null``, one whose batch is too large to be read by ``value_unread``. Key and
    value of more than :data:`MAX_RECORD_BYTES` are cut: Kafka takes larger records where they are compressed, and gives them
    back, but would not take them from us. Then ``key_bytes``, ``key_sha256``, ``value_bytes`` and ``value_sha256`` are those
    of the original, which ``source_partition`` and ``source_offset`` find. ``source_type`` is its header ``type``.
    """
    record, error = letter.record, letter.error
    headers = {
        "error_class": type(error).__name__,
        "error_message": str(error),
        "reason": error.reason,
        "stage": _stage(error.reason),
        "source_topic": settings.raw_topic,
        "source_partition": str(record.partition),
        "source_offset": str(record.offset),
        "source_timestamp_ms": str(record.timestamp_ms),
    }
    types = [text for name, text in record.headers if name == TYPE_HEADER]
    if len(types) == 1:  # of several nobody can say which is meant, so none is kept
        headers[SOURCE_TYPE] = (types[0] or b"").decode(errors="backslashreplace")[:_KEPT_TYPE_CHARACTERS]
    key, value = record.key, record.value
    if value is None:
        headers["value_unread" if record.unread else "value_null"] = "true"
        value = None if key is not None else b""  # the client refuses a record with neither
    if len(key or b"") + len(value or b"") > MAX_RECORD_BYTES:
        headers |= _identity("key", key) | _identity("value", value)
        key = key and key[:_KEPT_KEY_BYTES]
        value = value and value[: MAX_RECORD_BYTES - _KEPT_KEY_BYTES]
    encoded = tuple((name, text.encode(errors="backslashreplace")) for name, text in headers.items())
    return Message(settings.dlq_topic, record.partition, key, value, encoded)


def refused_rows(dead_letters: Iterable[Record], settings: Settings) -> dict[int, InvalidRecord]:
    """Return which rows were refused, and why, by raw offset, from the records of a dead-letter partition.

    Whatever else is in the topic is passed over.
    """
    return dict(found for record in dead_letters if (found := refused_row(record, settings)) is not None)


def refused_row(dead_letter: Record, settings: Settings) -> tuple[int, InvalidRecord] | None:
    """Return the raw offset and the error of a dead letter, None if the record is not one of ours."""
    headers = {name: (text or b"").decode(errors="replace") for name, text in dead_letter.headers}
    source = headers.get("source_topic"), headers.get("source_partition")
    offset, reason = headers.get("source_offset", ""), headers.get("reason", "")
    if source != (settings.raw_topic, str(dead_letter.partition)) or reason not in DEAD_LETTER_REASONS:
        return None
    if not is_offset(offset):
        return None
    return int(offset), InvalidRecord(reason, headers.get("error_message", ""))


def is_offset(text: str) -> bool:
    """Return whether a header's text is an offset, or a partition, as this system writes it.

    >>> is_offset("17"), is_offset("-7"), is_offset("9" * 5_000), is_offset("\u0663")
    (True, False, False, False)
    """
    return _OFFSET.fullmatch(text) is not None


def _stage(reason: str) -> str:
    if reason in PARSE_REASONS:
        return "parse"
    return "order" if reason in ORDER_REASONS else "predict"


def _identity(part: str, content: bytes | None) -> dict[str, str]:
    if content is None:
        return {}
    return {f"{part}_bytes": str(len(content)), f"{part}_sha256": hashlib.sha256(content).hexdigest()}
