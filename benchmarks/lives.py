"""Stations with a past: warmed up offline, by the product's own parts, from hours of the data set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from prometheus_client import CollectorRegistry

from airquality.ground.typed import Document
from airquality.metrics import ConsumerMetrics
from airquality.model import features
from airquality.monitoring.component import Predicted, Row
from airquality.monitoring.drift import Window
from airquality.records import HISTORY_HOURS, Reading
from airquality.stream import snapshots
from airquality.stream.station import Station
from benchmarks.ground import Ground
from monitoring_service import MonitoringService

#: Hours of a station's past: its detectors have seen eight weeks, so that they judge everything.
PAST_HOURS = 8 * 7 * 24
#: Every station lives the life of one of these. Their values are whole weeks apart in the data set, but all live through
#: the same hours, as the stations of a fleet do.
TEMPLATES, APART_HOURS = 24, 7 * 24
#: So much shorter is the past of each than of the one before: their windows close in every hour of the day and of the week.
_SHORTER_HOURS = 7
#: What the seeded registry calls its champion.
MODEL_VERSION = "1"
GROUP = "bench"


@dataclass(frozen=True)
class Life:
    """A station after its past, and the windows that closed meanwhile."""

    station: Station
    windows: tuple[Window, ...]


class Lives:
    """The pasts of stations, made once, and the rows that come after."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    @cached_property
    def _documents(self) -> list[Document]:
        numbers = range(TEMPLATES)
        stations = [_past(self._ground, number).station for number in numbers]
        return [snapshots.decode(station.snapshot(GROUP, -1)) for station in stations]

    def snapshot(self, number: int) -> bytes:
        """Return the snapshot of a station as a consumer of group ``GROUP`` would have left it before raw offset 0."""
        template = number % TEMPLATES
        document = _renamed(self._documents[template], name_of(template), name_of(number))
        return snapshots.encode(document)

    def rows(self, n_stations: int, n_hours: int, past_hours: int = 0) -> Iterator[Reading]:
        """Yield the hours after the past of so many stations, hour by hour; ``past_hours`` of the past come before."""
        for index in range(PAST_HOURS - past_hours, PAST_HOURS + n_hours):
            for number in range(n_stations):
                yield self._row(number, index)

    def _row(self, number: int, index: int) -> Reading:
        frame = self._ground.frame
        values = frame.values[(number % TEMPLATES * APART_HOURS + index) % len(frame)]
        return Reading(name_of(number), int(frame.hours[0]) + index, tuple(values.tolist()))


def _past(ground: Ground, number: int) -> Life:
    later = number * _SHORTER_HOURS
    return life(ground, number, number * APART_HOURS + later, PAST_HOURS - later)


def name_of(number: int) -> str:
    """Return the id of a station."""
    return f"bench-{number:05d}"


def life(ground: Ground, number: int, start: int, n_hours: int = PAST_HOURS) -> Life:
    """Let a station live hours of the data set from ``start`` on, with the champion's predictions of them.

    The hours of station ``number`` count as ``number`` times ``APART_HOURS`` earlier than they were.
    """
    known = ground.frame.rows(start, start + n_hours)
    hours = known.hours - number * APART_HOURS
    predictions = ground.model.predict(features.batch(hours, known.values))
    readings = [
        Reading(name_of(number), hour, tuple(values))
        for hour, values in zip(hours.tolist(), known.values.tolist(), strict=True)
    ]
    monitoring = MonitoringService.open(ground.settings, ConsumerMetrics(CollectorRegistry()))
    station, windows = monitoring.open_station(name_of(number)), list[Window]()
    monitoring.judge([(station, readings[:n_hours])])
    for reading, value in zip(readings[:n_hours], predictions.tolist(), strict=False):
        windows += _taken(station, reading, value)
    for reading in readings[n_hours - HISTORY_HOURS : n_hours]:
        station.buffer.push(reading)
    station.note_newest(readings[n_hours - 1].hour)  # else it would count as silent since 1970
    return Life(station, tuple(windows))


def _taken(station: Station, reading: Reading, value: float) -> list[Window]:
    """Let a station take in a row with its prediction; the reports of what closes count as made."""
    found = station.update(Row(reading, Predicted(value, MODEL_VERSION, station.around(reading, value))))
    windows = [each for each in found if isinstance(each, Window)]
    station.reports.outstanding = 0
    return windows


def _renamed(value: Any, before: str, after: str) -> Any:
    """Return a document in which a station's id is another one."""
    if isinstance(value, dict):
        return {name: _renamed(item, before, after) for name, item in value.items()}
    if isinstance(value, list):
        return [_renamed(item, before, after) for item in value]
    return after if isinstance(value, str) and value == before else value
