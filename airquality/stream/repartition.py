"""Move the stations' state to where their rows come after partitions were added: ``python -m airquality repartition``."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace

from kafka import OffsetAndMetadata, TopicPartition
from kafka.structs import ConsumerGroupMetadata

from airquality.ground import command, log
from airquality.ground.errors import AirQualityError, ContractError, InvalidRecord, UsageError
from airquality.ground.settings import Settings, read_settings
from airquality.ground.shown import printable
from airquality.incoming import parse_record
from airquality.records import Reading
from airquality.stream import dlq, kafka_io, snapshots
from airquality.stream.account import Note, Topics
from airquality.stream.alone import Alone, alone
from airquality.stream.kafka_io import Record, kafka_errors_as_unavailable
from airquality.stream.partitioners import moved_to
from airquality.stream.saved import SavedStations, headers_of

#: One transaction moves everything; a broker's default allows 15 minutes.
TRANSACTION_TIMEOUT_MS = 600_000


@dataclass(frozen=True)
class Move:
    """A station whose rows come on another partition now."""

    station_id: str
    before: int
    after: int


@dataclass(frozen=True)
class Found:
    """What the group left: the topics, the note of each partition that has one, and the snapshots of each.

    ``refused`` has, by station, where the newest row came that was refused as ``moved``, and that row's hour.
    """

    topics: Topics
    notes: dict[int, Note]
    saved: dict[int, SavedStations]
    refused: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def partitions_before(self) -> int:
        """How many partitions the state is of."""
        return max((note.topics.partitions for note in self.notes.values()), default=self.topics.partitions)


@dataclass(frozen=True)
class Plan:
    """What the group left, how many rows of each station wait on which partition, and what moves because of it."""

    found: Found
    unread: dict[str, Counter[int]]
    moves: list[Move]


def moves(found: Found, unread: dict[str, Counter[int]]) -> list[Move]:
    """Return which stations move: where their rows wait unread, or were refused, or by the partitioner that had sent them.

    A station of which rows wait where it lives stays until they are read.

    Args:
        found: What the group left.
        unread: How many rows of each station wait on which partition.
    """
    planned = []
    for partition, saved in found.saved.items():
        for station_id in saved.snapshots:
            after = _after(found, station_id, partition, list(unread.get(station_id, ())))
            if after != partition:
                planned.append(Move(station_id, partition, after))
    return sorted(planned, key=lambda move: move.station_id)


def _after(found: Found, station_id: str, home: int, waiting: Sequence[int]) -> int:
    """Return where a station is to live, some of whose rows wait on the partitions ``waiting``."""
    if home in waiting:
        return home
    if len(waiting) == 1:
        return waiting[0]
    if station_id in found.refused and not waiting:
        where, hour = found.refused[station_id]
        if hour > _newest_hour(found.saved[home].snapshots[station_id]):  # else its rows go on where it lives
            return where
    return moved_to(station_id, home, found.partitions_before, found.topics.partitions)


def _newest_hour(snapshot: Record) -> int:
    return int(snapshots.decode(snapshot.value or b"")["buffer"]["newest_hour"])


def staying(found: Found, unread: dict[str, Counter[int]]) -> list[str]:
    """Return the stations whose next rows come elsewhere, but not all: some wait unread where they live."""
    return sorted(
        station_id
        for partition, saved in found.saved.items()
        for station_id in saved.snapshots
        if partition in (waiting := unread.get(station_id, ()))
        and (
            len(waiting) > 1
            or moved_to(station_id, partition, found.partitions_before, found.topics.partitions) != partition
        )
    )


def left_behind(planned: list[Move], unread: dict[str, Counter[int]]) -> dict[str, int]:
    """Return how many rows of each moving station wait on a partition that it leaves, or on a third one."""
    waiting = {move.station_id: sum(unread.get(move.station_id, Counter()).values()) for move in planned}
    for move in planned:
        waiting[move.station_id] -= unread.get(move.station_id, Counter())[move.after]
    return {station_id: count for station_id, count in waiting.items() if count}


def repartition(settings: Settings, *, n_partitions: int | None, dry_run: bool, accept_loss: bool) -> str:
    """Move the stations and return what was done in words.

    Raises:
        UsageError: a consumer runs.
        ContractError: there are rows that no snapshot holds, or that would come to a partition their station has left; what
            the group left is not all there; or another run took over.
    """
    _require_stopped(settings)
    if dry_run:
        return _told(_plan(settings, accept_loss), "would move")
    with alone(settings, "repartition", TRANSACTION_TIMEOUT_MS) as run:
        _raise_partitions(settings, n_partitions)
        plan = _plan(settings, accept_loss)
        _move(settings, plan, run)
    return _told(plan, "moved")


def _plan(settings: Settings, accept_loss: bool) -> Plan:
    found = _find(settings)
    unread = _unread(settings, found)
    plan = Plan(found, unread, moves(found, unread))
    if gone := absent(found, settings):
        _require_accepted(accept_loss, f"{gone}; --accept-loss moves what is left, and other stations warm up again")
    if waiting := left_behind(plan.moves, unread):
        _require_accepted(
            accept_loss,
            f"{sum(waiting.values())} rows of {_some(list(waiting))} wait unread on partitions that these stations leave; "
            f"--accept-loss moves the stations all the same, and these rows become dead letters (moved)",
        )
    return plan


def _require_accepted(accept_loss: bool, what: str) -> None:
    if not accept_loss:
        raise ContractError(what)


def absent(found: Found, settings: Settings) -> str:
    """Return which of the group's topics or snapshots are not those of its last commit any more; empty if all are."""
    names = {"raw": settings.raw_topic, "pred": settings.pred_topic, "state": settings.state_topic}
    for partition, note in sorted(found.notes.items()):
        others = [name for role, name in names.items() if note.topics.is_other(role, found.topics)]
        saved = found.saved[partition]
        missing = note.n_saved - len(saved.snapshots) - len(saved.forgotten)
        if others:
            return f"{others[0]} was deleted and created anew since the group's last commit"
        if missing > 0:
            return f"{settings.state_topic} lacks the snapshots of {missing} stations of partition {partition}"
    return ""


