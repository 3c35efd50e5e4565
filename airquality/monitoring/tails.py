"""Thresholds bought from a budget: at most so many false pages a month, counted on months the thresholds have not seen."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from airquality.monitoring.alarms import Places
from airquality.monitoring.detector import Cell

Floats = NDArray[np.float64]

HOURS_A_MONTH = 730.5
#: A name given again within so many hours is the same page.
PAGE_HOURS = 72
#: Peaks of a statistic that make its tail.
_N_PEAKS = 7
_LEAST_SHARE = 0.85
_BLOCKS, _NESTED_BLOCKS = 6, 8
_RATES = np.geomspace(1e-5, 1.0, 76)


@dataclass(frozen=True, slots=True, eq=False)
class Tails:
    """The tails of all cells over ``months``.

    ``peaks`` ``(7, cells)``: the largest first, at least 72 h apart. ``sd`` ``(cells,)``.
    """

    peaks: Floats
    sd: Floats
    months: float


@dataclass(frozen=True, slots=True)
class Purchase:
    """What a budget buys. ``rate`` is each cell's share, alarms a month; ``held_out`` and ``nested`` are pages per block."""

    budget: float
    rate: float
    held_out: tuple[int, ...]
    nested: tuple[int, ...]


def tails(statistics: Floats) -> Tails:
    """Return the tails of ``statistics`` ``(n, cells)``, consecutive hours, NaN where not judged."""
    judged = (~np.isnan(statistics)).any(axis=1).sum()
    return Tails(_peaks(statistics), _sd(statistics), float(judged) / HOURS_A_MONTH)


def _sd(statistics: Floats) -> Floats:
    """Return each cell's sd, NaN where it was never judged."""
    known = ~np.isnan(statistics)
    n = known.sum(axis=0)
    mean = np.where(known, statistics, 0.0).sum(axis=0) / np.maximum(n, 1)
    square = np.where(known, (statistics - mean) ** 2, 0.0).sum(axis=0)
    return np.where(n > 0, np.sqrt(square / np.maximum(n, 1)), np.nan)


def _peaks(statistics: Floats) -> Floats:
    left = np.where(np.isnan(statistics), -np.inf, statistics)
    rows = np.arange(len(left))[:, np.newaxis]
    peaks = np.empty((_N_PEAKS, left.shape[1]))
    for index in range(_N_PEAKS):
        at = left.argmax(axis=0)
        peaks[index] = left[at, np.arange(left.shape[1])]
        left[np.abs(rows - at) < PAGE_HOURS] = -np.inf
    return peaks


def limits(cells: Sequence[Cell], tail: Tails, rate: float) -> Floats:
    """Return each cell's threshold at ``rate`` alarms a month and cell; exact cells' is 1.

    The tail beyond the seventh peak is taken as exponential. In units of their sd, cells of one family lie close together:
    each threshold moves half-way to its family's mean, for a cell's own seven peaks say little.
    """
    weights, floors, families = _traits(tuple(cells))
    with np.errstate(invalid="ignore"):
        excess = np.mean(tail.peaks[:-1] - tail.peaks[-1], axis=0)
        own = tail.peaks[-1] + excess * np.log((_N_PEAKS - 1) / (rate * weights * tail.months))
    with np.errstate(divide="ignore", invalid="ignore"):  # a cell that never moved is off: it has no tail
        scaled = own / tail.sd
    out = np.ones(len(cells))
    for same in families:
        usable = np.isfinite(scaled[same])
        mean = scaled[same][usable].mean() if usable.any() else np.nan
        shrunk = np.maximum((scaled[same] + mean) / 2, _LEAST_SHARE * scaled[same]) * tail.sd[same]
        out[same] = np.where(usable, shrunk, np.inf)
    return np.asarray(np.maximum(out, floors))


