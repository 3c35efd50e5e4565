"""Topics of the benchmarks: raw ones filled once, and for every round the others, with the stations' snapshots in them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from contextlib import closing

from confluent_kafka import KafkaException, Producer
from kafka import OffsetAndMetadata, TopicPartition
from kafka.errors import KafkaError

from airquality.ground.settings import Settings
from airquality.records import HISTORY_HOURS, Reading
from airquality.stream import kafka_io
from airquality.stream.account import Counts, Note
from airquality.stream.partitioners import murmur2
from airquality.stream.saved import NOTE_HEADER, SINCE_HEADER
from benchmarks.ground import Ground
from benchmarks.lives import GROUP, Lives, name_of

_DEADLINE_SECONDS = 60.0
#: Key, value and headers of a record.
Sent = tuple[bytes, bytes, list[tuple[str, bytes]]]


class Topics:
    """Makes and fills the topics of a run."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._filled: dict[tuple[int, int, int, int], str] = {}
        self._snapshots: dict[int, bytes] = {}
        self.lives = Lives(ground)

    def raw(self, n_stations: int, n_hours: int, partitions: int = 1, past_hours: int = 0) -> str:
        """Return a topic with so many hours of so many stations, filled when it is first asked for."""
        key = n_stations, n_hours, partitions, past_hours
        if key not in self._filled:
            settings = self._settings(self._new_name("raw"), partitions)
            kafka_io.ensure_topics(settings, ["raw"])
            rows = self.lives.rows(n_stations, n_hours, past_hours)
            print(f"  filling {settings.raw_topic}: {n_hours + past_hours:,} hours of {n_stations:,} stations", flush=True)
            self.fill(settings.raw_topic, encoded(rows), partitions)
            self._filled[key] = settings.raw_topic
        return self._filled[key]

    def empty(self, partitions: int = 1) -> str:
        """Return a new raw topic without rows."""
        settings = self._settings(self._new_name("raw"), partitions)
        kafka_io.ensure_topics(settings, ["raw"])
        return settings.raw_topic

    def around(self, raw: str, partitions: int = 1, n_stations: int = 0, **more: object) -> Settings:
        """Return settings of new topics around a raw one, where so many stations are warmed up before its first row.

        ``more`` are settings by their names.
        """
        settings = self._settings(raw, partitions).model_copy(update=more)
        kafka_io.ensure_topics(settings)
        if n_stations:
            self._seed(settings, n_stations, partitions)
        return settings

    def _new_name(self, role: str) -> str:
        """Return the name of a topic that no other section, and no other run on the same broker, has."""
        return f"{self._ground.directory.name}.{role}-{next(self._ground.numbers)}"

    def _settings(self, raw: str, partitions: int) -> Settings:
        own = {f"{role}_topic": self._new_name(role) for role in ("pred", "state", "dlq", "events")}
        return self._ground.settings.model_copy(
            update={
                **own,
                "raw_topic": raw,
                "topic_partitions": partitions,
                "consumer_group": GROUP,
                "kafka_bootstrap_servers": self._ground.broker.bootstrap_servers,
            }
        )

    def _seed(self, settings: Settings, n_stations: int, partitions: int) -> None:
        """Leave everything as a consumer would that has just warmed up the stations: their snapshots, its position."""
        home = {number: murmur2(name_of(number).encode(), partitions) for number in range(n_stations)}
        held, known = Counter(home.values()), kafka_io.topics_now(settings)
        warm = {p: HISTORY_HOURS * held[p] for p in range(partitions)}
        notes = {
            p: Note(counts=Counts(rows_in=warm[p], warmup=warm[p]), n_saved=held[p], topics=known).encode() for p in warm
        }
        records = (
            (name_of(number).encode(), self._snapshot(number), [(NOTE_HEADER, notes[p].encode()), (SINCE_HEADER, b"0")])
            for number, p in home.items()
        )
        self.fill(settings.state_topic, records, partitions)
        self._commit(settings, notes)

    def _snapshot(self, number: int) -> bytes:
        if number not in self._snapshots:
            self._snapshots[number] = self.lives.snapshot(number)
        return self._snapshots[number]

    def _commit(self, settings: Settings, notes: dict[int, str]) -> None:
        """Put the group at the beginning, once the consumers of the round before have left it."""
        positions = {TopicPartition(settings.raw_topic, p): OffsetAndMetadata(0, note, -1) for p, note in notes.items()}
        deadline = time.monotonic() + _DEADLINE_SECONDS
        while True:
            try:
                with closing(kafka_io.open_consumer(settings, group_id=settings.consumer_group)) as client:
                    client.assign(list(positions))
                    client.commit(positions)
                return
            except KafkaError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    def fill(self, topic: str, records: Iterable[Sent], partitions: int = 1) -> None:
        """Send records to the partitions of their keys, and return once the broker has all of them."""
        servers = self._ground.broker.bootstrap_servers
        producer = Producer({"bootstrap.servers": servers, "enable.idempotence": True, "linger.ms": 20, "log_level": 3})
        failures: list[object] = []
        for key, value, headers in records:
            while True:
                try:
                    producer.produce(
                        topic,
                        value,
                        key,
                        murmur2(key, partitions),
                        headers=headers,
                        on_delivery=lambda error, _: failures.append(error) if error else None,
                    )
                    break
                except BufferError:
                    producer.poll(0.1)
        producer.flush(_DEADLINE_SECONDS)
        if failures:
            raise KafkaException(failures[0])


def encoded(rows: Iterable[Reading]) -> Iterable[Sent]:
    """Return rows as records of a raw topic."""
    return ((row.station_id.encode(), row.to_bytes(), []) for row in rows)
