"""Readings and predictions on the wire: what is accepted, and what is refused for which reason."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airquality.data.digests import digest_of
from airquality.ground.errors import MAX_MESSAGE_CHARACTERS, InvalidRecord
from airquality.records import (
    DEVICE_COLUMNS,
    HARD_LIMITS,
    MAX_RECORD_BYTES,
    MAX_STATION_ID_BYTES,
    PARSE_REASONS,
    RAW_COLUMNS,
    TARGET,
    Prediction,
    Reading,
    parse_reading,
)
from tests.raw_records import encoded, hours, record, refusal

stations = st.text(min_size=1, max_size=MAX_STATION_ID_BYTES // 4)
# + 0.0: a reading holds no -0.0, which is parsed as 0.0
values = st.tuples(*(st.just(math.nan) | st.floats(*HARD_LIMITS[name]).map(lambda v: v + 0.0) for name in RAW_COLUMNS))
readings = st.builds(Reading, stations, hours, values)
predictions = st.builds(
    Prediction,
    station_id=stations,
    hour=hours,
    prediction=st.floats(0, 500),
    actual=st.just(math.nan) | st.floats(0, 500),
    model_version=st.text(min_size=1),
    source_partition=st.integers(0, 1_000),
    source_offset=st.integers(0, 2**62),
    lower=st.just(math.nan) | st.floats(0, 500),
    upper=st.just(math.nan) | st.floats(0, 500),
)


def with_token(name: str, token: str) -> bytes:
    """A record whose field ``name`` is ``token``, JSON or not."""
    return encoded({name: "TOKEN"}).replace(b'"TOKEN"', token.encode())


@given(readings)
def test_a_reading_survives_the_wire(reading: Reading) -> None:
    parsed = parse_reading(reading.station_id.encode(), reading.to_bytes())
    assert (parsed.station_id, parsed.hour) == (reading.station_id, reading.hour)
    assert np.array(parsed.values).tobytes() == np.array(reading.values).tobytes()
    assert parsed.to_bytes() == reading.to_bytes()


@given(readings, st.integers(0, len(RAW_COLUMNS) - 1))
def test_a_digest_tells_the_values_and_nothing_else(reading: Reading, column: int) -> None:
    moved = replace(reading, station_id="elsewhere", hour=0)
    changed = list(reading.values)
    changed[column] = 0.0 if math.isnan(changed[column]) else math.nan
    assert 0 < digest_of(reading.packed()) < 2**32
    assert digest_of(moved.packed()) == digest_of(reading.packed())
    assert digest_of(replace(reading, values=tuple(changed)).packed()) != digest_of(reading.packed())


def test_the_actual_is_the_target() -> None:
    parsed = parse_reading(None, encoded({TARGET: 1.5}))
    assert (parsed.actual, RAW_COLUMNS[0]) == (1.5, TARGET)


def test_every_column_has_limits_and_the_device_measures_some_of_them() -> None:
    assert set(HARD_LIMITS) == set(RAW_COLUMNS)
    assert set(DEVICE_COLUMNS) < set(RAW_COLUMNS) - {TARGET}


@pytest.mark.parametrize("token", ["null", "-200", "-200.0", "-2e2"])
def test_missing_is_nan(token: str) -> None:
    for name in RAW_COLUMNS:
        parsed = parse_reading(None, with_token(name, token))
        assert [n for n, value in zip(RAW_COLUMNS, parsed.values, strict=True) if math.isnan(value)] == [name]


def test_limits_are_inclusive() -> None:
    for name in RAW_COLUMNS:
        for limit, outside in zip(HARD_LIMITS[name], (-math.inf, math.inf), strict=True):
            assert parse_reading(None, encoded({name: limit})).values[RAW_COLUMNS.index(name)] == limit
            beyond = math.nextafter(limit, outside)
            assert refusal(encoded({name: beyond})).reason == "out_of_range"


def test_integers_are_numbers() -> None:
    as_integers, as_floats = (parse_reading(None, encoded(dict.fromkeys(RAW_COLUMNS, x))) for x in (7, 7.0))
    assert as_integers == as_floats
    assert {type(value) for value in as_integers.values} == {float}


@pytest.mark.parametrize("zero", [-0.0, 0, 0.0])
def test_parse_reading_negative_zero_is_zero(zero: float) -> None:
    found = parse_reading(None, encoded({"T": zero}))
    assert found.packed() == parse_reading(None, encoded({"T": 0.0})).packed()
    assert math.copysign(1.0, found.values[RAW_COLUMNS.index("T")]) == 1.0


def test_unknown_fields_and_order_do_not_matter() -> None:
    shuffled = json.dumps({"firmware": [1, {"a": None}], **dict(reversed(record().items()))}).encode()
    assert parse_reading(b"station_1", shuffled) == parse_reading(None, encoded())


@pytest.mark.parametrize("token", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
@pytest.mark.parametrize("name", ["CO(GT)", "AH"])
def test_what_is_not_finite_is_refused_by_name(name: str, token: str) -> None:
    error = refusal(with_token(name, token))
    assert error.reason == "not_finite"
    assert name in str(error)


@pytest.mark.parametrize("token", [f"1{'0' * 400}", f"-1{'0' * 400}", "18446744073709551616", "500.1", "-200.001", "-1"])
def test_what_no_instrument_reports_is_refused(token: str) -> None:
    error = refusal(with_token(TARGET, token))
    assert error.reason == "out_of_range"
    assert "[0.0, 500.0]" in str(error)


@pytest.mark.parametrize(
    "token", ["true", "false", '"1.6"', '""', "[]", "[1.6]", "{}", '"\\ud800"', "[" * 1010 + "]" * 1010, "1" * 5_000]
)
def test_what_is_not_a_number_is_malformed(token: str) -> None:
    assert refusal(with_token(TARGET, token)).reason == "malformed"


@pytest.mark.parametrize("name", ["station_id", "DateTime", *RAW_COLUMNS])
def test_an_absent_field_is_named(name: str) -> None:
    left = record()
    del left[name]
    error = refusal(json.dumps(left).encode())
    assert error.reason == "malformed"
    assert name in str(error)


@pytest.mark.parametrize("station_id", [None, "", 7, ["station_1"], "\ud800", "x" * (MAX_STATION_ID_BYTES + 1), "é" * 150])
def test_a_station_must_have_a_name_that_can_be_a_key(station_id: object) -> None:
    for key in (None, b"station_1"):
        assert refusal(encoded({"station_id": station_id}), key).reason == "malformed"


def test_the_longest_station_id_is_accepted() -> None:
    station_id = "x" * MAX_STATION_ID_BYTES
    assert parse_reading(station_id.encode(), encoded({"station_id": station_id})).station_id == station_id


@pytest.mark.parametrize("key", [b"station_2", b"", b"\xff\xfe", b"station_1\x00", b"k" * 60_000])
def test_a_key_that_is_not_the_station_is_malformed(key: bytes) -> None:
    assert refusal(encoded(), key).reason == "malformed"


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"\x00",
        b"\xff\xfe",
        b"null",
        b"7",
        b"[]",
        b'"text"',
        b"{",
        encoded()[:-1],
        encoded() + b"}",
        '{"station_id": "é"}'.encode("latin-1"),
        b"[" * 60_000,
        b'{"a":' * 12_000,
        encoded().decode().encode("utf-16"),
        encoded().decode().encode("utf-32"),
        encoded()[:-1] + b', "firmware": "\xff"}',
    ],
    ids=repr,
)
def test_what_is_no_json_object_is_malformed(value: bytes | None) -> None:
    assert refusal(value).reason == "malformed"


def test_parse_reading_oversize_is_refused_unread() -> None:
    padded = encoded({"firmware": ""})
    largest = padded.replace(b'"firmware": ""', b'"firmware": "%s"' % (b"x" * (MAX_RECORD_BYTES - len(padded))))
    assert parse_reading(None, largest) == parse_reading(None, encoded())
    for key, value in (
        (b"station_1", largest),
        (None, largest + b" "),
        (b"k" * MAX_RECORD_BYTES, b"{"),
        (None, b"\0" * 30_000_000),
    ):
        error = refusal(value, key)
        assert (error.reason, f"{len(value) + len(key or b''):,}" in str(error)) == ("oversize", True)


@pytest.mark.parametrize(
    "value",
    [
        encoded()[:-1] + b', "CO(GT)": 2.0}',
        encoded()[:-1] + b', "station_id": "station_1"}',
        encoded()[:-1] + b', "CO(GT)" : 2.0}',
        encoded({"DateTime": "2005-02-05T12:00"})[:-1] + b', "AH": 1.0}',
        encoded().replace(b"T12:00:00", b"T12\\u003a00:00")[:-1] + b', "AH": 1.0}',
        encoded()[:-1] + b', "\\u0041H": 1.0}',
    ],
)
def test_parse_reading_repeated_field_is_malformed(value: bytes) -> None:
    assert (refusal(value).reason, "twice" in str(refusal(value))) == ("malformed", True)


def test_parse_reading_repeats_inside_unknown_fields_do_not_matter() -> None:
    value = encoded()[:-1] + b', "firmware": {"a:b": 1, "a:b": 2}}'
    assert parse_reading(None, value) == parse_reading(None, encoded())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from([-200, 10**400, "\ud800"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
FIELDS = ("station_id", "DateTime", *RAW_COLUMNS)
odd_records = st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=3).map(encoded)
tokens = st.sampled_from(["1e999", "-0", "NaN", "{", "1" * 4_400, "[" * 1_005 + "]" * 1_005, '"\\ud83d"', "1.0.0", "1e-999"])
odd_tokens = st.builds(with_token, st.sampled_from(FIELDS), tokens | st.text())
spliced = st.builds(
    lambda value, at, cut, insert: value[: at % len(value)] + insert + value[at % len(value) + cut :],
    st.just(encoded()),
    st.integers(0, 10_000),
    st.integers(0, 5),
    st.binary(max_size=5),
)


def parsed_or_error(key: bytes | None, value: bytes | None) -> Reading | InvalidRecord:
    try:
        return parse_reading(key, value)
    except InvalidRecord as error:
        return error


@settings(max_examples=5 * settings().max_examples)
@given(
    key=st.none() | st.just(b"station_1") | st.binary(), value=st.none() | st.binary() | odd_records | odd_tokens | spliced
)
@example(key=b"a", value=encoded({"station_id": "\ud800"}))
@example(key=None, value=encoded({"station_id": "x" * 1_000_000}))
@example(key=None, value=encoded({"DateTime": "\ud800" * 1_000_000}))
@example(key=None, value=with_token("AH", "[" * 1_010 + "]" * 1_010))
@example(key=None, value=encoded().decode().encode("utf-16"))
def test_whatever_arrives_is_a_reading_or_a_dead_letter(key: bytes | None, value: bytes | None) -> None:
    result = parsed_or_error(key, value)
    if isinstance(result, InvalidRecord):
        assert result.reason in PARSE_REASONS
        # it must fit a record header, whatever the record held
        assert 0 < len(str(result).encode()) <= 4 * MAX_MESSAGE_CHARACTERS
        return
    assert key in (None, result.station_id.encode())
    assert parse_reading(key, result.to_bytes()).packed() == result.packed()
    for name, number in zip(RAW_COLUMNS, result.values, strict=True):
        assert math.isnan(number) or HARD_LIMITS[name][0] <= number <= HARD_LIMITS[name][1]


@given(predictions)
def test_a_prediction_survives_the_wire(prediction: Prediction) -> None:
    parsed = Prediction.from_bytes(prediction.to_bytes())
    assert repr(parsed) == repr(prediction)
    assert (json.loads(prediction.to_bytes())["actual"] is None) == math.isnan(prediction.actual)


@pytest.mark.parametrize("value", [b"", b"{}", b'{"DateTime": "noon"}'])
def test_what_is_no_prediction_is_an_error(value: bytes) -> None:
    with pytest.raises((KeyError, ValueError)):
        Prediction.from_bytes(value)


@pytest.mark.parametrize("changed", [
    {"source_offset": "7"}, {"source_offset": 7.0}, {"source_offset": -1}, {"source_offset": True}, {"source_offset": 2**63},
    {"source_partition": None}, {"prediction": "1.5"}, {"prediction": None}, {"actual": []}, {"lower": "x"},
    {"actual": "1.5"}, {"actual": True},
    {"station_id": 7}, {"model_version": 7},
])  # fmt: skip
def test_prediction_from_bytes_of_another_type_is_an_error(changed: dict[str, object]) -> None:
    sound = Prediction("roof", 307_668, 1.5, math.nan, "7", 0, 3).to_bytes()
    assert Prediction.from_bytes(sound).source_offset == 3
    with pytest.raises((TypeError, ValueError)):
        Prediction.from_bytes(json.dumps({**json.loads(sound), **changed}).encode())