def _told(plan: Plan, done: str) -> str:
    found, unread = plan.found, plan.unread
    n_stations = sum(len(saved.snapshots) for saved in found.saved.values())
    lines = [f"{done} {len(plan.moves)} of {n_stations} stations over {found.topics.partitions} partitions"]
    lines += [f"  {move.station_id}: {move.before} -> {move.after}" for move in plan.moves]
    if stay := staying(found, unread):
        lines.append(
            f"{len(stay)} stay for now, because rows of theirs wait where they live: {_some(stay)}. Leave the producers "
            f"stopped; let consumers read to the end and stop them (rows of these stations that wait elsewhere become dead "
            f"letters, moved); run this again; then python -m airquality dlq replay --reason moved sends those rows again"
        )
    return "\n".join(map(printable, lines))


def _require_stopped(settings: Settings) -> None:
    with kafka_errors_as_unavailable(settings), closing(kafka_io.open_admin(settings)) as admin:
        group = admin.describe_groups([settings.consumer_group]).get(settings.consumer_group, {})
    members = group.get("members") or []
    if members:
        raise UsageError(f"group {settings.consumer_group} has {len(members)} consumers running: stop all of them first")


def _raise_partitions(settings: Settings, n_partitions: int | None) -> None:
    """Give all topics the same number of partitions: that of the one that has most, or more where it is asked for."""
    names = kafka_io.topic_names(settings).values()
    counts = {name: len(kafka_io.partitions(settings, name)) for name in names}
    wanted = max([*counts.values(), n_partitions or 0])
    short = {name: wanted for name, count in counts.items() if count < wanted}
    if not short:
        return
    with kafka_errors_as_unavailable(settings, "ALTER"), closing(kafka_io.open_admin(settings)) as admin:
        admin.create_partitions(short)
    for name in short:
        kafka_io.await_partitions(settings, name, wanted)


def _find(settings: Settings) -> Found:
    topics = kafka_io.topics_now(settings)
    notes = {}
    for partition, (offset, text) in kafka_io.group_positions(settings, topics.partitions).items():
        note = Note.decode(text)
        if note is None or note.position != offset or note.replay_offset is not None:
            raise ContractError(
                f"partition {partition} has rows that no snapshot holds: start a consumer once (python consumer.py "
                f"--idle-exit-seconds 5): it saves them, refuses to go on, and then this can be run"
            )
        notes[partition] = note
    if not notes:
        raise ContractError(f"group {settings.consumer_group} has no offsets: there is nothing to move; start the consumers")
    every = range(topics.partitions)
    saved = {p: SavedStations(kafka_io.read(settings, settings.state_topic, p)) for p in every}
    return Found(topics, notes, saved, _refused(settings))


def _refused(settings: Settings) -> dict[str, tuple[int, int]]:
    """Return, by station, on which partition the newest row came that was refused as ``moved``, and the hour it is of."""
    refused: dict[str, tuple[int, int]] = {}
    for letter in dlq.letters(settings, dlq.Filter(reason="moved")):
        with suppress(InvalidRecord):  # a letter whose original was cut
            row = parse_record(letter.key, letter.value)
            if letter.type is None and isinstance(row, Reading):
                known = refused.get(row.station_id, (-1, -1))
                refused[row.station_id] = max(known, (letter.source[1], row.hour), key=lambda found: found[1])
    return refused


