from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from airquality.ground.errors import ContractError, InvalidRecord
from airquality.ground.settings import Settings
from airquality.records import MAX_RECORD_BYTES
from airquality.stream import dlq, kafka_io
from airquality.stream.alone import alone
from airquality.stream.batch import DeadLetter
from airquality.stream.dead_letters import dead_letter
from airquality.stream.dlq import REPLAYED_FROM, Filter, Letter
from airquality.stream.homes import Homes
from airquality.stream.kafka_io import Record

MOMENT = datetime(2026, 11, 26, 8, 0, tzinfo=UTC)


RAW = "air_quality.raw"


def letter(
    reason: str = "malformed",
    key: bytes | None = b"roof",
    value: bytes | None = b"{",
    offset: int = 0,
    unread: bool = False,
) -> Letter:
    settings = Settings()
    message = dead_letter(DeadLetter(Record(0, 7, key, value, unread=unread), InvalidRecord(reason, "why")), settings)
    stamp = int(MOMENT.timestamp() * 1000)
    found = Letter.of(Record(0, offset, message.key, message.value, stamp, message.headers))
    assert found is not None
    return found


def raw_records(settings: Settings) -> list[Record]:
    return [
        r for p in kafka_io.partitions(settings, settings.raw_topic) for r in kafka_io.read(settings, settings.raw_topic, p)
    ]


def test_letter_of_a_dead_letter_gives_its_reason_and_source() -> None:
    found = letter()
    assert (found.place, found.station, found.reason, found.message) == ("0:0", "roof", "malformed", "why")
    assert found.source == ("air_quality.raw", 0, 7)
    assert (found.key, found.value, found.cut, found.at, found.type) == (b"roof", b"{", False, MOMENT, None)


def test_letter_of_a_null_value_is_null_again() -> None:
    assert letter(value=None).value is None
    assert letter(key=None, value=None).value is None


def test_replayed_from_null_header_of_a_raw_record_is_no_letters_place() -> None:
    assert dlq._replayed_from(Record(0, 0, b"roof", b"{", 0, ((REPLAYED_FROM, None), (REPLAYED_FROM, b"0:7")))) == [
        "",
        "0:7",
    ]


def test_left_alone_letter_of_another_dead_letter_topic_was_not_sent_before() -> None:
    sent = letter()
    assert dlq._left_alone(sent, {sent.mark}, RAW) == "sent again before"
    later = replace(sent, source=(RAW, 0, 8))  # the same place, in a topic that was created anew
    assert dlq._left_alone(later, {sent.mark}, RAW) == ""


def test_left_alone_letter_of_another_raw_topic_or_of_a_batch_that_nobody_read() -> None:
    assert dlq._left_alone(letter(), set(), "another.raw") == "they came from another topic than another.raw"
    assert dlq._left_alone(letter(key=None, value=None, unread=True), set(), RAW).startswith("too large to be read")


def test_letter_of_a_foreign_record_is_none() -> None:
    assert Letter.of(Record(0, 0, b"roof", b"hello")) is None
    assert Letter.of(Record(0, 0, b"roof", b"hello", 0, (("source_partition", b"x"),))) is None


@pytest.mark.parametrize(
    "changed",
    [{"source_partition": b"7"}, {"source_partition": b"-1"}, {"source_offset": b"-7"}, {"source_offset": b"9" * 99}],
)
def test_letter_of_a_place_that_cannot_be_its_own_is_none(changed: dict[str, bytes]) -> None:
    message = dead_letter(DeadLetter(Record(0, 7, b"roof", b"{"), InvalidRecord("malformed", "why")), Settings())
    headers = {**dict(message.headers), **changed}
    assert Letter.of(Record(0, 0, b"roof", b"{", 0, tuple(headers.items()))) is None


def test_letter_of_a_time_beyond_the_calendar_is_shown() -> None:
    message = dead_letter(DeadLetter(Record(0, 7, b"roof", b"{"), InvalidRecord("malformed", "why")), Settings())
    found = Letter.of(Record(0, 0, b"roof", b"{", 2**62, message.headers))
    assert found is not None
    assert found.at.year == 9999


def test_show_key_and_value_never_act_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    odd = letter(key=b"\x1b[2Jroof", value=b"\x1b[31m{")
    monkeypatch.setattr(dlq, "letters", lambda settings, wanted: iter([odd]))
    lines = list(dlq._show(Settings(), dlq._parser().parse_args(["show", odd.place])))
    assert all(line.isprintable() for line in lines)
    assert "station: \\x1b[2Jroof" in lines


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [
        (Filter(), True),
        (Filter(reason="malformed"), True),
        (Filter(reason="late"), False),
        (Filter(station="cellar"), False),
        (Filter(since=MOMENT), True),
        (Filter(until=MOMENT), False),
    ],
)
def test_filter_fits_only_what_every_condition_allows(wanted: Filter, fits: bool) -> None:
    assert wanted.fits(letter()) is fits


