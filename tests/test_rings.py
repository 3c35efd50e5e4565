"""Rows taken from the rings of many stations, however their hours came, against the oracle on each row's own 169 hours."""

from __future__ import annotations

import math
import tracemalloc
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from airquality.incoming import LateTruth
from airquality.model.features import NAMES, PLAN
from airquality.model.plan import BEST_ROWS
from airquality.model.rings import Rings
from airquality.records import HISTORY_HOURS, RAW_COLUMNS, TARGET_INDEX, Outcome, Reading
from airquality.stream.feature_rows import MAX_TURNS, take_features
from feature_buffer import FeatureBuffer
from tests import feature_oracle

Floats = NDArray[np.float64]
START = 307_668
MISSING = (math.nan,) * len(RAW_COLUMNS)
ODD = [math.inf, -math.inf, 0.0, -0.0, -1.0, 5e-324, 1.7e308]


@dataclass
class Fed:
    """A station: its buffer, all hours it was given, and of each waiting row its hour and the 169 hours that it sees."""

    buffer: FeatureBuffer
    hour: int
    given: dict[int, tuple[float, ...]] = field(default_factory=dict)
    windows: list[tuple[int, Floats]] = field(default_factory=list)

    def push(self, hour: int, values: tuple[float, ...]) -> None:
        self.hour, self.given[hour] = hour, values
        if self.buffer.push(Reading("station", hour, values)) is Outcome.READY:
            seen = [self.given.get(h, MISSING) for h in range(hour - HISTORY_HOURS, hour + 1)]
            self.windows.append((hour, np.array(seen)))

    def fill(self, hour: int, value: float) -> None:
        values = self.given.get(hour)
        if self.buffer.fill(LateTruth("station", hour, value)).value == "filled" and values:
            self.given[hour] = (*values[:TARGET_INDEX], value, *values[TARGET_INDEX + 1 :])


def made_up(rng: np.random.Generator, n_hours: int, missing: float = 0.2, odd: float = 0.0) -> list[tuple[float, ...]]:
    values = 100.0 * rng.lognormal(0.0, 0.7, (n_hours, len(RAW_COLUMNS)))
    is_odd = rng.random(values.shape) < odd
    values[is_odd] = rng.choice(ODD, is_odd.sum())
    values[rng.random(values.shape) < missing] = np.nan
    return [tuple(row) for row in values.tolist()]


def warm(rings: Rings, hour: int, rng: np.random.Generator, missing: float = 0.2) -> Fed:
    """A station whose newest hour is ``hour``."""
    station = Fed(FeatureBuffer(rings), hour)
    for past, values in enumerate(made_up(rng, HISTORY_HOURS, missing), hour - HISTORY_HOURS + 1):
        station.push(past, values)
    return station


def taken_is_right(stations: list[Fed]) -> bool:
    """Take all rows that wait: are they the oracle's, to the last bit?"""
    taken = take_features([station.buffer for station in stations])
    windows = [window for station in stations for window in station.windows]
    for station in stations:
        station.windows = []
    if not windows:
        return taken.shape == (0, len(NAMES))
    grid = np.concatenate([values for _, values in windows])
    positions = np.arange(1, len(windows) + 1) * (HISTORY_HOURS + 1) - 1
    expected = feature_oracle.rows(grid, np.array([hour for hour, _ in windows]), positions)
    return taken.tobytes() == expected.tobytes()


