from __future__ import annotations

import math
from typing import Literal

from airquality.monitoring.alarms import Event, OpenAlarms

Kind = Literal["opened", "changed", "closed"]


def event(kind: Kind, detector: str, column: str, at: int = 30) -> Event:
    return Event(kind, detector, column, at, 27, math.nan, "")


def test_open_alarms_a_day_and_a_week_that_drift_are_two() -> None:
    alarms = OpenAlarms([event("opened", "daily", "data_drift"), event("opened", "weekly", "data_drift")])
    alarms.take(event("closed", "daily", "data_drift"))
    assert [(e.detector, e.column) for e in alarms.by_column()] == [("weekly", "data_drift")]


def test_open_alarms_hour_by_hour_detectors_share_one_a_column() -> None:
    alarms = OpenAlarms([event("opened", "level", "T")])
    alarms.take(event("changed", "noise", "T"))
    alarms.take(event("closed", "noise", "T"))
    assert alarms.by_column() == ()


def test_open_alarms_come_back_from_their_state() -> None:
    alarms = OpenAlarms([event("opened", "level", "T"), event("opened", "silence", "station")])
    assert OpenAlarms(alarms.state()).by_column() == alarms.by_column()