def test_destination_is_where_the_station_lives_whatever_its_partitioner() -> None:
    homes = Homes()
    homes.learn("roof", 2, 0)
    assert dlq._destination(letter(), b"{", homes) == 2
    assert dlq._destination(letter(key=None), b'{"station_id": "roof"}', homes) == 2
    assert dlq._destination(letter(key=b"cellar"), b"{", homes) == 0  # where it came
    assert dlq._destination(letter(key=None), b"{", homes) == 0


@pytest.mark.broker
def test_replay_takes_the_place_of_a_run_that_was_killed_or_is_at_work(settings: Settings) -> None:
    with kafka_io.idempotent_producer(settings) as producer:
        for offset in range(3):
            refused = DeadLetter(Record(0, offset, b"roof", b"{"), InvalidRecord("malformed", "why"))
            message = dead_letter(refused, settings)
            producer.send(message.topic, key=message.key, value=message.value, headers=list(message.headers), partition=0)
        producer.flush()

    def overtaken() -> None:
        headers = [(REPLAYED_FROM, b"0:0 0:0")]
        with alone(settings, "dlq replay", 60_000) as first, first.transaction() as opened:
            opened.send(settings.raw_topic, key=b"roof", value=b"{", headers=headers, partition=0).get(timeout=20)
            assert dlq.replay(settings, Filter()).sent == 3

    with pytest.raises(ContractError, match="another dlq replay of this group began meanwhile"):
        overtaken()
    assert [record.value for record in raw_records(settings)] == [b"{"] * 3  # at once: nothing is left open before them
    assert dlq.replay(settings, Filter()).sent == 0


@pytest.mark.broker
def test_replay_of_a_cut_letter_sends_its_own_original_only(settings: Settings) -> None:
    whole = b"x" * (MAX_RECORD_BYTES + 1)
    with kafka_io.idempotent_producer(settings) as producer:
        producer.send(settings.raw_topic, key=b"roof", value=whole, partition=0)
        producer.send(settings.raw_topic, key=b"roof", value=b"another", partition=0)  # where an earlier topic had another
        for offset in range(2):
            refused = DeadLetter(Record(0, offset, b"roof", whole), InvalidRecord("oversize", "why"))
            message = dead_letter(refused, settings)
            producer.send(message.topic, key=message.key, value=message.value, headers=list(message.headers), partition=0)
        producer.flush()
    resent = dlq.replay(settings, Filter())
    assert (resent.sent, resent.left) == (1, Counter({"cut, and the original is gone from the raw topic": 1}))
    assert [len(record.value or b"") for record in raw_records(settings)] == [len(whole), 7, len(whole)]


@pytest.mark.broker
def test_replay_sends_each_curable_letter_once_and_says_why_others_stay(settings: Settings, tmp_path: Path) -> None:
    refused = [
        (b"roof", b'{"a": 1}', "malformed"),
        (b"roof", b'{"b": 2}', "late"),
        (b"cellar", b'{"c": 3}', "out_of_range"),
    ]
    with kafka_io.idempotent_producer(settings) as producer:
        for offset, (key, value, reason) in enumerate(refused):
            headers = (("type", b"truth"),) if key == b"cellar" else ()
            record = Record(0, offset, key, value, headers=headers)
            message = dead_letter(DeadLetter(record, InvalidRecord(reason, "why")), settings)
            producer.send(message.topic, key=message.key, value=message.value, headers=list(message.headers), partition=0)
        producer.flush()

    assert dlq.replay(settings, Filter(), dry_run=True).sent == 2
    assert raw_records(settings) == []
    first = dlq.replay(settings, Filter())
    assert (first.sent, first.left) == (2, Counter({"late: sending it again cannot cure it": 1}))
    again = dlq.replay(settings, Filter())
    assert (again.sent, again.left["sent again before"]) == (0, 2)
    assert {record.partition for record in raw_records(settings)} == {
        0
    }  # where they came, not where a partitioner sends them
    sent = {(record.key, record.value, record.headers) for record in raw_records(settings)}
    assert sent == {
        (b"roof", b'{"a": 1}', (("replayed_from", b"0:0 0:0"),)),
        (b"cellar", b'{"c": 3}', (("replayed_from", b"0:2 0:2"), ("type", b"truth"))),
    }
    path = tmp_path / "letters.jsonl"
    assert list(dlq._export(settings, dlq._parser().parse_args(["export", str(path), "--station", "cellar"])))
    assert [json.loads(line)["reason"] for line in path.read_text().splitlines()] == ["out_of_range"]
