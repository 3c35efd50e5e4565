"""How a run ends and what it leaves: limits, stops, the last snapshots, reports and summary. Kafka is simulated here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from functools import partial
from itertools import pairwise

import pytest

from airquality.ground.errors import Unavailable
from airquality.stream import partition
from airquality.stream.account import Counts
from airquality.stream.limits import Stopped
from airquality.stream.transactions import Message, Ownership, Poll, Position, Written
from airquality.stream.worker import END_SECONDS, STOP_SECONDS
from tests.worker_rig import STATE, Rig, kafka_away


def test_run_that_ends_while_kafka_is_away_is_no_clean_end(rig: Rig) -> None:
    rig.send(0, 10)
    rig.restart(timeout_seconds=20.0, idle_exit_seconds=float("inf"))
    rig.clock.at = [(rig.clock() + 10.0, lambda: setattr(rig.stream, "lag", kafka_away))]
    with pytest.raises(Stopped, match="no Kafka broker answers"):
        rig.worker.run()
    assert rig.kafka.log(STATE) == []


@pytest.mark.parametrize(("away_seconds", "saved"), [(20.0, True), (END_SECONDS + 10.0, False)])
def test_finish_slow_kafka_is_asked_again_for_a_while(
    rig: Rig, away_seconds: float, saved: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.send(0, 200)
    lag, away = rig.stream.lag, list[float]()

    def slow() -> dict[int, int]:
        if len(rig.monitors.summaries) and rig.clock() - rig.worker._active > 5.0:
            away.append(rig.clock())
            if rig.clock() - away[0] < away_seconds:
                rig.clock.sleep(4.0)
                raise Unavailable("the broker does not answer")
        return lag()

    monkeypatch.setattr(rig.stream, "lag", slow)
    with nullcontext() if saved else pytest.raises(Stopped, match="the broker does not answer"):
        rig.worker.run()
    assert len(rig.kafka.log(STATE)) == saved


def test_finish_partition_lost_while_reports_wait_writes_nothing_of_it(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.send(0, 200)
    rig.send(0, 20, station=1, partition=1)
    rig.stream.polls = [Poll(gained={0, 1})]
    finish = rig.monitors.poll
    monkeypatch.setattr(rig.monitors, "poll", list)
    rig.clock.at = [
        (rig.clock() + 10.0, lambda: rig.stream.news.append(Poll(lost={1}))),
        (rig.clock() + 12.0, lambda: setattr(rig.monitors, "poll", finish)),
    ]
    rig.worker.run()
    assert [record.key for record in rig.kafka.log(STATE, 0)] == [b"station_0"]
    assert rig.kafka.log(STATE, 1) == []
    assert set(rig.monitors.stations) == {"station_0"}


def test_a_run_takes_no_more_records_than_its_limit(rig: Rig) -> None:
    rig.send(0, 300)
    rig.restart(max_records=230)
    rig.worker.run()
    assert rig.worker.counts.rows_in == rig.kafka.positions[0].offset == 230


def test_limits_hold_for_a_run_however_many_workers_it_takes(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.send(0, 300)
    rig.restart(max_records=150)
    limits = rig.limits
    rig.stream.polls.append(Poll())
    commit, calls = rig.stream.commit, []

    def second_fails(messages: Iterable[Message], positions: Mapping[int, Position], ownership: Ownership) -> Written:
        calls.append(1)
        if len(calls) == 2:
            raise Unavailable("the broker went away")
        return commit(messages, positions, ownership)

    monkeypatch.setattr(rig.stream, "commit", second_fails)
    with pytest.raises(Unavailable):
        rig.worker.run()
    rig.restart()
    rig.worker._limits = limits
    rig.worker.run()
    assert rig.worker.counts.rows_in == 150


def test_a_run_ends_when_its_time_is_up(rig: Rig) -> None:
    rig.restart(timeout_seconds=30.0, idle_exit_seconds=float("inf"))
    began = rig.clock()
    rig.worker.run()
    assert 30.0 < rig.clock() - began < 31.0


def test_idle_means_that_no_record_came_for_that_time(rig: Rig) -> None:
    rig.clock.at = [(rig.clock() + at, partial(rig.send, int(at), 1)) for at in (4.0, 8.0, 12.0)]
    began = rig.clock()
    rig.worker.run()
    assert rig.worker.counts.rows_in == 3
    assert 17.0 <= rig.clock() - began < 18.0


@pytest.mark.parametrize(("takes", "waits"), [(0.01, 5.0), (0.1, 10.0), (1.0, 30.0)])
def test_worker_summary_that_takes_long_is_written_less_often(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, takes: float, waits: float
) -> None:
    rig.restart(idle_exit_seconds=250.0)
    written: list[float] = []

    def write(_: object) -> None:
        written.append(rig.clock())
        rig.clock.sleep(takes)

    monkeypatch.setattr(rig.monitors, "write_summary", write)
    rig.send(0, 1)
    rig.worker.run()
    *paced, _ = written  # the last one is that of the end
    assert len(paced) > 2
    assert all(waits <= later - earlier < waits + 1.5 for earlier, later in pairwise(paced))


def test_worker_last_summary_comes_after_the_end_of_reports(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(rig.monitors, "write_summary", lambda _: done.append("summary"))
    monkeypatch.setattr(rig.monitors, "close", lambda: done.append("reports ended"))
    rig.send(0, 1)
    rig.worker.run()
    assert done[-2:] == ["reports ended", "summary"]


def test_worker_summary_waits_while_every_poll_brings_rows(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[float] = []
    monkeypatch.setattr(rig.monitors, "write_summary", lambda _: written.append(rig.clock()))
    commit = rig.stream.commit

    def slow(messages: Iterable[Message], positions: Mapping[int, Position], ownership: Ownership) -> Written:
        rig.clock.sleep(2.0)
        return commit(messages, positions, ownership)

    monkeypatch.setattr(rig.stream, "commit", slow)
    rig.send(0, 2_000)  # in 20 batches, which take 40 s
    until = rig.clock() + 40.0
    rig.worker.run()
    busy = [at for at in written if at <= until]
    assert [later - earlier for earlier, later in pairwise(busy)] == [20.0]


def test_a_worker_without_partitions_leaves_the_summary_alone(rig: Rig) -> None:
    rig.stream.polls = []
    rig.restart(timeout_seconds=20.0)
    rig.stream.polls = []
    rig.worker.run()
    assert rig.monitors.summaries == []


def test_a_stop_does_not_wait_for_reports_but_saves_what_is_saved_safely(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.send(0, 200)
    rig.send(0, 20, station=1)
    monkeypatch.setattr(rig.monitors, "poll", list)
    rig.clock.at = [(rig.clock() + 1.0, lambda: setattr(rig.limits, "stopped", True))]
    rig.worker.run()
    assert len(rig.monitors.waiting) == 1
    assert [record.key for record in rig.kafka.log(STATE)] == [b"station_1"]
    assert rig.note().replay_offset == 0


def test_stop_with_many_stations_saves_what_fits_and_replays_the_rest(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition, "SNAPSHOTS_PER_COMMIT", 2)
    for station in range(9):
        rig.send(0, 3, station=station)
    commit = rig.stream.commit

    def slow(messages: Iterable[Message], positions: Mapping[int, Position], ownership: Ownership) -> Written:
        rig.clock.sleep(0.75 * STOP_SECONDS if rig.limits.stopped else 0.0)
        return commit(messages, positions, ownership)

    monkeypatch.setattr(rig.stream, "commit", slow)
    rig.clock.at = [(rig.clock() + 2.0, lambda: setattr(rig.limits, "stopped", True))]
    rig.worker.run()
    assert len(rig.kafka.log(STATE)) == 4
    rig.restart()
    rig.worker.run()
    assert rig.worker.counts == Counts(rows_in=27, warmup=27)
    assert len({record.key for record in rig.kafka.log(STATE)}) == 9
