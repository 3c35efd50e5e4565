"""How the columns of a healthy station follow each other: linear relations fitted on its history."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from airquality.monitoring import twins
from airquality.monitoring.network import (
    ANALYSER,
    ANALYSER_PREDICTS,
    CHANNELS,
    COMPANIONS,
    N_NODES,
    PREDICTS,
    Bools,
    Channel,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Hours over which levels are averaged.
LEVEL_WINDOWS = (8, 24, 72, 168)
#: A baseline is the mean of 28 whole days, the last of them eight days ago.
BASELINE_DAYS, BASELINE_LAG_DAYS = 28, 8
#: Values a baseline needs: a third of its hours.
BASELINE_VALUES = 224

#: Ridge penalties, in units of a standardised column's moment.
HOURLY_PENALTY, SCALED_PENALTY = 1e-4, 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Relations:
    """Coefficients, float64. Nodes, views and channels are those of :mod:`airquality.monitoring.network`.

    ``rhythm`` ``(24, channels)``: the usual channel by hour of the day. ``hourly_moments`` ``(channels, channels)``: second
    moments of the departures from it, hour by hour; ``scaled_moments`` ``(windows, channels, channels)``: the same of means
    over each of ``LEVEL_WINDOWS`` minus their baselines. ``hourly`` ``(nodes, views, channels)``: a node's departure from
    the other channels'. ``plain`` and ``plain_intercept``: a node from the other channels without a rhythm,
    with an error of sd ``plain_sd`` ``(nodes,)``.
    ``difference_sd`` ``(nodes,)``: sd of the hourly residual's hourly change. ``analyser`` ``(views, inputs)`` and
    ``analyser_rhythm`` ``(views, 168)``: the target's log from channels and companions, and its rhythm by hour of the
    week. ``twins`` and ``twin_ranges`` are those of :func:`airquality.monitoring.twins.fit`.
    """

    rhythm: Floats
    hourly_moments: Floats
    scaled_moments: Floats
    hourly: Floats
    plain: Floats
    plain_intercept: Floats
    plain_sd: Floats
    difference_sd: Floats
    analyser: Floats
    analyser_rhythm: Floats
    twins: Floats
    twin_ranges: Floats

    def arrays(self) -> dict[str, Floats]:
        """Return the coefficients by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def fit(hours: Ints, values: Floats) -> Relations:
    """Fit all relations on consecutive ``hours`` ``(n,)`` and ``values`` ``(n, columns)``, NaN for missing."""
    channels = _columns(values, CHANNELS)
    waves = _waves(hours % 24, 24)
    known = ~np.isnan(channels).any(axis=1)
    by_wave = np.linalg.lstsq(waves[known], channels[known], rcond=None)[0]
    levels = channels - waves @ by_wave
    hourly_moments = _moments(levels[known])
    hourly = ridge(hourly_moments, HOURLY_PENALTY, PREDICTS)
    steps = np.diff(levels, axis=0)
    residuals = steps[:, :N_NODES] - steps @ hourly[:, 0].T
    plain = ridge(_moments(channels[known] - channels[known].mean(axis=0)), HOURLY_PENALTY, PREDICTS)
    analyser, analyser_rhythm = _fit_analyser(hours, values, channels)
    coefficients, ranges = twins.fit(values)
    return Relations(
        rhythm=_waves(np.arange(24), 24) @ by_wave,
        hourly_moments=hourly_moments,
        hourly=hourly,
        scaled_moments=np.array([_moments(shifts) for shifts in level_shifts(hours, levels)]),
        plain=plain,
        plain_sd=np.std(channels[known][:, :N_NODES] - channels[known] @ plain[:, 0].T, axis=0),
        plain_intercept=channels[known].mean(axis=0)[:N_NODES, np.newaxis] - plain @ channels[known].mean(axis=0),
        difference_sd=np.nanstd(residuals, axis=0),
        analyser=analyser,
        analyser_rhythm=analyser_rhythm,
        twins=coefficients,
        twin_ranges=ranges,
    )


