"""What a station says of its own predictions: intervals, expected errors, and what truth made of them when it came."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from airquality.ground.typed import immutable
from airquality.incoming import LateTruth
from airquality.monitoring.component import Found, Row
from airquality.monitoring.coverage import CoverageState, CoverageWatch
from airquality.network.current import NETWORK
from airquality.records import HISTORY_HOURS, RAW_COLUMNS, Reading
from airquality.truth.interval_calibration import IntervalCalibration
from airquality.truth.intervals import CASES, Case, Interval, Intervals, IntervalsState
from airquality.truth.performance import NO_ERRORS, ErrorSums, RunningErrors
from airquality.truth.window_truth import BooksState, WindowBooks

#: Hours of the station after a window's end in which its truth may come, unless a setting says otherwise.
DEADLINE_HOURS = 72

_DEVICE = tuple(RAW_COLUMNS.index(column.name) for column in NETWORK.device)


#: A prediction that was published, in the target's unit, and its interval.
Forecast = tuple[float, Interval]
_N_NUMBERS = 4  # of a forecast: the prediction, and the interval's ends and expected square


@dataclass(frozen=True, slots=True, eq=False)
class AwaitedState:
    """The forecasts whose truth is awaited: ``hours`` ``(n,)``, ascending, ``numbers`` ``(n, 4)``, ``marks`` ``(n,)``."""

    hours: NDArray[np.int64]
    numbers: NDArray[np.float64]
    marks: NDArray[np.uint8]


class Awaited:
    """The forecasts of one station whose truth is awaited, by hour: 41 bytes each, where objects would take 400.

    >>> awaited, interval = Awaited(), Interval(1.0, 3.0, 0.25, "late", 1, True)
    >>> awaited.add(7, 2.0, interval)
    >>> awaited.pop(8), awaited.pop(7) == (2.0, interval), awaited.pop(7)
    (None, True, None)
    """

    __slots__ = ("_hours", "_marks", "_numbers")

    def __init__(self) -> None:
        self._hours = array("q")  # ascending
        self._numbers = array("d")
        self._marks = bytearray()

    def add(self, hour: int, prediction: float, interval: Interval) -> None:
        """Take in the forecast of an hour later than all before."""
        self._hours.append(hour)
        self._numbers.extend((prediction, interval.lower, interval.upper, interval.expected_square))
        self._marks.append(8 * CASES.index(interval.case) + 2 * interval.level + interval.silent)

    def pop(self, hour: int) -> Forecast | None:
        """Take out the forecast of an hour; None where there is none."""
        at = bisect_left(self._hours, hour)
        if at == len(self._hours) or self._hours[at] != hour:
            return None
        mark = self._marks[at]
        prediction, lower, upper, expected = self._numbers[_N_NUMBERS * at : _N_NUMBERS * (at + 1)]
        self._delete(at, at + 1)
        return prediction, Interval(lower, upper, expected, CASES[mark // 8], mark % 8 // 2, bool(mark % 2))

    def forget_until(self, hour: int) -> None:
        """Await no truth of this hour and of those before."""
        if self._hours and self._hours[0] <= hour:
            self._delete(0, bisect_right(self._hours, hour))

    def _delete(self, first: int, end: int) -> None:
        del self._hours[first:end], self._numbers[_N_NUMBERS * first : _N_NUMBERS * end], self._marks[first:end]

    def state(self) -> AwaitedState:
        """Return everything :meth:`from_state` needs."""
        return AwaitedState(
            immutable(np.array(self._hours, dtype=np.int64)),
            immutable(np.array(self._numbers, dtype=np.float64).reshape(-1, _N_NUMBERS)),
            immutable(np.array(self._marks, dtype=np.uint8)),
        )

    @classmethod
    def from_state(cls, state: AwaitedState) -> Self:
        """Return the forecasts whose :meth:`state` this is."""
        awaited = cls()
        awaited._hours.extend(state.hours.tolist())
        awaited._numbers.extend(state.numbers.ravel().tolist())
        awaited._marks.extend(state.marks.tolist())
        return awaited


@dataclass(frozen=True, slots=True, eq=False)
class AssuranceState:
    """Everything :class:`Assurance` remembers; at most 8 KB, where the truth of a whole week is awaited."""

    newest_hour: int | None
    intervals: IntervalsState
    coverage: Mapping[Case, CoverageState]
    books: BooksState
    awaited: AwaitedState
    late_errors: ErrorSums = NO_ERRORS


class Assurance:
    """The intervals of one station and the account of its truths, in the order of the stream.

    Args:
        calibration: None: there are no intervals, but windows still become final.
        deadline_hours: How many hours of the station after its end a window waits for its truth.
    """

    def __init__(self, calibration: IntervalCalibration | None, deadline_hours: int = DEADLINE_HOURS) -> None:
        self._intervals = Intervals({}, "") if calibration is None else Intervals(calibration.tables, calibration.basis)
        bands = {} if calibration is None else calibration.bands
        self._coverage = {case: CoverageWatch(case, bands.get(case)) for case in CASES}
        self.books = WindowBooks(deadline_hours)
        self._awaited = Awaited()
        self._newest_hour: int | None = None
        self._late_errors = RunningErrors()

    @property
    def late_errors(self) -> ErrorSums:
        """The error of the predictions whose truth came late."""
        return self._late_errors.state()

    def around(self, reading: Reading, prediction: float) -> Interval:
        """Return the interval to publish with the prediction of a row that is taken in next."""
        values = reading.values
        silent = math.isnan(values[_DEVICE[0]]) and all(math.isnan(values[index]) for index in _DEVICE)
        return self._intervals.around(reading.hour, prediction, silent=silent)

    def update(self, row: Row) -> Sequence[Found]:
        """Take in an accepted row, with what was published of it, if anything; hours ascend."""
        hour, truth = row.reading.hour, row.reading.actual
        found: list[Found] = []
        self.books.close_until(hour - 1)
        self._newest_hour = hour
        forecast: Forecast | None = None
        if row.predicted is not None and row.predicted.interval is not None:
            forecast = row.predicted.value, row.predicted.interval
            self.books.predict(hour, forecast[1])
        if not math.isnan(truth):
            found += self._learn(hour, forecast, truth, delay=0)
        elif forecast is not None:
            self._awaited.add(hour, *forecast)
        self._awaited.forget_until(hour - HISTORY_HOURS)  # the history would not take their truths any more
        self.books.close_until(hour)
        return found + self.books.final(hour)

    def take_truth(self, truth: LateTruth) -> Sequence[Found]:
        """Take in a truth that filled its hour."""
        assert self._newest_hour is not None
        forecast = self._awaited.pop(truth.hour)
        found = self._learn(truth.hour, forecast, truth.value, delay=self._newest_hour - truth.hour + 1)
        return [*found, *self.books.final(self._newest_hour)]

    def _learn(self, hour: int, forecast: Forecast | None, truth: float, delay: int) -> list[Found]:
        newest = self._newest_hour
        assert newest is not None
        if forecast is None:
            self._intervals.know(hour)
            return []
        prediction, interval = forecast
        self._intervals.learn(hour, prediction, interval, truth)
        if delay:
            self._late_errors.add(prediction, truth)
        self.books.learn(hour, prediction, interval, truth, delay)
        if math.isnan(interval.lower):
            return []
        return [*self._coverage[interval.case].learn(newest, interval.holds(truth))]

    def state(self) -> AssuranceState:
        """Return everything :meth:`from_state` needs."""
        return AssuranceState(
            self._newest_hour,
            self._intervals.state(),
            {case: watch.state() for case, watch in self._coverage.items()},
            self.books.state(),
            self._awaited.state(),
            self.late_errors,
        )

    @classmethod
    def from_state(
        cls, state: AssuranceState, calibration: IntervalCalibration | None, deadline_hours: int = DEADLINE_HOURS
    ) -> Self:
        """Return the assurance whose :meth:`state` this is; it goes on exactly as that one would have."""
        made = cls(calibration, deadline_hours)
        tables, basis = ({}, "") if calibration is None else (calibration.tables, calibration.basis)
        made._intervals = Intervals.from_state(state.intervals, tables, basis)
        bands = {} if calibration is None else calibration.bands
        made._coverage = {case: CoverageWatch.from_state(state.coverage[case], case, bands.get(case)) for case in CASES}
        made.books = WindowBooks.from_state(state.books, deadline_hours)
        made._awaited = Awaited.from_state(state.awaited)
        made._newest_hour = state.newest_hour
        made._late_errors = RunningErrors(state.late_errors)
        return made
