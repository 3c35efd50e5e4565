"""One contract for every registered detector, whatever it judges: hours, rows or windows.

Each is run as it works in the product, as a part of a station, on the rows after a simulated history. It is silent on clean
rows, its own fault opens an alarm, and over gaps and missing values it finds the same however the stream is cut and wherever
a restart brings it back from its snapshot. What only the statistics of one kind promise is in test_detectors.py.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest

from airquality.ground.typed import plain, restored
from airquality.monitoring import registry
from airquality.monitoring.alarms import Event
from airquality.monitoring.component import (
    Found,
    Predicted,
    Refusal,
    Row,
    StationDetector,
    TakesRefusals,
)
from airquality.monitoring.detectors import Detectors
from airquality.monitoring.listed import LABELS, LISTED, label_of
from airquality.records import RAW_COLUMNS, TARGET_INDEX, Reading
from airquality.stream import snapshots
from airquality.stream.station import Station
from monitoring_service import Stations
from tests import stations, watched

Item = Reading | Refusal
N_ROWS = 300
HOURS = watched.stream().hours[:N_ROWS]


def never_silent() -> watched.Floats:
    """Return the rows, with one value in each day in which an instrument has none, which would be a fault."""
    values, history = watched.stream().values[:N_ROWS].copy(), watched.history().values
    for column, day in itertools.product(range(values.shape[1]), range(0, N_ROWS, 24)):
        if np.isnan(values[day : day + 24, column]).all():
            known = history[~np.isnan(history[:, column]), column]
            values[min(day + 12, N_ROWS - 1), column] = np.median(known) if len(known) else 100.0
    return values


VALUES = never_silent()
CLEAN = stations.readings_of(VALUES, "roof", HOURS.tolist())
_TRUTH = VALUES[:, TARGET_INDEX]
_KNOWN = ~np.isnan(_TRUTH)
_PREDICTIONS = np.interp(HOURS, HOURS[_KNOWN], _TRUTH[_KNOWN]) + np.random.default_rng(5).normal(0, 0.3, N_ROWS)
PREDICTED = dict(zip(HOURS.tolist(), _PREDICTIONS.tolist(), strict=True))


@dataclass(frozen=True)
class Subject:
    """A registered detector: its name, clean rows with its own fault in them, and what its alarm is about.

    A column has one alarm of those that judge every hour, by whichever is first: theirs may bear the name of another.
    """

    name: str
    faulty: tuple[Item, ...]
    alarm: str = ""
    shared: bool = False

    def alarms(self, events: Sequence[Event]) -> list[Event]:
        """Return the events of its alarm."""
        if self.shared:
            return [each for each in events if each.detector in registry.hour_by_hour() and each.column == self.alarm]
        return [each for each in own(events, self) if self.alarm in ("", each.column)]


def changed(name: str, put: Callable[[watched.Floats], str], *, shared: bool) -> Subject:
    values = VALUES.copy()
    alarm = put(values)
    rows = zip(CLEAN, values.tolist(), strict=True)
    return Subject(name, tuple(replace(reading, values=tuple(row)) for reading, row in rows), alarm, shared)


def subjects() -> Iterator[Subject]:
    for hourly in registry.hour_by_hour().values():
        yield changed(hourly.name, hourly.own_fault, shared=True)
    for part in registry.components():
        yield Subject(part.name, tuple(part.own_fault(CLEAN)))
    for window in registry.window_detectors():
        yield changed(window.name, window.own_fault, shared=False)


SUBJECTS = tuple(subjects())
every_detector = pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)


class Life:
    """A station that sees rows, and the events its detectors made of them."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.open(None)

    def open(self, snapshot: bytes | None) -> None:
        self.opener = Stations(watched.judge(), Detectors(watched.calibration()))
        self.station: Station = self.opener.open("roof", snapshots.decode(snapshot) if snapshot else None)

    def restart(self) -> None:
        self.station.reports.outstanding = 0
        self.open(self.station.snapshot("group", 0))

    def take(self, items: Sequence[Item]) -> None:
        self.opener.judge_hours([(self.station, [item for item in items if isinstance(item, Reading)])])
        for item in items:
            self.events += [found for found in self._found(item) if isinstance(found, Event)]

    def _found(self, item: Item) -> list[Found]:
        if isinstance(item, Refusal):
            return self.station.take_refusal(item)
        return self.station.update(Row(item, Predicted(PREDICTED.get(item.hour, 2.0), "1")))


