"""What a bank forgets of a column is as if it had never been measured."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from airquality.monitoring.bank import Bank
from tests import watched

Floats = NDArray[np.float64]

COLUMN = "PT08.S4(NO2)"


def judged(values: Floats, forgotten: tuple[int, int] | None) -> Floats:
    """Return the level statistics of rows 150 to 170, the first 150 taken in before some of them are forgotten."""
    calibration, first = watched.calibration(), int(watched.stream().hours[0])
    bank = Bank(calibration.suite)
    bank.restore(0, calibration.seed)
    bank.keep(bank.look([0], first, values[np.newaxis, :150]), [0], 150)
    if forgotten is not None:
        bank.forget_hours(0, COLUMN, first + forgotten[0], first + forgotten[1])
    cells = [index for index, cell in enumerate(calibration.suite.cells) if cell.detector == "level"]
    return np.asarray(bank.look([0], first + 150, values[np.newaxis, 150:170]).statistics[0][:, cells])


@pytest.mark.parametrize("hours", [(100, 120), (0, 149), (149, 149), (-400, 60)])
def test_forget_hours_of_a_column_equals_hours_without_its_values(hours: tuple[int, int]) -> None:
    values = watched.stream().values[:170].copy()
    without = values.copy()
    without[max(hours[0], 0) : hours[1] + 1, watched.column(COLUMN)] = np.nan
    forgetting = judged(values, hours)
    if hours[0] >= 0:
        assert_array_equal(forgetting, judged(without, None))
    assert not np.array_equal(forgetting, judged(values, None), equal_nan=True)


def test_forget_hours_decades_after_the_epoch_counts_none_of_the_hours_before() -> None:
    calibration = watched.calibration()
    bank = Bank(calibration.suite)
    bank.restore(0, calibration.seed)
    bank.forget_recent(0, COLUMN, 24)  # what is made once is made
    tracemalloc.start()
    try:
        bank.forget_recent(0, COLUMN, 24)
        assert tracemalloc.get_traced_memory()[1] < 100_000  # an hour takes eight bytes, and it is hour 300,000 or later
    finally:
        tracemalloc.stop()
