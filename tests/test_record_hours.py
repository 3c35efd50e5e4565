"""The hours of records: how they are written, which are refused, and what is too far ahead."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given

from airquality.ground.errors import InvalidRecord
from airquality.records import (
    MAX_HOURS_AHEAD,
    RAW_COLUMNS,
    Reading,
    check_not_future,
    datetime_of,
    hour_of,
    hour_of_isoformat,
    isoformat,
    kafka_hour,
    parse_reading,
)
from tests.raw_records import encoded, hours, refusal


@given(hours)
def test_an_hour_survives_every_form(hour: int) -> None:
    assert hour_of(datetime_of(hour)) == hour
    assert hour_of_isoformat(isoformat(hour)) == hour
    assert datetime_of(hour + 1) - datetime_of(hour) == timedelta(hours=1)


@pytest.mark.parametrize(
    "moment", [datetime(2005, 2, 5, 12, tzinfo=UTC), datetime(2005, 2, 5, 12, 30), datetime(2005, 2, 5, 12, 0, 0, 1)]
)
def test_what_is_not_a_local_hour_is_refused(moment: datetime) -> None:
    with pytest.raises(ValueError, match=r"time zone|not on the hour"):
        hour_of(moment)


@pytest.mark.parametrize(
    "moment",
    [
        None,
        1107604800,
        "",
        "noon",
        "\ud800",
        "2005-02-30T12:00:00",
        "2005-02-05T12:00:00Z",
        "2005-02-05T12:00:00+01:00",
        "2005-02-05T12:30:00",
        "2005-02-05T12:00:00.5",
        "9" * 60_000,
        "2005-02-05",
        "2005-02-05T12",
        "20050205T12",
        "2005-W05-6T12:00",
        "2005-02-05x12:00:00",
        "2005-02-05T24:00:00",
        "٢٠٠٥-02-05T12:00:00",
    ],
)
def test_a_time_that_is_no_local_hour_is_malformed(moment: object) -> None:
    error = refusal(encoded({"DateTime": moment}))
    assert error.reason == "malformed"
    assert "DateTime" in str(error)


@pytest.mark.parametrize("text", ["2005-02-05T12:00", "2005-02-05 12:00:00", "2005-02-05T12:00:00.000"])
def test_parse_hour_other_precision_is_accepted(text: str) -> None:
    assert isoformat(parse_reading(None, encoded({"DateTime": text})).hour) == "2005-02-05T12:00:00"


@pytest.mark.parametrize(
    "text", ["1969-12-31T23:00:00", "2200-01-01T00:00:00", "0001-01-01T00:00:00", "9999-12-31T23:00:00"]
)
def test_parse_hour_outside_the_limits_is_refused(text: str) -> None:
    error = refusal(encoded({"DateTime": text}))
    assert (error.reason, text in str(error)) == ("out_of_range", True)


@pytest.mark.parametrize(
    ("row", "newest", "kafka", "future"),
    [
        ("2026-01-03T00:00", None, "2026-01-01T00:00", False),  # 48 h: a station far east with a clock a day fast
        ("2026-01-03T01:00", None, "2026-01-01T00:00", True),
        ("2099-01-01T00:00", "2026-01-01T00:00", "2026-01-01T01:00", True),
        ("2005-02-05T03:00", None, "2026-01-01T00:00", False),  # a replay of old data
        ("2025-12-01T00:00", "2005-02-05T03:00", "2026-01-01T00:00", False),  # the station was silent for 20 years
        ("2030-01-03T00:00", "2030-01-01T00:00", "2026-01-01T00:00", False),  # a looped replay has overtaken Kafka's clock
        ("2030-01-03T01:00", "2030-01-01T00:00", "2026-01-01T00:00", True),
        ("2099-01-01T00:00", "2026-01-01T00:00", None, False),  # no timestamp: only the limits of an hour hold
        ("2026-01-03T01:00", None, "1970-01-01T00:00", True),
    ],
)
def test_check_not_future_bound_is_two_days_past_station_and_kafka(
    row: str, newest: str | None, kafka: str | None, future: bool
) -> None:
    reading = Reading("roof", hour_of_isoformat(row), (0.0,) * len(RAW_COLUMNS))
    hours = [None if time is None else hour_of_isoformat(time) for time in (newest, kafka)]
    if not future:
        check_not_future(reading, *hours)
        return
    with pytest.raises(InvalidRecord, match=f"more than {MAX_HOURS_AHEAD} h ahead") as caught:
        check_not_future(reading, *hours)
    assert caught.value.reason == "future"


@pytest.mark.parametrize(
    ("timestamp_ms", "hour"), [(-1, None), (0, 0), (3_599_999, 0), (3_600_000, 1), (2**63 - 1, 2562047788015)]
)
def test_kafka_hour_rounds_down_and_knows_absence(timestamp_ms: int, hour: int | None) -> None:
    assert kafka_hour(timestamp_ms) == hour