def _unread(settings: Settings, found: Found) -> dict[str, Counter[int]]:
    """Return how many rows wait on which partition, by their keys."""
    unread: dict[str, Counter[int]] = {}
    for partition in range(found.topics.partitions):
        note = found.notes.get(partition)
        for record in kafka_io.read(settings, settings.raw_topic, partition, note.position if note else None):
            key = (record.key or b"").decode(errors="backslashreplace")
            unread.setdefault(key, Counter())[partition] += 1
    return unread


def _move(settings: Settings, plan: Plan, run: Alone) -> None:
    """Write every snapshot anew beside the note it belongs to, and all notes, in one transaction."""
    found = plan.found
    after = {move.station_id: move.after for move in plan.moves}
    homes = {s: after.get(s, partition) for partition, saved in found.saved.items() for s in saved.snapshots}
    n_saved = Counter(homes.values())
    notes = {}
    for partition in range(found.topics.partitions):
        start, _ = kafka_io.log_ranges(settings, [settings.raw_topic], partition)[settings.raw_topic]
        before = found.notes.get(partition, Note(start))
        notes[partition] = replace(before, topics=found.topics, n_saved=n_saved[partition])
    offsets = {
        TopicPartition(settings.raw_topic, partition): OffsetAndMetadata(note.position, note.encode(), -1)
        for partition, note in notes.items()
    }
    with run.transaction() as producer:
        for partition, saved in found.saved.items():
            for station_id, record in saved.snapshots.items():
                home = homes[station_id]
                value = record.value or b""
                if home != partition:
                    producer.send(settings.state_topic, key=station_id.encode(), value=None, partition=partition)
                    value = snapshots.encode({**snapshots.decode(value), "offset": -1})  # none of its new partition's rows
                headers = list(headers_of(notes[home].encode().encode(), saved.since_ms(station_id), home))
                producer.send(settings.state_topic, key=station_id.encode(), value=value, headers=headers, partition=home)
        _require_stopped(settings)  # one that started meanwhile went on from what is moved here
        producer.send_offsets_to_transaction(offsets, ConsumerGroupMetadata(settings.consumer_group))


def _some(names: list[str]) -> str:
    rest = len(names) - 3
    return printable(", ".join(names[:3])) + (f" and {rest} more stations" if rest > 0 else "")


_DESCRIPTION = """\
Move the stations' state after partitions were added.

With more partitions the rows of most stations come on another partition than before, where nothing is known of them: the
consumers refuse to start. This moves each station's snapshot to where its rows come now, all in one transaction: stations
keep their history, their figures and their alarms, and nothing is predicted twice. Where rows wait unread, or were refused
because they came elsewhere (moved), they say where that is; else the partitioner that had sent the station home (murmur2 of
Java's clients and this producer, crc32 of librdkafka's).
"""
_EXAMPLES = """\
to add partitions:
  1. stop the producers, let the consumers catch up, stop all consumers
  2. python -m airquality repartition --partitions 6     raises all topics, and moves the stations
  3. start the consumers, then the producers

partitions were added while rows waited unread, or producers went on: leave the producers stopped from here on
  1. stop all consumers; python -m airquality repartition says which stations stay, because rows wait where they live
  2. python consumer.py --idle-exit-seconds 10           reads those; later rows become dead letters (moved)
  3. python -m airquality repartition                    moves these stations to where such rows came
  4. python -m airquality dlq replay --reason moved      sends them again, to where the station lives now
  5. start the consumers; once they have caught up, the producers. Every row is predicted, once

examples:
  python -m airquality repartition --dry-run             after partitions were added already: what would move where
  python -m airquality repartition

exit status: 0 done, 1 failure or refusal, 2 wrong usage
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 0 done, 1 failure, 2 usage."""
    p = argparse.ArgumentParser(
        prog="python -m airquality repartition",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--partitions", type=command.count, metavar="N", help="raise the topics to that many partitions first")
    p.add_argument("--dry-run", action="store_true", help="say which stations would move, and change nothing")
    p.add_argument("--accept-loss", action="store_true", help="move stations though rows wait on partitions that they leave")
    args = p.parse_args(argv)
    try:
        settings = read_settings()
        log.configure(settings.log_level, settings.log_format)
        print(repartition(settings, n_partitions=args.partitions, dry_run=args.dry_run, accept_loss=args.accept_loss))
    except AirQualityError as error:
        print(f"repartition: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
