"""The prediction service is away: rows keep their place, and what is lost meanwhile is left to its new owner."""

from __future__ import annotations

import numpy as np
import pytest

from airquality.ground.errors import ContractError
from airquality.stream.account import Counts
from airquality.stream.limits import Stopped
from airquality.stream.patience import BACKOFF_SECONDS, RELEASE_SECONDS
from airquality.stream.transactions import Poll
from airquality.stream.worker import POLL_SECONDS
from tests.worker_rig import STATE, Rig


def test_rows_keep_their_place_while_the_service_is_away(rig: Rig) -> None:
    rig.send(0, 200)
    rig.service.away = 6
    paused: list[float | None] = []
    rig.clock.at = [(rig.clock() + 1.0, lambda: paused.append(rig.metric("air_quality_consumer_paused")))]
    began = rig.clock()
    rig.worker.run()
    assert rig.service.asked == [32] * 7
    assert len(rig.predictions()) == 32
    assert (paused, rig.metric("air_quality_consumer_paused")) == ([1.0], 0.0)
    waited = rig.clock() - began
    low, high = BACKOFF_SECONDS
    doubled = [min(low * 2**i, high) for i in range(6)]
    assert 0.5 * sum(doubled) <= waited - 5.0 <= 1.5 * sum(doubled) + 7 * POLL_SECONDS
    pauses = np.diff(rig.stream.held)
    assert pauses.max() <= 2 * POLL_SECONDS  # the group hears of us all the while


def test_a_stop_during_an_outage_publishes_nothing(rig: Rig) -> None:
    rig.send(0, 250)
    rig.service.away = 10**6
    rig.clock.at = [(rig.clock() + 20.0, lambda: setattr(rig.limits, "stopped", True))]
    with pytest.raises(Stopped):
        rig.worker.run()
    assert rig.predictions() == []
    assert rig.kafka.log(STATE) == []
    assert rig.kafka.positions[0].offset == 100  # the first poll held warm-up only
    rig.service.away = 0
    rig.restart()
    rig.worker.run()
    assert rig.worker.counts == Counts(rows_in=250, warmup=168, predictions=82)


@pytest.mark.parametrize("away", ["checks_away", "away"])
def test_the_time_limit_holds_while_the_service_is_away(rig: Rig, away: str) -> None:
    rig.send(0, 200)
    rig.restart(timeout_seconds=60.0)
    setattr(rig.service, away, 10**6)
    began = rig.clock()
    with pytest.raises(Stopped):
        rig.worker.run()
    assert 60.0 <= rig.clock() - began < 62.0
    assert rig.predictions() == []


def test_hold_partition_lost_while_its_rows_wait_leaves_them_to_the_new_owner(rig: Rig) -> None:
    rig.send(0, 200)
    rig.send(0, 200, station=1, partition=1)
    rig.stream.polls = [Poll(gained={0, 1})]
    rig.service.away = 3
    lost = Poll(lost={0}, gained={0})
    rig.clock.at = [(rig.clock() + 1.0, lambda: rig.stream.news.append(lost))]
    rig.worker.run()
    assert rig.worker.counts == Counts(rows_in=400, warmup=336, predictions=64)
    for number in (0, 1):
        assert [p.source_offset for p in rig.predictions(number)] == list(range(168, 200))


def test_hold_other_partition_lost_publishes_nothing_of_it(rig: Rig) -> None:
    rig.send(0, 200)
    rig.send(0, 200, station=1, partition=1)
    rig.stream.polls = [Poll(gained={0, 1})]
    rig.service.away = 3
    rig.clock.at = [(rig.clock() + 1.0, lambda: rig.stream.news.append(Poll(lost={1})))]
    rig.worker.run()
    assert rig.worker.counts == Counts(rows_in=200, warmup=168, predictions=32)
    assert rig.predictions(1) == []


def test_run_service_of_another_release_ends_a_start_at_once(rig: Rig) -> None:
    rig.service.check_fault = ContractError("run both from the same release")
    began = rig.clock()
    with pytest.raises(ContractError, match="the same release"):
        rig.worker.run()
    assert rig.clock() == began


def test_run_service_of_another_release_for_a_moment_is_waited_for(rig: Rig) -> None:
    rig.send(0, 200)
    rig.service.fault = ContractError("run both from the same release")
    rig.clock.at = [(rig.clock() + RELEASE_SECONDS / 2, lambda: setattr(rig.service, "fault", None))]
    rig.worker.run()
    assert len(rig.predictions()) == 32


def test_run_service_of_another_release_for_good_ends_a_running_worker(rig: Rig) -> None:
    rig.send(0, 200)
    rig.service.fault = ContractError("run both from the same release")
    began = rig.clock()
    with pytest.raises(ContractError, match="the same release"):
        rig.worker.run()
    assert rig.clock() - began >= RELEASE_SECONDS
    assert rig.predictions() == []
