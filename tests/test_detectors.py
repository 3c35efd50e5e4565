"""One contract for every registered detector: chunks, state, gaps, silence on clean data, and its own fault."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from airquality.monitoring import registry
from airquality.monitoring.bank import STEP_HOURS, Bank, statistics_of
from airquality.monitoring.detector import Detector
from tests import watched

Floats = NDArray[np.float64]

KINDS: dict[str, type[Detector]] = {kind.name: kind for kind in (*registry.rules(), *registry.statistical())}
NAMES = list(KINDS)
N_ROWS = 400


def cells_of(name: str) -> list[int]:
    return [index for index, cell in enumerate(watched.calibration().suite.cells) if cell.detector == name]


def judge(values: Floats, cuts: list[int], at_restart: int | None = None) -> Floats:
    """Return the statistics of rows that follow the history, cut at ``cuts``; a new process takes over at ``at_restart``."""
    calibration, hours = watched.calibration(), watched.stream().hours
    bank, parts = Bank(calibration.suite), []
    bank.restore(0, calibration.seed)
    edges = [0, *cuts, len(values)]
    for start, stop in itertools.pairwise(edges):
        if start == at_restart:
            state = bank.state(0)
            bank = Bank(calibration.suite)
            bank.restore(0, state)
        step = bank.look([0], int(hours[start]), values[np.newaxis, start:stop])
        bank.keep(step, [0], stop - start)
        parts.append(step.statistics[0])
    return np.concatenate(parts)


@functools.cache
def whole() -> Floats:
    return judge(watched.stream().values[:N_ROWS], list(range(STEP_HOURS, N_ROWS, STEP_HOURS)))


@functools.cache
def row_by_row() -> Floats:
    return judge(watched.stream().values[:N_ROWS], list(range(1, N_ROWS)))


@functools.cache
def restarted() -> Floats:
    cuts = sorted(np.random.default_rng(1).choice(np.arange(1, N_ROWS), 29, replace=False).tolist())
    return judge(watched.stream().values[:N_ROWS], cuts, at_restart=cuts[14])


@pytest.mark.parametrize("name", NAMES)
def test_detector_one_row_at_a_time_equals_batch_bit_for_bit(name: str) -> None:
    assert_array_equal(row_by_row()[:, cells_of(name)], whole()[:, cells_of(name)])


@pytest.mark.parametrize("name", NAMES)
def test_detector_restored_between_uneven_cuts_equals_batch_bit_for_bit(name: str) -> None:
    assert_array_equal(restarted()[:, cells_of(name)], whole()[:, cells_of(name)])


@pytest.mark.parametrize("name", NAMES)
def test_detector_among_other_stations_equals_alone_bit_for_bit(name: str) -> None:
    calibration, rows = watched.calibration(), watched.stream()
    bank = Bank(calibration.suite, 5)
    for slot in (1, 3, 4):
        bank.restore(slot, calibration.seed)
    tables = np.stack([rows.values[:24] * 1.01, rows.values[:24], rows.values[200:224]])
    step = bank.look([4, 1, 3], int(rows.hours[0]), tables)
    assert_array_equal(step.statistics[1][:, cells_of(name)], whole()[:24, cells_of(name)])


@pytest.mark.parametrize("name", NAMES)
def test_detector_rows_without_any_value_judge_nothing_as_faulty(name: str) -> None:
    silent = np.full((N_ROWS, 13), np.nan)
    found = judge(silent, list(range(STEP_HOURS, N_ROWS, STEP_HOURS)))[:, cells_of(name)]
    excess = found / watched.calibration().thresholds().alone[cells_of(name)]
    assert not (excess[-100:] >= 1.0).any()


@pytest.mark.parametrize("name", NAMES)
def test_detector_one_column_missing_at_random_gives_numbers_or_nan(name: str) -> None:
    values = watched.stream().values[:N_ROWS].copy()
    values[np.random.default_rng(2).random(values.shape) < 0.3] = np.nan
    found = judge(values, list(range(STEP_HOURS, N_ROWS, STEP_HOURS)))[:, cells_of(name)]
    assert not np.isinf(found).any()


@pytest.mark.parametrize("name", NAMES)
def test_detector_on_its_own_history_is_silent(name: str) -> None:
    calibration, frame = watched.calibration(), watched.history()
    found = statistics_of(calibration.suite, frame.hours, frame.values)[:, cells_of(name)]
    assert not (found / calibration.thresholds().alone[cells_of(name)] >= 1.0).any()


def test_clipped_counts_the_extremes_of_three_and_seven_calendar_days() -> None:
    rows, suite = watched.stream(), watched.calibration().suite
    cells = cells_of("clipped")
    found = whole()[:, cells] * suite.limits.clipped.reshape(-1)
    for row in range(200, N_ROWS, 13):
        for at, cell in enumerate(suite.cells[index] for index in cells):
            midnight = row - int(rows.hours[row]) % 24
            window = rows.values[midnight - (cell.hours - 24) : row + 1, watched.column(cell.column)].astype(np.float32)
            extreme = np.nanmax(window) if cell.sign > 0 else np.nanmin(window)
            assert found[row, at] == np.sum(window == extreme)


@pytest.mark.parametrize("name", NAMES)
def test_detector_its_own_fault_exceeds_the_threshold_of_that_column_most(name: str) -> None:
    values = watched.stream().values[:N_ROWS].copy()
    culprit = KINDS[name].own_fault(values)
    calibration = watched.calibration()
    found = judge(values, list(range(STEP_HOURS, N_ROWS, STEP_HOURS)))[:, cells_of(name)]
    excess = np.nanmax(found / calibration.thresholds().alone[cells_of(name)], axis=0, initial=0.0)
    cells = [calibration.suite.cells[index] for index in cells_of(name)]
    assert excess.max() >= 1.0
    assert cells[int(excess.argmax())].column == culprit


@pytest.mark.parametrize("name", NAMES)
def test_detector_size_is_finite_where_it_fires(name: str) -> None:
    values = watched.stream().values[:STEP_HOURS].copy()
    KINDS[name].own_fault(values)
    calibration = watched.calibration()
    bank = Bank(calibration.suite)
    bank.restore(0, calibration.seed)
    step = bank.look([0], int(watched.stream().hours[0]), values[np.newaxis])
    detectors = zip(calibration.suite.detectors, step.memories, strict=True)
    detector, memory = next((found, memory) for found, memory in detectors if found.name == name)
    cells = cells_of(name)
    excess = step.statistics[0][:, cells] / calibration.thresholds().alone[cells]
    row, cell = np.unravel_index(np.nanargmax(excess), excess.shape)
    assert np.isfinite(detector.size(step.rows, memory, int(cell))[0, row])


def test_state_of_a_station_stays_within_64_kib() -> None:
    state = watched.calibration().seed
    assert sum(np.asarray(table).nbytes for table in state.values()) < 60 * 1024  # alarms and the rest take less than 4
