"""What a station says of its own predictions: intervals, expected errors, and what truth made of them when it came."""

from __future__ import annotations

import math
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


@dataclass(frozen=True, slots=True, eq=False)
class AwaitedState:
    """The forecasts whose truth is awaited: ``hours`` ``(n,)``, ascending, ``numbers`` ``(n, 4)``, ``marks`` ``(n,)``."""

    hours: NDArray[np.int64]
    numbers: NDArray[np.float64]
    marks: NDArray[np.uint8]

    @classmethod
    def of(cls, awaited: Mapping[int, Forecast]) -> Self:
        """Return what :meth:`forecasts` makes forecasts of again."""
        numbers = [(value, around.lower, around.upper, around.expected_square) for value, around in awaited.values()]
        marks = [8 * CASES.index(around.case) + 2 * around.level + around.silent for _, around in awaited.values()]
        return cls(
            immutable(np.array(list(awaited), dtype=np.int64)),
            immutable(np.array(numbers, dtype=np.float64).reshape(-1, 4)),
            immutable(np.array(marks, dtype=np.uint8)),
        )

    def forecasts(self) -> dict[int, Forecast]:
        """Return the forecasts by hour."""
        return {
            hour: (prediction, Interval(lower, upper, expected, CASES[mark // 8], mark % 8 // 2, bool(mark % 2)))
            for hour, (prediction, lower, upper, expected), mark in zip(
                self.hours.tolist(), self.numbers.tolist(), self.marks.tolist(), strict=True
            )
        }


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
        self._awaited: dict[int, Forecast] = {}
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
        if row.predicted is not None and row.predicted.interval is not None:
            self.books.predict(hour, row.predicted.interval)
            self._awaited[hour] = row.predicted.value, row.predicted.interval
        if not math.isnan(truth):
            found += self._learn(hour, truth, delay=0)
        self._forget()
        self.books.close_until(hour)
        return found + self.books.final(hour)

    def take_truth(self, truth: LateTruth) -> Sequence[Found]:
        """Take in a truth that filled its hour."""
        assert self._newest_hour is not None
        found = self._learn(truth.hour, truth.value, delay=self._newest_hour - truth.hour + 1)
        return [*found, *self.books.final(self._newest_hour)]

    def _learn(self, hour: int, truth: float, delay: int) -> list[Found]:
        forecast, newest = self._awaited.pop(hour, None), self._newest_hour
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

    def _forget(self) -> None:
        """Wait no longer for truths that the history would not take any more."""
        assert self._newest_hour is not None
        while self._awaited:
            oldest = next(iter(self._awaited))
            if oldest > self._newest_hour - HISTORY_HOURS:
                break
            del self._awaited[oldest]

    def state(self) -> AssuranceState:
        """Return everything :meth:`from_state` needs."""
        return AssuranceState(
            self._newest_hour,
            self._intervals.state(),
            {case: watch.state() for case, watch in self._coverage.items()},
            self.books.state(),
            AwaitedState.of(self._awaited),
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
        made._awaited = state.awaited.forecasts()
        made._newest_hour = state.newest_hour
        made._late_errors = RunningErrors(state.late_errors)
        return made