# what takes long is tried less often, and not shrunk: no seed is simpler than another
@settings(max_examples=settings().max_examples // 5, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(seed=st.integers(0, 2**32 - 1), missing=st.sampled_from([0.0, 0.2, 0.9]), odd=st.sampled_from([0.0, 0.0, 0.02]))
def test_take_features_any_cut_of_any_stations_has_the_oracles_bits(seed: int, missing: float, odd: float) -> None:
    rng = np.random.default_rng(seed)
    rings = Rings(PLAN)
    stations = [warm(rings, START + int(rng.integers(40)), rng, missing) for _ in range(rng.integers(1, 5))]
    for _ in range(8):
        for index in rng.permutation(len(stations)):
            go_on(stations[index], rng, made_up(rng, int(rng.choice([0, 1, 1, 1, 3, MAX_TURNS + 1])), missing, odd))
        assert taken_is_right(stations)
        restarted = stations[rng.integers(len(stations))]
        if rng.random() < 0.3:
            restarted.buffer = FeatureBuffer.from_state(restarted.buffer.state(), rings)
        elif rng.random() < 0.3:
            restarted.fill(restarted.hour - int(rng.integers(HISTORY_HOURS)), 3.25)


def go_on(station: Fed, rng: np.random.Generator, rows: list[tuple[float, ...]]) -> None:
    """Let readings come, some after a gap, and some truths right after them."""
    for values in rows:
        gap = rng.choice([2, 5, 30, 167, 168, 169, 1_000]) if rng.random() < 0.1 else 1
        station.push(station.hour + int(gap), values)
        if rng.random() < 0.1:
            station.fill(station.hour - int(rng.choice([0, 1, 24, 167])), 7.5)


def test_take_features_one_row_of_each_of_many_stations_has_the_oracles_bits() -> None:
    rng = np.random.default_rng(5)
    rings = Rings(PLAN)
    stations = [warm(rings, START + late, rng) for late in range(3)]
    for index in range(BEST_ROWS):
        station = stations[index % 3]
        history = made_up(rng, HISTORY_HOURS)
        buffer = FeatureBuffer.from_state(replace(station.buffer.state(), history=np.array(history)), rings)
        first = station.hour - HISTORY_HOURS + 1
        stations.append(Fed(buffer, station.hour, dict(enumerate(history, first))))
    for _ in range(2):
        for station, values in zip(stations, made_up(rng, len(stations)), strict=True):
            station.push(station.hour + 1, values)
        assert taken_is_right(stations)


def test_take_features_station_by_station_has_the_bits_of_all_together() -> None:
    together, apart = (
        [warm(rings, START, np.random.default_rng(7)) for _ in range(3)] for rings in (Rings(PLAN), Rings(PLAN))
    )
    (values,) = made_up(np.random.default_rng(8), 1)
    for station in (*together, *apart):
        station.push(START + 1, values)
    rows = [take_features([station.buffer]).tobytes() for station in apart]
    assert take_features([station.buffer for station in together]).tobytes() == b"".join(rows)


@pytest.mark.parametrize("silent", [1, 23, 24, 167, 168])
@pytest.mark.parametrize("at_a_time", [1, 200])
def test_take_features_a_last_known_value_is_one_of_the_168_hours_before(silent: int, at_a_time: int) -> None:
    rng = np.random.default_rng(10)
    stations = [warm(rings, START, rng) for rings in [Rings(PLAN)] for _ in range(2)]
    known, *after = made_up(rng, silent + 3, missing=0.0)
    nothing_of_the_target = [(*values[:TARGET_INDEX], math.nan, *values[TARGET_INDEX + 1 :]) for values in after]
    for index, values in enumerate([known, *nothing_of_the_target, known]):
        for station in stations:
            station.push(station.hour + 1, values)
        if index % at_a_time == 0:
            assert taken_is_right(stations)
    assert taken_is_right(stations)


@pytest.mark.parametrize("before", ["every row", "the first row"])
def test_take_features_a_late_truth_is_in_all_that_is_derived_from_its_hour(before: str) -> None:
    rng = np.random.default_rng(9)
    station = warm(Rings(PLAN), START, rng, missing=0.9)
    for hour, values in enumerate(made_up(rng, 60, missing=0.9), START + 1):
        if before == "every row" or hour == START + 1:
            station.fill(hour - 1 - int(rng.integers(100)), float(rng.lognormal()))
        station.push(hour, values)
        assert taken_is_right([station])


def test_rings_a_place_that_was_given_away_holds_nothing_of_the_station_before() -> None:
    rings = Rings(PLAN)
    station = warm(rings, START, np.random.default_rng(1))
    station.push(START + 1, *made_up(np.random.default_rng(2), 1))
    assert taken_is_right([station])
    del station
    place = rings.open()
    assert np.isnan(rings.hours(place, START)).all()
    assert rings.open() != place


def test_rings_more_stations_change_nothing_of_those_there_are() -> None:
    rng = np.random.default_rng(3)
    rings = Rings(PLAN)
    stations: list[Fed] = []
    for _ in range(20):
        stations.append(warm(rings, START, rng))
        for station, values in zip(stations, made_up(rng, len(stations)), strict=True):
            station.push(station.hour + 1, values)
        assert taken_is_right(stations)


def test_rings_of_many_stations_keep_little_room_that_is_free() -> None:
    tracemalloc.start()
    rings, held = Rings(PLAN), dict[int, float]()
    for number in range(1, 401):
        rings.open()
        held[number] = tracemalloc.get_traced_memory()[0] / number
    tracemalloc.stop()
    assert max(held[number] for number in range(200, 401)) < 1.03 * rings.bytes_per_place


def test_rings_keep_no_hour_longer_than_it_is_asked_for() -> None:
    # the raw hours and what was measured 20 KB, sums and largest values 24 KB, lags 7 KB
    assert Rings(PLAN).bytes_per_place < 52_000
