"""Rows that are replayed are what they were when they came, whatever another release or network would say of them now."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from airquality.ground.errors import InvalidRecord, Refused
from airquality.incoming import parse_record
from airquality.records import Reading
from airquality.stream import partition, then
from airquality.stream.account import Counts
from tests.simulated_kafka import reading
from tests.worker_rig import DLQ, RAW, START, Rig

#: Hours of the station before the rule changes, and while it holds.
BEFORE, WHILE = 175, 6


def refuse(monkeypatch: pytest.MonkeyPatch, hours: Iterable[int]) -> None:
    """Let the rule refuse the rows of these hours."""
    refused = {START + hour for hour in hours}

    def parse(*record: Any) -> Any:
        found = parse_record(*record)
        if isinstance(found, Reading) and found.hour in refused:
            raise InvalidRecord("out_of_range", "T = 12.25, limits -50 to -40")
        return found

    for module in (partition, then):
        monkeypatch.setattr(module, "parse_record", parse)


def run_and_kill(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take in all there is, and leave as a kill -9 does: no snapshot."""
    monkeypatch.setattr(rig.worker, "_finish", lambda: None)
    rig.worker.run()
    rig.restart()


@pytest.mark.parametrize("refused_from", [BEFORE, 100])
def test_run_rule_mended_after_a_kill_predicts_refused_rows_once_they_are_sent_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, refused_from: int
) -> None:
    rig.send(0, BEFORE + WHILE)
    with monkeypatch.context() as wrong:
        refuse(wrong, range(refused_from, BEFORE + WHILE))
        run_and_kill(rig, monkeypatch)
    rig.send(refused_from, BEFORE + WHILE - refused_from)
    rig.worker.run()
    n_refused = BEFORE + WHILE - refused_from
    assert rig.worker.counts == Counts(
        rows_in=BEFORE + WHILE + n_refused,
        warmup=168,
        predictions=BEFORE + WHILE - 168,
        dead_letters={"out_of_range": n_refused},
    )
    assert [p.hour for p in rig.predictions()] == list(range(START + 168, START + BEFORE + WHILE))
    assert len(rig.kafka.log(DLQ)) == n_refused


def test_run_row_that_was_sound_and_is_not_now_is_refused_in_one_sentence(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.send(0, BEFORE)
    run_and_kill(rig, monkeypatch)
    refuse(monkeypatch, [100])
    with pytest.raises(Refused, match=r"offset 100 of partition 0 was sound when it came.*rules have changed.*SIGTERM"):
        rig.worker.run()
    assert rig.note().counts.warmup == 168


def test_run_row_that_was_sound_and_is_not_now_is_forgotten_where_a_loss_is_accepted(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.send(0, BEFORE)
    run_and_kill(rig, monkeypatch)
    refuse(monkeypatch, [100])
    rig.restart(accept_loss=True)
    rig.worker.run()
    assert rig.worker.counts.rows_in == BEFORE


def test_run_after_an_orderly_end_another_rule_holds_from_the_next_row_on(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.send(0, BEFORE)
    rig.worker.run()
    rig.restart()
    refuse(monkeypatch, [100, BEFORE])
    rig.send(BEFORE, 2)
    rig.worker.run()
    assert rig.worker.counts.dead_letters == {"out_of_range": 1}
    assert rig.predictions()[-1].hour == START + BEFORE + 1


def test_run_refused_row_whose_letter_is_gone_stays_refused(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.send(0, BEFORE)
    rig.kafka.append(RAW, 0, b"station_0", b"{")
    run_and_kill(rig, monkeypatch)
    rig.kafka.logs[DLQ, 0].clear()
    rig.kafka.starts[DLQ, 0] = rig.kafka.end(DLQ, 0)
    rig.kafka.append(RAW, 0, b"station_0", reading(0, START + BEFORE).to_bytes())
    rig.worker.run()
    assert rig.worker.counts.dead_letters == {"malformed": 1}
    assert rig.predictions()[-1].hour == START + BEFORE
