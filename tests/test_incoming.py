"""The type of a raw record: one dispatch, and every refusal by name."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from airquality.ground.errors import InvalidRecord
from airquality.incoming import OPERATION_KINDS, Headers, LateTruth, Operation, OperationKind, parse_record
from airquality.records import TARGET, Reading
from tests.simulated_kafka import reading

TRUTH_HEADERS = [("type", b"truth")]
BODY = {"station_id": "roof", "DateTime": "2005-02-05T03:00:00", TARGET: 1.6}


def refusal(body: Mapping[str, object], headers: Headers, key: bytes | None = b"roof") -> InvalidRecord:
    with pytest.raises(InvalidRecord) as caught:
        parse_record(key, json.dumps(body).encode(), headers)
    return caught.value


def test_parse_record_without_type_is_a_reading() -> None:
    sent = reading(0, 307_668)
    found = parse_record(sent.station_id.encode(), sent.to_bytes(), [("replayed_from", b"0:1")])
    assert isinstance(found, Reading)
    assert found.to_bytes() == sent.to_bytes()


def test_parse_record_late_truth_round_trips() -> None:
    truth = LateTruth("roof", 307_668, 1.6)
    assert parse_record(b"roof", truth.to_bytes(), truth.headers) == truth
    assert json.loads(truth.to_bytes()) == {"station_id": "roof", "DateTime": "2005-02-05T12:00:00", TARGET: 1.6}


@pytest.mark.parametrize("kind", OPERATION_KINDS)
def test_parse_record_operation_round_trips(kind: OperationKind) -> None:
    operation = Operation("roof", kind, "T", 307_668, 307_700, "Ada", "sensor changed")
    assert parse_record(b"roof", operation.to_bytes(), operation.headers) == operation
    span: tuple[int, int] | tuple[None, None] = (307_668, 307_700) if kind == "maintenance" else (None, None)
    whole = Operation("roof", kind, None, *span)
    assert parse_record(None, whole.to_bytes(), whole.headers) == whole


@pytest.mark.parametrize("text", [b"Truth", b"", None, b"\xff", b"reading", b"truth "])
def test_parse_record_unknown_type_is_refused_by_name(text: bytes | None) -> None:
    error = refusal(BODY, [("type", text)])
    assert error.reason == "unknown_type"
    assert "known are truth, reset, ack, maintenance" in str(error)


def test_parse_record_type_twice_is_malformed() -> None:
    assert refusal(BODY, [*TRUTH_HEADERS, *TRUTH_HEADERS]).reason == "malformed"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({TARGET: None}, "malformed"),
        ({TARGET: -200}, "malformed"),
        ({TARGET: "1.6"}, "malformed"),
        ({TARGET: True}, "malformed"),
        ({TARGET: 501}, "out_of_range"),
        ({TARGET: -0.1}, "out_of_range"),
        ({"DateTime": "2005-02-05T03:30:00"}, "malformed"),
        ({"DateTime": None}, "malformed"),
        ({"station_id": "cellar"}, "malformed"),
        ({"station_id": 7}, "malformed"),
    ],
)
def test_parse_record_late_truth_refusals(changed: dict[str, object], reason: str) -> None:
    assert refusal({**BODY, **changed}, TRUTH_HEADERS).reason == reason


def test_parse_record_late_truth_without_its_target_is_malformed() -> None:
    assert refusal({"station_id": "roof", "DateTime": BODY["DateTime"]}, TRUTH_HEADERS).reason == "malformed"


@pytest.mark.parametrize(
    "changed",
    [
        {"column": "CO"},
        {"column": ["T"]},
        {"from": "yesterday"},
        {"from": "2005-02-05T04:00:00", "to": "2005-02-05T03:00:00"},
        {"who": 7},
        {"who": "x" * 101},
        {"note": "x" * 301},
        {"note": "valve \ud800 changed"},
        {"who": "\udfff"},
        {"station_id": None},
    ],
)
def test_parse_record_operation_refusals(changed: dict[str, object]) -> None:
    assert refusal({"station_id": "roof", **changed}, [("type", b"reset")]).reason == "malformed"


@pytest.mark.parametrize("absent", ["from", "to"])
def test_parse_record_maintenance_without_its_hours_is_malformed(absent: str) -> None:
    body = {"station_id": "roof", "from": "2005-02-05T03:00:00", "to": "2005-02-05T04:00:00", absent: None}
    assert refusal(body, [("type", b"maintenance")]).reason == "malformed"
