"""Feature rows as bytes: the names once as a line of JSON, then the values, little-endian float64 row by row.

JSON spells each value out: 18 us a row of 143 for both sides together. Here the matrix goes as it lies in memory.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

MEDIA_TYPE = "application/vnd.air-quality.float64-rows"
#: The field of an answer that says which body it answers, by :func:`checksum`: a cache in between cannot say it of another.
ANSWERED = "request_crc32"

#: Rows of one request, at most: 2.3 MB of the 8 MB of a body. It is what a client sends at a time, and what bounds all that
#: the service does with a request.
MAX_ROWS = 2_000

_VALUE = np.dtype("<f8")


def encode(head: dict[str, Any], matrix: NDArray[np.float64]) -> bytes:
    """Return one line of JSON and the values after it.

    >>> encode({"features": ["a"]}, np.array([[1.0]])).splitlines()[0]
    b'{"features":["a"]}'
    """
    return orjson.dumps(head) + b"\n" + np.ascontiguousarray(matrix, dtype=_VALUE).tobytes()


def checksum(body: bytes) -> int:
    """Return the CRC-32 of a body."""
    return zlib.crc32(body)


def encode_rows(names: Sequence[str], matrix: NDArray[np.float64]) -> bytes:
    """Return the body of a request for the predictions of ``matrix``, shape ``(n_rows, len(names))``, NaN where missing."""
    return encode({"features": names}, matrix)


def decode(body: bytes) -> tuple[bytes, NDArray[np.float64]]:
    """Return the line of JSON, unparsed, and the values after it, shape ``(n_values,)``, read-only.

    Raises:
        ValueError: there is no line, or no whole number of values after it.
    """
    end = body.find(b"\n")
    if end < 0:
        raise ValueError("there is no line of JSON before the values")
    if (len(body) - end - 1) % _VALUE.itemsize:
        raise ValueError(f"{len(body) - end - 1} bytes of values are no whole number of float64")
    return body[:end], np.frombuffer(body, dtype=_VALUE, offset=end + 1)
