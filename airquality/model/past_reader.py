"""What the features of a row read of the hours before it, and where it lies.

Sums over a window are added up by the window's binary digits, the lowest digit and the newest hours first; the sum over
each power of two is that of its halves, newer plus older. So a sum is the same tree of additions for every row, whichever
way its hours came. Such a sum, of ``2 ** level`` hours and ending ``back`` hours before the row's last one, is a *node*.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise, product
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from airquality.model import calendar
from airquality.model.channels import CHANNELS, Floats
from airquality.model.terms import Count, Given, Lag, Largest, Last, Mean, Now, Wave
from airquality.records import HISTORY_HOURS

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
        lagged: The channels of an hour that lags are asked of, those of each :class:`Lagged` by themselves.
        measured: Of each summed channel, how many hours before the hour were measured, modulo 256.
        sums: Nodes of the summed channels; a missing value counts 0.
        largest: Nodes of the largest known value of the bounded channels, NaN where none is.
    """

    lagged: tuple[Floats, ...]
    measured: Bytes
    sums: Floats
    largest: Floats

    def by_ring(self) -> list[tuple[int, tuple[NDArray[Any], ...]]]:
        """Return, for each of :attr:`PastReader.ring_hours`, the level of its nodes, 0 where it has none, and its arrays."""
        of_hours: list[NDArray[Any]] = [*self.lagged, self.measured]
        of_nodes = (self.sums, self.largest)
        return [*((0, (array,)) for array in of_hours), *((level, of_nodes) for level in range(LEVELS))]


class Rows(NamedTuple):
    """Rows whose features are wanted, and where in :class:`Kept` their past is.

    Attributes:
        hours: Shape ``(n,)``.
        now: Their channels, shape ``(n, len(CHANNELS))``.
        measured: As in :class:`Kept`, shape ``(n, n_summed)``.
        last: The last known values before, however old, shape ``(n, n_last)``; anything where there is none.
        asked: Where what is asked of the past is, shape ``(n_asked, n)``; see :class:`PastReader`.
    """

    hours: NDArray[np.int64]
    now: Floats
    measured: Bytes
    last: Floats
    asked: Indices

    def part(self, rows: slice | Indices) -> Rows:
        """Return some of the rows."""
        return Rows(self.hours[rows], self.now[rows], self.measured[rows], self.last[rows], self.asked[:, rows])


class Lagged(NamedTuple):
    """Channels whose longest lag is the same, and the hours before a row that are asked of any of them, ascending."""

    channels: tuple[str, ...]
    hours: tuple[int, ...]


