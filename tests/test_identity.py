"""Whether offset, note, snapshots, predictions and topics belong together: the verdict of every case."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airquality.stream.account import Counts, Note, Topics
from airquality.stream.identity import BelongsTogether, Facts, FirstStart, Plan, Rejected, Repaired, judge

NOW = Topics("raw", "pred", "state", "dlq", 3)
COUNTS = Counts(rows_in=300, warmup=168, predictions=132)
#: All of 300 rows are in snapshots; and the same where those since offset 200 must be replayed.
SAVED = Note(300, COUNTS, n_saved=2, topics=NOW)
UNSAVED = replace(SAVED, replay_offset=200, pred_offset=40, dlq_offset=5)
SOUND = Facts(
    raw_topic="raw",
    partition=1,
    log_start=0,
    log_end=900,
    committed=300,
    note=SAVED,
    saved=replace(SAVED, position=250, replay_offset=210),
    n_saved=2,
    newest_prediction=299,
    newest_dead_letter=280,
    topics=NOW,
    group=frozenset({NOW}),
    pred_end=77,
    dlq_end=9,
)
BARE = Facts("raw", 1, log_start=0, log_end=900, topics=NOW)


@pytest.mark.parametrize("log_start", [0, 40])
@pytest.mark.parametrize("committed", [None, 0, 70, 900])
def test_judge_without_any_trace_of_ours_is_a_first_start(log_start: int, committed: int | None) -> None:
    verdict = judge(replace(BARE, log_start=log_start, committed=committed))
    assert verdict == FirstStart(Plan(Note(log_start, topics=NOW), log_start, log_start))


@pytest.mark.parametrize(("note", "replay_from"), [(SAVED, 300), (UNSAVED, 200)])
def test_judge_of_what_the_last_commit_left_belongs_together(note: Note, replay_from: int) -> None:
    assert judge(replace(SOUND, note=note)) == BelongsTogether(Plan(note, replay_from, 300))


@pytest.mark.parametrize("unknown", ["raw", "pred", "state", "dlq"])
def test_judge_without_topic_ids_belongs_together(unknown: str) -> None:
    absent: dict[str, Any] = {unknown: None}
    facts = replace(SOUND, topics=replace(NOW, **absent))
    assert isinstance(judge(facts), BelongsTogether)


def test_judge_dead_letter_topic_recreated_is_no_loss_of_rows_or_state() -> None:
    facts = replace(SOUND, topics=replace(NOW, dlq="other"), newest_dead_letter=-1)
    assert isinstance(judge(facts), BelongsTogether)


@pytest.mark.parametrize(
    ("facts", "resume", "base", "replay_from"),
    [
        # the group's offset is gone, or was set by a tool, which leaves no note
        (replace(SOUND, committed=None, note=None), 300, SOUND.saved, 210),
        (replace(SOUND, committed=0, note=None), 300, SOUND.saved, 210),
        (replace(SOUND, committed=150, note=None), 300, SOUND.saved, 210),
        (replace(SOUND, committed=900, note=None), 300, SOUND.saved, 210),
        # ... which kept the note
        (replace(SOUND, committed=100), 300, SAVED, 300),
        # the dead letter is the newest trace
        (replace(SOUND, committed=None, note=None, newest_dead_letter=320), 321, SOUND.saved, 210),
        # the snapshot is the newest trace
        (replace(SOUND, note=None, saved=SAVED, newest_prediction=9, newest_dead_letter=-1), 300, SAVED, 300),
        # the offset is that of an older copy
        (replace(SOUND, note=UNSAVED, newest_prediction=499), 500, UNSAVED, 200),
        # no snapshot yet, but every row is there
        (replace(SOUND, committed=None, note=None, saved=None, n_saved=0), 300, Note(0, topics=NOW), 0),
        (replace(SOUND, committed=900, note=None, saved=None, n_saved=0), 300, Note(0, topics=NOW), 0),
    ],
)  # fmt: skip
def test_judge_offset_lost_or_set_is_repaired_to_what_is_proven(
    facts: Facts, resume: int, base: Note, replay_from: int
) -> None:
    verdict = judge(facts)
    assert isinstance(verdict, Repaired)
    assert verdict.plan == Plan(base, replay_from, resume)
    assert str(resume) in verdict.why


@pytest.mark.parametrize("facts", [
    replace(SOUND, n_saved=1),
    replace(SOUND, topics=replace(NOW, state="other"), saved=None, n_saved=0),
    replace(SOUND, n_saved=0, saved=None, foreign_keys=("roof",)),
])  # fmt: skip
def test_judge_snapshots_gone_are_rebuilt_where_every_row_is_there(facts: Facts) -> None:
    verdict = judge(facts)
    assert isinstance(verdict, Repaired)
    assert verdict.plan == Plan(SAVED, 0, 300)
    assert "the state topic" in verdict.why


@pytest.mark.parametrize(
    ("facts", "names", "replay_from", "resume", "lost"),
    [
        # identity-1: the next rows are gone
        (replace(SOUND, log_start=900), ["600 rows that were never read", "partition 1", "900"], 900, 900, 600),
        # rows of the replay are gone
        (replace(SOUND, note=UNSAVED, log_start=250), ["50 rows that must be read again"], 250, 300, 50),
        # both
        (replace(SOUND, note=UNSAVED, log_start=320), ["20 rows that were never read", "100 rows that must"], 320, 320, 120),
        # the offset is gone and so are rows since the snapshot
        (replace(SOUND, committed=None, note=None, log_start=270), ["60 rows that must be read again"], 270, 300, 60),
        # the offset is gone, and so are all predictions, which would prove how far it was
        (replace(SOUND, committed=None, note=None, newest_prediction=-1, newest_dead_letter=-1), ["250"], 210, 250, 0),
        # no note at all, and the log is cut
        (replace(SOUND, committed=None, note=None, saved=None, n_saved=0, log_start=40), ["before offset 40"], 40, 300, 0),
        # the snapshots are gone, and the log is cut
        (replace(SOUND, n_saved=0, saved=None, log_start=40), ["2 stations", "before offset 40"], 40, 300, 0),
        (replace(SOUND, topics=replace(NOW, state="x"), saved=None, n_saved=0, log_start=40), ["created anew"], 40, 300, 0),
        # the prediction topic is another
        (replace(SOUND, note=UNSAVED, topics=replace(NOW, pred="x"), newest_prediction=-1), ["132 pred"], 200, 300, 0),
    ],
)  # fmt: skip
def test_judge_loss_is_rejected_and_can_be_accepted(
    facts: Facts, names: list[str], replay_from: int, resume: int, lost: int
) -> None:
    verdict = judge(facts)
    assert isinstance(verdict, Rejected)
    for name in [*names, "--accept-loss"]:
        assert name in verdict.why
    assert verdict.plan is not None
    assert (verdict.plan.replay_from, verdict.plan.resume) == (replay_from, resume)
    assert verdict.plan.note.counts.rows_lost == lost
    assert not verdict.plan.strict
    assert judge_again(facts, verdict.plan) in (BelongsTogether, FirstStart)


@pytest.mark.parametrize(
    "facts",
    [
        replace(SOUND, topics=replace(NOW, raw="other"), log_end=160),  # identity-3
        replace(SOUND, topics=replace(NOW, raw="other"), log_end=1_600, log_start=20),
        replace(SOUND, topics=replace(NOW, raw="other"), committed=None, note=None),
        replace(SOUND, log_end=160),  # the same topic, cut off
        replace(SOUND, committed=None, note=None, saved=None, n_saved=0, log_end=160),
    ],
)
def test_judge_other_raw_log_is_rejected_and_begins_with_its_first_row_where_accepted(facts: Facts) -> None:
    verdict = judge(facts)
    assert isinstance(verdict, Rejected)
    assert "raw" in verdict.why
    assert verdict.plan is not None
    assert verdict.plan.note.era == 1
    assert verdict.plan.resume == verdict.plan.replay_from == verdict.plan.note.position == facts.log_start
    assert (verdict.plan.note.pred_floor, verdict.plan.note.dlq_floor) == (77, 9)
    assert judge_again(facts, verdict.plan) is BelongsTogether


@pytest.mark.parametrize("facts", [
    replace(SOUND, topics=replace(NOW, partitions=5)),
    replace(SOUND, topics=replace(NOW, partitions=5), committed=None, note=None),
    replace(BARE, partition=4, topics=replace(NOW, partitions=5), group=frozenset({NOW})),  # a partition that is new
])  # fmt: skip
def test_judge_partitions_raised_is_rejected_with_the_remedy_and_cannot_be_accepted(facts: Facts) -> None:
    verdict = judge(facts)
    assert isinstance(verdict, Rejected)
    assert "5 partitions now" in verdict.why
    assert "repartition" in verdict.why
    assert verdict.plan is None


def judge_again(facts: Facts, plan: Plan) -> type:
    """Return the kind of verdict after the plan's note was committed, with what is then found of predictions."""
    note = replace(plan.note, topics=facts.topics, position=plan.resume, replay_offset=None, n_saved=facts.n_saved)
    floored = bool(note.pred_floor)
    return type(
        judge(
            replace(
                facts,
                committed=note.position,
                note=note,
                newest_prediction=-1 if floored else facts.newest_prediction,
                newest_dead_letter=-1 if floored else facts.newest_dead_letter,
            )
        )
    )
