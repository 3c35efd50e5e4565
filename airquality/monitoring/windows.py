"""The open windows of one station: rows in, judged windows out, and the alarms that verdicts raise."""

from __future__ import annotations

import itertools
import math
import sys
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Self

import numpy as np

from airquality.ground.errors import ContractError
from airquality.ground.typed import immutable
from airquality.incoming import LateTruth, Operation
from airquality.monitoring.alarms import Event, OpenAlarms
from airquality.monitoring.component import Found, Missed, Predicted, Row
from airquality.monitoring.drift import Floats, Hours, Judge, Window
from airquality.monitoring.registry import window_detectors
from airquality.records import RAW_COLUMNS, TARGET_INDEX, Reading, isoformat
from airquality.truth.kinds import DAILY, KINDS, WEEKLY, WindowKind
from airquality.truth.performance import ErrorSums, RunningErrors

#: Events of rows without a prediction wait for the window they fall into; of more than these, the oldest count at once.
MAX_WAITING_EVENTS = 100
#: The lower and upper end and the expected squared error of a prediction without an interval.
_NO_INTERVAL = (math.nan, math.nan, math.nan)

#: What operators did in the open week, and which hours were missed, as its reports tell it; of more, the newest.
MAX_NOTES = 20
#: The open week grows by so many rows at a time: a whole week takes 24 KB, and is half empty on average.
_ROOM_ROWS = 8
#: What a station calls its windows.
WINDOWS = "windows"


def per_kind() -> dict[str, int]:
    """Return a count of 0 for each kind of window."""
    return {kind.name: 0 for kind in KINDS}


@dataclass(frozen=True, slots=True)
class VerdictAlarm:
    """An open alarm of a window detector.

    Attributes:
        detector: Its name.
        alarm: What it is about.
        opened: The last hour of the window that raised it.
        since: That window's first hour.
        kinds: The kinds of windows whose latest one raises it.
    """

    detector: str
    alarm: str
    opened: int
    since: int
    kinds: tuple[str, ...]

    def event(self, kind: Literal["opened", "closed"], at: int) -> Event:
        """Return what is said of it."""
        return Event(kind, self.detector, self.alarm, at, self.since, math.nan, "")


@dataclass(frozen=True, slots=True, eq=False)
class WindowsState:
    """Everything :class:`Windows` remembers; at most 21 KB, for a week that is full but for its last hour."""

    model_version: str
    last_hour: int | None
    ends: Mapping[str, int]
    hours: Hours
    values: Floats
    predictions: Floats
    versions: tuple[str, ...]
    errors: ErrorSums
    drifted: Mapping[str, int]
    empty: Mapping[str, int]
    alarms: tuple[VerdictAlarm, ...]
    raised: Mapping[str, Mapping[str, int]]
    detected: tuple[Event, ...]
    waiting: tuple[Event, ...]
    learning: tuple[tuple[str, int], ...]
    operations: tuple[tuple[int, str], ...]
    intervals: Floats = field(default_factory=lambda: np.empty((0, len(_NO_INTERVAL))))
    unjudged: Mapping[str, int] = field(default_factory=per_kind)


