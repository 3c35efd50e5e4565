"""The last 168 hours of many stations, and what features read of them, moved on by an hour for all stations together.

An hour is kept in row ``hour % 168`` of its station. The nodes of a level (:mod:`airquality.model.past_reader`) are kept for
as many hours as one of them covers: the next node of the level above is the newest one plus the one that ended so many
hours before, whose row it then takes. So the node of level k that ends at an hour is in row ``2 ** k + hour % 2 ** k``.

Everything but the raw hours is derived from them, and can be derived anew at any time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airquality.data.arrivals import Arrival
from airquality.model.channels import Floats, channels_of
from airquality.model.grid import Grid
from airquality.model.past_reader import LEVELS, Blocks, Indices, Kept, Rows
from airquality.model.plan import BEST_ROWS, Plan
from airquality.records import HISTORY_HOURS, RAW_COLUMNS

Hours = NDArray[np.int64]

#: Stations that are derived anew together: 8,064 hours in all, some 15 MB.
_DERIVED_TOGETHER = 48
#: So few values are added up fastest in one call, more in a call for each level.
_FEW = 64
_LONG_AGO = -(1 << 40)
_BACK = np.arange(HISTORY_HOURS)[::-1]


class Rings:
    """Places of stations, each with the station's last 168 hours and what is derived from them.

    Args:
        plan: How features are computed; what it reads is kept.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        reading = plan.reading
        farthest = int(reading.backs[reading.levels == LEVELS - 1].max(initial=0))  # of the top level no more is needed
        sizes = np.array([*(1 << level for level in range(LEVELS - 1)), 1 << farthest.bit_length()], dtype=np.int64)
        self._masks = (sizes - 1)[:, None]
        self._firsts = (1 << np.arange(LEVELS, dtype=np.int64))[:, None]
        self._n_nodes = int((1 << LEVELS - 1) + sizes[-1])
        self._read_masks, self._read_firsts = (of.take(reading.levels[:, 0], axis=0) for of in (self._masks, self._firsts))
        n_summed, n_last = len(reading.summed), len(reading.last)
        self._raw = np.empty((0, HISTORY_HOURS, len(RAW_COLUMNS)))
        self._channels = np.empty((0, HISTORY_HOURS, len(reading.lagged)))
        self._measured_before = np.empty((0, HISTORY_HOURS, n_summed), dtype=np.uint8)
        self._measured = np.empty((0, n_summed), dtype=np.uint8)
        self._sums = np.empty((0, self._n_nodes, n_summed))
        self._largest = np.empty((0, self._n_nodes, len(reading.bounded)))
        self._last = np.empty((0, n_last))
        self._last_hour = np.empty((0, n_last), dtype=np.int64)
        self._free: list[int] = []
        self._grow()

    def open(self) -> int:
        """Return a place for a station, of which no hour is known."""
        if not self._free:
            self._grow()
        place = self._free.pop()
        self.clear(place)
        return place

    def close(self, place: int) -> None:
        """Give the place away."""
        self._free.append(place)

    def clear(self, place: int) -> None:
        """Let the place hold 168 missing hours; what is derived from them is not there yet."""
        self._raw[place] = np.nan

    def hours(self, place: int, newest_hour: int) -> Floats:
        """Return a copy of the 168 hours up to the newest one that the place holds, in order."""
        hours: Floats = self._raw[place].take(_past(newest_hour) % HISTORY_HOURS, axis=0)
        return hours

    def put(self, place: int, newest_hour: int, values: Floats) -> None:
        """Let the place hold the 168 hours up to ``newest_hour``; what is derived from them is not there yet."""
        self._raw[place, _past(newest_hour) % HISTORY_HOURS] = values

    def fill(self, place: int, hour: int, column: int, value: float) -> None:
        """Put a value into an hour that the place holds; what is derived from it is not there yet."""
        self._raw[place, hour % HISTORY_HOURS, column] = value

    def value(self, place: int, hour: int, column: int) -> float:
        """Return a raw value of an hour that the place holds."""
        return float(self._raw[place, hour % HISTORY_HOURS, column])

    def take_in(self, arrivals: Sequence[Arrival]) -> Floats:
        """Take in hours of different stations; return the feature rows wanted of them, by arrival, in the order of hours.

        The calls it takes grow with the hours of the longest arrival, not with the number of stations.
        """
        with np.errstate(invalid="ignore", over="ignore"):  # an infinite value is refused at the edge; here it must not warn
            self._derive([arrival for arrival in arrivals if not arrival.derived])
            return np.concatenate([self._take_piece(piece) for piece in _pieces(arrivals)] or [self._plan.nothing()])

    def _take_piece(self, arrivals: Sequence[Arrival]) -> Floats:
        """Take in the first hour of every station, then the second of those that have one, and so on."""
        read: list[Blocks] = []
        order: list[tuple[int, int]] = []
        for turn in range(max(len(arrival.values) for arrival in arrivals)):
            of = [index for index, arrival in enumerate(arrivals) if turn < len(arrival.values)]
            wanted = [place for place, index in enumerate(of) if turn in arrivals[index].ready]
            blocks = self._take_turn([arrivals[index] for index in of], turn, wanted)
            if wanted:
                read.append(blocks)
                order += [(of[place], turn) for place in wanted]
        if not read:
            return self._plan.nothing()
        if len(read) == 1:
            return self._plan.compute(read[0])
        computed = self._plan.compute(tuple(np.concatenate(blocks, axis=1) for blocks in zip(*read, strict=True)))
        return computed[sorted(range(len(order)), key=order.__getitem__)]

    def _take_turn(self, arrivals: Sequence[Arrival], turn: int, wanted: Sequence[int]) -> Blocks:
        """Take in one hour of each arrival; return what the features of the wanted ones are made of."""
        cells = chain.from_iterable([arrival.values[turn] for arrival in arrivals])
        values = np.fromiter(cells, np.float64, len(arrivals) * len(RAW_COLUMNS)).reshape(len(arrivals), -1)
        places = np.array([arrival.place for arrival in arrivals])
        hours = np.array([arrival.newest_hour - len(arrival.values) + 1 + turn for arrival in arrivals])
        channels = channels_of(values)
        rows = slice(None) if len(wanted) == len(arrivals) else np.array(wanted, dtype=np.intp)
        blocks = self._read(places[rows], hours[rows], channels[rows])
        self._raw[places, hours % HISTORY_HOURS] = values
        self._move_on(places, hours, channels)
        return blocks

    def _read(self, places: Hours, hours: Hours, channels: Floats) -> Blocks:
        """Read what the features of the hours after those in the rings are made of."""
        reading = self._plan.reading
        known = (hours[:, None] - self._last_hour.take(places, axis=0)) <= HISTORY_HOURS
        rows = Rows(
            hours=hours,
            now=channels,
            measured=self._measured.take(places, axis=0),
            last=np.where(known, self._last.take(places, axis=0), np.nan),
            lags=places * HISTORY_HOURS + (hours - reading.lag_hours) % HISTORY_HOURS,
            nodes=places * self._n_nodes + self._read_firsts + ((hours - 1 - reading.backs) & self._read_masks),
        )
        return reading.read(self._kept, rows)

    def _move_on(self, places: Hours, hours: Hours, channels: Floats) -> None:
        """Take in an hour of each of different stations."""
        reading = self._plan.reading
        rows = places * HISTORY_HOURS + hours % HISTORY_HOURS
        kept = self._kept
        kept.channels[rows] = channels.take(reading.lagged, axis=1)
        measured = self._measured.take(places, axis=0)
        kept.measured[rows] = measured
        summed = channels.take(reading.summed, axis=1)
        known = ~np.isnan(summed)
        self._measured[places] = measured + known
        nodes = places * self._n_nodes + self._firsts + (hours & self._masks)
        _add_hour(kept.sums, nodes, np.where(known, summed, 0.0), np.add)
        _add_hour(kept.largest, nodes, channels.take(reading.bounded, axis=1) * reading.signs, np.fmax)
        last = channels.take(reading.last, axis=1)
        unknown = np.isnan(last)
        self._last[places] = np.where(unknown, self._last.take(places, axis=0), last)
        self._last_hour[places] = np.where(unknown, self._last_hour.take(places, axis=0), hours[:, None])

    def _derive(self, arrivals: Sequence[Arrival]) -> None:
        """Derive what is derived from the hours before the arrivals."""
        for first in range(0, len(arrivals), _DERIVED_TOGETHER):
            piece = arrivals[first : first + _DERIVED_TOGETHER]
            places = np.array([arrival.place for arrival in piece], dtype=np.int64)
            newest = np.array([arrival.newest_hour - len(arrival.values) for arrival in piece], dtype=np.int64)
            self._derive_places(places, newest)

    def _derive_places(self, places: Hours, newest: Hours) -> None:
        hours = newest[:, None] - _BACK
        rows = places[:, None] * HISTORY_HOURS + hours % HISTORY_HOURS
        grid = Grid(self._plan.reading, self._raw.reshape(-1, len(RAW_COLUMNS)).take(rows.ravel(), axis=0))
        kept = self._kept
        kept.channels[rows.ravel()] = grid.kept.channels
        kept.measured[rows.ravel()] = grid.kept.measured
        ends = np.arange(1, len(places) + 1) * HISTORY_HOURS - 1
        self._measured[places] = grid.measured.take(ends, axis=0)
        for level in range(LEVELS):
            back = np.arange(int(self._masks[level, 0]) + 1)[:, None]
            own = places * self._n_nodes + self._firsts[level] + ((newest - back) & self._masks[level])
            theirs = level * grid.n_hours + ends - back
            kept.sums[own] = grid.kept.sums.take(theirs, axis=0)
            kept.largest[own] = grid.kept.largest.take(theirs, axis=0)
        values, positions = grid.last_known(ends)
        back = ends[:, None] - positions
        self._last[places] = values
        self._last_hour[places] = np.where(back < HISTORY_HOURS, newest[:, None] - back, _LONG_AGO)

    def _arrays(self) -> tuple[NDArray[Any], ...]:
        hours = (self._raw, self._channels, self._measured_before, self._measured, self._last, self._last_hour)
        return (*hours, self._sums, self._largest)

    @property
    def bytes_per_place(self) -> int:
        """How much memory a place takes."""
        return sum(array[:1].nbytes for array in self._arrays())

    def _grow(self) -> None:
        """Add a few places: what is free takes as much memory as what is not, and large arrays grow without being copied."""
        n_places = len(self._raw)
        more = max(n_places // 64, 1)
        for array in self._arrays():
            array.resize((n_places + more, *array.shape[1:]), refcheck=False)  # its views are made anew
        self._kept = Kept(
            self._channels.reshape(-1, self._channels.shape[-1]),
            self._measured_before.reshape(-1, self._measured_before.shape[-1]),
            self._sums.reshape(-1, self._sums.shape[-1]),
            self._largest.reshape(-1, self._largest.shape[-1]),
        )
        self._free += range(n_places + more - 1, n_places - 1, -1)


def _pieces(arrivals: Sequence[Arrival]) -> Iterator[Sequence[Arrival]]:
    """Cut the arrivals, where there are many, so that each piece has about as many hours as are best computed together."""
    first, n_hours = 0, 0
    for index, arrival in enumerate(arrivals):
        if n_hours and n_hours + len(arrival.values) > BEST_ROWS:
            yield arrivals[first:index]
            first, n_hours = index, 0
        n_hours += len(arrival.values)
    if n_hours:
        yield arrivals[first:]


def _add_hour(nodes: Floats, rows: Indices, newest: Floats, pick: np.ufunc) -> None:
    """Make the nodes that end at a new hour: row after row, each level of the one below."""
    new = np.empty((len(rows), *newest.shape))
    new[0] = newest
    nodes.take(rows[:-1], axis=0, out=new[1:], mode="clip")
    if newest.size < _FEW:
        pick.accumulate(new, axis=0, out=new)
    else:
        for below, level in pairwise(new):
            pick(below, level, out=level)
    nodes[rows] = new


def _past(newest_hour: int) -> Hours:
    """Return the 168 hours up to ``newest_hour``."""
    return newest_hour - _BACK
