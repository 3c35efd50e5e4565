from __future__ import annotations

import math
from typing import Literal

import orjson
import pytest

from airquality import events
from airquality.events import AlarmEvent, OperationTaken, RowsMissed, WindowJudged, alarm_sentence, finding_of
from airquality.incoming import Operation
from airquality.monitoring.alarms import Event
from airquality.monitoring.component import Missed
from airquality.stream.events_command import known, open_alarms, sentence

Kind = Literal["opened", "changed", "closed"]


def alarm(kind: Kind, column: str = "T", detector: str = "level", station: str = "roof", size: float = 2.5) -> AlarmEvent:
    return AlarmEvent(station, Event(kind, detector, column, 30, 27, size, "degC"))


@pytest.mark.parametrize("size", [2.5, -1.0, math.nan])
def test_finding_of_an_alarm_gives_it_back(size: float) -> None:
    sent = alarm("opened", size=size)
    assert finding_of(sent.to_bytes()) == sent or math.isnan(size)
    assert finding_of(sent.to_bytes()).to_bytes() == sent.to_bytes()


def test_finding_of_a_window_gives_it_back() -> None:
    sent = WindowJudged("roof", "daily", 100, 24, ("drift:T",), 0.25, 20, "3")
    assert finding_of(sent.to_bytes()) == sent


def test_window_judged_without_an_error_says_null() -> None:
    judged = WindowJudged("roof", "daily", 100, 24, (), math.nan, 0, "3")
    assert orjson.loads(judged.to_bytes())["rmse"] is None


@pytest.mark.parametrize(
    "value", [None, b"", b"{", b"[]", b"{}", b'{"version": 0}', b'{"version": 1, "type": "x"}', b"\xff"]
)
def test_finding_of_a_foreign_record_is_a_value_error(value: bytes | None) -> None:
    with pytest.raises(ValueError, match="not an event of this release"):
        finding_of(value)


@pytest.mark.parametrize("changed", [
    {"station_id": []}, {"station_id": 7}, {"detector": None}, {"column": []}, {"event": 7, "column": 5}, {"size": []},
    {"at": None}, {"at": "9" * 50}, {"unit": {}, "size": "x"}, {"type": []}, {"type": "operation", "operation": None},
    {"type": "operation", "operation": "x"}, {"type": "window", "raised": [1]},
])  # fmt: skip
def test_known_record_of_other_types_is_passed_over(changed: dict[str, object]) -> None:
    sound = orjson.loads(alarm("opened").to_bytes())
    window = orjson.loads(WindowJudged("roof", "daily", 100, 24, ("drift:T",), 0.25, 20, "3").to_bytes())
    operation = orjson.loads(OperationTaken(Operation("roof", "ack", "T"), 30, 7).to_bytes())
    body = {"window": window, "operation": operation}.get(str(changed.get("type")), sound)
    assert known(orjson.dumps(body)) is not None
    assert known(orjson.dumps({**body, **changed})) is None


def test_finding_of_rows_that_were_missed_gives_them_back() -> None:
    sent = RowsMissed("roof", Missed("windows", 27, 30, "ValueError: no"))
    assert finding_of(sent.to_bytes()) == sent
    assert sentence(sent).endswith("Not judged by windows from 1970-01-02T03:00:00 to 1970-01-02T06:00:00: ValueError: no")


def test_open_alarms_are_those_no_later_event_closed() -> None:
    sent = [
        alarm("opened", "T"),
        alarm("opened", "RH"),
        alarm("changed", "T", size=3.5),
        alarm("closed", "RH"),
        alarm("opened", "T", station="cellar"),
        alarm("opened", "data_drift", detector="daily"),
        alarm("closed", "T", station="cellar"),
    ]
    found = open_alarms((finding, finding.to_bytes()) for finding in sent)
    assert [(finding.station_id, finding.event.column, finding.event.size) for finding, _ in found] == [
        ("roof", "T", 3.5),
        ("roof", "data_drift", 2.5),
    ]


def test_alarm_sentence_without_a_size_leaves_it_out() -> None:
    assert events.alarm_sentence(alarm("closed", size=math.nan).event) == (
        "Alarm closed: T, level, since 1970-01-02T03:00:00"
    )


def test_finding_of_an_acknowledged_alarm_says_by_whom() -> None:
    sent = AlarmEvent("roof", Event("changed", "level", "T", 30, 27, 2.5, "degC", "ann", 29))
    assert finding_of(sent.to_bytes()) == sent
    assert alarm_sentence(sent.event).endswith("acknowledged by ann at 1970-01-02T05:00:00")
    closed = Event("closed", "level", "T", 30, 27, 2.5, "degC", "bob", 30)
    assert alarm_sentence(closed).endswith("closed by bob at 1970-01-02T06:00:00")
    assert "by" not in AlarmEvent("roof", Event("changed", "level", "T", 30, 27, 2.5, "degC")).event.to_json()


@pytest.mark.parametrize(
    "operation",
    [Operation("roof", "reset", "T", who="ann"), Operation("roof", "maintenance", None, 27, 30, "ann", "new filter")],
)
def test_finding_of_an_operation_gives_it_back(operation: Operation) -> None:
    sent = OperationTaken(operation, 30, 1_700_000_000_000)
    assert finding_of(sent.to_bytes()) == sent
