"""What a station still learns: the columns whose level has nothing to be compared with yet, hour by hour."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from airquality.monitoring.network import NODE_COLUMNS, Bools

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Changes that are remembered: a window that closes asks about its own last hour, not about the newest.
_KEPT = 8
#: Whole days from the first that a level is learned on to the day it is first judged.
_LEARNING_DAYS = 17


def judged_from(hour: int) -> int:
    """Return the first hour at which a level that is learned from ``hour`` on has a baseline, if no values are missing.

    >>> judged_from(30) - 24
    408
    """
    return (hour // 24 + _LEARNING_DAYS) * 24


def lacking(own: Sequence[tuple[Ints | None, Floats]]) -> Bools:
    """Return which nodes have nothing to be compared with, in the order of ``NODE_COLUMNS``, ``(..., nodes)``.

    Args:
        own: Of each detector with a baseline: the nodes of its channels, None for one mean of each sensor's, and the means.
    """
    found = np.zeros((*own[0][1].shape[:2], len(NODE_COLUMNS)), dtype=bool)
    for nodes, means in own:
        missing = np.isnan(means)
        if nodes is None:
            found[..., : missing.shape[2]] |= missing[..., 0]
            continue
        for node in np.unique(nodes):
            found[..., node] |= missing[..., nodes == node].all(axis=-1)
    return found


def columns_of(flags: Bools) -> frozenset[str]:
    """Return the columns that are flagged, ``(nodes,)``."""
    return frozenset(NODE_COLUMNS[node] for node in np.flatnonzero(flags))


@dataclass(frozen=True, slots=True)
class Learning:
    """The changes of what is learned, oldest first: from an hour on, which columns, and since when each is learned."""

    changes: tuple[tuple[int, tuple[tuple[str, int], ...]], ...] = ()

    @property
    def columns(self) -> frozenset[str]:
        """The columns that are learned now."""
        return frozenset(column for column, _ in self.changes[-1][1]) if self.changes else frozenset()

    def changed(self, hour: int, columns: Collection[str], anew: Collection[str] = ()) -> Learning:
        """Return this with ``columns`` learned from ``hour`` on; ``anew`` are those whose learning begins there again."""
        before = dict(self.changes[-1][1]) if self.changes else {}
        now = tuple(sorted((column, hour if column in anew else before.get(column, hour)) for column in columns))
        if self.changes and self.changes[-1][1] == now:
            return self
        return Learning((*self.changes, (hour, now))[-_KEPT:])

    def at(self, hour: int) -> dict[str, int]:
        """Return the columns that are learned at ``hour``, and from which hour each can be judged, at the earliest."""
        tomorrow = (hour // 24 + 1) * 24
        for begin, columns in reversed(self.changes):
            if begin <= hour:
                return {column: max(judged_from(since), tomorrow) for column, since in columns}
        return {}

    def state(self) -> list[list[object]]:
        """Return the changes as JSON values."""
        return [[hour, [list(column) for column in columns]] for hour, columns in self.changes]

    @classmethod
    def from_state(cls, state: Iterable[tuple[int, Iterable[tuple[str, int]]]]) -> Self:
        """Return what the state says."""
        return cls(tuple((int(hour), _columns_from(columns)) for hour, columns in state))


def _columns_from(state: Iterable[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
    return tuple((sys.intern(name), int(since)) for name, since in state)  # else a text for each station
