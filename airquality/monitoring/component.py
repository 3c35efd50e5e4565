"""What a station is made of: components that see its rows in order and say what they found.

A component's :meth:`Component.state` is all it needs to go on: typed, immutable, and taken without changing anything. It
comes back by the ``from_state`` of its class. ``docs/architecture.md`` shows how one is added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from airquality.data.arrivals import Arrival
from airquality.incoming import LateTruth, Operation, TruthOutcome
from airquality.monitoring.alarms import Event
from airquality.monitoring.drift import Window
from airquality.records import Outcome, Reading, isoformat
from airquality.truth.intervals import Interval
from airquality.truth.window_truth import WindowTruth


class Predicted(NamedTuple):
    """What the model said of a row, in the target's unit, which version of it, and between what the truth is expected."""

    value: float
    model_version: str
    interval: Interval | None = None


class Row(NamedTuple):
    """An accepted row, in the order of the stream.

    Attributes:
        reading: The row itself; later than every row of its station before.
        predicted: None in the warm-up, and where the model has no usable value.
        events: What the station's detectors found in it, and in the hours without a row before it; by event time.
        learning: The columns whose level the detectors cannot judge yet, and from which hour each can be, at the earliest.
    """

    reading: Reading
    predicted: Predicted | None = None
    events: tuple[Event, ...] = ()
    learning: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """A reading of the station that did not enter its history, and why."""

    reading: Reading
    reason: str


@dataclass(frozen=True, slots=True)
class Missed:
    """A part of the monitoring was off and saw no row from hour ``since`` to hour ``until``, both included."""

    part: str
    since: int
    until: int
    why: str

    @property
    def sentence(self) -> str:
        """The sentence that reports and logs show."""
        return f"Not judged by {self.part} from {isoformat(self.since)} to {isoformat(self.until)}: {self.why}"


#: What a component finds: an alarm that opened, changed or closed, a window that closed and was judged, or one whose truth
#: is final; and what a station says of a part that was off.
Found = Event | Window | WindowTruth | Missed


class Component(Protocol):
    """One part of a station."""

    def update(self, row: Row) -> Sequence[Found]:
        """Take in the next row and return what was found, in event order."""

    def state(self) -> object:
        """Return a frozen dataclass of all that is remembered."""


@runtime_checkable
class TakesTruths(Protocol):
    """A component that also sees the truths that come late, in their order among the rows."""

    def take_truth(self, truth: LateTruth) -> Sequence[Found]:
        """Take in a truth that filled its hour and return what was found."""


@runtime_checkable
class Learns(Protocol):
    """A component that cannot judge everything from its first row on."""

    def learning(self, hour: int) -> Mapping[str, int]:
        """Return what it cannot judge at ``hour`` yet, and from which hour it can, at the earliest."""


@runtime_checkable
class TakesOperations(Protocol):
    """A component that also sees what operators decide, in its order among the rows."""

    def operate(self, operation: Operation) -> Sequence[Event]:
        """Do what an operator decided and return what it opened, changed or closed."""


@runtime_checkable
class TakesRefusals(Protocol):
    """A component that also sees the readings that were refused, in their order among the rows."""

    def take_refusal(self, refusal: Refusal) -> Sequence[Event]:
        """Take in a reading that was refused and return what was found."""


@runtime_checkable
class TakesTime(Protocol):
    """A component that also sees the event time that passes on its partition while the station sends nothing."""

    @property
    def newest_then(self) -> int:
        """The newest hour of the partition when the station's last row came, -1 before its first."""

    def note_newest(self, newest: int) -> None:
        """Note the newest hour of the partition as of the station's latest row."""

    def pass_time(self, newest: int) -> Sequence[Event]:
        """Return what is found because the partition's newest hour is ``newest`` now."""


_TAKES: dict[tuple[type, type], bool] = {}


def takes(part: object, protocol: type) -> bool:
    """Whether a component is of a protocol; each class is looked at once, for that takes as long as the component's rows.

    >>> takes(object(), TakesTime)
    False
    """
    key = type(part), protocol
    if key not in _TAKES:
        _TAKES[key] = isinstance(part, protocol)
    return _TAKES[key]


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


class Buffer(Protocol):
    """The recent hours of one station; see ``feature_buffer.FeatureBuffer``."""

    newest_hour: int | None
    warmed_hours: int

    def push(self, reading: Reading, kafka_hour: int | None = None) -> Outcome:
        """Accept one reading in the order of the stream; raises ``InvalidRecord`` if it cannot be."""

    def fill(self, truth: LateTruth) -> TruthOutcome:
        """Let a late truth fill its hour, in the order of the stream."""

    def arrival(self, most_hours: int) -> Arrival | None:
        """Return what came since, to be taken in with other stations' hours; None where :meth:`take` is to be called."""

    def take(self) -> tuple[NDArray[np.float64], list[tuple[int, int]]]:
        """Return hours, ``(n_hours, n_columns)``, and the ``(grid index, hour)`` of each ready reading, in order."""

    def state(self) -> object:
        """Return everything the buffer holds, a frozen dataclass."""