class Windows:
    """The windows, the running error and the verdicts' alarms of one station; a component.

    Windows are event time, anchored at the station's first prediction: window *i* of a kind covers the hours
    ``anchor + i*H`` to ``anchor + (i+1)*H - 1``. It closes with its last hour's row, or with the first later one.
    """

    def __init__(self, station_id: str, judge: Judge) -> None:
        self.station_id = station_id
        self._errors = RunningErrors()
        #: Windows whose verdict is data drift or prediction drift.
        self.drifted = per_kind()
        #: Windows that passed without a single prediction: no report is made of nothing.
        self.empty = per_kind()
        #: Windows that passed while these windows were off: predictions were made, and never judged.
        self.unjudged = per_kind()
        #: Open alarms of verdicts, by detector and alarm.
        self.alarms: dict[tuple[str, str], VerdictAlarm] = {}
        self.model_version = ""
        self._judge = judge
        self._last_hour: int | None = None
        self._ends: dict[str, int] = {}  # last hour of the open window of each kind
        self._n_rows = 0  # rows of the open week, which holds the open day
        self._hours = np.empty(0, dtype=np.int64)
        self._numbers = np.empty((0, len(RAW_COLUMNS) + 1 + len(_NO_INTERVAL)))  # of a row, written at once
        self._make_room()
        self._versions: list[tuple[int, str]] = []  # from which row on each model version predicted
        self._detected = OpenAlarms()  # as of the last predicted hour
        self._waiting: list[Event] = []  # found in rows after that
        self._learning: tuple[tuple[str, int], ...] = ()  # as of the last predicted hour
        self._notes: tuple[tuple[int, str], ...] = ()  # what operators did, and hours that were missed
        self._missed_since = math.inf  # until the next row is taken in
        #: By window kind: what the latest windows raise, and the first hour of the window since which they do.
        self._raised: dict[str, dict[str, int]] = {kind.name: {} for kind in KINDS}

    @property
    def errors(self) -> ErrorSums:
        """The error so far of all predictions whose truth was in their row."""
        return self._errors.state()

    def update(self, row: Row) -> Sequence[Found]:
        """Take in the next row of the station; return the windows it closed, shorter ones first, each with what it raises.

        Raises:
            ContractError: the row is not later than the last one.
        """
        if row.events:
            self.hear(row.events)
        return [] if row.predicted is None else self._observe(row, row.predicted)

    def operate(self, operation: Operation) -> list[Event]:
        """Note what an operator decided, for the windows it falls into."""
        if self._last_hour is not None:
            self._note(self._last_hour, operation.sentence)
        return []

    def note_missed(self, missed: Missed) -> None:
        """Note, before the next row, that a part of the monitoring did not see the rows before it."""
        self._note(missed.until, missed.sentence)
        if missed.part == WINDOWS:
            self._missed_since = missed.since

    def _note(self, hour: int, sentence: str) -> None:
        self._notes = (*self._notes, (hour, sentence))[-MAX_NOTES:]

    def hear(self, events: Iterable[Event]) -> None:
        """Take in what was found in, or done after, the latest row."""
        self._waiting.extend(events)
        while len(self._waiting) > MAX_WAITING_EVENTS:
            self._detected.take(self._waiting.pop(0))

    def _observe(self, row: Row, predicted: Predicted) -> list[Found]:
        hour = row.reading.hour
        if self._last_hour is None:
            self._ends = {kind.name: hour + kind.hours - 1 for kind in KINDS}
        elif hour <= self._last_hour:
            raise ContractError(f"{self.station_id}: {isoformat(hour)} is not later than the last row observed")
        self._follow(self._ends[DAILY.name])
        found = self._close_until(hour - 1)
        self._append(row.reading, predicted)
        self._learning = row.learning
        self._missed_since = math.inf
        self._follow(hour)
        return found + self._close_until(hour)

    def take_truth(self, truth: LateTruth) -> Sequence[Event]:
        """Let a truth fill its hour of the windows that are still open."""
        row = int(np.searchsorted(self._hours[: self._n_rows], truth.hour))
        if row < self._n_rows and self._hours[row] == truth.hour:
            self._values[row, TARGET_INDEX] = truth.value
        return []

    def _make_room(self, n_rows: int = 1) -> None:
        """Let the open week have room for so many rows, and a few more."""
        kept, room = slice(0, self._n_rows), math.ceil(n_rows / _ROOM_ROWS) * _ROOM_ROWS
        hours, numbers = np.empty(room, dtype=np.int64), np.empty((room, self._numbers.shape[1]))
        hours[kept], numbers[kept] = self._hours[kept], self._numbers[kept]
        self._hours, self._numbers = hours, numbers

    @property
    def _values(self) -> Floats:
        return self._numbers[: self._n_rows, : len(RAW_COLUMNS)]

    @property
    def _predictions(self) -> Floats:
        return self._numbers[: self._n_rows, len(RAW_COLUMNS)]

    @property
    def _intervals(self) -> Floats:
        return self._numbers[: self._n_rows, len(RAW_COLUMNS) + 1 :]

    def _note_version(self, row: int, version: str) -> None:
        if not self._versions or self._versions[-1][1] != version:
            self._versions.append((row, sys.intern(version)))  # a text for each station otherwise

    def _versions_from(self, row: int) -> tuple[str, ...]:
        """Return the model versions that predicted the rows of the open week from ``row`` on, in their order."""
        first = bisect_right([begin for begin, _ in self._versions], row) - 1
        return tuple(dict.fromkeys(version for _, version in self._versions[first:]))

    def _follow(self, hour: float) -> None:
        """Keep which of the detectors' alarms are open as of ``hour``."""
        while self._waiting and self._waiting[0].takes_effect <= hour:
            self._detected.take(self._waiting.pop(0))

    def _append(self, reading: Reading, predicted: Predicted) -> None:
        row = self._n_rows
        interval = predicted.interval
        around = _NO_INTERVAL if interval is None else (interval.lower, interval.upper, interval.expected_square)
        if row == len(self._hours):
            self._make_room(row + 1)
        self._hours[row] = reading.hour
        self._numbers[row] = (*reading.values, predicted.value, *around)
        self._note_version(row, predicted.model_version)
        self._n_rows = row + 1
        self._last_hour = reading.hour
        self.model_version = predicted.model_version
        if not math.isnan(reading.actual):
            self._errors.add(predicted.value, reading.actual)

    def _close_until(self, hour: int) -> list[Found]:
        """Close every window whose last hour is ``hour`` or earlier; the rows at hand all lie in the first of each kind."""
        if hour < self._ends[DAILY.name]:  # days nest in weeks, so no week ends before its last day
            return []
        windows = [window for kind in KINDS if (window := self._close(kind, hour)) is not None]
        found: list[Found] = []
        for window in windows:
            found += [window, *self._verdict_events(window)]
        return found

    def _close(self, kind: WindowKind, hour: int) -> Window | None:
        end = self._ends[kind.name]
        n_passed = (hour - end) // kind.hours + 1
        if n_passed <= 0:
            return None
        window = self._window(kind, end)
        self._ends[kind.name] = end + n_passed * kind.hours
        n_missed = len([at for at in range(window is not None, n_passed) if end + at * kind.hours >= self._missed_since])
        self.unjudged[kind.name] += n_missed
        self.empty[kind.name] += n_passed - (window is not None) - n_missed
        if kind is WEEKLY:
            self._n_rows = 0
            self._make_room()
            self._versions.clear()
        return window

    def _window(self, kind: WindowKind, end: int) -> Window | None:
        first = int(np.searchsorted(self._hours[: self._n_rows], end - kind.hours + 1))
        if first == self._n_rows:
            return None
        values, predictions = self._values[first:].copy(), self._predictions[first:].copy()
        versions = self._versions_from(first)
        verdict = self._judge.judge(kind, values, predictions)
        raised = self._raised[kind.name] = verdict.raised_since(self._raised[kind.name], end - kind.hours + 1)
        return Window(
            station_id=self.station_id,
            kind=kind,
            end_hour=end,
            hours=self._hours[first : self._n_rows].copy(),
            values=values,
            predictions=predictions,
            model_version=", ".join(versions),
            verdict=verdict,
            since=raised,
            alarms=self._detected.by_column(),
            learning=self._learning,
            operations=tuple((at, what) for at, what in self._notes if end - kind.hours <= at < end),
            intervals=self._intervals[first:].copy(),
            uncalibrated=tuple(version for version in versions if version in self._judge.uncalibrated),
        )

    def _verdict_events(self, window: Window) -> list[Event]:
        """Return what the window's verdict opens and closes."""
        self.drifted[window.kind.name] += window.verdict.drifted
        judging = [detector for detector in window_detectors() if window.kind in detector.kinds]
        said = [(found.name, alarm, raised) for found in judging for alarm, raised in found.raised(window.verdict).items()]
        new_or_open = [each for each in said if each[2] or each[:2] in self.alarms]
        return [event for name, alarm, raised in new_or_open for event in self._raise(name, alarm, raised, window)]

    def _raise(self, detector: str, alarm: str, raised: bool, window: Window) -> list[Event]:
        """Open or close an alarm: it is open while the latest window of any kind raises it."""
        key, kind = (detector, alarm), window.kind.name
        before = self.alarms.pop(key, None)
        if before is None and not raised:
            return []
        if before is None:
            self.alarms[key] = VerdictAlarm(detector, alarm, window.end_hour, window.start_hour, (kind,))
            return [self.alarms[key].event("opened", window.end_hour)]
        kinds = tuple(sorted({*before.kinds, kind} if raised else {*before.kinds} - {kind}))
        if not kinds:
            return [before.event("closed", window.end_hour)]
        self.alarms[key] = replace(before, kinds=kinds)
        return []

    def state(self) -> WindowsState:
        """Return everything :meth:`from_state` needs."""
        edges = itertools.pairwise([*self._versions, (self._n_rows, "")])
        return WindowsState(
            model_version=self.model_version,
            last_hour=self._last_hour,
            ends=dict(self._ends),
            hours=immutable(self._hours[: self._n_rows]),
            values=immutable(self._values),
            predictions=immutable(self._predictions),
            versions=tuple(version for (begin, version), (end, _) in edges for _ in range(begin, end)),
            errors=self.errors,
            drifted=dict(self.drifted),
            empty=dict(self.empty),
            alarms=tuple(self.alarms.values()),
            raised={kind: dict(since) for kind, since in self._raised.items()},
            detected=self._detected.state(),
            waiting=tuple(self._waiting),
            learning=self._learning,
            operations=self._notes,
            unjudged=dict(self.unjudged),
            intervals=immutable(self._intervals),
        )

    @classmethod
    def from_state(cls, station_id: str, state: WindowsState, judge: Judge) -> Self:
        """Return the windows whose :meth:`state` this is; they go on exactly as those would have."""
        windows = cls(station_id, judge)
        windows.model_version = state.model_version
        windows._last_hour = state.last_hour
        windows._ends = dict(state.ends)
        windows._make_room(max(1, len(state.hours)))
        n_rows = windows._n_rows = len(state.hours)
        windows._hours[:n_rows] = state.hours
        windows._values[:] = state.values
        windows._predictions[:] = state.predictions
        windows._intervals[:] = state.intervals if len(state.intervals) == n_rows else _NO_INTERVAL
        for row, version in enumerate(state.versions):
            windows._note_version(row, version)
        windows._errors = RunningErrors(state.errors)
        windows.drifted, windows.empty = dict(state.drifted), dict(state.empty)
        windows.alarms = {(alarm.detector, alarm.alarm): alarm for alarm in state.alarms}
        windows._raised = {kind: dict(since) for kind, since in state.raised.items()}
        windows._detected = OpenAlarms(state.detected)
        windows._waiting = list(state.waiting)
        windows._learning = state.learning
        windows._notes = tuple(state.operations)
        windows.unjudged.update(state.unjudged)
        return windows
