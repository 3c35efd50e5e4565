"""Thresholds from tails: exact where the tail is known, and bought at the count of blocks they have not seen."""

from __future__ import annotations

import numpy as np

from airquality.monitoring import tails
from airquality.monitoring.alarms import Places
from airquality.monitoring.detector import Cell
from airquality.monitoring.network import NODE_COLUMNS

CELLS = tuple(Cell("level", column, 24, 1) for column in NODE_COLUMNS)


def quiet(n_hours: int, seed: int = 0) -> np.ndarray:
    """Return statistics that wander: 24 h means of noise."""
    noise = np.random.default_rng(seed).normal(size=(n_hours + 23, len(CELLS)))
    total = np.cumsum(noise, axis=0)
    return np.asarray((total[23:] - np.vstack([np.zeros(len(CELLS)), total[: n_hours - 1]])) / 24)


def test_tails_peaks_are_the_largest_at_least_72_hours_apart() -> None:
    table = np.zeros((2000, len(CELLS)))
    at = np.arange(100, 1500, 100)
    table[at, 0] = np.arange(len(at)) + 1.0
    table[at + 1, 0] = np.arange(len(at)) + 0.5
    assert tails.tails(table).peaks[:, 0].tolist() == [14, 13, 12, 11, 10, 9, 8]


def test_limits_lower_rate_gives_higher_thresholds() -> None:
    tail = tails.tails(quiet(5000))
    assert np.all(tails.limits(CELLS, tail, 0.001) > tails.limits(CELLS, tail, 0.1))


def test_limits_exact_cell_is_one_and_floor_is_kept() -> None:
    cells = (Cell("stuck", "T", 1, exact=True), Cell("clock", "T", 72, floor=9.0))
    assert tails.limits(cells, tails.tails(quiet(5000)[:, :2]), 0.01).tolist() == [1.0, 9.0]


def test_limits_cell_that_was_never_judged_is_off() -> None:
    table = quiet(5000)
    table[:, 3] = np.nan
    assert np.isinf(tails.limits(CELLS, tails.tails(table), 0.01)[3])


def test_pages_a_name_within_72_hours_is_the_same_page() -> None:
    table = np.zeros((500, len(CELLS)))
    table[[10, 50, 120, 300], 2] = 2.0
    table[50, 4] = 3.0
    assert tails.pages(Places.of(CELLS), table, np.ones(len(CELLS))) == 3 + 1 - 1 + 1


def test_buy_budget_is_kept_on_held_out_blocks_and_more_budget_buys_no_less() -> None:
    table = quiet(5000)
    low, high = tails.buy(Places.of(CELLS), table, [1.0, 4.0])
    months = len(table) / tails.HOURS_A_MONTH
    assert sum(low.held_out) <= months
    assert sum(high.held_out) <= 4 * months
    assert low.rate <= high.rate
    assert (len(low.held_out), len(low.nested)) == (6, 8)


def test_buy_page_in_one_block_is_not_hidden_by_its_own_tail() -> None:
    table = quiet(5000)
    table[4500:4510, 0] = 10.0
    assert tails.buy(Places.of(CELLS), table, [1.0])[0].held_out[5] >= 1
