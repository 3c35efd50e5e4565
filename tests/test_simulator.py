"""The simulated data set: the same every time, and like the real one where it matters."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pytest

from airquality.data import dataset
from airquality.data.dataset import Frame
from airquality.records import HARD_LIMITS, RAW_COLUMNS, hour_of


def test_simulator_is_deterministic(simulated: Frame) -> None:
    assert dataset.simulate().sha256 == simulated.sha256
    assert dataset.simulate(seed=1).sha256 != simulated.sha256


def test_simulated_rows_are_the_same_hours_and_valid(simulated: Frame) -> None:
    assert len(simulated) == 9357
    assert (np.diff(simulated.hours) == 1).all()
    assert simulated.hours[-1] == hour_of(datetime(2005, 4, 4, 14))
    low, high = np.array([HARD_LIMITS[name] for name in RAW_COLUMNS]).T
    measured = ~np.isnan(simulated.values)
    assert ((simulated.values >= low) & (simulated.values <= high))[measured].all()


def test_simulated_values_go_missing_like_real_ones(simulated: Frame) -> None:
    shares = {
        name: [100 * np.isnan(part.values[:, k]).mean() for part in dataset.split(simulated)]
        for k, name in enumerate(RAW_COLUMNS)
    }
    assert shares["CO(GT)"] == pytest.approx([23, 12, 2], abs=1)
    assert shares["NOx(GT)"] == shares["NO2(GT)"] == pytest.approx([22, 11, 3], abs=1)
    assert shares["NMHC(GT)"] == pytest.approx([86, 100, 100], abs=3)
    assert shares["T"] == shares["PT08.S1(CO)"] == pytest.approx([2, 10, 5.5], abs=0.5)
    no_co = np.isnan(simulated.values[:, 0])
    assert no_co[simulated.hours % 24 == 4].mean() > 1.5 * no_co.mean()
    longest = max(len(run) for run in "".join("x" if m else " " for m in no_co).split())
    assert longest >= 48


def test_simulated_columns_belong_together(simulated: Frame) -> None:
    column = {name: simulated.values[:, k] for k, name in enumerate(RAW_COLUMNS)}
    ok = ~np.isnan(simulated.values[:, [0, 1, 3, 5]]).any(axis=1)
    curve = np.polynomial.Polynomial.fit(column["PT08.S2(NMHC)"][ok], column["C6H6(GT)"][ok], 3)
    assert np.corrcoef(curve(column["PT08.S2(NMHC)"][ok]), column["C6H6(GT)"][ok])[0, 1] ** 2 > 0.9999
    log_co = np.log(column["CO(GT)"][ok])
    assert np.corrcoef(log_co, np.log(column["PT08.S1(CO)"][ok]))[0, 1] > 0.7
    assert np.corrcoef(log_co, np.log(column["PT08.S3(NOx)"][ok]))[0, 1] < -0.5
    hour = simulated.hours[ok] % 24
    assert log_co[hour == 19].mean() - log_co[hour == 4].mean() > 1
    weekend = (simulated.hours[ok] // 24 + 3) % 7 >= 5
    assert log_co[(hour == 8) & ~weekend].mean() - log_co[(hour == 8) & weekend].mean() > 0.5


def test_simulated_sensors_drift(simulated: Frame) -> None:
    co, nox = np.log(simulated.values[:, [0, RAW_COLUMNS.index("NOx(GT)")]]).T
    early, late = (np.nanmean((nox - co)[rows]) for rows in (slice(0, 2000), slice(-2000, None)))
    assert late - early > 0.5


def test_simulated_history_can_be_learnt(simulated: Frame) -> None:
    """A straight line through logs, fitted before the test block, beats the last known value by far."""
    root_co = np.sqrt(simulated.values[:, 0])
    before = np.concatenate([[np.nan], root_co[:-1]])
    inputs = np.column_stack([np.ones(len(root_co)), before, np.log(simulated.values[:, [1, 3, 4, 5, 7, 9]] + 0.1)])
    usable = ~np.isnan(inputs).any(axis=1) & ~np.isnan(root_co)
    train, test = (usable & rows for rows in (np.arange(9357) < 7953, np.arange(9357) >= 7953))
    weights = np.linalg.lstsq(inputs[train], root_co[train], rcond=None)[0]
    truth = root_co[test] ** 2

    def rmse(root: np.ndarray) -> float:
        return float(np.sqrt(np.mean((root**2 - truth) ** 2)))

    assert rmse(inputs[test] @ weights) < 0.6 * rmse(before[test])