@functools.lru_cache(maxsize=8)
def _traits(cells: tuple[Cell, ...]) -> tuple[Floats, Floats, list[NDArray[np.intp]]]:
    """Return the cells' weights and floors, and for each family which are its cells; exact cells have none."""
    names = list(dict.fromkeys(cell.family for cell in cells if not cell.exact))
    families = [np.flatnonzero([cell.family == name and not cell.exact for cell in cells]) for name in names]
    return np.array([cell.weight for cell in cells]), np.array([cell.floor for cell in cells]), families


def pages(places: Places, statistics: Floats, thresholds: Floats) -> int:
    """Return how many pages the statistics raise: each hour names the node that exceeds most, if any does."""
    with np.errstate(divide="ignore", invalid="ignore"):
        excess = np.nan_to_num(statistics / thresholds, nan=0.0)
    by_node = places.node_excess(excess)
    named = np.where(by_node.max(axis=1) > 1.0, by_node.argmax(axis=1), -1)
    count = 0
    for node in np.unique(named[named >= 0]):
        hours = np.flatnonzero(named == node)
        count += 1 + int(np.sum(np.diff(hours) > PAGE_HOURS))
    return count


def buy(places: Places, statistics: Floats, budgets: Sequence[float]) -> list[Purchase]:
    """Return for each budget (pages a month) the rate that keeps it on held-out blocks, and what it is worth nested.

    Held out: each of six contiguous blocks is judged by thresholds from the other five, and the rate is the largest that
    keeps the budget. Nested: the rate itself is chosen without the judged one of eight blocks.
    """
    months = len(statistics) / HOURS_A_MONTH
    counts = _block_counts(places, statistics, _BLOCKS)
    nested = _nested_counts(places, statistics)
    bought = []
    for budget in budgets:
        rate = _largest(counts.sum(axis=1), budget * months)
        outer = []
        for judged, inner in nested:
            inner_rate = _largest(inner, budget * months * (_NESTED_BLOCKS - 1) / _NESTED_BLOCKS)
            outer.append(int(judged[inner_rate]))
        bought.append(Purchase(budget, float(_RATES[rate]), tuple(counts[rate].tolist()), tuple(outer)))
    return bought


def _largest(counts: NDArray[np.int64], allowed: float) -> int:
    """Return the index of the largest rate up to which no rate gives more pages than allowed."""
    over = np.flatnonzero(counts > allowed)
    return max(int(over[0]) - 1, 0) if len(over) else len(counts) - 1


def _blocks(n_rows: int, n_blocks: int) -> list[slice]:
    edges = np.linspace(0, n_rows, n_blocks + 1).astype(int)
    return [slice(int(a), int(b)) for a, b in itertools.pairwise(edges)]


def _without(statistics: Floats, block: slice) -> Floats:
    rest = statistics.copy()
    rest[block] = np.nan
    return rest


def _block_counts(places: Places, statistics: Floats, n_blocks: int) -> NDArray[np.int64]:
    """Return pages by rate and block, each block judged by thresholds from the others."""
    counts = np.zeros((len(_RATES), n_blocks), dtype=np.int64)
    for index, block in enumerate(_blocks(len(statistics), n_blocks)):
        tail = tails(_without(statistics, block))
        for at, rate in enumerate(_RATES):
            counts[at, index] = pages(places, statistics[block], limits(places.cells, tail, rate))
    return counts


def _nested_counts(places: Places, statistics: Floats) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return for each of eight blocks its pages by rate, and those of the other seven, judged without it and themselves."""
    out = []
    blocks = _blocks(len(statistics), _NESTED_BLOCKS)
    for outer in blocks:
        rest = _without(statistics, outer)
        tail = tails(rest)
        judged = np.array([pages(places, statistics[outer], limits(places.cells, tail, rate)) for rate in _RATES])
        inner = np.zeros(len(_RATES), dtype=np.int64)
        for block in blocks:
            if block == outer:
                continue
            other = tails(_without(rest, block))
            inner += [pages(places, statistics[block], limits(places.cells, other, rate)) for rate in _RATES]
        out.append((judged, inner))
    return out
