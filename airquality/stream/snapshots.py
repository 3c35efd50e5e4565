"""Encode a station's state for the state topic, and decode it to the same bits.

A snapshot is JSON, deflated: plain values as they are, numpy arrays as type, shape and base64 of their little-endian
bytes. NaN may stand in arrays only. The same state always gives the same bytes.
"""

from __future__ import annotations

import zlib
from base64 import b64decode, b64encode
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

#: Changes whenever the shape of the state does: a consumer refuses a snapshot it cannot read exactly.
FORMAT = 2
#: The promise of DESIGN section 4, kept by ``encode``.
MAX_BYTES = 128 * 1024


def encode(state: dict[str, Any]) -> bytes:
    """Return the snapshot of ``state``: JSON values without NaN, numpy arrays, and dicts and lists of these.

    Raises:
        ValueError: it is larger than 128 KB.
    """
    document = orjson.dumps({"format": FORMAT, **state}, default=_array_to_json, option=orjson.OPT_SORT_KEYS)
    snapshot = zlib.compress(document, level=1)
    if len(snapshot) > MAX_BYTES:
        raise ValueError(f"a snapshot of {len(snapshot)} bytes is over the limit of {MAX_BYTES}")
    return snapshot


def decode(snapshot: bytes) -> dict[str, Any]:
    """Return the state that was encoded.

    Raises:
        ValueError: it is no snapshot, or one of another format.
    """
    try:
        state = orjson.loads(zlib.decompress(snapshot))
        if not isinstance(state, dict) or state.pop("format", None) != FORMAT:
            raise ValueError(f"another format than {FORMAT}")
        restored: dict[str, Any] = _restore(state)
    except (zlib.error, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"not a snapshot: {error}") from error
    return restored


def _array_to_json(value: object) -> dict[str, Any]:
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{type(value).__name__} cannot stand in a snapshot")
    little = np.asarray(value, dtype=value.dtype.newbyteorder("<"))
    return {"__array__": b64encode(little.tobytes()).decode(), "dtype": little.dtype.str, "shape": little.shape}


def _restore(value: Any) -> Any:
    if isinstance(value, dict):
        if "__array__" in value:
            return _array(value)
        return {key: _restore(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_restore(item) for item in value]
    return value


def _array(value: dict[str, Any]) -> NDArray[Any]:
    flat = np.frombuffer(b64decode(value["__array__"]), dtype=value["dtype"])
    return flat.reshape(value["shape"]).astype(flat.dtype.newbyteorder("="))
