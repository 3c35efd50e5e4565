"""What a station may take: 24 KiB for its buffer, 24 for its windows and reports, 64 for its detectors, 128 KB in all."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from airquality.data.digests import REMEMBERED_HOURS
from airquality.ground.typed import plain
from airquality.monitoring.component import Predicted, Row
from airquality.monitoring.detectors import Detectors, StationDetectors
from airquality.records import Reading
from airquality.stream import snapshots
from airquality.truth.kinds import WEEKLY
from monitoring_service import HOURLY
from tests import forecasts, stations, watched

BUDGET_BYTES = {"buffer": 24 * 1024, "windows": 24 * 1024, "detectors": 64 * 1024}
N_HOURS = WEEKLY.hours * 4 - 1  # the open week is full but for its last hour


def full_station(values: NDArray[np.float64]) -> dict[str, Any]:
    """Return the state of a station that remembers 13 months, a nearly full week, and a week of failed windows."""
    detectors = Detectors(watched.calibration())
    station = stations.opener(detectors).open("roof")
    first = int(watched.stream().hours[0])
    for hour in range(first - REMEMBERED_HOURS, first):
        station.buffer.push(Reading("roof", hour, tuple(values[hour % len(values)].tolist())))
        if hour % 100 == 0:
            station.buffer.take()
    station.buffer.take()
    rows = [
        Reading("roof", hour, tuple(row)) for hour, row in zip(range(first, first + N_HOURS), values.tolist(), strict=True)
    ]
    hourly = station.detectors[HOURLY]
    assert isinstance(hourly, StationDetectors)
    for batch in (rows[at : at + 100] for at in range(0, N_HOURS, 100)):
        detectors.judge({hourly: batch})
        for reading in batch:
            station.buffer.push(reading)
            for window in stations.observe(station, reading, reading.values[1] / 317.0):
                station.reports.keep(window)
        station.buffer.take()
    state: dict[str, Any] = plain(station.state("group", 0))
    return state


@pytest.fixture(scope="module")
def state() -> dict[str, Any]:
    return full_station(watched.stream().values[:N_HOURS])


@pytest.mark.parametrize("part", BUDGET_BYTES)
def test_state_of_a_full_station_keeps_to_the_budget_of_each_part(state: dict[str, Any], part: str) -> None:
    held = {"windows": state["windows"], "reports": state["reports"]} if part == "windows" else {part: state[part]}
    assert len(snapshots.encode(held)) <= BUDGET_BYTES[part]


def test_state_of_a_full_station_keeps_to_128_kb(state: dict[str, Any]) -> None:
    assert len(snapshots.encode(state)) <= 112 * 1024  # what is left is for intervals and truths


@pytest.mark.slow
def test_state_of_numbers_that_cannot_be_deflated_keeps_to_128_kb_without_failed_windows() -> None:
    rng = np.random.default_rng(5)
    usual = watched.stream().values[:N_HOURS]
    state = full_station(usual * rng.uniform(0.999, 1.001, usual.shape))
    assert len(snapshots.encode({**state, "reports": {**state["reports"], "unmade": []}})) <= snapshots.MAX_BYTES


#: Where the tables lie that all stations share, whose own tests say how large they are.
SHARED = ("*/model/rings.py", "*/monitoring/store.py", "*/monitoring/watch.py")
#: What a station holds beside them, two days into a week, its truths late: checksums 12 KB, open week and forecasts 7 each.
OWN_BYTES = 46 * 1024


def test_station_that_was_brought_back_takes_little_beside_the_tables_of_all() -> None:
    opener = stations.opener(None, forecasts.calibration())
    station = opener.open("roof")
    for reading in stations.readings_of(stations.values_of(9 * 24), "roof"):
        late = reading.without_truth()
        station.update(Row(late, Predicted(2.5, "1", station.around(late, 2.5))))
        station.reports.outstanding = 0
    saved = station.snapshot("group", 0)
    opener.open("another", snapshots.decode(saved))  # what is made once is made
    tracemalloc.start()
    try:
        held = [opener.open(f"station-{number}", snapshots.decode(saved)) for number in range(30)]
        taken = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(False, where) for where in SHARED])
    finally:
        tracemalloc.stop()
    assert sum(trace.size for trace in taken.traces) / len(held) <= OWN_BYTES
