"""Read whatever record batch a broker may hold: the client stops for ever at three kinds it cannot read.

One has a header whose name is no UTF-8, which brokers do not look at. Another is a megabyte that inflates to gigabytes:
the broker checks such a batch as a stream, while the client takes it into memory as a whole, three times. The third is
gzip of several members, of which the client inflates the first.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from typing import Any

import lz4.frame
import snappy
import zstandard
from kafka.record import memory_records
from kafka.record.default_records import DefaultRecord, DefaultRecordBatch
from kafka.record.util import decode_varint

#: A batch of readings inflates to some 10 MB at most. Beyond this a batch is not inflated.
MAX_BATCH_BYTES = 64 * 1024 * 1024


class Unread(str):
    """The name of the one header of a record that replaces one in such a batch: by its type, which no sender can give."""


UNREAD = Unread("unread")

_XERIAL = b"\x82SNAPPY\0"
_GZIP = b"\x1f\x8b"


def read_any_batch() -> None:
    """Let the client read every batch, in this process."""
    memory_records.DefaultRecordBatch = AnyBatch


class AnyBatch(DefaultRecordBatch):  # type: ignore[misc]
    """The client's batch, which also reads the three kinds. A record of a batch that is too large has no content."""

    _buffer: bytearray
    _pos: int
    _decompressed: bool
    _too_large: bool = False

    def _maybe_uncompress(self) -> None:
        if self._decompressed or self.compression_type == self.CODEC_NONE:
            self._decompressed = True
            return
        self._assert_has_codec(self.compression_type)
        inflated = _INFLATE[self.compression_type](bytes(self._buffer[self._pos :]))
        self._too_large = len(inflated) > MAX_BATCH_BYTES
        self._buffer, self._pos = bytearray(b"" if self._too_large else inflated), 0
        self._decompressed = True

    def _read_msg(self, decode_varint: Callable[..., Any] = decode_varint) -> Any:
        if self._too_large:
            return self._record(self._next_record_index, 0, None, None, [(UNREAD, b"")])
        try:
            return super()._read_msg()
        except UnicodeDecodeError:
            return self._without_headers()

    def _without_headers(self) -> DefaultRecord:
        length, start = decode_varint(self._buffer, self._pos)
        _, at = decode_varint(self._buffer, start)  # attributes
        later_ms, at = decode_varint(self._buffer, at)
        index, at = decode_varint(self._buffer, at)
        key, at = self._bytes(at)
        value, at = self._bytes(at)
        self._pos = start + length
        return self._record(index, later_ms, key, value, [])

    def _bytes(self, at: int) -> tuple[bytes | None, int]:
        length, at = decode_varint(self._buffer, at)
        return (bytes(self._buffer[at : at + length]), at + length) if length >= 0 else (None, at)

    def _record(
        self, index: int, later_ms: int, key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]
    ) -> DefaultRecord:
        by_broker = self.timestamp_type == self.LOG_APPEND_TIME
        timestamp = self.max_timestamp if by_broker else self.first_timestamp + later_ms
        return DefaultRecord(0, self.base_offset + index, timestamp, self.timestamp_type, key, value, headers)


def _gunzip(data: bytes) -> bytes:
    """Inflate a gzip file of one member or of several, which the broker's Java reads, too."""
    inflated = bytearray()
    while data.startswith(_GZIP) and len(inflated) <= MAX_BATCH_BYTES:
        member = zlib.decompressobj(wbits=31)
        inflated += member.decompress(data, MAX_BATCH_BYTES + 1 - len(inflated))
        data = member.unused_data
    return bytes(inflated)


def _unzstd(data: bytes) -> bytes:
    with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True) as reader:
        return bytes(reader.read(MAX_BATCH_BYTES + 1))


def _unlz4(data: bytes) -> bytes:
    return bytes(lz4.frame.LZ4FrameDecompressor().decompress(data, max_length=MAX_BATCH_BYTES + 1))


def _unsnappy(data: bytes) -> bytes:
    """Inflate raw snappy, or the blocks Java's library writes; each block begins with its inflated length."""
    if not data.startswith(_XERIAL):
        return _unsnappy_block(data)
    inflated, at = bytearray(), 16
    while at < len(data) and len(inflated) <= MAX_BATCH_BYTES:
        length = int.from_bytes(data[at : at + 4], "big")
        inflated += _unsnappy_block(data[at + 4 : at + 4 + length])
        at += 4 + length
    return bytes(inflated)


def _unsnappy_block(block: bytes) -> bytes:
    length = _inflated_length(block)
    return bytes(MAX_BATCH_BYTES + 1) if length > MAX_BATCH_BYTES else bytes(snappy.decompress(block))


def _inflated_length(block: bytes) -> int:
    """Return the number that a block begins with, seven bits a byte, the lowest first."""
    length = 0
    for place, byte in enumerate(block[:5]):
        length |= (byte & 0x7F) << 7 * place
        if not byte & 0x80:
            break
    return length


_INFLATE: dict[int, Callable[[bytes], bytes]] = {
    DefaultRecordBatch.CODEC_GZIP: _gunzip,
    DefaultRecordBatch.CODEC_SNAPPY: _unsnappy,
    DefaultRecordBatch.CODEC_LZ4: _unlz4,
    DefaultRecordBatch.CODEC_ZSTD: _unzstd,
}
