"""What the features of a row read of the hours before it, and where it lies.

Sums over a window are added up by the window's binary digits, the lowest digit and the newest hours first; the sum over
each power of two is that of its halves, newer plus older. So a sum is the same tree of additions for every row, whichever
way its hours came. Such a sum, of ``2 ** level`` hours and ending ``back`` hours before the row's last one, is a *node*.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from airquality.model import calendar
from airquality.model.channels import CHANNELS, Floats
from airquality.model.terms import DIVISORS, Count, Given, Lag, Largest, Last, Mean, Now, Wave

Indices = NDArray[np.intp]
Bytes = NDArray[np.uint8]
#: What is read of rows, in the order of :class:`PastReader`'s lines; each of shape ``(depth, n_rows, width)``.
Blocks = tuple[NDArray[np.number[Any]], ...]

T = TypeVar("T")

#: Nodes cover 1, 2, 4 ... 128 hours.
LEVELS = 8


def sum_nodes(window: int) -> list[tuple[int, int]]:
    """Return the ``(level, back)`` of the nodes that a window's sum is made of, in the order in which they are added.

    >>> sum_nodes(168)
    [(3, 0), (5, 8), (7, 40)]
    """
    levels = [level for level in range(LEVELS) if window >> level & 1]
    return [(level, window & ((1 << level) - 1)) for level in levels]


def covering_nodes(window: int) -> list[tuple[int, int]]:
    """Return the ``(level, back)`` of the two nodes that cover a window, overlapping, the newer one first.

    >>> covering_nodes(168)
    [(7, 0), (7, 40)]
    """
    level = window.bit_length() - 1
    return [(level, 0), (level, window - (1 << level))]


@dataclass(frozen=True, slots=True)
class Kept:
    """Past hours and their nodes, one a row. Which row holds which hour is the business of who keeps them.

    Attributes:
        channels: The channels of an hour that lags are asked of.
        measured: Of each summed channel, how many hours before the hour were measured, modulo 256.
        sums: Nodes of the summed channels; a missing value counts 0.
        largest: Nodes of the largest known value of the bounded channels, NaN where none is.
    """

    channels: Floats
    measured: Bytes
    sums: Floats
    largest: Floats


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows whose features are wanted, and where in :class:`Kept` their past is.

    Attributes:
        hours: Shape ``(n,)``.
        now: Their channels, shape ``(n, len(CHANNELS))``.
        measured: As in :class:`Kept`, shape ``(n, n_summed)``.
        last: The last known values of the 168 hours before, shape ``(n, n_last)``.
        lags: Row of the hour that lies so many hours before, shape ``(n_lag_hours, n)``.
        nodes: Row of each node, shape ``(n_nodes, n)``.
    """

    hours: NDArray[np.int64]
    now: Floats
    measured: Bytes
    last: Floats
    lags: Indices
    nodes: Indices

    def part(self, rows: slice) -> Rows:
        """Return some of the rows."""
        own = (self.hours[rows], self.now[rows], self.measured[rows], self.last[rows])
        return Rows(*own, self.lags[:, rows], self.nodes[:, rows])


