"""The one list of detectors. Whoever keeps, judges or shows findings reads it and knows no detector by name.

Three kinds: those that judge every hour together (``suite.py``), components of a station that see its rows one by one
(``COMPONENTS``), and those that judge closed windows (``verdicts.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

from airquality.monitoring import coverage
from airquality.monitoring.alarms import Event
from airquality.monitoring.component import Component, Refusal
from airquality.monitoring.rules import RULES
from airquality.monitoring.silence import Lateness, Silence
from airquality.monitoring.suite import STATISTICAL
from airquality.monitoring.verdicts import WINDOW_DETECTORS
from airquality.records import Reading


class StationDetector(Component, Protocol):
    """A component that is registered: opened for every station, and shown by its name."""

    name: ClassVar[str]
    says: ClassVar[str]
    advice: ClassVar[str]
    weight: ClassVar[float]
    State: ClassVar[type]

    def __init__(self) -> None:
        """Begin a station."""

    @classmethod
    def from_state(cls, state: Any) -> Self:
        """Return the component whose ``state()`` this is."""

    @staticmethod
    def own_fault(readings: Sequence[Reading]) -> list[Reading | Refusal]:
        """Return clean hourly ``readings`` of one station with the least fault that the detector notices."""


#: Opened for every station, in this order.
COMPONENTS: tuple[type[StationDetector], ...] = (Silence, Lateness)


@dataclass(frozen=True, slots=True)
class Listed:
    """What whoever shows an alarm says of its detector. ``labels`` are those of its series in the metrics."""

    name: str
    says: str
    advice: str
    weight: float
    labels: tuple[str, ...]


_SENSOR_ADVICE = (
    "Compare {column} with a second instrument. Recalibrate or replace the channel, or check its cable and logger; the "
    "alarm closes by itself a day after the sensor is right again."
)
_WINDOW_ADVICE = "See the report of the window."
_COVERAGE_ADVICE = "Do not rely on the intervals' width until the alarm closes; look at what else is found here first."
#: A named sensor comes before what a day's distribution says.
_SENSOR_WEIGHT = 3.0
#: The label that the hour-by-hour detectors share.
SENSOR = "sensor"


def _listed() -> Iterable[Listed]:
    for kind in (*RULES, *STATISTICAL):
        yield Listed(kind.name, kind.says, _SENSOR_ADVICE, _SENSOR_WEIGHT, (SENSOR,))
    for part in COMPONENTS:
        yield Listed(part.name, part.says, part.advice, part.weight, (part.name,))
    for name in coverage.DETECTORS.values():
        yield Listed(name, "lies inside its intervals in {size}", _COVERAGE_ADVICE, 2.0, ("coverage",))
    for window in WINDOW_DETECTORS:
        yield Listed(window.name, "is not as usual", _WINDOW_ADVICE, 1.0, window.labels)


#: Every detector by its name.
LISTED: Mapping[str, Listed] = {listed.name: listed for listed in _listed()}
#: The labels of all alarms in the metrics.
LABELS = tuple(dict.fromkeys(label for listed in LISTED.values() for label in listed.labels))


def label_of(event: Event) -> str:
    """Return the metrics' label of an alarm."""
    labels = LISTED[event.detector].labels
    family = event.column.partition(":")[0]
    return family if family in labels else labels[0]
