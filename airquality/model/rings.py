"""The last 168 hours of many stations, and what features read of them, moved on by an hour for all stations together.

What is read is kept in rings (:mod:`airquality.model.layout`) of as many hours as something is asked of. Of the nodes of a
level (:mod:`airquality.model.past_reader`) as many are kept as one of them has hours: the next node of the level above is
the newest one plus the one that ended so many hours before, whose row the newest then takes.

Everything but the raw hours is derived from them, and can be derived anew at any time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airquality.data.arrivals import Arrival, unpacked
from airquality.model.channels import Floats, channels_of
from airquality.model.grid import Grid
from airquality.model.layout import Hours, Layout
from airquality.model.past_reader import LEVELS, Blocks, Indices, Kept, Rows
from airquality.model.plan import BEST_ROWS, Plan
from airquality.model.terms import accumulate
from airquality.records import HISTORY_HOURS, RAW_COLUMNS

#: Stations that are derived anew together: 8,064 hours in all, some 15 MB.
_DERIVED_TOGETHER = 48
_BACK = np.arange(HISTORY_HOURS)[::-1]


class Rings:
    """Places of stations, each with the station's last 168 hours and what is derived from them.

    Args:
        plan: How features are computed; what it reads is kept.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._layout = Layout(plan.reading)
        reading, rows_a_place = plan.reading, self._layout.rows_a_place.tolist()
        n_nodes, n_summed = rows_a_place[-1], len(reading.summed)
        self._raw = np.empty((0, HISTORY_HOURS, len(RAW_COLUMNS)))
        self._lagged = [
            np.empty((0, n_hours, len(channels)))
            for n_hours, channels in zip(rows_a_place, reading.lagged, strict=False)  # theirs are the first rings
        ]
        self._measured_before = np.empty((0, HISTORY_HOURS, n_summed), dtype=np.uint8)
        self._measured = np.empty((0, n_summed), dtype=np.uint8)
        self._sums = np.empty((0, n_nodes, n_summed))
        self._largest = np.empty((0, n_nodes, len(reading.bounded)))
        self._last = np.empty((0, len(reading.last)))
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
        pieces = [*_pieces(arrivals)]
        n_wanted = [sum([len(arrival.ready) for arrival in piece]) for piece in pieces]
        computed, first = np.empty((sum(n_wanted), self._plan.n_terms)), 0
        with np.errstate(invalid="ignore", over="ignore"):  # an infinite value is refused at the edge; here it must not warn
            self._derive([arrival for arrival in arrivals if not arrival.derived])
            for piece, n_rows in zip(pieces, n_wanted, strict=True):
                self._take_piece(piece, computed[first : first + n_rows])
                first += n_rows
        return computed

    def _take_piece(self, arrivals: Sequence[Arrival], out: Floats) -> None:
        """Take in the first hour of every station, then the second of those that have one, and so on."""
        longest = max([len(arrival.packed) for arrival in arrivals])
        read: list[Blocks] = []
        for turn in range(longest):
            of = [arrival for arrival in arrivals if turn < len(arrival.packed)]
            read += self._take_turn(of, turn)
        if len(read) == 1:
            self._plan.compute(read[0], out)
        elif read:
            computed = np.empty_like(out)
            self._plan.compute(tuple(np.concatenate(blocks, axis=1) for blocks in zip(*read, strict=True)), computed)
            read_order = [(i, turn) for turn in range(longest) for i, each in enumerate(arrivals) if turn in each.ready]
            out[...] = computed[sorted(range(len(out)), key=read_order.__getitem__)]

    def _take_turn(self, arrivals: Sequence[Arrival], turn: int) -> list[Blocks]:
        """Take in one hour of each arrival; return what the features of those wanted are made of, nothing where none is."""
        values = unpacked([arrival.packed[turn] for arrival in arrivals])
        places = np.array([arrival.place for arrival in arrivals])
        hours = np.array([arrival.newest_hour - len(arrival.packed) + 1 + turn for arrival in arrivals])
        asked, own = self._layout.rows(places, hours)
        measured, last = self._measured.take(places, axis=0), self._last.take(places, axis=0)
        rows = Rows(hours, channels_of(values), measured, last, asked)
        read = self._read(rows, [turn in arrival.ready for arrival in arrivals])
        self._hours[own[-LEVELS - 1]] = values
        self._move_on(places, own, rows)
        return read

    def _read(self, rows: Rows, wanted: list[bool]) -> list[Blocks]:
        """Read what the features of the wanted rows are made of."""
        if not any(wanted):
            return []
        asked = rows if all(wanted) else rows.part(np.flatnonzero(wanted))
        return [self._plan.reading.read(self._kept, asked)]

    def _move_on(self, places: Hours, own: Indices, rows: Rows) -> None:
        """Take in an hour of each of different stations, whose ``rows`` were read; ``own`` is where it is in each ring."""
        reading, kept = self._plan.reading, self._kept
        for hours, ring, channels in zip(kept.lagged, own, reading.lagged, strict=False):  # theirs are the first rings
            hours[ring] = rows.now.take(channels, axis=1)
        kept.measured[own[-LEVELS - 1]] = rows.measured
        known, summed, bounded = reading.hour_nodes(rows.now)
        self._measured[places] = rows.measured + known
        _add_hour(kept.sums, own[-LEVELS:], summed, np.add)
        _add_hour(kept.largest, own[-LEVELS:], bounded, np.fmax)
        newest = rows.now.take(reading.last, axis=1)
        self._last[places] = np.where(np.isnan(newest), rows.last, newest)

    def _derive(self, arrivals: Sequence[Arrival]) -> None:
        """Derive what is derived from the hours before the arrivals."""
        for first in range(0, len(arrivals), _DERIVED_TOGETHER):
            piece = arrivals[first : first + _DERIVED_TOGETHER]
            places = np.array([arrival.place for arrival in piece], dtype=np.int64)
            newest = np.array([arrival.newest_hour - len(arrival.packed) for arrival in piece], dtype=np.int64)
            self._derive_places(places, newest)

    def _derive_places(self, places: Hours, newest: Hours) -> None:
        past = places[:, None] * HISTORY_HOURS + (newest[:, None] - _BACK) % HISTORY_HOURS
        grid = Grid(self._plan.reading, self._hours.take(past.ravel(), axis=0))
        ends = np.arange(1, len(places) + 1) * HISTORY_HOURS - 1
        self._measured[places] = grid.measured.take(ends, axis=0)
        self._last[places] = grid.last_known(ends)
        for ring, ((level, kept), (_, derived)) in enumerate(zip(self._kept.by_ring(), grid.kept.by_ring(), strict=True)):
            rows, back = self._layout.rows_of_ring(ring, places, newest)
            for own, theirs in zip(kept, derived, strict=True):
                own[rows] = theirs.take(level * grid.n_hours + ends - back, axis=0)

    def _arrays(self) -> tuple[NDArray[Any], ...]:
        hours = (self._raw, *self._lagged, self._measured_before, self._measured, self._last)
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
        self._hours = _by_row(self._raw)
        lagged = tuple(map(_by_row, self._lagged))
        self._kept = Kept(lagged, _by_row(self._measured_before), _by_row(self._sums), _by_row(self._largest))
        self._free += range(n_places + more - 1, n_places - 1, -1)


def _by_row(array: NDArray[Any]) -> NDArray[Any]:
    """Return a view in which the rows of all places follow each other."""
    return array.reshape(-1, array.shape[-1])


def _pieces(arrivals: Sequence[Arrival]) -> Iterator[Sequence[Arrival]]:
    """Cut the arrivals, where there are many, so that each piece has about as many hours as are best computed together."""
    first, n_hours = 0, 0
    for index, arrival in enumerate(arrivals):
        if n_hours and n_hours + len(arrival.packed) > BEST_ROWS:
            yield arrivals[first:index]
            first, n_hours = index, 0
        n_hours += len(arrival.packed)
    if n_hours:
        yield arrivals[first:]


def _add_hour(nodes: Floats, rows: Indices, newest: Floats, pick: np.ufunc) -> None:
    """Make the nodes that end at a new hour, each of the new one of the level below and of the one whose row that takes."""
    new = np.empty((len(rows), *newest.shape))
    new[0] = newest
    nodes.take(rows[:-1], axis=0, out=new[1:], mode="clip")
    accumulate(pick, new)
    nodes[rows] = new


def _past(newest_hour: int) -> Hours:
    """Return the 168 hours up to ``newest_hour``."""
    return newest_hour - _BACK
