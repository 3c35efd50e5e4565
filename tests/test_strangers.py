"""What strangers, other releases and operators may leave in a group's topics while its consumer is down."""

from __future__ import annotations

import functools
import json
import logging
import math
import operator
import zlib

import orjson
import pytest

from airquality.ground.errors import Refused
from airquality.incoming import Operation
from airquality.records import Prediction
from airquality.stream import snapshots
from airquality.stream.account import Counts
from airquality.stream.saved import NOTE_HEADER
from airquality.stream.transactions import Poll, Position
from tests.worker_rig import DLQ, PRED, RAW, START, STATE, Clock, Rig


def run(rig: Rig) -> None:
    rig.restart()
    rig.worker.run()


def undisturbed(n_hours: int) -> list[bytes]:
    """Return what is published of a station's first hours where nobody interferes."""
    rig = Rig(Clock())
    rig.send(0, n_hours)
    rig.worker.run()
    return [prediction.to_bytes() for prediction in rig.predictions()]


def in_a_newer_form(note: str) -> str:
    return orjson.dumps({**orjson.loads(note), "kept_since": 7}).decode()


def test_downgrade_note_of_a_newer_release_is_refused_and_nothing_is_committed(rig: Rig) -> None:
    rig.send(0, 180)
    rig.worker.run()
    before = rig.kafka.positions[0]
    rig.kafka.positions[0] = Position(before.offset, in_a_newer_form(before.note))
    rig.send(180, 5)
    n_transactions = rig.kafka.transactions
    with pytest.raises(Refused, match="another release"):
        run(rig)
    assert rig.kafka.transactions == n_transactions
    rig.kafka.positions.clear()  # what the manual says of a roll-back: the group deleted, and the state topic
    rig.kafka.recreate(STATE, "state")
    run(rig)
    assert [prediction.to_bytes() for prediction in rig.predictions()] == undisturbed(185)


def test_downgrade_snapshot_of_a_newer_release_without_an_offset_is_refused(rig: Rig) -> None:
    rig.send(0, 180)
    rig.worker.run()
    [record] = rig.kafka.log(STATE)
    headers = {name: (text or b"").decode() for name, text in record.headers}
    headers[NOTE_HEADER] = in_a_newer_form(headers[NOTE_HEADER])
    changed = tuple((name, text.encode()) for name, text in headers.items())
    rig.kafka.log(STATE)[0] = record._replace(headers=changed)
    rig.kafka.positions.clear()
    with pytest.raises(Refused, match="another release"):
        run(rig)


def test_raw_and_state_recreated_together_with_other_rows_is_refused(rig: Rig) -> None:
    rig.send(0, 200)
    rig.worker.run()
    rig.kafka.recreate(RAW, "raw")
    rig.kafka.recreate(STATE, "state")
    rig.kafka.positions.clear()  # a broker drops the offsets of a topic that is deleted
    rig.send(0, 250, station=1)
    with pytest.raises(
        Refused, match=r"offset 168 is of 'station_1' at .* of 'station_0' at .* not the one that was predicted"
    ):
        run(rig)
    assert len(rig.predictions()) == 32


