"""Record batches: all codecs, headers that are no UTF-8, and a megabyte that inflates to gigabytes."""

from __future__ import annotations

import gzip
from types import SimpleNamespace

import pytest
from kafka.record.default_records import DefaultRecordBatch
from kafka.record.memory_records import MemoryRecordsBuilder

from airquality.stream import batches
from airquality.stream.batches import UNREAD, AnyBatch
from airquality.stream.kafka_io import Record, record_of

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
VALUES = [b"first", b"", None, b"x" * 100_000, bytes(range(256)) * 40]


class Latin1(str):
    """A header's name as a client may send it that knows nothing of UTF-8."""

    def encode(self, *_: str) -> bytes:
        return str.encode(self, "latin-1")


def batch_of(codec: str, values: list[bytes | None], headers: list[tuple[str, bytes | None]]) -> bytes:
    builder = MemoryRecordsBuilder(2, CODECS[codec], 1 << 30)
    for index, value in enumerate(values):
        builder.append(1_000 + index, b"roof", value, headers)
    builder.close()
    return bytes(builder.buffer())


@pytest.mark.parametrize("codec", CODECS)
def test_any_batch_reads_what_the_client_reads(codec: str) -> None:
    data = batch_of(codec, VALUES, [("type", b"truth"), ("empty", None)])
    found, expected = ([*kind(data)] for kind in (AnyBatch, DefaultRecordBatch))
    for ours, theirs in zip(found, expected, strict=True):
        for part in ("offset", "timestamp", "timestamp_type", "key", "value", "headers"):
            assert getattr(ours, part) == getattr(theirs, part)
    assert [record.value for record in found] == VALUES


@pytest.mark.parametrize("codec", CODECS)
def test_any_batch_header_that_is_no_utf8_costs_the_headers_only(codec: str) -> None:
    records = [*AnyBatch(batch_of(codec, VALUES, [(Latin1("größe"), b"1")]))]
    assert [(r.offset, r.timestamp, r.key, r.value, r.headers) for r in records] == [
        (index, 1_000 + index, b"roof", value, []) for index, value in enumerate(VALUES)
    ]


@pytest.mark.parametrize("codec", list(CODECS)[1:])
def test_any_batch_that_inflates_beyond_the_limit_has_no_content(codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "MAX_BATCH_BYTES", 1_000_000)
    within = batch_of(codec, [b"\0" * 900_000], [])
    assert [len(record.value) for record in AnyBatch(within)] == [900_000]
    beyond = batch_of(codec, [b"before", b"\0" * 1_100_000, b"after"], [])
    records = [*AnyBatch(beyond)]
    assert [(r.offset, r.key, r.value, r.headers) for r in records] == [
        (index, None, None, [(UNREAD, b"")]) for index in range(3)
    ]


def test_any_batch_raw_snappy_that_claims_gigabytes_is_not_inflated() -> None:
    claimed = b"\xff\xff\xff\xff\x0f"  # four gigabytes
    assert len(batches._unsnappy(claimed + b"\0" * 10)) == batches.MAX_BATCH_BYTES + 1


@pytest.mark.parametrize("name", [str(UNREAD), "\0unread"])
def test_record_of_header_named_as_the_marker_keeps_its_bytes(name: str) -> None:
    [sent] = AnyBatch(batch_of("none", [b"first"], [(name, b"")]))
    consumed = {"partition": 0, **{part: getattr(sent, part) for part in ("offset", "key", "value", "timestamp", "headers")}}
    assert record_of(SimpleNamespace(**consumed)) == Record(0, 0, b"roof", b"first", 1_000, ((name, b""),))


def test_gunzip_reads_every_member_up_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    members = [gzip.compress(part) for part in (b"first", b"", b"second", b"\0" * 1_000)]
    assert batches._gunzip(b"".join(members)) == b"firstsecond" + b"\0" * 1_000
    monkeypatch.setattr(batches, "MAX_BATCH_BYTES", 20)
    assert len(batches._gunzip(b"".join(members))) == 21


@pytest.mark.parametrize("codec", list(CODECS)[1:])
def test_any_batch_inflates_no_further_than_the_limit(codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "MAX_BATCH_BYTES", 1_000_000)
    data = batch_of(codec, [b"\0" * 50_000_000], [])
    inflate = batches._INFLATE[CODECS[codec]]
    assert 1_000_000 < len(inflate(data[DefaultRecordBatch.HEADER_STRUCT.size :])) <= 1_100_000
