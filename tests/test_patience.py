"""What is waited for, how long, and with which pauses."""

from __future__ import annotations

import pytest

from airquality.ground.errors import AirQualityError, ContractError, InvalidRecord, Unavailable, UsageError
from airquality.stream.patience import BACKOFF_SECONDS, FORGET_SECONDS, RELEASE_SECONDS, Patience
from tests.worker_rig import Clock


def waited(patience: Patience, clock: Clock, error: AirQualityError, n_tries: int) -> list[float]:
    pauses = []
    for _ in range(n_tries):
        pauses.append(patience.pause_seconds(error))
        clock.now += pauses[-1]
    return pauses


@pytest.mark.parametrize("has_worked", [False, True])
def test_pause_absence_is_waited_for_without_end_ever_more_slowly(clock: Clock, has_worked: bool) -> None:
    pauses = waited(Patience(has_worked, clock), clock, Unavailable("away"), 3_000)
    low, high = BACKOFF_SECONDS
    for index, pause in enumerate(pauses):
        middle = min(low * 2.0 ** min(index, 20), high)
        assert 0.5 * middle <= pause <= 1.5 * middle
    assert len(set(pauses)) > 2_000  # many consumers do not come back at the same moment


def test_pause_another_failure_later_begins_with_short_pauses(clock: Clock) -> None:
    patience = Patience(True, clock)
    waited(patience, clock, Unavailable("away"), 20)
    clock.now += FORGET_SECONDS + 1.0
    assert waited(patience, clock, Unavailable("away"), 1)[0] <= 1.5 * BACKOFF_SECONDS[0]


def test_pause_disagreement_at_a_start_is_not_waited_for(clock: Clock) -> None:
    error = ContractError("two releases")
    with pytest.raises(ContractError) as caught:
        Patience(False, clock).pause_seconds(error)
    assert caught.value is error


def test_pause_disagreement_under_a_running_consumer_is_waited_for_a_while(clock: Clock) -> None:
    patience, began = Patience(True, clock), clock.now
    with pytest.raises(ContractError):
        waited(patience, clock, ContractError("two releases"), 1_000)
    assert RELEASE_SECONDS <= clock.now - began <= RELEASE_SECONDS + 1.5 * BACKOFF_SECONDS[1]


@pytest.mark.parametrize("error", [UsageError("no"), InvalidRecord("malformed", "no")])
def test_pause_what_no_waiting_mends_is_not_waited_for(clock: Clock, error: AirQualityError) -> None:
    with pytest.raises(type(error)):
        Patience(True, clock).pause_seconds(error)
