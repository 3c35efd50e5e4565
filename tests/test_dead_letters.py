"""The dead letter: original bytes, and headers that say what was wrong and where."""

from __future__ import annotations

from airquality.ground.errors import InvalidRecord
from airquality.records import isoformat
from airquality.stream.dead_letters import dead_letter
from airquality.stream.kafka_io import Record
from airquality.stream.partition import DeadLetter
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
    }
    assert rig.kafka.headers[DLQ, 0, malformed.offset]["stage"] == "parse"


def test_no_message_can_break_the_headers() -> None:
    letter = DeadLetter(Record(1, 2, None, b""), InvalidRecord("malformed", "\ud800"))
    headers = dict(dead_letter(letter, SETTINGS).headers)
    assert headers["error_message"] == rb"\ud800"
