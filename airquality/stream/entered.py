"""What the records of a batch mean to their stations, before the stations take them in."""

from __future__ import annotations

from dataclasses import dataclass

from airquality.incoming import LateTruth, Operation
from airquality.monitoring.component import Refusal
from airquality.records import Reading
from airquality.stream.kafka_io import Record
from airquality.stream.station import Station


@dataclass(frozen=True, slots=True)
class Accepted:
    """A row that entered the history of its station; ``ready`` where it is to be predicted."""

    station: Station
    reading: Reading
    record: Record
    ready: bool


@dataclass(frozen=True, slots=True)
class SideInput:
    """What enters a station beside its rows, after the row of its ``hour``."""

    station: Station
    what: LateTruth | Operation | Refusal
    hour: int
    record: Record


@dataclass(frozen=True, slots=True)
class Passed:
    """A replayed row that its station holds already: it only says how far the partition's time has gone on."""

    hour: int
    record: Record


Entered = Accepted | SideInput | Passed
