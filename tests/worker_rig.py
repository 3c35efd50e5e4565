"""A worker among fakes: Kafka, the prediction service, monitoring and the clock are simulated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kafka.structs import ConsumerGroupMetadata
from prometheus_client import CollectorRegistry

from airquality.ground.errors import InvalidRecord, Unavailable
from airquality.ground.settings import Settings
from airquality.metrics import ConsumerMetrics
from airquality.model.predictor import Answers, FeatureRows
from airquality.records import Prediction, RowAnswer, Served
from airquality.stream.account import Note
from airquality.stream.console import Console
from airquality.stream.limits import Limits
from airquality.stream.transactions import Message, Ownership, Poll, Position, Written
from airquality.stream.worker import Worker
from monitoring_service import MonitoringService
from tests.simulated_kafka import Monitors, SimulatedKafka, predicted, reading

SETTINGS = Settings(max_poll_records=100, snapshot_offsets=10**6, snapshot_seconds=30.0)
RAW, PRED, STATE, DLQ = SETTINGS.raw_topic, SETTINGS.pred_topic, SETTINGS.state_topic, SETTINGS.dlq_topic
START = 307_668
MEMBER = ConsumerGroupMetadata("group", 1, "member")


class Clock:
    """A clock that only sleeping and waiting move; ``at`` holds what happens once a time has come."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.at: list[tuple[float, Callable[[], None]]] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        due, self.at = [a for a in self.at if a[0] <= self.now], [a for a in self.at if a[0] > self.now]
        for _, happens in due:
            happens()


class Stream:
    """What a worker sees of a :class:`SimulatedKafka`."""

    def __init__(self, kafka: SimulatedKafka, clock: Clock, partitions: Iterable[int] = (0,)) -> None:
        self.kafka = kafka
        self.clock = clock
        self.polls = [Poll(gained=set(partitions))]  # what the next polls bring besides records
        self.assigned: set[int] = set()
        self.owned: dict[int, int] = {}  # the started ones
        self.news: list[Poll] = []  # what the next looks at the membership bring
        self.held: list[float] = []
        self.fails: list[Exception] = []

    def poll(self, timeout_seconds: float, max_records: int) -> Poll:
        news = self.polls.pop(0) if self.polls else Poll()
        self._assigned(news)
        for partition, offset in self.owned.items():
            taken = list(self.kafka.read(RAW, partition, offset))[:max_records]
            max_records -= len(taken)
            if taken:
                news.records[partition] = taken
                self.owned[partition] = taken[-1].offset + 1
        if not news.records:
            self.clock.sleep(timeout_seconds)
        return news

    def keep_membership(self, timeout_seconds: float) -> Poll:
        self.held.append(self.clock())
        self.clock.sleep(timeout_seconds)
        return self._assigned(self.news.pop(0) if self.news else Poll())

    def start(self, partition: int, offset: int) -> None:
        self.owned[partition] = offset

    def _assigned(self, news: Poll) -> Poll:
        for partition in news.lost:
            self.assigned.discard(partition)
            self.owned.pop(partition, None)
        self.assigned |= news.gained
        news.ownership = Ownership(frozenset(self.assigned), MEMBER)
        return news

    def position(self, partition: int) -> Position | None:
        return self.kafka.positions.get(partition)

    def commit(self, messages: Iterable[Message], positions: Mapping[int, Position], ownership: Ownership) -> Written:
        ownership.require(positions)
        if self.fails:
            raise self.fails.pop()
        return self.kafka.commit(messages, positions)

    def lag(self) -> dict[int, int]:
        return {partition: self.kafka.end(RAW, partition) - offset for partition, offset in self.owned.items()}


@dataclass
class Service:
    """A prediction service that is away as often as the test says."""

    away: int = 0
    fault: Exception | None = None
    check_fault: Exception | None = None
    checks_away: int = 0
    refuses: int = 0  # so many of the first rows have no value
    asked: list[int] = field(default_factory=list)

    def check(self) -> Served:
        if self.check_fault:
            raise self.check_fault
        if self.checks_away > 0:
            self.checks_away -= 1
            raise Unavailable("the prediction service does not answer")
        return Served("1", None, None, None)

    def begin(self, asked: FeatureRows) -> Answers:
        return lambda: self.predict(asked)

    def predict(self, asked: FeatureRows) -> list[RowAnswer]:
        self.asked.append(len(asked))
        if self.fault:
            raise self.fault
        if self.away > 0:
            self.away -= 1
            raise Unavailable("the prediction service does not answer")
        refused: list[RowAnswer] = [InvalidRecord("unpredictable", "no value")] * min(self.refuses, len(asked))
        self.refuses -= len(refused)
        return refused + predicted(replace(asked, offsets=[0] * len(asked)))[len(refused) :]


class Rig:
    """A worker among fakes; ``restart`` replaces it, and what it knew, but not Kafka."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.kafka = SimulatedKafka()
        self.service = Service()
        self.lines: list[str] = []
        self.restart()

    def restart(
        self, monitoring: MonitoringService | None = None, metrics: ConsumerMetrics | None = None, /, **limits: float
    ) -> None:
        """Begin a process; ``monitoring`` replaces the simulated one, with which it shares ``metrics``."""
        self.stream = Stream(self.kafka, self.clock)
        self.monitors = Monitors()
        self.registry = CollectorRegistry()
        monitors = monitoring or self.monitors
        given: dict[str, Any] = {"idle_exit_seconds": 5.0, "started": self.clock(), **limits}
        self.limits = Limits(**given)
        self.worker = Worker(
            SETTINGS,
            self.stream,
            self.kafka,
            self.service,
            monitors,
            metrics or ConsumerMetrics(self.registry),
            Console(self.lines.append, self.clock),
            self.limits,
            self.clock,
        )

    def send(self, first: int, n_hours: int, station: int = 0, partition: int = 0, variant: int = 0) -> None:
        for hour in range(START + first, START + first + n_hours):
            sent = reading(station, hour, variant)
            self.kafka.append(RAW, partition, sent.station_id.encode(), sent.to_bytes())

    def metric(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)

    def note(self, partition: int = 0) -> Note:
        note = Note.decode(self.kafka.positions[partition].note)
        assert note is not None
        return note

    def predictions(self, partition: int = 0) -> list[Prediction]:
        return [Prediction.from_bytes(record.value or b"") for record in self.kafka.log(PRED, partition)]


def kafka_away() -> dict[int, int]:
    """Stand in for ``Stream.lag`` while no broker answers."""
    raise Unavailable("no Kafka broker answers")
