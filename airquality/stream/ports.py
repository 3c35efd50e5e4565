"""What the loop is connected to, as protocols: tests stand other things in for each of them.

What a station is made of is in ``airquality.monitoring.component``, the rows a predictor is given in
``airquality.model.predictor``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from airquality.ground.typed import Document
from airquality.incoming import Operation
from airquality.model.predictor import Answers, FeatureRows
from airquality.records import Reading, Served
from airquality.reports.due import Job, ReportResult
from airquality.reports.summary import PartitionFigures
from airquality.stream.account import Topics
from airquality.stream.kafka_io import Record
from airquality.stream.station import Station
from airquality.stream.transactions import Message, Ownership, Poll, Position, Written

#: Opens a station by its id: anew, or from the document of its snapshot.
OpenStation = Callable[[str, Document | None], Station]


class Predictions(Protocol):
    """Where a partition has its rows predicted: the service, one model a station, what was published before a restart."""

    def begin(self, asked: FeatureRows) -> Answers:
        """Begin to have rows predicted, and return what waits for the answers: the caller has other work until then."""


class Service(Predictions, Protocol):
    """The prediction service; see ``airquality.model.client.PredictionClient``."""

    def check(self) -> Served:
        """Return what the served model says of itself."""


class Monitoring(Protocol):
    """The monitoring service, which makes the stations and is told what becomes of them; see ``monitoring_service``."""

    def open_station(self, station_id: str, saved: Document | None = None) -> Station:
        """Return a station, from the document of its snapshot if there is one."""

    @property
    def backlog(self) -> int:
        """How much of reports is neither made nor failed yet."""

    def judge(self, arrived: Sequence[tuple[Station, Sequence[Reading | Operation]]]) -> None:
        """Judge accepted rows of many stations, and operations between them, before each station takes its own in."""

    def submit(self, windows: Iterable[Job], stations: Mapping[str, Station]) -> None:
        """Queue closed and settled windows for their reports, once what closed or settled them is committed."""

    def show_alarms(self, stations: Iterable[Station]) -> None:
        """Show which alarms are open, after the rows that opened or closed some are committed."""

    def show(self, stations: Iterable[Station]) -> None:
        """Show all that is known of stations that were brought back."""

    def poll(self) -> Iterable[ReportResult]:
        """Collect the reports that have ended."""

    def forget(self, station: Station) -> None:
        """Let go of a station that this consumer no longer owns."""

    @property
    def uncalibrated(self) -> tuple[str, ...]:
        """The model versions whose predictions are judged against another model's reference."""

    def begin(self, served: Served, *, goes_on: bool) -> None:
        """Begin with the served model; raises ``ContractError`` where nothing was predicted yet and it is another's."""

    def recall_uncalibrated(self, versions: Iterable[str]) -> None:
        """Remember versions that a process before this one was not calibrated for."""

    def note_served(self, served: Served) -> None:
        """Note that another model predicts from now on, whether or not the monitoring was calibrated for it."""

    def close(self) -> None:
        """End whoever makes reports, at once; what is still due is made after the next start."""

    def write_summary(self, owned: Mapping[int, PartitionFigures]) -> None:
        """Write the summary, with what the consumer counted."""


class Stream(Protocol):
    """The raw topic, consumed in a group, and its transactions; see ``transactions.TransactionalStream``."""

    def poll(self, timeout_seconds: float, max_records: int) -> Poll:
        """Wait for records; also where rebalances happen."""

    def keep_membership(self, timeout_seconds: float) -> Poll:
        """Stay in the group for that time without taking records."""

    def start(self, partition: int, offset: int) -> None:
        """Read a gained partition from ``offset`` on."""

    def position(self, partition: int) -> Position | None:
        """Return the offset the group has committed for a raw partition, with its note; None without one."""

    def commit(self, messages: Iterable[Message], positions: Mapping[int, Position], ownership: Ownership) -> Written:
        """Publish ``messages`` and move the group to ``positions``, all or nothing; return where the topics go on."""

    def lag(self) -> dict[int, int]:
        """Return, by partition, how many offsets of the raw topic lie between this consumer and the end."""


class Reader(Protocol):
    """What is committed in Kafka, read outside of the group; see ``airquality.stream.reader.KafkaReader``."""

    def read(self, topic: str, partition: int, start: int | None = None, stop: int | None = None) -> Iterator[Record]:
        """Yield the committed records from ``start`` (None: the oldest) up to ``stop`` (None: today's end), exclusive."""

    def log_ranges(self, topics: Iterable[str], partition: int) -> dict[str, tuple[int, int]]:
        """Return, by topic, the oldest offset of the partition that is there, and the offset its next record gets."""

    def topics_now(self) -> Topics:
        """Return which topics there are now."""

    def group_positions(self, n_partitions: int) -> dict[int, tuple[int, str]]:
        """Return the offset and the note the group has committed, by raw partition."""
