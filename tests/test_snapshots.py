"""Snapshots: what comes back is what went in, bit for bit; what cannot be read exactly is refused."""

from __future__ import annotations

import json
import math
import struct
import zlib
from datetime import datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from airquality.records import Outcome
from airquality.stream import snapshots

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
dtypes = hnp.floating_dtypes() | hnp.integer_dtypes() | hnp.unsigned_integer_dtypes() | hnp.boolean_dtypes()
arrays = hnp.arrays(dtypes.filter(lambda d: d.itemsize <= 8), hnp.array_shapes(min_dims=0, min_side=0, max_side=5))


def same(found: NDArray[Any], expected: NDArray[Any]) -> bool:
    native = expected.astype(expected.dtype.newbyteorder("="))
    return (found.dtype, found.shape, found.tobytes()) == (native.dtype, native.shape, native.tobytes())


@given(plain)
def test_plain_values_come_back(value: Any) -> None:
    assert snapshots.decode(snapshots.encode({"value": value})) == {"value": value}


@given(arrays)
def test_arrays_come_back_with_type_shape_and_bits(array: NDArray[Any]) -> None:
    found = snapshots.decode(snapshots.encode({"deep": {"list": [array]}}))["deep"]["list"][0]
    assert same(found, array)
    found[...] = 0  # a restored array can be written to


def test_the_payload_of_a_nan_comes_back() -> None:
    odd = np.array([math.nan, math.inf, -0.0, struct.unpack("<d", b"\x01\x02\x03\x04\x05\x06\xf8\xff")[0]])
    assert same(snapshots.decode(snapshots.encode({"a": odd}))["a"], odd)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12.0).reshape(3, 4)[:, ::2],
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.empty((0, 13)),
        np.array(2.5),
    ],
    ids=["strided", "fortran", "empty", "without dimensions"],
)
def test_the_layout_of_an_array_does_not_matter(array: NDArray[np.float64]) -> None:
    assert same(snapshots.decode(snapshots.encode({"a": array}))["a"], array)


def test_the_same_state_gives_the_same_bytes() -> None:
    one = snapshots.encode({"b": np.arange(3), "a": {"d": 1, "c": 2.5}})
    other = snapshots.encode({"a": {"c": 2.5, "d": 1}, "b": np.arange(6)[:3]})
    assert one == other


@pytest.mark.parametrize(
    "stranger",
    [
        math.nan,
        math.inf,
        2**64,
        -(2**63) - 1,
        {1, 2},
        (1, 2),
        b"bytes",
        np.float32(1.0),
        np.float64(1.0),
        np.array([object()]),
        np.array(["text"]),
        np.array([1], dtype="datetime64[s]"),
        np.array([1.0], dtype=np.longdouble),
        datetime(2005, 2, 5),
        Outcome.READY,
        "\ud800",
        {1: 2},
        {"\ud800": 1},
        {"__array__": "AAAA"},
    ],
    ids=lambda stranger: type(stranger).__name__,
)
def test_encode_what_would_not_come_back_is_refused_with_its_place(stranger: object) -> None:
    with pytest.raises(ValueError, match=r"state\.deep\[1\]"):
        snapshots.encode({"deep": [0, stranger]})


def test_encode_a_document_that_decode_would_not_inflate_is_refused() -> None:
    with pytest.raises(ValueError, match="over the limit"):
        snapshots.encode({"a": np.zeros(snapshots.MAX_DOCUMENT_BYTES, dtype=np.uint8)})


def test_a_state_over_the_limit_is_refused() -> None:
    noise = np.random.default_rng(1).bytes(snapshots.MAX_BYTES)
    with pytest.raises(ValueError, match=f"over the limit of {snapshots.MAX_BYTES}"):
        snapshots.encode({"a": np.frombuffer(noise, dtype=np.uint8)})


def deflated(document: object, arrays: bytes = b"") -> bytes:
    return zlib.compress(json.dumps(document).encode() + b"\n" + arrays)


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"garbage",
        zlib.compress(b"not JSON"),
        snapshots.encode({"a": np.arange(100)})[:-5],
        deflated([1]),
        deflated({"format": snapshots.FORMAT, "a": "x" * 8_000_000}),
        snapshots.encode({"a": 1}) + b"more",
        zlib.compress(b'{"format":1,"a":' + b"[" * 1000 + b"]" * 1000 + b"}"),
        deflated("text"),
        deflated({}),
        deflated({"format": snapshots.FORMAT + 1, "a": 1}),
        deflated({"format": snapshots.FORMAT, "a": {"__array__": "!", "dtype": "<f8", "shape": [1]}}, bytes(8)),
        deflated({"format": snapshots.FORMAT, "a": {"__array__": 0, "dtype": "<f8", "shape": [1]}}, bytes(7)),
        deflated({"format": snapshots.FORMAT, "a": {"__array__": 1, "dtype": "<f8", "shape": [1]}}, bytes(8)),
        deflated({"format": snapshots.FORMAT, "a": {"__array__": -1, "dtype": "<f8", "shape": [1]}}, bytes(16)),
        deflated({"format": snapshots.FORMAT, "a": {"__array__": 0, "dtype": "O", "shape": [1]}}, bytes(8)),
        deflated({"format": snapshots.FORMAT, "a": {"__array__": 0, "dtype": "unheard of", "shape": [3]}}, bytes(24)),
        deflated({"format": snapshots.FORMAT, "a": {"__array__": 0}}, bytes(8)),
    ],
    ids=lambda garbage: str(len(garbage)),
)
def test_what_is_no_snapshot_is_refused(garbage: bytes) -> None:
    with pytest.raises(ValueError, match="not a snapshot"):
        snapshots.decode(garbage)


@pytest.mark.parametrize("text", ["two\nlines", "\n", "a line\r\n", "\u2028"])
def test_decode_text_with_line_breaks_before_arrays_is_the_same(text: str) -> None:
    state: dict[str, Any] = {text: np.arange(3), "z": [text, np.arange(2.0)]}
    found = snapshots.decode(snapshots.encode(state))
    assert list(found) == sorted(state)
    assert found["z"][0] == text
    assert same(found[text], state[text])


def test_decode_snapshot_of_the_format_before_says_which_one_it_is() -> None:
    before = {"format": 3, "a": {"__array__": "AAAA", "dtype": "|u1", "shape": [3]}}  # arrays were base64 in the JSON
    with pytest.raises(ValueError, match=f"it is of format 3, and this release reads format {snapshots.FORMAT}"):
        snapshots.decode(zlib.compress(json.dumps(before).encode()))


def test_encode_arrays_take_no_more_than_their_bytes() -> None:
    noise = np.random.default_rng(1).integers(0, 256, 20_000, dtype=np.uint8)
    assert len(snapshots.encode({"a": noise})) < 1.01 * noise.nbytes
