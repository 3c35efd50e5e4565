"""What is committed in Kafka, read outside of the group."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from airquality.ground.settings import Settings
from airquality.stream import kafka_io
from airquality.stream.account import Topics
from airquality.stream.kafka_io import Record
from airquality.stream.ports import Reader


class KafkaReader:
    """The committed records, offsets and notes of one group's topics on a broker."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def read(self, topic: str, partition: int, start: int | None = None, stop: int | None = None) -> Iterator[Record]:
        """Yield the committed records from ``start`` (None: the oldest) up to ``stop`` (None: today's end), exclusive."""
        return kafka_io.read(self._settings, topic, partition, start, stop)

    def log_ranges(self, topics: Iterable[str], partition: int) -> dict[str, tuple[int, int]]:
        """Return, by topic, the oldest offset of the partition that is there, and the offset its next record gets."""
        return kafka_io.log_ranges(self._settings, topics, partition)

    def topics_now(self) -> Topics:
        """Return the ids and the partition count of the topics."""
        return kafka_io.topics_now(self._settings)

    def group_positions(self, n_partitions: int) -> dict[int, tuple[int, str]]:
        """Return the group's offset of every raw partition that has one, and the note committed with it."""
        return kafka_io.group_positions(self._settings, n_partitions)


def newest(
    reader: Reader, topic: str, partition: int, within: tuple[int, int], found_in: Callable[[Record], int | None]
) -> int:
    """Return what ``found_in`` finds in the newest committed record in which it finds anything, -1 if there is none.

    Reads backwards in growing steps ``within`` these offsets, so that the cost is that of the records after it.
    """
    start, stop = within
    step = 16
    while stop > start:
        first = max(start, stop - step)
        found = [found_in(record) for record in reader.read(topic, partition, first, stop)]
        numbers = [number for number in found if number is not None]
        if numbers:
            return numbers[-1]
        stop, step = first, 8 * step
    return -1