class PastReader:
    """What a set of terms reads, and the line of a table ``(n_lines, n_rows)`` on which each of them lies.

    Channels are numbers of :data:`CHANNELS`.

    Attributes:
        lag_hours: How many hours before lags are asked of, shape ``(n_lag_hours, 1)``.
        lagged: The channels of which lags are asked.
        last: The channels whose last known value is asked for.
        summed: The channels of which means or counts are asked.
        bounded: The channels of which largest values are asked, times ``signs``.
        levels: The level of each node that is asked for, and in ``backs`` how far back it is; shape ``(n_nodes, 1)``.
        line: The line of each term.
    """

    def __init__(self, given: Iterable[Given]) -> None:
        given = [*given]
        lags, lasts, means = _of(Lag, given), _of(Last, given), _of(Mean, given)
        counts, bounds = _of(Count, given), _of(Largest, given)
        windows = sorted({term.window for term in means} | {term.window for term in counts})
        hours = sorted({term.hours for term in lags} | {*windows})
        own_nodes = sorted({(term.level, term.back) for term in bounds})
        nodes = sorted({node for window in windows for node in sum_nodes(window)} | {*own_nodes})
        lagged, last = _names(lags), _names(lasts)
        summed, counted = _names([*means, *counts]), _names(counts)
        bounded = sorted({(term.channel, term.sign) for term in bounds})

        self.lag_hours = np.array(hours, dtype=np.int64)[:, None]
        self.lagged, self.last, self.summed = _numbers(lagged), _numbers(last), _numbers(summed)
        self.bounded = _numbers([name for name, _ in bounded])
        self.signs = np.array([sign for _, sign in bounded], dtype=np.float64)
        self.levels = np.array([level for level, _ in nodes], dtype=np.int64)[:, None]
        self.backs = np.array([back for _, back in nodes], dtype=np.int64)[:, None]
        self._window_lags = np.array([hours.index(window) for window in windows], dtype=np.intp)
        self._digits = _digits([[nodes.index(node) for node in sum_nodes(window)] for window in windows], len(nodes))
        self._counted = np.array([summed.index(name) for name in counted], dtype=np.intp)
        self._own_nodes = np.array([nodes.index(node) for node in own_nodes], dtype=np.intp)
        terms: list[Given] = [Now(name) for name in CHANNELS]
        terms += [Lag(name, hour) for hour, name in product(hours, lagged)]
        terms += [Last(name) for name in last]
        terms += [Mean(name, window) for window, name in product(windows, summed)]
        terms += [Count(name, window) for window, name in product(windows, counted)]
        terms += [Largest(name, sign, *node) for node, (name, sign) in product(own_nodes, bounded)]
        terms += [Wave(*wave) for wave in calendar.WAVES]
        self.line: dict[Given, int] = {term: line for line, term in enumerate(terms)}

    def read(self, kept: Kept, rows: Rows) -> Blocks:
        """Read what the terms of the rows need."""
        nodes = rows.nodes
        counts = rows.measured - kept.measured.take(rows.lags.take(self._window_lags, axis=0), axis=0)
        return (
            rows.now[None],
            kept.channels.take(rows.lags, axis=0),
            rows.last[None],
            self._sums(kept.sums, nodes) / DIVISORS.take(counts),
            counts.take(self._counted, axis=2),
            kept.largest.take(nodes.take(self._own_nodes, axis=0), axis=0),
            calendar.waves(rows.hours)[None],
        )

    def lay(self, blocks: Blocks, table: Floats) -> None:
        """Lay what was read on the first lines of the table."""
        first = 0
        for block in blocks:
            depth, n_rows, width = block.shape
            lines = table[first : first + depth * width].reshape(depth, width, n_rows)
            lines[...] = block.transpose(0, 2, 1)
            first += depth * width

    def _sums(self, kept: Floats, nodes: Indices) -> Floats:
        """Return the sums over the windows, shape ``(n_windows, n, n_summed)``."""
        values = np.zeros((len(nodes) + 1, nodes.shape[1], kept.shape[1]))  # the last one is added where a digit is absent
        kept.take(nodes, axis=0, out=values[:-1], mode="clip")
        total = values.take(self._digits[0], axis=0)
        total += 0.0  # as an addition to nothing: no sum is -0.0
        for digit in self._digits[1:]:
            total += values.take(digit, axis=0)
        return total


def _of(kind: type[T], given: Sequence[Given]) -> list[T]:
    return [term for term in given if isinstance(term, kind)]


def _names(terms: Iterable[Lag | Last | Mean | Count]) -> list[str]:
    """Return the channels of the terms in the order of :data:`CHANNELS`."""
    asked = {term.channel for term in terms}
    return [name for name in CHANNELS if name in asked]


def _numbers(names: Sequence[str]) -> Indices:
    return np.array([CHANNELS.index(name) for name in names], dtype=np.intp)


def _digits(nodes: Sequence[Sequence[int]], absent: int) -> list[Indices]:
    """Return, for each place in the order of addition, the node of every window, ``absent`` where a window has none."""
    places = max(map(len, nodes), default=1)
    return [np.array([of[place] if place < len(of) else absent for of in nodes], dtype=np.intp) for place in range(places)]
