"""Detectors for tests: fitted on simulated history in a second or two, their thresholds from that history's own tails."""

from __future__ import annotations

import functools
from dataclasses import fields, replace

import numpy as np
from numpy.typing import NDArray

from airquality.data import dataset
from airquality.data.dataset import Frame
from airquality.monitoring import relations, tails
from airquality.monitoring.bank import STEP_HOURS, Bank, statistics_of
from airquality.monitoring.calibration import Calibration
from airquality.monitoring.drift import Judge
from airquality.monitoring.reference import Reference
from airquality.monitoring.rules import Limits, limits_of
from airquality.monitoring.suite import Suite, build
from airquality.monitoring.tails import Purchase
from airquality.monitoring.thresholds import Calibration as WindowCalibration
from airquality.monitoring.thresholds import KindCalibration
from airquality.monitoring.window_calibration import History, calibrate_history
from airquality.records import RAW_COLUMNS, TARGET_INDEX
from airquality.truth.kinds import KINDS
from airquality.truth.performance import Performance

Floats = NDArray[np.float64]

_FIRST, _END = 3000, 6000


@functools.cache
def history() -> Frame:
    """Return simulated hours the detectors are fitted on."""
    return dataset.simulate().rows(_FIRST, _END)


@functools.cache
def stream() -> Frame:
    """Return the simulated hours that follow the history."""
    return dataset.simulate().rows(_END, _END + 900)


@functools.cache
def calibration() -> Calibration:
    """Return a calibration on the simulated history; thresholds are from its own statistics, so that it is silent there."""
    frame = history()
    fitted = relations.fit(frame.hours, frame.values)
    unlimited = build(fitted, Limits.unit())
    everything = statistics_of(unlimited, frame.hours, frame.values)
    n_exact = sum(cell.exact for cell in unlimited.cells)
    suite = build(fitted, limits_of(everything[:, :n_exact], unlimited.cells[:n_exact], frame.values, fitted))
    clean = everything[:, n_exact:]
    tail = tails.tails(clean)
    return Calibration(
        suite=suite,
        tail=tail,
        tails_beside=(tail,) * 8,
        usual=np.nanmedian(clean, axis=0),
        purchases=(Purchase(1.0, 1e-4, (0,) * 6, (0,) * 8), Purchase(2.0, 0.01, (0,) * 6, (0,) * 8)),
        seed=_seed(suite, frame),
        data_source="simulated",
        data_hash=frame.sha256,
        first_hour=int(frame.hours[0]),
        last_hour=int(frame.hours[-1]),
        ranges=np.array([np.fmin.reduce(frame.values), np.fmax.reduce(frame.values)]),
    )


@functools.cache
def judge() -> Judge:
    """Return a judge of windows, calibrated on the same history, its limits so wide that no clean window exceeds them."""
    frame, n_reference = history(), 700
    made = frame.values[:, TARGET_INDEX] + np.random.default_rng(5).normal(0, 0.3, len(frame))
    rows = slice(len(frame) - n_reference, None)
    reference = Reference(frame.hours[rows], frame.values[rows], made[rows])
    past = History(frame.hours, frame.values, made, n_reference)
    return Judge(
        reference,
        WindowCalibration(
            kinds={kind.name: _widened(calibrate_history(past, kind)) for kind in KINDS},
            baseline=Performance.of(reference.predictions, reference.values[:, TARGET_INDEX]),
            data_source="simulated",
            data_hash=frame.sha256,
            model_hash="model",
            reference_hash=reference.digest(),
        ),
    )


def _widened(limits: KindCalibration) -> KindCalibration:
    named = {part.name: getattr(limits, part.name) for part in fields(limits)}
    wide = {name: replace(threshold, limit=2 * threshold.limit) for name, threshold in named.items()}
    return KindCalibration(**wide)


def _seed(suite: Suite, frame: Frame) -> dict[str, object]:
    bank = Bank(suite)
    for start in range(len(frame) - 10 * STEP_HOURS, len(frame), STEP_HOURS):
        rows = slice(start, start + STEP_HOURS)
        bank.keep(bank.look([0], int(frame.hours[start]), frame.values[np.newaxis, rows]), [0], STEP_HOURS)
    return bank.state(0)


def column(name: str) -> int:
    """Return the place of a column in a row."""
    return RAW_COLUMNS.index(name)