def test_old_snapshot_copied_after_the_newest_changes_nothing_and_is_overtaken(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.send(0, 180)
    rig.worker.run()
    [old] = rig.kafka.log(STATE)
    rig.send(180, 20)
    run(rig)
    rig.kafka.append(STATE, 0, old.key, old.value, headers=old.headers)
    rig.send(200, 10)
    with caplog.at_level(logging.WARNING):
        run(rig)
    assert "snapshots older than those before under 'station_0' are passed over" in caplog.text
    assert [prediction.to_bytes() for prediction in rig.predictions()] == undisturbed(210)
    assert rig.kafka.log(STATE)[-1].value != old.value


def test_old_snapshot_copied_while_nothing_else_comes_is_overtaken_at_once(rig: Rig) -> None:
    rig.send(0, 180)
    rig.worker.run()
    [old] = rig.kafka.log(STATE)
    rig.send(180, 20)
    run(rig)
    newest = rig.kafka.log(STATE)[-1]
    rig.kafka.append(STATE, 0, old.key, old.value, headers=old.headers)
    run(rig)
    assert rig.kafka.log(STATE)[-1].value == newest.value


def test_snapshot_copied_to_another_partition_is_no_second_home(rig: Rig) -> None:
    rig.send(0, 180, partition=1)
    rig.restart()
    rig.stream.polls = [Poll(gained={0, 1})]
    rig.worker.run()
    [copied] = rig.kafka.log(STATE, 1)
    rig.kafka.append(STATE, 0, copied.key, copied.value, headers=copied.headers)
    rig.send(180, 10, partition=1)
    rig.restart()
    rig.stream.polls = [Poll(gained={0, 1})]
    rig.worker.run()
    assert rig.worker.counts == Counts(rows_in=190, warmup=168, predictions=22)


def test_snapshot_of_one_station_under_the_name_of_another_is_refused(rig: Rig) -> None:
    rig.send(0, 180)
    rig.send(0, 180, station=1)
    rig.worker.run()
    first, _ = rig.kafka.log(STATE)
    rig.kafka.append(STATE, 0, b"station_1", first.value, headers=first.headers)
    with pytest.raises(Refused, match=r"the snapshot of 'station_1' .* it is one of 'station_0'"):
        run(rig)


@pytest.mark.parametrize(
    ("path", "value"), [("assurance.awaited.marks", [1]), ("buffer.newest_hour", 1.5), ("windows.intervals", 5)]
)
def test_snapshot_of_the_same_format_and_another_shape_is_refused(rig: Rig, path: str, value: object) -> None:
    rig.send(0, 180)
    rig.worker.run()
    [record] = rig.kafka.log(STATE)
    state = snapshots.decode(record.value or b"")
    *outer, name = path.split(".")
    functools.reduce(operator.getitem, outer, state)[name] = value
    rig.kafka.log(STATE)[0] = record._replace(value=snapshots.encode(state))
    with pytest.raises(Refused, match="another release"):
        run(rig)


def test_names_that_strangers_choose_are_cut_and_shown_without_acting_on_a_terminal(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.send(0, 170)
    rig.worker.run()
    for key in (b"\x1b[2J", b"k" * 1_000_000, b"\xff", b"../../etc"):
        rig.kafka.append(STATE, 0, key, b"{}")
    with caplog.at_level(logging.WARNING):
        run(rig)
    [said] = [record.getMessage() for record in caplog.records if "not ours" in record.getMessage()]
    assert (len(said) < 400, said.isprintable(), "and 1 more" in said) == (True, True, True)


@pytest.mark.parametrize("changed", [{"source_offset": "7"}, {"source_offset": None}, {"model_version": 7}])
def test_prediction_of_another_type_does_not_stop_a_start(rig: Rig, changed: dict[str, object]) -> None:
    rig.send(0, 200)
    rig.restart(max_records=190)
    rig.worker.run()
    sound = json.loads(Prediction("station_0", START, 1.5, 1.5, "1", 0, 3).to_bytes())
    rig.kafka.append(PRED, 0, b"station_0", json.dumps({**sound, **changed}).encode())
    rig.kafka.append(DLQ, 0, b"station_0", b"", headers=letter_headers(b"9" * 5_000))
    run(rig)
    assert rig.worker.counts == Counts(rows_in=200, warmup=168, predictions=32)


def letter_headers(offset: bytes) -> tuple[tuple[str, bytes], ...]:
    return (
        ("source_topic", RAW.encode()),
        ("source_partition", b"0"),
        ("source_offset", offset),
        ("reason", b"late"),
        ("error_message", b"why"),
    )


def test_half_a_character_in_an_operators_note_is_a_dead_letter(rig: Rig) -> None:
    rig.send(0, 169)
    sound = Operation("station_0", "ack", note="valve changed")
    rig.kafka.append(
        RAW, 0, b"station_0", json.dumps({"station_id": "station_0", "note": "\ud800"}).encode(), headers=(*sound.headers,)
    )
    rig.kafka.append(RAW, 0, b"station_0", sound.to_bytes(), headers=(*sound.headers,))
    rig.send(169, 1)
    rig.worker.run()
    assert rig.worker.counts == Counts(172, 168, 2, dead_letters={"malformed": 1}, operations={"ack": 1})


def test_inflated_state_is_bounded_whatever_a_stranger_wrote(rig: Rig) -> None:
    rig.send(0, 180)
    rig.worker.run()
    [record] = rig.kafka.log(STATE)
    rig.kafka.append(STATE, 0, record.key, zlib.compress(b"[" * 50_000_000), headers=record.headers)
    with pytest.raises(Refused, match="larger than"):
        run(rig)


def garbage_on_partition_0(rig: Rig) -> None:
    """Leave a snapshot that cannot be read on the first of two partitions, and rows on both."""
    for partition in (0, 1):
        rig.send(0, 180, station=partition, partition=partition)
    rig.stream.polls = [Poll(gained={0, 1})]
    rig.worker.run()
    [first] = rig.kafka.log(STATE, 0)
    rig.kafka.append(STATE, 0, first.key, b"garbage", headers=first.headers)
    for partition in (0, 1):
        rig.send(180, 5, station=partition, partition=partition)
    rig.restart(idle_exit_seconds=math.inf)


def test_partition_that_is_refused_does_not_stop_the_others(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    garbage_on_partition_0(rig)
    rig.stream.polls = [Poll(gained={0, 1})]
    seen: list[float | None] = []
    rig.clock.at = [
        (rig.clock() + 130, lambda: seen.append(rig.metric("air_quality_consumer_refused"))),
        (rig.clock() + 150, lambda: setattr(rig.limits, "stopped", True)),
    ]
    with pytest.raises(Refused, match="the snapshot of 'station_0'"):
        rig.worker.run()
    assert (len(rig.predictions(0)), len(rig.predictions(1)), seen) == (12, 17, [1.0])
    said = [r.getMessage() for r in caplog.records if "Partition 0 is not read" in r.getMessage()]
    assert len(said) == 3
    assert rig.kafka.positions[0].offset == 180


def test_partition_that_is_refused_and_goes_elsewhere_leaves_nothing_to_say(rig: Rig) -> None:
    garbage_on_partition_0(rig)
    rig.stream.polls = [Poll(gained={0, 1}), Poll(), Poll(lost={0})]
    rig.clock.at = [(rig.clock() + 20, lambda: setattr(rig.limits, "stopped", True))]
    rig.worker.run()
    assert (len(rig.predictions(1)), rig.metric("air_quality_consumer_refused")) == (17, 0.0)


@pytest.mark.parametrize("gained", [{0}, {0, 1}])
def test_partition_that_is_refused_alone_or_in_a_bounded_run_ends_it(rig: Rig, gained: set[int]) -> None:
    garbage_on_partition_0(rig)
    rig.restart(idle_exit_seconds=math.inf if gained == {0} else 5.0)
    rig.stream.polls = [Poll(gained=gained)]
    with pytest.raises(Refused, match="the snapshot of 'station_0'"):
        rig.worker.run()
