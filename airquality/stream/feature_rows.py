"""Takes the feature rows of a batch: those of all stations together where each has few hours, as grids where it has many."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from airquality.model import features
from airquality.monitoring.component import Buffer
from airquality.records import HISTORY_HOURS

#: Features are computed over this many hours of grids at a time: 30 MB. Where truths come between rows, each row has a grid.
MAX_GRID_HOURS = 8_192
#: A station with more hours than this is computed as a grid of its own, not turn by turn with others. A turn costs as much
#: as a grid of 168 hours, so there are few of them where there are few stations.
MAX_TURNS = 16


def take_features(buffers: Sequence[Buffer]) -> NDArray[np.float64]:
    """Take the waiting feature rows of many stations at once: by buffer, each in the order of its readings.

    Returns:
        Shape ``(n_ready, len(features.NAMES))``.
    """
    turns = min(MAX_TURNS, len(buffers) + 2)
    arrivals = [buffer.arrival(turns) for buffer in buffers]
    arrived = [arrival for arrival in arrivals if arrival]
    into = {arrival.into for arrival in arrived}
    if len(arrived) == len(arrivals) and len(into) == 1:
        return into.pop().take_in(arrived)
    rows: list[NDArray[np.float64]] = [np.empty((0, len(features.NAMES)))] * len(buffers)
    for each in into:
        of = [index for index, arrival in enumerate(arrivals) if arrival and arrival.into is each]
        taken = [arrival for arrival in arrived if arrival.into is each]
        _deal(each.take_in(taken), [len(arrival.ready) for arrival in taken], of, rows)
    alone = [index for index, arrival in enumerate(arrivals) if arrival is None]
    grids = [buffers[index].take() for index in alone]
    _deal(_rows_of_grids(grids), [len(ready) for _, ready in grids], alone, rows)
    return np.concatenate([np.empty((0, len(features.NAMES))), *rows])


def _deal(
    rows: NDArray[np.float64], counts: Sequence[int], buffers: Sequence[int], dealt: list[NDArray[np.float64]]
) -> None:
    """Deal rows out to the buffers that they are of."""
    first = 0
    for count, buffer in zip(counts, buffers, strict=True):
        dealt[buffer] = rows[first : first + count]
        first += count


def _rows_of_grids(grids: Sequence[tuple[NDArray[np.float64], list[tuple[int, int]]]]) -> NDArray[np.float64]:
    """Return the feature rows of the ready hours of grids."""
    grids = [(grid, ready) for grid, ready in grids if ready]
    if not grids:
        return np.empty((0, len(features.NAMES)))
    starts = np.cumsum([0, *(len(grid) for grid, _ in grids)])
    positions = [start + index for start, (_, ready) in zip(starts.tolist(), grids, strict=False) for index, _ in ready]
    hours = [hour for _, ready in grids for _, hour in ready]
    grid = np.concatenate([grid for grid, _ in grids]) if len(grids) > 1 else grids[0][0]
    return _rows_in_pieces(grid, np.array(hours, dtype=np.int64), np.array(positions, dtype=np.intp))


def _rows_in_pieces(grid: NDArray[np.float64], hours: NDArray[np.int64], positions: NDArray[np.intp]) -> NDArray[np.float64]:
    """Compute the feature rows, whose positions ascend, from at most :data:`MAX_GRID_HOURS` at a time: memory is bounded."""
    pieces, first = [], 0
    while first < len(positions):
        start = positions[first] - HISTORY_HOURS
        end = int(np.searchsorted(positions, start + MAX_GRID_HOURS))
        piece = slice(first, end)
        pieces.append(features.rows(grid[start : start + MAX_GRID_HOURS], hours[piece], positions[piece] - start))
        first = end
    return np.concatenate(pieces)
