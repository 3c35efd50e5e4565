"""Whether offset, note, snapshots, predictions and topics belong together: decided at every restore, here and nowhere else.

Each of them can be deleted, reset, expired or recreated by a tool or by retention, and none knows of it. What can be proven
from the others is repaired; everything else is refused in one sentence that names the loss, the rows and the choices.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from airquality.ground.shown import named
from airquality.stream.account import Counts, Note, Topics


@dataclass(frozen=True)
class Facts:
    """What a restore finds of one partition.

    Attributes:
        raw_topic: The raw topic's name.
        partition: Its number.
        log_start: The oldest raw offset that is still there.
        log_end: The offset the next raw record gets.
        committed: The group's offset, None if there is none.
        note: The note committed with it, None if there is none or it is not ours.
        saved: The newest note in the headers of this partition's snapshots, None if there is none.
        n_saved: The stations of which a snapshot was found, and those a tombstone forgot.
        foreign_keys: Keys of records in the state topic that are not ours and have no snapshot beside them.
        newest_prediction: The newest raw offset a committed prediction came of, -1 if none.
        newest_dead_letter: The same of dead letters.
        topics: The topics as they are now.
        group: The topics that other partitions of the group carry in their notes and snapshots.
        pred_end: The offset the next prediction gets.
        dlq_start: The oldest dead letter that is still there.
        dlq_end: The offset the next dead letter gets.
        pred_topic: The prediction topic's name.
        state_topic: The state topic's name.
        moving: Stations whose rows come on another partition, where partitions were added.
    """

    raw_topic: str
    partition: int
    log_start: int
    log_end: int
    committed: int | None = None
    note: Note | None = None
    saved: Note | None = None
    n_saved: int = 0
    foreign_keys: tuple[str, ...] = ()
    newest_prediction: int = -1
    newest_dead_letter: int = -1
    topics: Topics = field(default_factory=Topics)
    group: frozenset[Topics] = frozenset()
    pred_end: int = 0
    dlq_start: int = 0
    dlq_end: int = 0
    pred_topic: str = "the prediction topic"
    state_topic: str = "the state topic"
    moving: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """How to bring a partition back.

    Attributes:
        note: What holds at ``note.position``; rows from ``replay_from`` to there rebuild the state.
        replay_from: The first raw offset to read again.
        resume: The first raw offset that is new. Rows from ``note.position`` to here have outcomes that are committed
            already: they are counted, but neither predicted nor published anew.
        strict: Whether every prediction of those rows must be there to be read back.
    """

    note: Note
    replay_from: int
    resume: int
    strict: bool = True


@dataclass(frozen=True)
class FirstStart:
    """The group has never been here."""

    plan: Plan


@dataclass(frozen=True)
class BelongsTogether:
    """Everything is as the last commit left it."""

    plan: Plan


@dataclass(frozen=True)
class Repaired:
    """Something was lost or changed that the rest proves; ``why`` says what and how far."""

    plan: Plan
    why: str


@dataclass(frozen=True)
class Rejected:
    """``why`` names the loss; ``plan`` goes on with it, where an operator accepts it. None: it cannot be accepted."""

    why: str
    plan: Plan | None = None


Verdict = FirstStart | BelongsTogether | Repaired | Rejected


def judge(facts: Facts) -> Verdict:
    """Return whether the facts belong together, and how to go on."""
    first = _partition_count(facts) or _raw_topic(facts) or _nothing_yet(facts)
    if first is not None:
        return first
    base, resume = _base(facts), _resume(facts)
    if base is None:
        return _without_note(facts, resume)
    verdict = _prediction_topic(facts, base) or _log(facts, base, resume) or _state(facts, base, resume)
    verdict = verdict or _evidence(facts, base, resume)
    if verdict is not None:
        return verdict
    plan = Plan(base, min(_first(base), resume), resume)
    if base is facts.note and facts.committed == resume == base.position:
        return BelongsTogether(plan)
    return Repaired(plan, f"{_offset(facts)}; snapshots, predictions and dead letters prove that it was {resume}")


def _offset(facts: Facts) -> str:
    where = f"{facts.raw_topic} partition {facts.partition}"
    if facts.committed is None:
        return f"{where}: no offset is committed"
    return f"{where}: the committed offset {facts.committed} is not the one this group left"


def _partition_count(facts: Facts) -> Verdict | None:
    newest = max((note for note in (facts.note, facts.saved) if note), key=lambda note: note.age, default=None)
    carried = facts.group if newest is None else {newest.topics}
    counts = sorted({topics.partitions for topics in carried} - {0, facts.topics.partitions})
    if not counts:
        return None
    before = ", ".join(map(str, counts))
    moving = ", ".join(facts.moving[:5]) + (f" and {len(facts.moving) - 5} more" if len(facts.moving) > 5 else "")
    return Rejected(
        f"{facts.raw_topic} has {facts.topics.partitions} partitions now, but the stations' state is that of {before}, and "
        f"the rows of {moving or 'stations'} come elsewhere since: with all consumers stopped, run python -m airquality "
        f"repartition, which moves them and what is known of them (--dry-run shows where to), and start again"
    )


def _raw_topic(facts: Facts) -> Verdict | None:
    notes = [note for note in (facts.note, facts.saved) if note is not None]
    carried = {note.topics for note in notes} or set(facts.group)
    if not carried or not all(topics.is_other("raw", facts.topics) for topics in carried):
        return None
    last = max((note.position for note in notes), default=0)
    return Rejected(
        f"{facts.raw_topic} was deleted and created anew since partition {facts.partition} was read up to offset {last}: "
        f"rows of the old topic after that, if there were any, are gone. --accept-loss goes on with the first row of the "
        f"new topic and the stations as they were; a CONSUMER_GROUP with topics of its own begins anew",
        _first_of_a_new_topic(facts, notes),
    )


def _first_of_a_new_topic(facts: Facts, notes: list[Note]) -> Plan:
    counts = max(notes, key=lambda note: note.age).counts if notes else Counts()
    era = max((note.era for note in notes), default=0)
    return _from_the_start(facts, Note(counts=counts, n_saved=facts.n_saved, era=era))


def _nothing_yet(facts: Facts) -> Verdict | None:
    """An offset alone is no trace of ours: somebody may have set it before the first start."""
    if facts.note or facts.saved or max(facts.newest_prediction, facts.newest_dead_letter) >= 0:
        return None
    note = Note(facts.log_start, topics=facts.topics)
    return FirstStart(Plan(note, facts.log_start, facts.log_start))


def _prediction_topic(facts: Facts, base: Note) -> Verdict | None:
    if not base.topics.is_other("pred", facts.topics):
        return None
    position = max(base.position, facts.newest_dead_letter + 1)
    plan = Plan(replace(base, pred_offset=0, pred_floor=0), max(_first(base), facts.log_start), position, strict=False)
    return Rejected(
        f"{facts.pred_topic} was deleted and created anew: the {base.counts.predictions} predictions that partition "
        f"{facts.partition} published are gone, and monitoring cannot see those since the last snapshots again. "
        f"--accept-loss goes on at offset {position} and publishes none of them anew",
        plan,
    )


def _without_note(facts: Facts, resume: int) -> Verdict:
    plan = _rebuild(facts, Note(facts.log_start, topics=facts.topics), resume)
    if facts.log_start == 0 and resume <= facts.log_end:
        return Repaired(plan, f"{_offset(facts)}, and no snapshot is there; all rows are, so all up to {resume} is rebuilt")
    return Rejected(
        f"{_offset(facts)}, and no snapshot is there, but rows up to offset {resume - 1} were predicted: the stations' past "
        f"before offset {facts.log_start} is gone. --accept-loss rebuilds what the rows from there on tell and goes on at "
        f"offset {resume}",
        plan if facts.log_start <= resume <= facts.log_end else _from_the_start(facts, Note()),
    )


def _log(facts: Facts, base: Note, resume: int) -> Verdict | None:
    """Whether the rows that are needed, for the state and as the next ones, are there."""
    if resume > facts.log_end:
        return Rejected(
            f"{facts.raw_topic} partition {facts.partition} ends at offset {facts.log_end}, but rows up to {resume - 1} "
            f"were processed: it was cut off or restored from a copy. --accept-loss goes on with its first row",
            _from_the_start(facts, base),
        )
    first = min(_first(base), resume)
    if first >= facts.log_start:
        return None
    unread, again = max(0, facts.log_start - resume), max(0, min(facts.log_start, resume) - first)
    lost = [f"{unread} rows that were never read"] if unread else []
    lost += [f"{again} rows that must be read again to bring back the stations"] if again else []
    counts = replace(base.counts, rows_lost=base.counts.rows_lost + unread + again)
    note = replace(base, counts=counts, position=max(base.position, facts.log_start) if unread else base.position)
    return Rejected(
        f"{facts.raw_topic} partition {facts.partition} begins at offset {facts.log_start}, but the group is at {resume}: "
        f"{' and '.join(lost)} are gone, by retention or by hand. --accept-loss goes on without them and counts them",
        Plan(note, facts.log_start, max(resume, facts.log_start), strict=False),
    )


def _state(facts: Facts, base: Note, resume: int) -> Verdict | None:
    """Whether the snapshots are there."""
    recreated = base.topics.is_other("state", facts.topics)
    missing = base.n_saved - facts.n_saved
    if not recreated and missing <= 0:
        return None
    what = (
        f"{facts.state_topic} was deleted and created anew"
        if recreated
        else f"{facts.state_topic} lacks the snapshots of {missing} stations of partition {facts.partition}"
    )
    if facts.foreign_keys and not recreated:
        what += f" and holds records that are not ours under {named(facts.foreign_keys)}"
    plan = _rebuild(facts, base, resume)
    if facts.log_start == 0:
        return Repaired(plan, f"{what}; all rows are there, so the stations are rebuilt up to offset {resume}")
    return Rejected(
        f"{what}, and the rows before offset {facts.log_start} that made it are gone, too. --accept-loss rebuilds what the "
        f"rows from there on tell; other stations warm up again",
        plan,
    )


def _evidence(facts: Facts, base: Note, resume: int) -> Verdict | None:
    """Whether anything is left that proves how far the group was, where its own offset is gone."""
    if base is facts.note or facts.newest_prediction >= 0 or base.pred_floor or not base.counts.predictions:
        return None
    return Rejected(
        f"{_offset(facts)}, and every prediction is gone from {facts.pred_topic}: rows from offset {resume} on may have "
        f"been predicted and published. --accept-loss goes on there, and may publish these again",
        Plan(base, min(_first(base), resume), resume, strict=False),
    )


def _base(facts: Facts) -> Note | None:
    """Return the newest note that is true of the raw topic of now."""
    notes = [note for note in (facts.saved, facts.note) if note and not note.topics.is_other("raw", facts.topics)]
    return max(reversed(notes), key=lambda note: note.age, default=None)


def _first(base: Note) -> int:
    return base.position if base.replay_offset is None else base.replay_offset


def _resume(facts: Facts) -> int:
    """Return the offset after the newest row whose outcome is committed."""
    base = _base(facts)
    return max(base.position if base else 0, facts.newest_prediction + 1, facts.newest_dead_letter + 1)


def _rebuild(facts: Facts, base: Note, resume: int) -> Plan:
    """Read again everything that is there; the counts of ``base`` hold up to its position."""
    note = replace(base, pred_offset=base.pred_floor, dlq_offset=base.dlq_floor)
    return Plan(note, facts.log_start, resume, strict=facts.log_start == 0)


def _from_the_start(facts: Facts, base: Note) -> Plan:
    """Go on with the first row there is; what was published before says nothing of these rows."""
    note = replace(
        base,
        position=facts.log_start,
        replay_offset=None,
        pred_offset=facts.pred_end,
        dlq_offset=facts.dlq_end,
        era=base.era + 1,
        pred_floor=facts.pred_end,
        dlq_floor=facts.dlq_end,
    )
    return Plan(note, facts.log_start, facts.log_start, strict=False)
