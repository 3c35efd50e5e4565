"""Hold the recent hours of one station and yield its feature rows."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from airquality.data.arrivals import Arrival, unpacked
from airquality.data.digests import DigestsState, HourDigests, digest_of
from airquality.ground.errors import InvalidRecord
from airquality.ground.typed import immutable
from airquality.incoming import LateTruth, TruthOutcome
from airquality.model.features import PLAN
from airquality.model.rings import Rings
from airquality.records import (
    HISTORY_HOURS,
    RAW_COLUMNS,
    TARGET_INDEX,
    Outcome,
    Reading,
    check_not_future,
    isoformat,
)

_MISSING_HOUR = np.full(len(RAW_COLUMNS), np.nan, dtype="<f8").tobytes()


@dataclass(frozen=True, slots=True, eq=False)
class BufferState:
    """Everything a :class:`FeatureBuffer` holds whose ready rows were taken."""

    newest_hour: int | None
    warmed_hours: int
    history: NDArray[np.float64]
    digests: DigestsState


class FeatureBuffer:
    """The last 168 hours of one station on a gap-free hour grid, and checksums of many more.

    Invariant: the grid ends at ``newest_hour``; a missing hour is a row of NaN; an hour enters once, and only its
    truth may come later. Readings and truths come one by one; the feature rows of the readings that were ready are taken
    together, by :func:`airquality.stream.feature_rows.take_features`, with the same bits however the stream was cut.

    Args:
        rings: Where the hours are kept, with those of other stations; None: alone.
    """

    def __init__(self, rings: Rings | None = None) -> None:
        self.newest_hour: int | None = None
        self.warmed_hours = 0
        self._rings = Rings(PLAN) if rings is None else rings
        self._place = self._rings.open()
        weakref.finalize(self, self._rings.close, self._place).atexit = False
        self._derived = False  # whether the rings hold what is derived from the hours
        self._digests = HourDigests()
        self._arrived: list[bytes] = []  # since the hours that the rings hold, each packed
        self._ready: list[int] = []  # those of them whose feature rows are wanted
        self._grids: list[NDArray[np.float64]] = []  # what the rows saw that were ready before a truth came
        self._taken: list[tuple[int, int]] = []  # those rows, by their index in all these grids

    def push(self, reading: Reading, kafka_hour: int | None = None) -> Outcome:
        """Accept one reading, in the order of the stream.

        Args:
            reading: The row.
            kafka_hour: The hour of its record's Kafka timestamp, None where there is none.

        Returns:
            ``DUPLICATE`` for an hour already accepted with the same values; ``WARMUP`` for each of the first 168 accepted
            hours, and again after a gap of more than 168 hours; else ``READY``: a feature row is waiting.

        Raises:
            InvalidRecord: ``conflict`` if the hour was accepted with other values, ``late`` if it is older than the
                newest hour and was not accepted (or is too old to remember), ``future`` if it is too far ahead.
        """
        if self.newest_hour is not None and reading.hour <= self.newest_hour:
            return self._repeated(reading, self.newest_hour)
        check_not_future(reading, self.newest_hour, kafka_hour)
        self._advance(reading)
        if self.warmed_hours < HISTORY_HOURS:
            self.warmed_hours += 1
            return Outcome.WARMUP
        self._ready.append(len(self._arrived) - 1)
        return Outcome.READY

    def fill(self, truth: LateTruth) -> TruthOutcome:
        """Let a late truth fill its hour, if that is among the last 168: readings pushed from now on see it, none before.

        Returns:
            ``FILLED``; ``REPEATED`` or ``CONTRADICTING`` where the hour has a truth; ``TOO_OLD`` before the 168 hours;
            ``NEVER_STREAMED`` where no reading of the hour was accepted.
        """
        age = -1 if self.newest_hour is None else self.newest_hour - truth.hour
        if age >= HISTORY_HOURS:
            return TruthOutcome.TOO_OLD
        if self.newest_hour is None or age < 0 or not self._digests.accepted(truth.hour, self.newest_hour):
            return TruthOutcome.NEVER_STREAMED
        known = self._target_of(truth.hour, age)
        if not np.isnan(known):
            return TruthOutcome.REPEATED if known == truth.value else TruthOutcome.CONTRADICTING
        self._close_grid()
        self._rings.fill(self._place, truth.hour, TARGET_INDEX, truth.value)
        self._derived = False
        return TruthOutcome.FILLED

    def arrival(self, most_hours: int) -> Arrival | None:
        """Return what came since, to be taken in with other stations' hours; None where :meth:`take` is to be called.

        That is where there is nothing, where truths came between, and where more than ``most_hours`` came.
        """
        if self.newest_hour is None or self._grids or not 0 < len(self._arrived) <= most_hours:
            return None
        arrival = Arrival(self._rings, self._place, self.newest_hour, self._arrived, self._ready, self._derived)
        self._arrived, self._ready, self._derived = [], [], True
        return arrival

    def take(self) -> tuple[NDArray[np.float64], list[tuple[int, int]]]:
        """Return the hours that the ready readings see, and the ``(grid index, hour)`` of each; keep the last 168 only.

        Where truths came between, hours stand there again: each reading's 168 hours lie right before it.
        """
        self._close_grid()
        grids, ready = self._grids or [self._grid()], self._taken
        self._grids, self._taken = [], []
        return (grids[0] if len(grids) == 1 else np.concatenate(grids)), ready

    def state(self) -> BufferState:
        """Return everything the buffer holds, the inverse of :meth:`from_state`; its ready rows must have been taken."""
        if self._ready or self._taken:
            waiting = len(self._ready) + len(self._taken)
            raise RuntimeError(f"{waiting} ready rows were not taken: this state would lose them")
        history = immutable(self._grid()[-HISTORY_HOURS:])
        return BufferState(self.newest_hour, self.warmed_hours, history, self._digests.state())

    @classmethod
    def from_state(cls, state: BufferState, rings: Rings | None = None) -> Self:
        """Return a buffer that goes on exactly where :meth:`state` was taken, in ``rings``."""
        buffer = cls(rings)
        buffer.newest_hour = state.newest_hour
        buffer.warmed_hours = state.warmed_hours
        buffer._rings.put(buffer._place, buffer._held_hour(), state.history)
        buffer._digests = HourDigests.from_state(state.digests)
        return buffer

    def _held_hour(self) -> int:
        """Return the newest hour that the rings hold."""
        return -1 if self.newest_hour is None else self.newest_hour - len(self._arrived)

    def _grid(self) -> NDArray[np.float64]:
        """Return the hours that the rings hold, and those that came since."""
        return np.concatenate([self._rings.hours(self._place, self._held_hour()), unpacked(self._arrived)])

    def _close_grid(self) -> None:
        """Set the grid aside if ready readings see it, and keep its last 168 hours."""
        if not self._arrived or self.newest_hour is None:
            return
        grid = self._grid()
        if self._ready:
            start, first_hour = sum(map(len, self._grids)) + HISTORY_HOURS, self._held_hour() + 1
            self._taken += [(start + index, first_hour + index) for index in self._ready]
            self._grids.append(grid)
        self._rings.put(self._place, self.newest_hour, grid[-HISTORY_HOURS:])
        self._arrived, self._ready, self._derived = [], [], False

    def _target_of(self, hour: int, age: int) -> float:
        if age < len(self._arrived):
            return float(unpacked([self._arrived[-1 - age]])[0, TARGET_INDEX])
        return self._rings.value(self._place, hour, TARGET_INDEX)

    def _advance(self, reading: Reading) -> None:
        if not self._ready and len(self._arrived) > HISTORY_HOURS:  # a warm-up with gaps: nobody takes rows yet
            self._close_grid()
        gap = 0 if self.newest_hour is None else reading.hour - self.newest_hour - 1
        if gap >= HISTORY_HOURS:
            self.warmed_hours = 0
            self._close_grid()
            self._rings.clear(self._place)
        else:
            self._arrived.extend([_MISSING_HOUR] * gap)
        packed = reading.packed()
        self._arrived.append(packed)
        self._digests.accept(reading.hour, gap, digest_of(packed))
        self.newest_hour = reading.hour

    def _repeated(self, reading: Reading, newest: int) -> Outcome:
        if self._digests.repeats(reading.hour, newest, digest_of(reading.packed())):
            return Outcome.DUPLICATE
        hour = f"{reading.station_id} {isoformat(reading.hour)}"
        if self._digests.accepted(reading.hour, newest):
            raise InvalidRecord("conflict", f"{hour} was accepted before with other values")
        raise InvalidRecord("late", f"{hour} is older than the newest hour, {isoformat(newest)}")