class PastReader:
    """What a set of terms reads, and the line of a table ``(n_lines, n_rows)`` on which each of them lies.

    Asked of the past are, in this order: the hours of each group of lagged channels, the hour that lies each window before,
    and nodes. Hours of the past are needed no longer than they are asked for; where they are kept in rings, one for each
    group, one of what was measured, one for each level of nodes, ``ring_hours`` is how many hours each must hold.

    Channels are numbers of :data:`CHANNELS`.

    Attributes:
        lagged: The channels of each group.
        last: The channels whose last known value of 168 hours is asked for.
        summed: The channels of which means or counts are asked.
        bounded: The channels of which largest values are asked, times ``signs``.
        backs: How many hours before the row the last hour is of each thing asked, shape ``(n_asked, 1)``.
        levels: The level of each, 0 for what is no node, shape ``(n_asked, 1)``.
        rings: The ring of each, shape ``(n_asked, 1)``.
        ring_hours: Shape ``(n_rings,)``.
        line: The line of each term.
    """

    def __init__(self, given: Iterable[Given]) -> None:
        given = [*given]
        groups, lasts, means = _groups(_of(Lag, given)), _of(Last, given), _of(Mean, given)
        counts, bounds = _of(Count, given), _of(Largest, given)
        # the longest window tells whether a last known value is one of its hours
        asked_for = {HISTORY_HOURS, *(term.window for term in means), *(term.window for term in counts)}
        windows = sorted(asked_for, key=_by_number_of_nodes)
        sums = sorted({node for window in windows for node in sum_nodes(window)})
        nodes = [*sums, *sorted({(term.level, term.back) for term in bounds} - {*sums})]
        last, summed, counted = _names(lasts), _names([*means, *counts, *lasts]), _names(counts)
        bounded = sorted({(term.channel, term.sign) for term in bounds})

        self.lagged = [_numbers(group.channels) for group in groups]
        self.last, self.summed = _numbers(last), _numbers(summed)
        self.bounded = _numbers([name for name, _ in bounded])
        self.signs = np.array([sign for _, sign in bounded], dtype=np.float64)
        self._ask(groups, windows, nodes)
        self._n_sums = len(sums)
        self._digits = _digits([[sums.index(node) for node in sum_nodes(window)] for window in windows])
        self._longest = windows.index(HISTORY_HOURS)
        self._counted = np.array([summed.index(name) for name in counted], dtype=np.intp)
        self._last_summed = np.array([summed.index(name) for name in last], dtype=np.intp)
        terms: list[Given] = [Now(name) for name in CHANNELS]
        terms += [Lag(name, hours) for group in groups for hours, name in product(group.hours, group.channels)]
        terms += [Last(name) for name in last]
        terms += [Mean(name, window) for window, name in product(windows, summed)]
        terms += [Count(name, window) for window, name in product(windows, counted)]
        terms += [Largest(name, sign, *node) for node, (name, sign) in product(nodes, bounded)]
        terms += [Wave(*wave) for wave in calendar.WAVES]
        self.line: dict[Given, int] = {term: line for line, term in enumerate(terms)}

    def _ask(self, groups: Sequence[Lagged], windows: Sequence[int], nodes: Sequence[tuple[int, int]]) -> None:
        """Lay out what is asked of the past."""
        of_measured = len(groups)
        asked = [(ring, hours, 0) for ring, group in enumerate(groups) for hours in group.hours]
        asked += [(of_measured, window, 0) for window in windows]
        asked += [(of_measured + 1 + level, 1 + back, level) for level, back in nodes]
        self.rings, self.backs, self.levels = (np.array(column)[:, None] for column in zip(*asked, strict=True))
        ends = [*accumulate([*(len(group.hours) for group in groups), len(windows), len(nodes)], initial=0)]
        self._parts = [slice(*ends_of_part) for ends_of_part in pairwise(ends)]
        # a node is made of two of the level below, of which the older one ended as many hours before as it has
        of_levels = [*(1 << level for level in range(LEVELS - 1)), 1 + _farthest(nodes)]
        self.ring_hours = np.array([*(group.hours[-1] for group in groups), HISTORY_HOURS, *of_levels])

    def hour_nodes(self, channels: Floats) -> tuple[NDArray[np.bool_], Floats, Floats]:
        """Return which summed channels of hours are known, and the nodes of one hour: sums and largest values."""
        summed = channels.take(self.summed, axis=1) + 0.0  # as an addition to nothing: no sum is -0.0
        known = summed == summed
        return known, np.where(known, summed, 0.0), channels.take(self.bounded, axis=1) * self.signs

    def read(self, kept: Kept, rows: Rows) -> Blocks:
        """Read what the terms of the rows need."""
        *lags, windows, nodes = [rows.asked[part] for part in self._parts]
        counts = rows.measured - kept.measured.take(windows, axis=0)
        divisors = counts.astype(np.float64)
        np.copyto(divisors, np.nan, where=counts == 0)
        is_recent = counts[self._longest].take(self._last_summed, axis=1) > 0
        return (
            rows.now[None],
            *(channels.take(hours, axis=0) for channels, hours in zip(kept.lagged, lags, strict=True)),
            np.where(is_recent, rows.last, np.nan)[None],
            self._sums(kept.sums, nodes[: self._n_sums]) / divisors,
            counts.take(self._counted, axis=2),
            kept.largest.take(nodes, axis=0),
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
        values = kept.take(nodes, axis=0)
        (_, digit), *digits = self._digits
        total = values.take(digit, axis=0)
        for first, digit in digits:
            total[first:] += values.take(digit, axis=0)
        return total


def _of(kind: type[T], given: Sequence[Given]) -> list[T]:
    return [term for term in given if isinstance(term, kind)]


def _groups(lags: Sequence[Lag]) -> list[Lagged]:
    """Return the lags by the longest one of their channel."""
    asked = {name: sorted({term.hours for term in lags if term.channel == name}) for name in _names(lags)}
    found = []
    for longest in sorted({hours[-1] for hours in asked.values()}):
        group = {name: hours for name, hours in asked.items() if hours[-1] == longest}
        found.append(Lagged(tuple(group), tuple(sorted({*chain.from_iterable(group.values())}))))
    return found


def _names(terms: Iterable[Lag | Last | Mean | Count]) -> list[str]:
    """Return the channels of the terms in the order of :data:`CHANNELS`."""
    asked = {term.channel for term in terms}
    return [name for name in CHANNELS if name in asked]


def _numbers(names: Sequence[str]) -> Indices:
    return np.array([CHANNELS.index(name) for name in names], dtype=np.intp)


def _farthest(nodes: Iterable[tuple[int, int]]) -> int:
    """Return how far back the farthest node of the top level is: of no other one is a node made."""
    return max((back for level, back in nodes if level == LEVELS - 1), default=0)


def _by_number_of_nodes(window: int) -> tuple[int, int]:
    return len(sum_nodes(window)), window


def _digits(nodes: Sequence[Sequence[int]]) -> list[tuple[int, Indices]]:
    """Return, for each place in the order of addition, the first window with a node there, and its and all later windows'.

    The windows come in the order of their number of nodes.
    """
    found = []
    for place in range(len(nodes[-1])):
        first = next(index for index, of in enumerate(nodes) if place < len(of))
        found.append((first, np.array([of[place] for of in nodes[first:]], dtype=np.intp)))
    return found
