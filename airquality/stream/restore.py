"""Bring the partitions that are gained back from Kafka, after judging whether what it holds of them belongs together."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from airquality.ground.errors import Refused
from airquality.ground.settings import Settings
from airquality.ground.shown import named
from airquality.reports.due import Job
from airquality.stream.account import Note, Topics
from airquality.stream.dead_letters import refused_row, refused_rows
from airquality.stream.homes import Homes
from airquality.stream.identity import BelongsTogether, Facts, FirstStart, Plan, Rejected, Repaired, judge
from airquality.stream.kafka_io import Record
from airquality.stream.partition import PartitionState
from airquality.stream.partitioners import moved_to
from airquality.stream.ports import Monitoring, OpenStation, Reader, Stream
from airquality.stream.reader import newest
from airquality.stream.replay import prediction_of, replay
from airquality.stream.saved import NOTE_HEADER, SavedStations

#: How long what was read of the other partitions holds: those that are gained together are restored one by one.
GROUP_SECONDS = 5.0

logger = logging.getLogger("consumer")


@dataclass(frozen=True)
class Restored:
    """A partition's state, and what comes with it.

    Attributes:
        state: The stations and counts.
        windows: Those whose reports may not have been written.
        rows_lost: The rows whose loss was accepted now.
        refusal: Why the consumer must not go on once this is saved, if so.
    """

    state: PartitionState
    windows: list[Job]
    rows_lost: int
    refusal: Refused | None


class Restorer:
    """Restores partitions, and remembers between them which stations live where.

    Args:
        settings: Where everything is.
        reader: Reads what is committed.
        stream: Knows the committed offsets of the group.
        open_station: Opens a station.
        monitoring: Judges rows, and lets go of stations.
        clock: Monotonic seconds.
        accept_loss: Whether an operator said that a loss may be accepted.
    """

    def __init__(
        self,
        settings: Settings,
        reader: Reader,
        stream: Stream,
        open_station: OpenStation,
        monitoring: Monitoring,
        clock: Callable[[], float],
        accept_loss: bool = False,
    ) -> None:
        self._settings = settings
        self._reader = reader
        self._stream = stream
        self._open_station = open_station
        self._monitoring = monitoring
        self._clock = clock
        self._accept_loss = accept_loss
        self._homes = Homes(self._look_now_and_then)
        self._restored: set[int] = set()
        self._read_up_to: dict[int, int] = {}  # of the state topic's partitions, for the homes
        self._carried: dict[int, Note] = {}  # the newest note that the snapshots of each partition carry
        self._saved: dict[int, SavedStations] = {}  # what was read of partitions that are restored next
        self._group: tuple[float, list[Note]] = (-math.inf, [])
        self._looked = -math.inf

    def restore(self, partition: int, together: Collection[int] = ()) -> Restored:
        """Return the state of a gained partition.

        Args:
            partition: The partition.
            together: Those that are restored next: what the state topic holds of them is read once, with a look at others.

        Raises:
            Refused: what Kafka holds of it does not belong together; the message names the loss and the choices.
        """
        topics = self._reader.topics_now()
        if self._clock() - self._looked > GROUP_SECONDS:
            self._look(topics.partitions, {partition, *together})
        saved = self._saved.pop(partition, None) or self._read_saved(partition)
        self._name_foreign(saved, partition)
        found = self._facts(partition, topics, saved)
        facts = self._after_another_dlq(found)
        same_dlq = facts is found
        facts, refusal = self._settle(facts)
        plan, rows_lost = self._decide(facts)
        plan = replace(plan, note=replace(plan.note, topics=facts.topics), strict=plan.strict and not self._accept_loss)
        state = PartitionState(
            partition,
            plan.note,
            self._open_station,
            self._monitoring,
            self._clock,
            self._homes,
            self._settings.consumer_group,
        )
        self._monitoring.recall_uncalibrated(plan.note.uncalibrated)
        windows = self._replay(state, plan, saved, facts, same_dlq)
        as_committed = plan.note == facts.note and facts.committed == plan.resume
        state.dirty = not as_committed or bool(saved.forgotten)
        self._restored.add(partition)
        return Restored(state, windows, rows_lost, refusal)

    def has_predicted(self) -> bool:
        """Return whether the group has published a prediction before: its committed notes say so, or its snapshots'."""
        n_partitions = self._reader.topics_now().partitions
        if any(note.counts.predictions for note in self._group_notes(n_partitions)):
            return True
        return any(self._predictions_saved(partition) for partition in range(n_partitions))

    def _predictions_saved(self, partition: int) -> bool:
        """Return whether the newest snapshot of a partition says that predictions had been published."""
        topic = self._settings.state_topic
        ranges = self._reader.log_ranges((topic,), partition)
        return self._newest(topic, partition, 0, ranges, _predictions_before) > 0

    def release(self, partition: int) -> None:
        """Note that another consumer owns the partition now."""
        self._restored.discard(partition)

    def _name_foreign(self, saved: SavedStations, partition: int) -> None:
        for what, keys in (("records that are not ours", saved.foreign), ("snapshots older than those before", saved.stale)):
            if keys:
                where = f"{self._settings.state_topic} partition {partition}"
                logger.warning("%s: %s under %s are passed over", where, what, named(keys))

    def _after_another_dlq(self, facts: Facts) -> Facts:
        """Say that the dead-letter topic is another one than before, and forget the offset in the old one."""
        notes = [note for note in (facts.note, facts.saved) if note and note.topics.is_other("dlq", facts.topics)]
        if not notes:
            return facts
        lost = sum(max(notes, key=lambda note: note.age).counts.dead_letters.values())
        logger.warning(
            "%s was deleted and created anew: the %d dead letters that partition %d published are gone; rows go on",
            *(self._settings.dlq_topic, lost, facts.partition),
        )
        return replace(facts, note=_of_another_dlq(facts.note), saved=_of_another_dlq(facts.saved))

    def _settle(self, facts: Facts) -> tuple[Facts, Refused | None]:
        """Return the facts to go on with, and why only to save what is there.

        Where partitions were added while rows are in no snapshot yet, the partition is brought back once more as it was.
        """
        verdict = judge(facts)
        carried = facts.note or facts.saved
        if not isinstance(verdict, Rejected) or verdict.plan or carried is None or carried.replay_offset is None:
            return facts, None
        before = replace(facts.topics, partitions=carried.topics.partitions)
        return replace(facts, topics=before), Refused(verdict.why)

    def _decide(self, facts: Facts) -> tuple[Plan, int]:
        verdict = judge(facts)
        match verdict:
            case FirstStart() | BelongsTogether():
                return verdict.plan, 0
            case Repaired():
                logger.warning("%s: repaired, nothing is lost or repeated", verdict.why)
                return verdict.plan, 0
            case Rejected():
                if not self._accept_loss or verdict.plan is None:
                    raise Refused(verdict.why)
                logger.warning("%s: accepted", verdict.why)
                before = facts.note or facts.saved or Note()
                return verdict.plan, max(0, verdict.plan.note.counts.rows_lost - before.counts.rows_lost)

    def _facts(self, partition: int, topics: Topics, saved: SavedStations) -> Facts:
        settings, committed = self._settings, self._stream.position(partition)
        note = Note.decode(committed.note) if committed else None
        notes = [found for found in (note, saved.note) if found is not None and not found.topics.is_other("raw", topics)]
        latest = max(notes, key=lambda found: found.age, default=Note())
        raw, pred, dlq = settings.raw_topic, settings.pred_topic, settings.dlq_topic
        ranges = self._reader.log_ranges((raw, pred, dlq), partition)
        others = {note.topics for note in self._group_notes(topics.partitions)}
        carried = {note.topics for note in self._carried.values()}
        dlq_floor = 0 if latest.topics.is_other("dlq", topics) else latest.dlq_floor
        return Facts(
            raw_topic=raw,
            partition=partition,
            log_start=ranges[raw][0],
            log_end=ranges[raw][1],
            committed=committed.offset if committed else None,
            note=note,
            saved=saved.note,
            n_saved=len(saved.snapshots) + len(saved.forgotten),
            foreign_keys=tuple(sorted(saved.foreign)),
            newest_prediction=self._newest(pred, partition, latest.pred_floor, ranges, self._source_of_prediction),
            newest_dead_letter=self._newest(dlq, partition, dlq_floor, ranges, self._source_of_dead_letter),
            topics=topics,
            group=frozenset(others or carried),
            pred_end=ranges[pred][1],
            dlq_start=ranges[dlq][0],
            dlq_end=ranges[dlq][1],
            pred_topic=pred,
            state_topic=settings.state_topic,
            moving=self._moving(topics, others or carried),
        )

    def _group_notes(self, n_partitions: int) -> list[Note]:
        """Return the group's committed notes, read once for partitions that are gained together."""
        read_at, committed = self._group
        if self._clock() - read_at > GROUP_SECONDS:
            notes = [Note.decode(text) for _, text in self._reader.group_positions(n_partitions).values()]
            committed = [note for note in notes if note is not None]
            self._group = self._clock(), committed
        return committed

    def _moving(self, now: Topics, carried: set[Topics]) -> tuple[str, ...]:
        """Return the stations whose rows come on another partition since partitions were added."""
        before = max((topics.partitions for topics in carried), default=now.partitions)
        return tuple(s for s, home in self._homes.all() if moved_to(s, home, before, now.partitions) != home)

    def _newest(
        self,
        topic: str,
        partition: int,
        floor: int,
        ranges: Mapping[str, tuple[int, int]],
        source: Callable[[Record], int | None],
    ) -> int:
        start, end = ranges[topic]
        return newest(self._reader, topic, partition, (max(start, floor), end), source)

    def _source_of_prediction(self, record: Record) -> int | None:
        prediction = prediction_of(record)
        return prediction.source_offset if prediction and prediction.source_partition == record.partition else None

    def _source_of_dead_letter(self, record: Record) -> int | None:
        found = refused_row(record, self._settings)
        return found[0] if found else None

    def _replay(self, state: PartitionState, plan: Plan, saved: SavedStations, facts: Facts, same_dlq: bool) -> list[Job]:
        settings, partition, read = self._settings, state.partition, self._reader.read
        rows: Iterator[Record] = iter(())
        published: Iterator[Record] = iter(())
        refused: Iterator[Record] = iter(())
        if plan.replay_from < plan.resume:
            rows = read(settings.raw_topic, partition, plan.replay_from, plan.resume)
            published = read(settings.pred_topic, partition, plan.note.pred_offset, facts.pred_end)
            refused = read(settings.dlq_topic, partition, plan.note.dlq_offset, facts.dlq_end)
        letters, ends = refused_rows(refused, settings), (facts.pred_end, facts.dlq_end)
        complete = same_dlq and facts.dlq_start <= plan.note.dlq_offset
        return replay(state, self._open_station, plan, saved, rows, published, letters, complete, ends)

    def _look_now_and_then(self) -> None:
        """Look for stations of other consumers, at most once in the time that their snapshots take."""
        if self._clock() - self._looked >= self._settings.snapshot_seconds:
            self._look(max(self._read_up_to, default=-1) + 1)

    def _look(self, n_partitions: int, restored_next: Collection[int] = ()) -> None:
        """Learn from the snapshots of all partitions which stations live there; reads what is new since the last look.

        What partitions hold that are ``restored_next`` is read whole, and kept until then.
        """
        self._looked = self._clock()
        for partition in set(range(n_partitions)) - self._restored - set(self._saved):
            if partition in restored_next:
                self._saved[partition] = self._read_saved(partition)
                continue
            start = self._read_up_to.get(partition, 0)
            records = self._reader.read(self._settings.state_topic, partition, start)
            found = SavedStations(_without_state(records))
            self._read_up_to[partition] = max(start, found.end)
            self._learn(partition, found)

    def _read_saved(self, partition: int) -> SavedStations:
        saved = SavedStations(self._reader.read(self._settings.state_topic, partition))
        self._learn(partition, saved)
        return saved

    def _learn(self, partition: int, saved: SavedStations) -> None:
        """Learn which stations live on a partition, and its newest note."""
        if saved.note is not None:
            self._carried[partition] = saved.note
        for station_id in saved.snapshots:
            self._homes.learn(station_id, partition, saved.since_ms(station_id))
        for station_id in saved.forgotten:
            self._homes.forget(station_id, partition)


def _predictions_before(record: Record) -> int | None:
    """Return how many predictions had been published with a snapshot, None of a record that is none of ours."""
    note = Note.decode(dict(record.headers).get(NOTE_HEADER) or b"")
    return None if note is None else note.counts.predictions


def _of_another_dlq(note: Note | None) -> Note | None:
    return None if note is None else replace(note, dlq_offset=0, dlq_floor=0)


def _without_state(records: Iterator[Record]) -> Iterator[Record]:
    """Yield the records without their values: which station lives where is in key and headers."""
    return (record if record.value is None else record._replace(value=b"") for record in records)
