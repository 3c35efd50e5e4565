"""Kafka as lists, and monitoring without a report process: what it takes to run a worker, and to crash it, in memory.

The lists behave as the real thing does where it matters: a transaction is all or nothing, its marker takes an offset, and
nothing but what was committed outlives a worker.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airquality.events import WindowSettled
from airquality.ground.typed import Document
from airquality.incoming import Operation
from airquality.model.predictor import Answers, FeatureRows
from airquality.monitoring.detectors import Detectors
from airquality.records import Reading, RowAnswer, Served
from airquality.reports.due import Due, Job, ReportResult
from airquality.reports.summary import PartitionFigures, added
from airquality.stream.account import Topics
from airquality.stream.kafka_io import Record
from airquality.stream.station import Station
from airquality.stream.transactions import Message, Position, Written
from airquality.truth.interval_calibration import IntervalCalibration
from tests import stations


class SimulatedKafka:
    """The topics of a broker and the positions of one group."""

    def __init__(self) -> None:
        self.logs: dict[tuple[str, int], list[Record]] = {}
        self.headers: dict[tuple[str, int, int], dict[str, str]] = {}
        self.positions: dict[int, Position] = {}
        self.transactions = 0
        self.topics = Topics("raw-1", "pred-1", "state-1", "dlq-1", partitions=2)
        self.starts: dict[tuple[str, int], int] = {}
        self._ends: dict[tuple[str, int], int] = {}

    def log(self, topic: str, partition: int = 0) -> list[Record]:
        """Return the committed records of a partition."""
        return self.logs.setdefault((topic, partition), [])

    def append(
        self,
        topic: str,
        partition: int,
        key: bytes | None,
        value: bytes | None,
        timestamp_ms: int = -1,
        headers: tuple[tuple[str, bytes | None], ...] = (),
    ) -> int:
        """Write one record and return its offset."""
        offset = self.end(topic, partition)
        self.log(topic, partition).append(Record(partition, offset, key, value, timestamp_ms, headers))
        self._ends[topic, partition] = offset + 1
        return offset

    def recreate(self, topic: str, role: str) -> None:
        """Delete a topic and make another one of the same name."""
        ids: dict[str, Any] = {role: f"{getattr(self.topics, role)}, made anew"}
        self.topics = replace(self.topics, **ids)
        for part in [part for part in self.logs if part[0] == topic]:
            del self.logs[part]
            self._ends.pop(part, None)

    def skip(self, topic: str, partition: int) -> None:
        """Use up an offset without a record, as a transaction's marker does."""
        self._ends[topic, partition] = self.end(topic, partition) + 1

    def end(self, topic: str, partition: int) -> int:
        """Return the offset the next record gets."""
        return self._ends.get((topic, partition), 0)

    def read(self, topic: str, partition: int, start: int | None = None, stop: int | None = None) -> Iterator[Record]:
        """Yield the records from ``start`` up to ``stop``, exclusive."""
        low, high = start or 0, self.end(topic, partition) if stop is None else stop
        return (record for record in list(self.log(topic, partition)) if low <= record.offset < high)

    def commit(self, messages: Iterable[Message], positions: Mapping[int, Position]) -> Written:
        """Do one transaction and return where each partition goes on."""
        written: Written = {}
        for message in messages:
            if message.key is None and message.value is None:
                raise ValueError("Need at least one: key or value")  # as the client does
            offset = self.append(message.topic, message.partition, message.key, message.value, headers=message.headers)
            headers = {name: text.decode() for name, text in message.headers}
            self.headers[message.topic, message.partition, offset] = headers
            written[message.topic, message.partition] = offset + 1
        for topic, partition in written:
            self.skip(topic, partition)
        self.positions.update(positions)
        self.transactions += 1
        return written

    def log_ranges(self, topics: Iterable[str], partition: int) -> dict[str, tuple[int, int]]:
        """Return, by topic, the oldest offset that is there, and the offset the next record gets."""
        return {topic: (self.starts.get((topic, partition), 0), self.end(topic, partition)) for topic in topics}

    def topics_now(self) -> Topics:
        """Return the topics' ids."""
        return self.topics

    def group_positions(self, n_partitions: int) -> dict[int, tuple[int, str]]:
        """Return the group's committed position."""
        return {partition: (at.offset, at.note) for partition, at in self.positions.items()}


