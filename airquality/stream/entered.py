"""What the records of a batch mean to their stations, before the stations take them in; tuples, of which a row needs one."""

from __future__ import annotations

from typing import NamedTuple

from airquality.incoming import LateTruth, Operation
from airquality.monitoring.component import Refusal
from airquality.records import Reading
from airquality.stream.kafka_io import Record
from airquality.stream.station import Station


class Accepted(NamedTuple):
    """A row that entered the history of its station; ``ready`` where it is to be predicted."""

    station: Station
    reading: Reading
    record: Record
    ready: bool


class SideInput(NamedTuple):
    """What enters a station beside its rows, after the row of its ``hour``."""

    station: Station
    what: LateTruth | Operation | Refusal
    hour: int
    record: Record


class Passed(NamedTuple):
    """A replayed row that its station holds already: it only says how far the partition's time has gone on."""

    hour: int
    record: Record


Entered = Accepted | SideInput | Passed
