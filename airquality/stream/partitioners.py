"""To which partition the common producers send a key, and where a station comes once there are more partitions."""

from __future__ import annotations

import zlib

_M, _MASK = 0x5BD1E995, 0xFFFFFFFF


def murmur2(key: bytes, n_partitions: int) -> int:
    """Return the partition of Java's clients and of kafka-python.

    >>> murmur2(b"roof", 3), murmur2(b"roof", 5)
    (2, 1)
    """
    mixed = (0x9747B28C ^ len(key)) & _MASK
    whole = len(key) // 4 * 4
    for start in range(0, whole, 4):
        word = int.from_bytes(key[start : start + 4], "little") * _M & _MASK
        word = (word ^ word >> 24) * _M & _MASK
        mixed = mixed * _M & _MASK ^ word
    if len(key) > whole:
        mixed = (mixed ^ int.from_bytes(key[whole:], "little")) * _M & _MASK
    mixed = (mixed ^ mixed >> 13) * _M & _MASK
    return ((mixed ^ mixed >> 15) & 0x7FFFFFFF) % n_partitions


def crc32(key: bytes, n_partitions: int) -> int:
    """Return the partition of librdkafka's default, which Python's confluent-kafka, Go and .NET use.

    >>> crc32(b"roof", 3), crc32(b"roof", 5)
    (2, 1)
    """
    return zlib.crc32(key) % n_partitions


def moved_to(station_id: str, home: int, before: int, now: int) -> int:
    """Return where a station's rows come once ``before`` partitions are ``now``.

    The partitioner is the one that had sent it home; a station whose producer chose the partition itself stays.
    """
    key = station_id.encode()
    for partitioner in (murmur2, crc32):
        if partitioner(key, before) == home:
            return partitioner(key, now)
    return home
