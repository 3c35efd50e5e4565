"""The dead letter: original bytes, and headers that say what was wrong and where."""

from __future__ import annotations

import hashlib

import pytest

from airquality.ground.errors import InvalidRecord
from airquality.records import DEAD_LETTER_REASONS, MAX_RECORD_BYTES, isoformat
from airquality.stream.batch import DeadLetter
from airquality.stream.dead_letters import dead_letter, refused_rows
from airquality.stream.kafka_io import Record
from tests.worker_rig import DLQ, RAW, SETTINGS, START, Rig


def test_a_dead_letter_holds_the_original_and_says_what_was_wrong(rig: Rig) -> None:
    rig.send(0, 2)
    rig.send(0, 1, variant=1)
    rig.kafka.append(RAW, 0, b"\xff", None)
    rig.worker.run()
    conflict, malformed = rig.kafka.log(DLQ)
    assert (malformed.key, malformed.value) == (b"\xff", None)
    assert conflict.value == rig.kafka.log(RAW)[2].value
    assert rig.kafka.headers[DLQ, 0, conflict.offset] == {
        "error_class": "InvalidRecord",
        "error_message": f"station_0 {isoformat(START)} was accepted before with other values",
        "reason": "conflict",
        "stage": "order",
        "source_topic": RAW,
        "source_partition": "0",
        "source_offset": "2",
        "source_timestamp_ms": "-1",
    }
    assert rig.kafka.headers[DLQ, 0, malformed.offset]["stage"] == "parse"


def test_no_message_can_break_the_headers() -> None:
    letter = DeadLetter(Record(1, 2, None, b""), InvalidRecord("malformed", "\ud800"))
    headers = dict(dead_letter(letter, SETTINGS).headers)
    assert headers["error_message"] == rb"\ud800"


def test_dead_letter_keeps_the_type_of_a_typed_record() -> None:
    error = InvalidRecord("malformed", "why")
    typed = DeadLetter(Record(1, 2, b"roof", b"{", headers=(("type", b"truth"),)), error)
    assert headers_of(typed)["source_type"] == "truth"
    assert "source_type" not in headers_of(DeadLetter(Record(1, 2, b"roof", b"{"), error))


def letter_of(key: bytes | None, value: bytes | None, reason: str = "malformed") -> DeadLetter:
    return DeadLetter(Record(1, 2, key, value, 3), InvalidRecord(reason, "why"))


def headers_of(letter: DeadLetter) -> dict[str, str]:
    return {name: text.decode() for name, text in dead_letter(letter, SETTINGS).headers}


@pytest.mark.parametrize(
    ("key", "value", "published"),
    [(None, None, (None, b"")), (b"roof", None, (b"roof", None)), (None, b"", (None, b"")), (b"", b"", (b"", b""))],
)
def test_dead_letter_null_value_is_named_in_a_header(
    key: bytes | None, value: bytes | None, published: tuple[bytes | None, bytes | None]
) -> None:
    letter = letter_of(key, value)
    message = dead_letter(letter, SETTINGS)
    assert (message.key, message.value) == published
    assert headers_of(letter).get("value_null") == ("true" if value is None else None)


@pytest.mark.parametrize(
    ("key", "value"), [(b"roof", b"v" * 30_000_000), (b"k" * 1_000_000, b"v"), (b"k" * 600_000, None), (None, b"v" * 70_000)]
)
def test_dead_letter_oversize_is_cut_and_identifies_the_original(key: bytes | None, value: bytes | None) -> None:
    letter = letter_of(key, value, "oversize")
    message, headers = dead_letter(letter, SETTINGS), headers_of(letter)
    assert len(message.key or b"") + len(message.value or b"") <= MAX_RECORD_BYTES
    for part, original, kept in (("key", key, message.key), ("value", value, message.value)):
        if original is None:
            assert (kept, f"{part}_bytes" in headers) == (None, False)
            continue
        assert original.startswith(kept or b"")
        assert headers[f"{part}_bytes"] == str(len(original))
        assert headers[f"{part}_sha256"] == hashlib.sha256(original).hexdigest()
    assert (headers["source_offset"], headers["source_timestamp_ms"]) == ("2", "3")


def test_dead_letter_up_to_the_limit_is_whole() -> None:
    letter = letter_of(b"k" * 100, b"v" * (MAX_RECORD_BYTES - 100))
    message = dead_letter(letter, SETTINGS)
    assert (message.key, message.value) == (letter.record.key, letter.record.value)
    assert "value_sha256" not in headers_of(letter)


def test_dead_letter_every_reason_has_its_stage() -> None:
    stages = {reason: headers_of(letter_of(b"", b"", reason))["stage"] for reason in DEAD_LETTER_REASONS}
    assert set(stages.values()) == {"parse", "order", "predict"}
    assert [stages[reason] for reason in ("oversize", "future", "unpredictable")] == ["parse", "order", "predict"]


def test_refused_rows_passes_over_whatever_else_is_in_the_topic() -> None:
    def published(letter: DeadLetter, partition: int = 1, **changes: bytes) -> Record:
        headers = {**dict(dead_letter(letter, SETTINGS).headers), **changes}
        return Record(partition, 0, None, b"", 0, tuple(headers.items()))

    ours = published(letter_of(b"roof", b"{}", "unpredictable"))
    strangers = [
        Record(1, 0, b"roof", None),
        Record(1, 0, b"roof", b"{}", 0, (("reason", b"unpredictable"), ("source_offset", b"\xff"))),
        Record(1, 0, b"roof", b"{}", 0, (("reason", None),)),
        published(letter_of(b"roof", b"{}", "late"), reason=b"another release's"),
        published(letter_of(b"roof", b"{}", "unpredictable"), partition=2),
        published(letter_of(b"roof", b"{}", "unpredictable"), source_topic=b"another"),
        published(letter_of(b"roof", b"{}", "unpredictable"), source_offset=b"-7"),
        published(letter_of(b"roof", b"{}", "unpredictable"), source_offset=b"9" * 5_000),
    ]
    found = refused_rows([*strangers, ours, *strangers], SETTINGS)
    assert {offset: str(error) for offset, error in found.items()} == {2: "why"}
