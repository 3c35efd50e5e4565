"""What came of the records of one partition: the outcome of each, and what is to be published and reported."""

from __future__ import annotations

from dataclasses import dataclass, field

from airquality.events import Finding, WindowSettled
from airquality.ground.errors import InvalidRecord
from airquality.monitoring.drift import Window
from airquality.records import Prediction, Reading
from airquality.stream.account import Counts
from airquality.stream.kafka_io import Record


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that was refused, and why."""

    record: Record
    error: InvalidRecord


@dataclass
class Batch:
    """What came of the records of one partition: the outcome of each, in order, and what to publish and report.

    ``windows`` closed, and their reports are to be made; the truth of ``settled`` is final, which their reports are to say.
    """

    counts: Counts = field(default_factory=Counts)
    predictions: list[Prediction] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)
    settled: list[WindowSettled] = field(default_factory=list)
    duplicates: list[Reading] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    warming: Reading | None = None
    #: The latest accepted row of each station.
    arrivals: dict[str, tuple[Reading, Record]] = field(default_factory=dict)

    def refuse(self, record: Record, error: InvalidRecord) -> None:
        """Count a record as a dead letter."""
        self.dead_letters.append(DeadLetter(record, error))
        self.counts.dead_letters[error.reason] = self.counts.dead_letters.get(error.reason, 0) + 1