def found(items: Sequence[Item], cuts: Sequence[int] = (), *, restarts: bool = False) -> list[Event]:
    """Return the events of rows that are cut into batches at ``cuts``, with a restart after each if so."""
    life = Life()
    for start, stop in itertools.pairwise([0, *cuts, len(items)]):
        if start and restarts:
            life.restart()
        life.take(items[start:stop])
    return life.events


def uneven(n_items: int) -> list[int]:
    return sorted(np.random.default_rng(3).choice(np.arange(1, n_items), 6, replace=False).tolist())


def _holes(at: int, reading: Reading) -> Reading:
    named = zip(RAW_COLUMNS, reading.values, strict=True)
    values = tuple(math.nan if at % 17 == 0 or (at % 3 == 1 and name == RAW_COLUMNS[-3]) else v for name, v in named)
    return replace(reading, hour=reading.hour + 720 * (at > 150), values=values)


#: Thirty days without a row in the middle, a column that is missing a third of the time, hours without any value.
BROKEN = [_holes(at, reading) for at, reading in enumerate(CLEAN)]


@functools.cache
def of(rows: str, how: str) -> list[Event]:
    """Return what all detectors find in rows that are the same for each of them."""
    items = {"clean": CLEAN, "broken": BROKEN}[rows]
    cuts = {"whole": [], "uneven": uneven(len(items)), "restarted": uneven(len(items))}[how]
    return found(items, cuts, restarts=how == "restarted")


@functools.cache
def whole(subject: Subject) -> list[Event]:
    """Return what all detectors find in a detector's own fault."""
    return found(subject.faulty)


def own(events: Sequence[Event], subject: Subject) -> list[Event]:
    return [event for event in events if event.detector == subject.name]


@every_detector
def test_detector_on_clean_rows_is_silent(subject: Subject) -> None:
    assert own(of("clean", "whole"), subject) == []


@every_detector
def test_detector_its_own_fault_opens_an_alarm_that_is_listed(subject: Subject) -> None:
    events = subject.alarms(whole(subject))
    assert events[0].kind == "opened"
    assert LISTED[subject.name].says
    assert {label_of(event) for event in events} <= set(LABELS)


@every_detector
def test_detector_its_own_fault_restored_between_uneven_cuts_is_found_as_in_one_piece(subject: Subject) -> None:
    assert found(subject.faulty, uneven(len(subject.faulty)), restarts=True) == whole(subject)


@every_detector
@pytest.mark.parametrize("how", ["uneven", "restarted"])
def test_detector_rows_with_gaps_and_without_values_are_found_as_in_one_piece(subject: Subject, how: str) -> None:
    assert own(of("broken", how), subject) == own(of("broken", "whole"), subject)
    assert all(event.at >= event.since for event in own(of("broken", "whole"), subject))


every_component = pytest.mark.parametrize("kind", registry.components(), ids=lambda kind: kind.name)


@every_component
def test_component_restored_before_any_row_goes_on_as_if_nothing_had_happened(kind: type[StationDetector]) -> None:
    part, restarted = kind(), kind()
    for item in kind.own_fault(CLEAN):
        document = snapshots.decode(snapshots.encode({"state": plain(restarted.state())}))
        restarted = kind.from_state(restored(kind.State, document["state"]))
        assert take(restarted, item) == take(part, item)


def take(part: StationDetector, item: Item) -> Sequence[Found]:
    if isinstance(item, Reading):
        return part.update(Row(item))
    return part.take_refusal(item) if isinstance(part, TakesRefusals) else ()


@every_component
def test_component_state_does_not_change_when_asked_or_when_the_component_goes_on(kind: type[StationDetector]) -> None:
    life = Life()
    life.take(CLEAN[:24])
    before = life.station.detectors[kind.name].state()
    again = life.station.detectors[kind.name].state()
    assert before == again
    kept = repr(before)
    life.take(CLEAN[24:48])
    assert repr(before) == kept
