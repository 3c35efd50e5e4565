"""The account of a partition's rows, and the note it is committed in."""

from __future__ import annotations

import orjson
import pytest

from airquality.ground.errors import ContractError, Refused
from airquality.incoming import OPERATION_KINDS, TRUTH_OUTCOMES
from airquality.records import DEAD_LETTER_REASONS
from airquality.stream.account import Counts, Note, Topics


def test_note_round_trips_and_fits_what_kafka_keeps() -> None:
    large, name = 10**15, "f" * 32
    refused = dict.fromkeys(DEAD_LETTER_REASONS, large)
    truths: dict[str, int] = dict.fromkeys(TRUTH_OUTCOMES, large)
    operations: dict[str, int] = dict.fromkeys(OPERATION_KINDS, large)
    counts = Counts(large, large, large, large, refused, large, truths, operations)
    topics = Topics(name, name, name, name, large)
    for note in (Note(large, counts, large, large, large, large, topics, large, large, large), Note()):
        assert Note.decode(note.encode()) == note
        assert len(note.encode().encode()) < 4096


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "7", '"text"', "{}", b"\xff", '{"counts": 1, "topics": {}}', '{"counts": {"x": 1}, "topics": {}}',
        '{"position": -1, "counts": {}, "topics": {}}', '{"position": "7", "counts": {}, "topics": {}}',
        '{"position": 1.5, "counts": {}, "topics": {}}', '{"position": true, "counts": {}, "topics": {}}',
        '{"counts": {"dead_letters": [1]}, "topics": {}}', '{"counts": {"dead_letters": {"late": "1"}}, "topics": {}}',
        '{"counts": {"truths": [1]}, "topics": {}}', '{"counts": {"operations": {"ack": -1}}, "topics": {}}',
        '{"counts": {}, "topics": {}, "replay_offset": -3}', '{"counts": {}, "topics": {"partitions": null}}',
    ],
)  # fmt: skip
def test_note_decode_of_what_others_wrote_is_none(text: str | bytes) -> None:
    assert Note.decode(text) is None


def test_note_decode_of_the_release_before_late_truths() -> None:
    text = (
        '{"counts":{"dead_letters":{"late":2},"duplicates":1,"predictions":3,"rows_in":10,"rows_lost":5,"warmup":4},'
        '"dlq_floor":0,"dlq_offset":0,"era":1,"n_saved":1,"position":12,"pred_floor":0,"pred_offset":2,"replay_offset":7,'
        '"topics":{"dlq":null,"partitions":3,"pred":null,"raw":"r","state":null}}'
    )
    note = Note.decode(text)
    assert note is not None
    assert note.counts == Counts(10, 4, 3, 1, {"late": 2}, rows_lost=5)
    note.counts.check()


@pytest.mark.parametrize(
    "changed",
    [
        {"new": 1},
        {"position": {"offset": 7}},
        {"counts": {"rows_in": 1, "skipped": 1}},
        {"counts": {"rows_in": 1, "dead_letters": {"a new reason": 1}}},
        {"topics": {"raw": None, "events": None}},
    ],
)
def test_note_decode_of_another_release_is_refused_and_never_passed_over(changed: dict[str, object]) -> None:
    with pytest.raises(Refused, match="another release") as caught:
        Note.decode(orjson.dumps({**orjson.loads(Note().encode()), **changed}))
    assert "\n" not in str(caught.value)


def test_topics_is_other_only_where_both_ids_are_known() -> None:
    assert Topics(raw="a").is_other("raw", Topics(raw="b"))
    assert not Topics(raw="a").is_other("raw", Topics(raw="a"))
    assert not Topics(raw=None).is_other("raw", Topics(raw="b"))
    assert not Topics(raw="a").is_other("raw", Topics(raw=None))


def test_the_law_of_the_counts_is_checked() -> None:
    Counts(rows_in=10, warmup=1, predictions=2, duplicates=3, dead_letters={"late": 4}).check()
    Counts(rows_in=4, warmup=1, truths={"filled": 1, "too_old": 1}, operations={"ack": 1}).check()
    for broken in (
        Counts(rows_in=2, warmup=1),
        Counts(rows_in=1, predictions=2),
        Counts(rows_in=1, dead_letters={"unheard of": 1}),
        Counts(rows_in=1, truths={"unheard of": 1}),
        Counts(rows_in=2, truths={"filled": 1}),
        Counts(rows_in=1, operations={"unheard of": 1}),
    ):
        with pytest.raises(ContractError, match="rows came in but"):
            broken.check()


def test_counts_add_up_reason_by_reason() -> None:
    total = Counts(rows_in=1, dead_letters={"late": 1})
    total.add(Counts(rows_in=5, warmup=1, dead_letters={"late": 1, "conflict": 1}, truths={"filled": 2}))
    assert total == Counts(rows_in=6, warmup=1, dead_letters={"late": 2, "conflict": 1}, truths={"filled": 2})
    assert total.summary() == {
        "rows_in": 6,
        "warmup": 1,
        "predictions_total": 0,
        "dead_letters": {"conflict": 1, "late": 2},
        "duplicates": 0,
        "truths": {"filled": 2},
        "operations": {},
        "rows_lost": 0,
    }
