"""Encode a station's state for the state topic, and decode it to the same bits.

A snapshot is a line of JSON and the bytes of its numpy arrays, deflated together: plain values stand in the line as they
are, an array as its type, its shape, and where its little-endian bytes begin after the line. NaN may stand in arrays only.
The same state always gives the same bytes, and what would not come back as it went in is refused before it is written:
nobody could read it at the next start.
"""

from __future__ import annotations

import math
import reprlib
import zlib
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from airquality.ground.typed import Document

#: Changes whenever the shape of the state does: a consumer refuses a snapshot it cannot read exactly.
FORMAT = 4
#: What a station may take in all, kept by ``encode``.
MAX_BYTES = 128 * 1024
#: Before deflating: ten times what a station holds. Snapshots of the topic are inflated no further, whatever they claim.
MAX_DOCUMENT_BYTES = 1024 * 1024

_ARRAY = "__array__"
#: Ends the JSON, which holds no such byte: in a text it is written as two others.
_END_OF_LINE = b"\n"
#: Array types that are their bytes: booleans, integers, floating-point numbers.
_ARRAY_KINDS = "biuf"


_HOLDING = (dict, list)


class TooLarge(ValueError):
    """The state takes more room than a station may."""


def encode(state: Document) -> bytes:
    """Return the snapshot of ``state``: JSON values without NaN, numpy arrays, and dicts and lists of these.

    Raises:
        ValueError: it is larger than 128 KB, or holds what :func:`decode` would not give back.
    """
    _check(state, "state")
    arrays = _Arrays()
    line = orjson.dumps({"format": FORMAT, **state}, default=arrays.place, option=orjson.OPT_SORT_KEYS)
    document = b"".join([line, _END_OF_LINE, *arrays.parts])
    snapshot = zlib.compress(document, level=1)
    if len(snapshot) > MAX_BYTES or len(document) > MAX_DOCUMENT_BYTES:
        raise TooLarge(f"a snapshot of {len(snapshot)} bytes ({len(document)} inflated) is over the limit of {MAX_BYTES}")
    return snapshot


def decode(snapshot: bytes) -> dict[str, Any]:
    """Return the state that was encoded.

    Raises:
        ValueError: it is no snapshot, or one of another format.
    """
    try:
        line, _, arrays = _inflated(snapshot).partition(_END_OF_LINE)
        state = orjson.loads(line)
        found = state.pop("format", None) if isinstance(state, dict) else None
        if found != FORMAT:
            raise ValueError(f"it is of format {found}, and this release reads format {FORMAT}")
        restored: dict[str, Any] = _restore(state, arrays)
    except (zlib.error, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"not a snapshot: {error}") from error
    return restored


def _inflated(snapshot: bytes) -> bytes:
    inflater = zlib.decompressobj()
    document = inflater.decompress(snapshot, MAX_DOCUMENT_BYTES)
    if not inflater.eof or inflater.unused_data:
        raise ValueError(f"it is cut, or larger than {MAX_DOCUMENT_BYTES} bytes, or more follows it")
    return document


def _check(value: object, where: str) -> None:
    """Raise ``ValueError`` naming the place of whatever JSON would change on its way."""
    kind = type(value)
    if isinstance(value, dict) and _ARRAY not in value:
        for name, item in value.items():
            _check_text(name, f"a name in {where}")
            _check(item, f"{where}.{name}")
    elif kind is list:
        for index, item in enumerate(value):  # type: ignore[arg-type]
            _check(item, f"{where}[{index}]")
    elif kind is str:
        _check_text(value, where)
    elif not (value is None or kind is bool or _is_exact_number(value) or _is_plain_array(value)):
        raise ValueError(f"{where} cannot stand in a snapshot: {reprlib.repr(value)}")


def _check_text(text: object, where: str) -> None:
    if type(text) is not str:
        raise ValueError(f"{where} must be text: {reprlib.repr(text)}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{where} cannot stand in a snapshot: {error}") from error


def _is_exact_number(value: object) -> bool:
    return (type(value) is int and -(2**63) <= value < 2**64) or (type(value) is float and math.isfinite(value))


def _is_plain_array(value: object) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in _ARRAY_KINDS and value.dtype.itemsize <= 8


class _Arrays:
    """The bytes of the arrays of a state, in the order in which they stand in its line."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self._n_bytes = 0

    def place(self, array: object) -> dict[str, Any]:
        """Take in an array, and return what stands for it in the line."""
        assert isinstance(array, np.ndarray)  # _check has seen everything
        little = np.asarray(array, dtype=array.dtype.newbyteorder("<"))
        begin = self._n_bytes
        self.parts.append(little.tobytes())
        self._n_bytes += little.nbytes
        return {_ARRAY: begin, "dtype": little.dtype.str, "shape": little.shape}


def _restore(value: Any, arrays: bytes) -> Any:
    if isinstance(value, dict):
        if _ARRAY in value:
            return _array(value, arrays)
        return {key: _restore(item, arrays) if type(item) in _HOLDING else item for key, item in value.items()}
    if isinstance(value, list):
        return [_restore(item, arrays) if type(item) in _HOLDING else item for item in value]
    return value


def _array(value: dict[str, Any], arrays: bytes) -> NDArray[Any]:
    shape = value["shape"]
    flat = np.frombuffer(arrays, value["dtype"], math.prod(shape), value[_ARRAY])
    return flat.reshape(shape).astype(flat.dtype.newbyteorder("="))
