"""Which files are hourly: gaps are fine, another step is not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airquality.data import dataset
from airquality.data.steps import STRETCH_STEPS, why_not_hourly


@pytest.mark.parametrize("hours", [2, 3, 6, 8, 12, 24, 168])
def test_why_not_hourly_regular_step_is_named(hours: int) -> None:
    assert why_not_hourly(range(0, 200 * hours, hours)) == f"199 of 199 steps are {hours} h"


def test_why_not_hourly_days_across_a_change_of_clocks_are_still_days() -> None:
    hours = [24 * day - (day > 100) + (day > 180) for day in range(365)]
    assert why_not_hourly(hours) == "362 of 364 steps are 24 h"


def test_why_not_hourly_three_hours_with_gaps_are_still_three_hours() -> None:
    kept = np.flatnonzero(np.random.default_rng(1).random(400) < 0.8) * 3
    found = why_not_hourly(kept)
    assert found is not None
    assert "steps are 3 h" in found


def test_why_not_hourly_file_that_goes_over_to_days_says_where() -> None:
    hours = [*range(500), *range(500, 500 + 24 * 100, 24)]
    assert why_not_hourly(hours) == "99 of 99 steps are 24 h, from 1970-01-21T20:00:00 on"


@given(st.floats(0.5, 1.0), st.integers(0, 2**32 - 1))
def test_why_not_hourly_hourly_file_with_gaps_is_fine(kept: float, seed: int) -> None:
    hours = np.flatnonzero(np.random.default_rng(seed).random(1_404) < kept)
    assert why_not_hourly(hours) is None


@pytest.mark.parametrize(
    "hours",
    [[], [5], [5, 5, 5], [0, 1, 2, 200, 201], [day * 24 + hour for day in range(30) for hour in range(8, 18)]],
    ids=["empty", "one row", "one hour thrice", "an outage", "office hours"],
)
def test_why_not_hourly_what_is_hourly_has_nothing_odd(hours: list[int]) -> None:
    assert why_not_hourly(hours) is None


def test_why_not_hourly_outages_one_after_another_are_gaps_up_to_a_limit() -> None:
    days = [24 * k for k in range(STRETCH_STEPS)]
    assert why_not_hourly([-1, *days]) is None
    assert why_not_hourly([-1, *days, 24 * STRETCH_STEPS]) is not None


def test_why_not_hourly_test_period_is_hourly() -> None:
    assert why_not_hourly(dataset.simulate().hours) is None
