"""Records that no consumer may trip over: what a producer can put into a topic, by kind, with the reason it must get."""

from __future__ import annotations

import json
from typing import Any

from airquality.records import HARD_LIMITS, MAX_RECORD_BYTES, RAW_COLUMNS
from lab.proof.topics import Sent
from lab.proof.traffic import COLUMN, Source, sent

Body = dict[str, Any]


def kinds(source: Source, station: str, index: int) -> dict[str, Sent]:
    """Return one poisoned record of every kind, each made of the station's row ``index``."""
    body = source.body(station, index)
    key = station.encode()
    made: dict[str, Sent] = {}
    for name, value in _payloads(body).items():
        made[name] = Sent(key, value, "oversize" if len(value or b"") > MAX_RECORD_BYTES else "malformed")
    made["UTF-8 with a byte order mark"] = Sent(key, b"\xef\xbb\xbf" + json.dumps(body).encode(), "duplicate")
    for name, changed in _changed(body).items():
        made[name] = Sent(key, json.dumps(changed).encode(), "malformed")
    for name, changed in _out_of_range(body).items():
        made[name] = Sent(key, json.dumps(changed).encode(), "out_of_range")
    for name, text in _not_finite(body).items():
        made[name] = Sent(key, text, "not_finite")
    made |= {name: Sent(key_, value, "malformed", partition=0) for name, (key_, value) in _keys(body).items()}
    far = {**body, "DateTime": "2099-01-01T00:00:00"}
    made["a row of the year 2099"] = sent(far, "future")
    lone = json.dumps({"station_id": station, "note": "\ud800"}).encode()
    made["half a character in an operator's note"] = Sent(key, lone, "malformed", headers=(("type", b"ack"),))
    return made


def compressible() -> dict[str, Sent]:
    """Return records that the broker takes only compressed."""
    key = b"proof-0"
    return {
        "5 MB of blanks, compressed": Sent(key, b" " * 5_000_000, "oversize"),
        "5 MB of an array, compressed": Sent(key, b"[" + b"0," * 2_500_000 + b"0]", "oversize"),
    }


def _payloads(body: Body) -> dict[str, bytes | None]:
    whole = json.dumps(body).encode()
    return {
        "no value": None,
        "an empty value": b"",
        "one blank": b" ",
        "one zero byte": b"\0",
        "half a record": whole[: len(whole) // 2],
        "a record and a half": whole + whole[:20],
        "two records": whole + whole,
        "no closing brace": whole[:-1],
        "not UTF-8": b"\xff\xfe\xfd",
        "Latin-1 text": json.dumps(body).replace("proof", "pr\u00f6of").encode("latin-1"),
        "UTF-16": json.dumps(body).encode("utf-16"),
        "single quotes": str(body).encode(),
        "JSON null": b"null",
        "JSON true": b"true",
        "a number": b"42",
        "a text": b'"row"',
        "an array": b"[1, 2, 3]",
        "the record in an array": b"[" + whole + b"]",
        "an empty object": b"{}",
        "XML": b"<row/>",
        "a line of CSV": b"2005-02-05T03:00:00;1,6;1046",
        "Avro's magic byte": b"\0\0\0\0\x01" + whole,
        "gzip bytes": b"\x1f\x8b\x08\0\0\0\0\0",
        "an array nested 100,000 deep": b"[" * 100_000 + b"]" * 100_000,
        "an object nested 10,000 deep": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        "900 kB of blanks": b" " * 900_000,
        "900 kB of text": b'"' + b"x" * 900_000 + b'"',
        "as much as the broker takes": b"x" * 1_048_400,
        "random bytes": bytes(range(256)) * 8,
        "a control character in a text": whole.replace(b'"station_id"', b'"station\x01_id"'),
    }


def _changed(body: Body) -> dict[str, Body]:
    no = {f"no {name}": {k: v for k, v in body.items() if k != name} for name in ("station_id", "DateTime", *RAW_COLUMNS)}
    hours = {
        "no time at all": None,
        "an empty DateTime": "",
        "a number as DateTime": 1107572400,
        "a DateTime of milliseconds": 1107572400000,
        "DateTime true": True,
        "DateTime in an array": ["2005-02-05T03:00:00"],
        "half past": "2005-02-05T03:30:00",
        "one second past": "2005-02-05T03:00:01",
        "with UTC offset": "2005-02-05T03:00:00+01:00",
        "with Z": "2005-02-05T03:00:00Z",
        "month 13": "2005-13-05T03:00:00",
        "30 February": "2005-02-30T03:00:00",
        "hour 25": "2005-02-05T25:00:00",
        "day first": "05/02/2005 03.00.00",
        "words": "yesterday",
        "year 0": "0000-02-05T03:00:00",
        "year 99999": "99999-02-05T03:00:00",
        "a DateTime of 10 kB": "2" * 10_000,
    }
    stations = {
        "no station": None,
        "an empty station": "",
        "a number as station": 7,
        "a station in an object": {"name": "roof"},
        "a station of 300 letters": "s" * 300,
        "another station than the key": "elsewhere",
    }
    values: dict[str, Any] = {
        "a text as value": "1.6",
        "decimal comma": "1,6",
        "NaN as text": "NaN",
        "true as value": True,
        "a value in an array": [1.6],
        "a value in an object": {"value": 1.6},
        "an empty text as value": "",
    }
    return {
        **no,
        **{name: {**body, "DateTime": hour} for name, hour in hours.items()},
        **{name: {**body, "station_id": station} for name, station in stations.items()},
        **{name: {**body, COLUMN: value} for name, value in values.items()},
    }


def _out_of_range(body: Body) -> dict[str, Body]:
    beyond = {name: (low - 0.5, 2 * high + 1.0, 1e300) for name, (low, high) in HARD_LIMITS.items()}
    return {f"{name} = {value}": {**body, name: value} for name, values in beyond.items() for value in values}


def _not_finite(body: Body) -> dict[str, bytes]:
    def literal(text: str) -> bytes:
        return json.dumps({**body, COLUMN: "@"}).replace('"@"', text).encode()

    return {
        "NaN": literal("NaN"),
        "Infinity": literal("Infinity"),
        "-Infinity": literal("-Infinity"),
        "1e400": literal("1e400"),
    }


def _keys(body: Body) -> dict[str, tuple[bytes | None, bytes | None]]:
    whole = json.dumps({k: v for k, v in body.items() if k != COLUMN}).encode()
    return {
        "neither key nor value": (None, None),
        "an empty key": (b"", whole),
        "a key that is not UTF-8": (b"\xff\xfe", whole),
        "a key of 10 kB": (b"k" * 10_000, whole),
        "no key and no column": (None, whole),
    }
