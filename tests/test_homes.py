"""Which partition each station lives on, and what becomes of its rows on another."""

from __future__ import annotations

import pytest

from airquality.ground.errors import InvalidRecord
from airquality.stream.homes import Homes
from airquality.stream.transactions import Poll
from tests.simulated_kafka import reading
from tests.worker_rig import DLQ, RAW, START, Rig


def test_homes_earlier_state_is_home_whichever_is_learned_first() -> None:
    for order in ((0, 1), (1, 0)):
        homes = Homes()
        for partition in order:
            homes.learn("roof", partition, 100 - partition)
        assert homes.home("roof") == 1


def test_homes_forgotten_station_has_no_home() -> None:
    homes = Homes()
    homes.learn("roof", 1, 5)
    homes.forget("roof", 0)
    assert homes.home("roof") == 1
    homes.forget("roof", 1)
    assert homes.home("roof") is None
    homes.require("roof", 0)


def test_homes_looks_once_more_before_a_station_counts_as_new() -> None:
    homes = Homes(lambda: homes.learn("roof", 1, 5))
    with pytest.raises(InvalidRecord, match=r"lives on partition 1.*repartition") as refused:
        homes.require("roof", 0)
    assert refused.value.reason == "moved"


def stray(rig: Rig, hour: int, partition: int = 1) -> None:
    rig.kafka.append(RAW, partition, None, reading(0, START + hour).to_bytes())


def reasons(rig: Rig, partition: int) -> list[str]:
    return [rig.kafka.headers[DLQ, partition, letter.offset]["reason"] for letter in rig.kafka.log(DLQ, partition)]


@pytest.mark.parametrize("lost", [0, 1])
def test_row_of_a_station_of_another_partition_is_a_dead_letter_and_harms_nothing(rig: Rig, lost: int) -> None:
    rig.send(0, 200)
    rig.stream.polls = [Poll(gained={0, 1})]
    rig.worker.run()
    stray(rig, 150)
    rig.send(200, 30)
    rig.restart()
    rig.stream.polls = [Poll(gained={0, 1}), Poll(), Poll(), Poll(lost={lost})]
    rig.worker.run()
    assert reasons(rig, 1) == ["moved"]
    assert len(rig.predictions(0)) == 62
    assert rig.predictions(1) == []
    assert set(rig.monitors.stations) == ({"station_0"} if lost else set())


def test_row_of_a_station_whose_snapshot_another_consumer_wrote_is_a_dead_letter(rig: Rig) -> None:
    rig.send(0, 200)
    rig.worker.run()  # owns partition 0 only
    stray(rig, 300)
    rig.restart()
    rig.stream.polls = [Poll(gained={1})]
    rig.worker.run()
    assert reasons(rig, 1) == ["moved"]
    assert rig.monitors.stations == {}


def test_row_that_was_a_dead_letter_stays_one_when_it_is_replayed(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is known of the other partition by then: its owner may have no snapshot yet."""
    rig.send(0, 20)
    rig.send(0, 20, station=1, partition=1)
    rig.stream.polls = [Poll(gained={0, 1})]
    monkeypatch.setattr(rig.worker, "_finish", lambda: None)
    rig.clock.at = [(rig.clock() + 2.0, lambda: stray(rig, 25))]
    rig.worker.run()
    assert reasons(rig, 1) == ["moved"]
    rig.restart()
    rig.stream.polls = [Poll(gained={1})]
    rig.worker.run()
    assert set(rig.monitors.stations) == {"station_1"}
    assert rig.worker.counts.dead_letters == {"moved": 1}
    assert rig.worker.counts.rows_in == 21


def test_station_with_two_states_keeps_the_one_that_began_earlier(rig: Rig) -> None:
    """Two consumers that cannot see each other's station until it has a snapshot."""
    for partition in (0, 1):
        rig.restart()
        rig.stream.polls = [Poll(gained={partition})]
        for hour in range(20):
            sent = reading(0, START + 2 * hour + partition)
            rig.kafka.append(RAW, partition, sent.station_id.encode(), sent.to_bytes(), 1_300_000_000_000 - partition)
        if partition == 1:
            rig.kafka.logs["hidden", 0] = rig.kafka.logs.pop(("air_quality.state", 0))
        rig.worker.run()
    rig.kafka.logs["air_quality.state", 0] = rig.kafka.logs.pop(("hidden", 0))
    stray(rig, 100, partition=0)
    rig.restart()
    rig.stream.polls = [Poll(gained={0, 1})]
    rig.worker.run()
    assert reasons(rig, 0) == ["moved"]
    assert set(rig.monitors.stations) == {"station_0"}
