"""Raw records as they are on the wire, sound and with changes, and with what each is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import strategies as st

from airquality.ground.errors import InvalidRecord
from airquality.records import (
    HOUR_LIMITS,
    RAW_COLUMNS,
    hour_of,
    parse_reading,
)

hours = st.integers(*(hour_of(limit) for limit in HOUR_LIMITS))


def record(changes: dict[str, Any] | None = None) -> dict[str, Any]:
    plain = {"station_id": "station_1", "DateTime": "2005-02-05T12:00:00", **dict.fromkeys(RAW_COLUMNS, 10.0)}
    return {**plain, **(changes or {})}


def encoded(changes: dict[str, Any] | None = None) -> bytes:
    return json.dumps(record(changes)).encode()


def refusal(value: bytes | None, key: bytes | None = None) -> InvalidRecord:
    with pytest.raises(InvalidRecord) as caught:
        parse_reading(key, value)
    return caught.value
