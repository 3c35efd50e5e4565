"""One contract for every registered component of a station: state, gaps, NaN, silence on clean rows, and its own fault."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

from airquality.ground.typed import plain, restored
from airquality.monitoring.alarms import Event
from airquality.monitoring.component import Component, Found, Refusal, Row, StationDetector, TakesRefusals
from airquality.monitoring.listed import LABELS, LISTED, label_of
from airquality.monitoring.registry import components
from airquality.records import RAW_COLUMNS, Reading
from airquality.stream import snapshots
from tests import stations, watched


def _holes(at: int, values: Sequence[float]) -> tuple[float, ...]:
    named = zip(RAW_COLUMNS, values, strict=True)
    return tuple(math.nan if at % 17 == 0 or (at % 2 and name == "T") else value for name, value in named)


CLEAN = stations.readings_of(watched.stream().values[:200])
#: Thirty days without a row in the middle, a column that is missing half of the time, hours without any value.
BROKEN = [replace(r, hour=r.hour + 720 * (at > 100), values=_holes(at, r.values)) for at, r in enumerate(CLEAN)]


def take(part: Component, item: Reading | Refusal) -> Sequence[Found]:
    if isinstance(item, Reading):
        return part.update(Row(item))
    return part.take_refusal(item) if isinstance(part, TakesRefusals) else ()


def found(part: Component, items: Sequence[Reading | Refusal]) -> list[Event]:
    return [event for item in items for event in take(part, item) if isinstance(event, Event)]


every_component = pytest.mark.parametrize("kind", components(), ids=lambda kind: kind.name)


@every_component
def test_component_on_clean_rows_is_silent(kind: type[StationDetector]) -> None:
    assert found(kind(), CLEAN) == []


@every_component
def test_component_its_own_fault_opens_an_alarm_that_is_listed(kind: type[StationDetector]) -> None:
    events = found(kind(), kind.own_fault(CLEAN))
    assert events[0].kind == "opened"
    assert {event.detector for event in events} == {kind.name}
    assert LISTED[kind.name].says
    assert {label_of(event) for event in events} <= set(LABELS)


@every_component
@pytest.mark.parametrize("rows", ["own fault", "broken"])
def test_component_restored_before_any_row_goes_on_as_if_nothing_had_happened(
    kind: type[StationDetector], rows: str
) -> None:
    items = kind.own_fault(CLEAN) if rows == "own fault" else BROKEN
    whole, parts = found(kind(), items), list[Event]()
    part = kind()
    for item in items:
        document = snapshots.decode(snapshots.encode({"state": plain(part.state())}))
        part = kind.from_state(restored(kind.State, document["state"]))
        parts += found(part, [item])
    assert parts == whole


@every_component
def test_component_state_does_not_change_when_asked_or_when_the_component_goes_on(kind: type[StationDetector]) -> None:
    part, items = kind(), kind.own_fault(CLEAN)
    found(part, items[:24])
    state, again = part.state(), part.state()
    assert state == again
    before = snapshots.encode({"state": plain(state)})
    found(part, items[24:])
    assert snapshots.encode({"state": plain(state)}) == before


@every_component
def test_component_rows_without_values_and_gaps_raise_nothing_but_events(kind: type[StationDetector]) -> None:
    assert all(event.at >= event.since for event in found(kind(), BROKEN))