class Monitors:
    """A monitoring service whose reports are made when the test says so: real stations, no process."""

    def __init__(self, detectors: Detectors | None = None, intervals: IntervalCalibration | None = None) -> None:
        self.detectors = detectors or Detectors(None)
        self.opener = stations.opener(self.detectors, intervals)
        self.stations: dict[str, Station] = {}
        self.waiting: deque[Job] = deque()
        self.made: list[tuple[str, str, int]] = []
        self.summaries: list[dict[str, Any]] = []
        self.served: list[Served] = []
        self.goes_on = False

    def open_station(self, station_id: str, saved: Document | None = None) -> Station:
        """Open a station with a real buffer and real components."""
        made = self.stations[station_id] = self.opener.open(station_id, saved)
        return made

    def forget(self, station: Station) -> None:
        self.stations.pop(station.station_id, None)
        self.opener.close(station)
        self.waiting = deque(window for window in self.waiting if window.station_id != station.station_id)

    @property
    def backlog(self) -> int:
        return len(self.waiting)

    def judge(self, arrived: Sequence[tuple[Station, Sequence[Reading | Operation]]]) -> None:
        self.opener.judge_hours(arrived)

    def submit(self, windows: Iterable[Job], stations: Mapping[str, Station]) -> None:
        self.waiting.extend(job for job in windows if not isinstance(job, WindowSettled) or job.changes_page)

    def show_alarms(self, stations: Iterable[Station]) -> None:
        pass

    def show(self, stations: Iterable[Station]) -> None:
        pass

    def finish(self, n_windows: int) -> list[ReportResult]:
        """Let that many reports end."""
        results = []
        for _ in range(min(n_windows, len(self.waiting))):
            window = self.waiting.popleft()
            path = Path(f"reports/{window.kind.name}.html")
            results.append(ReportResult(window.station_id, window.kind.name, window.end_hour, "generated", path))
            ledger = self.stations[window.station_id].reports
            ledger.take_stored(Due.of(window))
            ledger.take_made(Due.of(window))
            self.made.append((window.station_id, window.kind.name, window.end_hour))
        return results

    def poll(self) -> list[ReportResult]:
        """Finish every report at once, as a fast report process does between two polls."""
        return self.finish(len(self.waiting))

    @property
    def uncalibrated(self) -> tuple[str, ...]:
        return tuple(sorted(self.opener.judge.uncalibrated))

    def begin(self, served: Served, *, goes_on: bool) -> None:
        self.goes_on = goes_on

    def recall_uncalibrated(self, versions: Iterable[str]) -> None:
        pass

    def note_served(self, served: Served) -> None:
        self.served.append(served)

    def close(self) -> None:
        pass

    def write_summary(self, owned: Mapping[int, PartitionFigures]) -> None:
        self.summaries.append(added(figures.counts for figures in owned.values()))


_VALUES = stations.values_of(2_000, seed=11)
_VALUES[:, -3:] /= 4  # T, RH and AH have narrow limits
_VALUES[np.random.default_rng(12).random(_VALUES.shape) < 0.05] = np.nan


def reading(station: int, hour: int, variant: int = 0) -> Reading:
    """Return the reading of a made-up station: the same for the same arguments, some of its values missing."""
    values = _VALUES[(hour + 701 * station + 97 * variant) % len(_VALUES)]
    return Reading(f"station_{station}", hour, tuple(values.tolist()))


def predicted(rows: FeatureRows) -> list[RowAnswer]:
    """Predict by a checksum of each row: one changed bit changes the prediction. The version changes along the stream."""
    values = [zlib.crc32(row.tobytes()) / 2**32 * 10 for row in np.ascontiguousarray(rows.matrix)]
    return [(value, str(1 + offset // 400)) for value, offset in zip(values, rows.offsets, strict=True)]


@dataclass(frozen=True)
class Predicts:
    """A function that predicts rows once their answers are waited for, as late as can be."""

    function: Callable[[FeatureRows], Sequence[RowAnswer]] = predicted

    def begin(self, asked: FeatureRows) -> Answers:
        return lambda: self.function(asked)


def rows_of(matrix: NDArray[np.float64]) -> FeatureRows:
    """Return the rows of a matrix as those of one station, an hour and an offset each."""
    every = range(len(matrix))
    return FeatureRows(matrix, ["station_0"] * len(matrix), every, every, 0)
