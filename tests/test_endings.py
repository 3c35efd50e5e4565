"""Tests of how the container flows judge the ends of containers."""

from __future__ import annotations

import pytest

from lab.containers.endings import Ending, killed

CONSUMER = Ending("consumer", 0, 0.5)
BROKERS = [Ending("kafka", 143, 1.2), Ending("kafka-2", 143, 1.4)]


def test_killed_last_broker_of_a_whole_quorum_is_excused() -> None:
    assert killed([CONSUMER, *BROKERS, Ending("kafka-3", 137, 30.2)]) == []


@pytest.mark.parametrize(
    "ended",
    [
        [Ending("kafka", 137, 30.0)],
        [Ending("kafka-2", 143, 1.4), Ending("kafka-3", 137, 30.2)],
        [Ending("kafka-3", 137, 30.2), *BROKERS],
        [*BROKERS, Ending("kafka-3", 1, 2.0)],
        [*BROKERS, Ending("kafka-3", 143, 1.0), Ending("consumer", 137, 30.0)],
    ],
    ids=["a broker alone", "two of three", "not the last", "ended with an error", "the consumer"],
)
def test_killed_anything_else_that_did_not_end_by_itself_is_named(ended: list[Ending]) -> None:
    assert len(killed(ended)) == 1
