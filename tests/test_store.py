"""What a store keeps of hours and days in few bytes gives the sums that more bytes would."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from airquality.monitoring.bank import Bank
from airquality.monitoring.clock import Clock
from airquality.monitoring.suite import build
from airquality.monitoring.watch import Watch
from tests import watched

#: Of a station's memory, in bytes: tables, what follows from them, and room for stations to come.
STATION_BYTES = 50_000


def seed_beginning(offset: int) -> dict[str, Any]:
    """Return the calibration's seed with running totals that begin elsewhere, where their type wraps around."""
    seed = dict(watched.calibration().seed)
    for name in [name for name in seed if name.endswith(".recent_counts")]:
        totals = seed[name.removesuffix("_counts")]
        seed[name] = seed[name] + np.uint8(offset % 256)
        seed[name.removesuffix("_counts")] = totals + np.array(offset).astype(totals.dtype)
    return seed


@pytest.mark.parametrize("offset", [0, 200, 2**31 - 5])
def test_restore_running_totals_mean_the_same_wherever_they_begin(offset: int) -> None:
    suite, first = watched.calibration().suite, int(watched.stream().hours[0])
    values = watched.stream().values[np.newaxis, :168]
    whole, elsewhere = Bank(suite), Bank(suite)
    whole.restore(0, watched.calibration().seed)
    elsewhere.restore(0, seed_beginning(offset))
    np.testing.assert_equal(elsewhere.state(0), whole.state(0))
    assert_array_equal(elsewhere.look([0], first, values).statistics, whole.look([0], first, values).statistics)


def test_state_of_a_station_that_was_restored_is_that_of_one_that_never_ended() -> None:
    suite, first = watched.calibration().suite, int(watched.stream().hours[0])
    bank = Bank(suite)
    bank.restore(0, watched.calibration().seed)
    for n_rows, begin in ((1, 0), (30, 1), (168, 31), (5, 199)):
        step = bank.look([0], first + begin, watched.stream().values[np.newaxis, begin : begin + n_rows])
        bank.keep(step, [0], n_rows)
        again = Bank(suite)
        again.restore(0, bank.state(0))
        np.testing.assert_equal(again.state(0), bank.state(0))


def test_clock_largest_errors_of_a_week_are_summed_without_loss() -> None:
    relations = replace(watched.calibration().suite.relations, plain_sd=np.full(7, 1e6))  # no error is cut before the cap
    suite = build(relations, watched.calibration().suite.limits)
    rng = np.random.default_rng(0)
    values = watched.stream().values[:192] * rng.choice([1e-3, 1e3], (192, watched.stream().values.shape[1]))
    bank, first, squares = Bank(suite), 24 * 12_000, []
    at = [detector.name for detector in suite.detectors].index(Clock.name)
    for begin in range(0, 192, 8):
        step = bank.look([0], first + begin, values[np.newaxis, begin : begin + 8])
        memory, half = step.memories[at], Clock.day_channels // 2
        squares += suite.detectors[at].daily(step.rows, memory.recent)[0][0, :, half:].astype(np.int64).tolist()
        bank.keep(step, [0], 8)
    sums, _ = memory.last_days_of(step.rows, slice(7, 8), half)
    expected = np.sum(squares[24:], axis=0)  # the last seven days, the current one whole
    assert expected.max() > 2**31 * 0.9
    assert_array_equal(sums[0, 1, half:], expected)


def test_watch_of_hundreds_of_stations_takes_at_most_50_kb_each() -> None:
    fitted = watched.calibration()
    tracemalloc.start()
    try:
        watch: Watch[int] = fitted.watch()
        for number in range(300):
            watch.restore_memory(number, fitted.seed, fitted.first_hour)
        assert tracemalloc.get_traced_memory()[0] / 300 <= STATION_BYTES
    finally:
        tracemalloc.stop()
