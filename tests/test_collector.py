"""What the garbage collector is spared, and what it frees all the same."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from airquality.ground.errors import Unavailable
from airquality.stream import collector
from airquality.stream.collector import let_go, restoring  # before the session's fixture replaces them for other tests
from airquality.stream.transactions import Poll
from tests.worker_rig import Rig

pytestmark = pytest.mark.slow  # each look sees all that a hundred test files have imported


@pytest.fixture(autouse=True)
def real_collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let workers do what they do outside of tests, and leave pytest's own objects out of later looks again."""
    monkeypatch.setattr(collector, "restoring", restoring)
    monkeypatch.setattr(collector, "let_go", let_go)
    threshold = gc.get_threshold()
    gc.unfreeze()
    yield
    gc.set_threshold(*threshold)
    gc.enable()
    gc.freeze()


class Cycle:
    """Refers to itself: only the collector frees it."""

    def __init__(self) -> None:
        self.itself = self


def test_restoring_many_objects_collects_nothing_and_keeps_them_from_later_collections() -> None:
    begun: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        begun.append(info["generation"])

    gc.callbacks.append(note)
    try:
        with collector.restoring():
            held = [Cycle() for _ in range(3 * collector.NEW_OBJECTS)]
    finally:
        gc.callbacks.remove(note)
    assert begun == []
    assert gc.isenabled()
    assert gc.get_freeze_count() >= len(held)


def test_restoring_that_fails_leaves_the_collector_on() -> None:
    with pytest.raises(Unavailable), collector.restoring():
        raise Unavailable("Kafka does not answer")
    assert gc.isenabled()


def test_let_go_objects_that_refer_to_themselves_are_freed() -> None:
    with collector.restoring():
        lost = Cycle()
    freed = weakref.ref(lost)
    del lost
    gc.collect()
    assert freed() is not None  # as long as it is kept from the collector
    collector.let_go()
    assert freed() is None


def test_worker_that_takes_over_from_a_failed_one_frees_its_stations(rig: Rig) -> None:
    rig.send(0, 10)
    rig.worker.run()
    left = weakref.ref(rig.worker)
    rig.restart()
    rig.send(10, 10)
    rig.worker.run()
    assert left() is None


def test_worker_that_loses_a_partition_frees_stations_that_refer_to_themselves(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    freed: list[weakref.ref[Any]] = []

    def forget(station: Any) -> None:
        del rig.monitors.stations[station.station_id]
        station.itself = station
        freed.append(weakref.ref(station))

    monkeypatch.setattr(rig.monitors, "forget", forget)
    rig.send(0, 10)
    rig.send(0, 10, station=1, partition=1)
    rig.stream.polls = [Poll(gained={0, 1}), Poll(), Poll(lost={0}), Poll()]
    gc.disable()  # nothing but the worker's own look frees it
    rig.worker.run()
    assert [each() for each in freed] == [None]
