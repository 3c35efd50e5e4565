"""How far the consumers are behind, as the broker knows it: figures that stay true while no consumer runs.

A consumer's own figures end with it. This program joins no group and commits nothing; it compares what the group has
committed with what the raw topic holds, every few seconds, and exposes the difference to Prometheus.
"""

from __future__ import annotations

import argparse
import logging
import math
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Protocol, Self

from kafka import TopicPartition
from kafka.admin import OffsetSpec
from kafka.errors import CoordinatorNotAvailableError, GroupIdNotFoundError
from prometheus_client import CollectorRegistry

from airquality.ground import command, log
from airquality.ground.errors import Unavailable
from airquality.ground.program import stop_on_signals
from airquality.ground.settings import Settings, read_settings
from airquality.metrics import GroupMetrics, expose_process
from airquality.stream import kafka_io
from airquality.stream.exposition import exposed, health_page, metrics_page

#: A consumer's absence must show within a minute: measured this often, scraped every 15 s.
MEASURE_SECONDS = 5.0
#: Longer than a measurement that had to find a new leader.
SILENT_SECONDS = 20.0
COORDINATOR_SECONDS = 10.0

logger = logging.getLogger("lag")


@dataclass(frozen=True)
class GroupState:
    """What a broker says of the consumer group: rows that wait, by partition of the raw topic, and members of the group."""

    lag: dict[int, int]
    members: int


class GroupReader:
    """Ask the broker for the state of the group, over one connection; close it when done.

    Raises:
        Unavailable: no broker answers.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        with kafka_io.kafka_errors_as_unavailable(settings, "DESCRIBE"):
            self._admin = kafka_io.open_admin(settings)

    def read(self) -> GroupState:
        """Return the state now; raises ``Unavailable``."""
        with kafka_io.kafka_errors_as_unavailable(self._settings, "DESCRIBE"):
            return self._once_coordinated(lambda: GroupState(self._lag(), self._members()))

    def close(self) -> None:
        """Drop the connection."""
        self._admin.close()

    @staticmethod
    def _once_coordinated(ask: Callable[[], GroupState]) -> GroupState:
        """Ask again while the broker makes its topic of offsets, which it does at the first question about any group."""
        deadline = time.monotonic() + COORDINATOR_SECONDS
        while True:
            try:
                return ask()
            except CoordinatorNotAvailableError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.2)

    def _lag(self) -> dict[int, int]:
        """Return how many records of each partition wait; of a group that has committed nothing, all that are there."""
        name = self._settings.raw_topic
        [topic] = self._admin.describe_topics([name])
        every = [TopicPartition(name, partition["partition_index"]) for partition in topic["partitions"]]
        if not every:  # the topic is yet to be made
            return {}
        starts = self._offsets(every, OffsetSpec.EARLIEST)
        ends = self._offsets(every, OffsetSpec.LATEST)
        committed = self._committed()
        return {each.partition: max(0, ends[each] - max(committed.get(each, 0), starts[each])) for each in every}

    def _offsets(self, every: list[TopicPartition], spec: OffsetSpec) -> dict[TopicPartition, int]:
        """Return offsets; the end includes rows after a transaction that a producer left open, which wait for it."""
        found = self._admin.list_partition_offsets(dict.fromkeys(every, spec), "READ_UNCOMMITTED")
        return {each: int(offset.offset) for each, offset in found.items()}

    def _committed(self) -> dict[TopicPartition, int]:
        group = self._settings.consumer_group
        try:
            found = self._admin.list_group_offsets(group)[group]
        except GroupIdNotFoundError:
            return {}
        return {each: int(offset.offset) for each, offset in found.items()}

    def _members(self) -> int:
        group = self._settings.consumer_group
        return len(self._admin.describe_groups([group])[group]["members"])


class GroupStates(Protocol):
    """What a :class:`LagWatch` asks."""

    def read(self) -> GroupState:
        """Return the state now; raises ``Unavailable``."""

    def close(self) -> None:
        """Drop the connection."""


@dataclass
class LagWatch:
    """Measures again and again, and knows when the broker answered last; what is not known is not shown as a figure."""

    metrics: GroupMetrics
    open_reader: Callable[[], GroupStates]
    clock: Callable[[], float] = time.time
    answered: float = 0.0
    _reader: GroupStates | None = field(default=None, init=False)

    def measure(self) -> None:
        """Ask once; where no broker answers, say so and forget the connection and the figures."""
        try:
            self._reader = self._reader or self.open_reader()
            state = self._reader.read()
        except Unavailable as error:
            logger.warning("%s; the lag is not known", error)
            self.close()
            self.metrics.lag.clear()
            self.metrics.members.set(math.nan)
            return
        self.answered = self.clock()
        self.metrics.kafka_answered.set(self.answered)
        self.metrics.members.set(state.members)
        for partition, records in state.lag.items():
            self.metrics.lag.labels(partition).set(records)

    def faults(self) -> list[str]:
        """Return what is wrong, in words; empty if nothing is."""
        silence = self.clock() - self.answered
        if silence <= SILENT_SECONDS:
            return []
        return [f"Kafka has not answered for {silence:.0f} s" if self.answered else "Kafka has not answered yet"]

    def close(self) -> None:
        """Drop the connection, if there is one."""
        if self._reader:
            self._reader.close()
        self._reader = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_DESCRIPTION = """\
Expose how many rows of the raw topic wait for the consumers, and how many consumers the group has, as the broker knows it:
figures that stay true while no consumer runs. GET /metrics for Prometheus, GET /health. Runs until stopped.

air_quality_group_lag_records{partition}   records between what the group has committed and the end
air_quality_group_members                  consumers in the group now
"""
_EXAMPLES = """\
examples:
  python -m airquality lag                       http://localhost:8002/metrics
  python -m airquality lag --port 0 --once       print the lag and the members, and end

exit status: 0 done or stopped on request, 1 no broker answers (--once), 2 wrong usage
"""


def _parser() -> argparse.ArgumentParser:
    parser = command.parser("python -m airquality lag", _DESCRIPTION, _EXAMPLES)
    parser.add_argument("--port", type=command.port, default=8002, help="%(default)s; 0 for any free one")
    parser.add_argument(
        "--host", default="auto", help="addresses to listen on, comma separated (%(default)s: this machine, Docker's bridge)"
    )
    parser.add_argument("--once", action="store_true", help="print the figures and end")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 0 done, 1 failure, 2 usage."""
    args = _parser().parse_args(argv)
    return command.run("lag", lambda: _once() if args.once else _serve(args.host, args.port))


def _once() -> None:
    settings = read_settings()
    with closing(GroupReader(settings)) as reader:
        state = reader.read()
    listed = ", ".join(f"partition {partition}: {records}" for partition, records in sorted(state.lag.items()))
    print(
        f"{settings.consumer_group}: {sum(state.lag.values())} rows wait ({listed or 'no topic'}), {state.members} members"
    )


def _serve(host: str, port: int) -> None:
    settings = read_settings()
    log.configure(settings.log_level, settings.log_format)
    stopped = threading.Event()
    stop_on_signals(stopped.set)
    registry = CollectorRegistry()
    expose_process(registry)
    with LagWatch(GroupMetrics(registry), lambda: GroupReader(settings)) as watch:
        pages = {"/metrics": lambda: metrics_page(registry), "/health": lambda: health_page(watch.faults())}
        with exposed(host, port, pages):
            while not stopped.is_set():
                watch.measure()
                stopped.wait(MEASURE_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
