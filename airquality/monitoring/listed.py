"""What whoever shows an alarm says of its detector, by the detector's name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from airquality.monitoring import coverage, registry
from airquality.monitoring.alarms import Event


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
    for kind in (*registry.rules(), *registry.statistical()):
        yield Listed(kind.name, kind.says, _SENSOR_ADVICE, _SENSOR_WEIGHT, (SENSOR,))
    for part in registry.components():
        yield Listed(part.name, part.says, part.advice, part.weight, (part.name,))
    for name in coverage.DETECTORS.values():
        yield Listed(name, "lies inside its intervals in {size}", _COVERAGE_ADVICE, 2.0, ("coverage",))
    for window in registry.window_detectors():
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