def _columns(values: Floats, channels: tuple[Channel, ...]) -> Floats:
    columns = [values[:, channel.index] for channel in channels]
    logs = [np.log(np.maximum(x, c.floor)) if c.log else x for c, x in zip(channels, columns, strict=True)]
    return np.column_stack(logs)


def _waves(hours: Ints, period: int) -> Floats:
    angles = 2 * np.pi * np.outer(hours, [1, 2, 3]) / period
    return np.column_stack([np.ones(len(hours)), np.sin(angles), np.cos(angles)])


def _moments(table: Floats) -> Floats:
    return np.asarray(table.T @ table / len(table))


def ridge(moments: Floats, penalty: float, predicts: Bools) -> Floats:
    """Return every view's coefficients, ``(nodes, views, channels)``, from second moments about 0.

    Args:
        moments: ``(channels, channels)``.
        penalty: Of standardised columns.
        predicts: ``(nodes, views, channels)``: which channels each view uses.
    """
    sd = np.sqrt(np.diag(moments))
    scaled = moments / np.outer(sd, sd)
    coefficients = np.zeros(predicts.shape)
    for node, view in np.ndindex(*predicts.shape[:2]):
        used = np.flatnonzero(predicts[node, view])
        gram = scaled[np.ix_(used, used)] + penalty * np.eye(len(used))
        coefficients[node, view, used] = np.linalg.solve(gram, scaled[used, node]) * sd[node] / sd[used]
    return coefficients


def level_shifts(hours: Ints, levels: Floats) -> list[Floats]:
    """Return, for each level window, the shifts of all channels against their baselines where all are known."""
    present = ~np.isnan(levels)
    sums = np.vstack([np.zeros(levels.shape[1]), np.cumsum(np.where(present, levels, 0.0), axis=0)])
    counts = np.vstack([np.zeros(levels.shape[1]), np.cumsum(present, axis=0)])
    rows = np.arange(len(levels))
    midnight = rows - hours % 24
    last = np.clip(midnight - 24 * (BASELINE_LAG_DAYS - 1), 0, None)
    first = np.clip(last - 24 * BASELINE_DAYS, 0, None)
    baseline = _means(sums[last] - sums[first], counts[last] - counts[first], BASELINE_VALUES)
    shifts = []
    for window in LEVEL_WINDOWS:
        begin = np.clip(rows + 1 - window, 0, None)
        mean = _means(sums[rows + 1] - sums[begin], counts[rows + 1] - counts[begin], window // 3)
        shift = mean - baseline
        shifts.append(shift[~np.isnan(shift).any(axis=1)])
    return shifts


def _means(sums: Floats, counts: Floats, least: int) -> Floats:
    return np.where(counts >= least, sums / np.maximum(counts, 1), np.nan)


def _fit_analyser(hours: Ints, values: Floats, channels: Floats) -> tuple[Floats, Floats]:
    """Return the coefficients and the rhythm over the week, which also holds the intercept."""
    target = _columns(values, (ANALYSER,))[:, 0]
    inputs = np.column_stack([channels, _columns(values, COMPANIONS)])
    week = np.arange(168)
    coefficients, rhythms = [], []
    for used in ANALYSER_PREDICTS:
        known = ~np.isnan(target) & ~np.isnan(inputs[:, used]).any(axis=1)
        table = np.column_stack([inputs[known][:, used], _weekly(hours[known])])
        found = np.linalg.lstsq(table, target[known], rcond=None)[0]
        row = np.zeros(len(used))
        row[used] = found[: used.sum()]
        coefficients.append(row)
        rhythms.append(_weekly(week) @ found[used.sum() :])
    return np.array(coefficients), np.array(rhythms)


def _weekly(hours: Ints) -> Floats:
    """Return rhythm terms; hour 0 of the epoch was a Thursday."""
    weekend = (hours // 24 + 3) % 7 >= 5
    return np.column_stack([_waves(hours % 24, 24), weekend])
