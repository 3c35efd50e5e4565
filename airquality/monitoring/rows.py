"""Rows of stations, prepared once for all detectors: channels, their daily rhythm removed, in exact fixed point.

Sums of fixed-point integers do not depend on the order they are added in. That is what makes an hour judged alone equal
the same hour judged in a batch, bit for bit, without recomputing whole windows.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from airquality.monitoring.network import ANALYSER, CHANNELS, COMPANIONS, N_NODES, PREDICTS, VIEWS, Channel
from airquality.monitoring.relations import Relations

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Ring = NDArray[np.int32]

#: Marks a value that was not measured.
MISSING = np.iinfo(np.int32).min
_LARGEST = float(np.iinfo(np.int32).max)
#: Units of a channel in fixed point: 2.4e-7 of a log unit, degree or per cent.
CHANNEL_SCALE = float(2**22)
#: Rows before the first new one that every batch carries.
CARRIED_ROWS = 2


def channels_of(values: Floats, channels: tuple[Channel, ...]) -> Floats:
    """Return ``values`` ``(..., 13)`` on the scale of ``channels``, ``(..., len(channels))``, NaN for missing."""
    columns, logs, floors = _places_of(channels)
    out: Floats = values[..., columns]
    out[..., logs] = np.log(np.maximum(out[..., logs], floors))
    return out


@functools.cache
def _places_of(channels: tuple[Channel, ...]) -> tuple[Ints, Ints, Floats]:
    """Return the channels' columns, which of them are logarithms, and the floors of those."""
    logs = [index for index, channel in enumerate(channels) if channel.log]
    return (
        np.array([channel.index for channel in channels]),
        np.array(logs),
        np.array([channels[index].floor for index in logs]),
    )


def to_fixed(values: Floats, scale: float) -> Ring:
    """Return ``values`` as whole multiples of 1/``scale``, ``MISSING`` for NaN; what is too large is as large as can be."""
    rounded = np.minimum(np.maximum(np.rint(values * scale), -_LARGEST), _LARGEST)
    return np.where(np.isnan(rounded), MISSING, rounded).astype(np.int32)


@dataclass(frozen=True, eq=False)
class Rows:
    """Consecutive hours of several stations that begin at the same hour.

    ``values`` is ``(stations, CARRIED_ROWS + n, 13)``: the rows already judged come first. ``first_hour`` is the hour of the
    first new row. A missing hour is a row of NaN.
    """

    values: Floats
    first_hour: int
    relations: Relations

    def of(self, station: int) -> Rows:
        """Return one station's rows."""
        return Rows(self.values[station : station + 1], self.first_hour, self.relations)

    @property
    def n_new(self) -> int:
        """Hours to be judged."""
        return int(self.values.shape[1]) - CARRIED_ROWS

    @property
    def new(self) -> Floats:
        """The values of the new rows, ``(stations, n, 13)``."""
        return self.values[:, CARRIED_ROWS:]

    @functools.cached_property
    def hours(self) -> Ints:
        """The new rows' hours, ``(n,)``."""
        return self.first_hour + np.arange(self.n_new)

    @functools.cached_property
    def day_of_row(self) -> Ints:
        """For each new row, how many midnights lie between the last judged row and it."""
        return self.hours // 24 - (self.first_hour - 1) // 24

    @functools.cached_property
    def channels(self) -> Floats:
        """All rows' channels, ``(stations, CARRIED_ROWS + n, 8)``."""
        return channels_of(self.values, CHANNELS)

    @functools.cached_property
    def levels(self) -> Floats:
        """All rows' channels without their daily rhythm."""
        hours = (self.first_hour - CARRIED_ROWS + np.arange(self.values.shape[1])) % 24
        return self.channels - self.relations.rhythm[hours]

    @functools.cached_property
    def analysers(self) -> Floats:
        """The new rows' analysers: the target's and its companions, ``(stations, n, analysers)``."""
        return channels_of(self.new, (ANALYSER, *COMPANIONS))

    @functools.cached_property
    def differences(self) -> Floats:
        """How each view's residual changed within the hour, in sd of the node: ``(stations, 1 + n, views and nodes)``.

        The first row is the one before the first new one. NaN where a channel of the view lacks either hour.
        """
        steps = np.diff(self.levels, axis=1)
        own = np.concatenate([steps[..., :N_NODES]] * VIEWS, axis=-1)
        return (own - predicted(steps, self.relations.hourly)) * np.tile(1.0 / self.relations.difference_sd, VIEWS)


def predicted(channels: Floats, coefficients: Floats) -> Floats:
    """Return every view's prediction of every node, ``(..., views and nodes)``, NaN where a channel it uses is missing.

    Adds channel after channel instead of multiplying matrices: a matrix product's rounding depends on how many rows it has.

    Args:
        channels: ``(..., 8)``.
        coefficients: ``(nodes, views, 8)``, 0 for channels a view does not use.
    """
    missing = np.isnan(channels)
    filled = np.where(missing, 0.0, channels)
    by_channel = coefficients.transpose(2, 1, 0).reshape(channels.shape[-1], -1)
    total = filled[..., :1] * by_channel[0]
    for index in range(1, channels.shape[-1]):
        total += filled[..., index, np.newaxis] * by_channel[index]
    if missing.any():
        total[(bits_of(missing)[..., np.newaxis] & _NEEDED) != 0] = np.nan
    return np.asarray(total)


def bits_of(flags: NDArray[np.bool_]) -> Ints:
    """Return flags along the last axis as the bits of one number."""
    return np.asarray(flags @ _powers(flags.shape[-1]))


@functools.cache
def _powers(n_flags: int) -> Ints:
    return np.asarray(1 << np.arange(n_flags))


#: The channels that each view of each node uses, as bits, in the order of :func:`predicted`.
_NEEDED = bits_of(PREDICTS).T.ravel()
