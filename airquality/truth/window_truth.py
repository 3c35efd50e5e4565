"""What is known of a window's error: when it closed, and once its truth is in or has had its time.

A window is open in these books from its first predicted hour until it is final. It is final when the truth of each predicted
hour is in, or when the station is a deadline of hours past it; later truths change nothing that was said of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple, Self

from airquality.truth.intervals import LEVELS, Interval
from airquality.truth.kinds import KINDS
from airquality.truth.performance import MIN_TRUTHS, ErrorSums, Performance, RunningErrors

#: What a window's coverage is counted by: all truths, by level of the prediction, and by state of the device.
GROUPS = ("all", *LEVELS, "device", "device silent")

_HOURS = tuple((kind.name, kind.hours) for kind in KINDS)


@dataclass(frozen=True, slots=True)
class Held:
    """How many of ``n`` truths lay inside their interval."""

    n: int = 0
    held: int = 0

    @property
    def share(self) -> float:
        """Which share did, NaN of none."""
        return self.held / self.n if self.n else math.nan


@dataclass(frozen=True, slots=True)
class WindowTruth:
    """What a window's truth says, said once: when it is in, or its time is over. Errors in the target's unit.

    Attributes:
        kind: Of the window.
        end_hour: The window's last hour.
        at: The station's newest hour when it was said.
        complete: Whether every predicted hour has its truth; otherwise the deadline has passed.
        n_rows: The predicted hours.
        known: The error as known when the window closed.
        final: The error of all truths that are in now.
        late: The truths that came after their rows, as ``(hour, value)``, in the order in which they came.
        delay_hours: How many hours after its own the first row came that could know it, on average; NaN of none.
        estimated_rmse: What was expected before any truth of the window was used; NaN where nothing is calibrated.
        coverage: By name of :data:`GROUPS`, how many truths lay inside their intervals.
    """

    kind: str
    end_hour: int
    at: int
    complete: bool
    n_rows: int
    known: Performance
    final: Performance
    late: tuple[tuple[int, float], ...]
    delay_hours: float
    estimated_rmse: float
    coverage: Mapping[str, Held]


@dataclass(frozen=True, slots=True)
class BookState:
    """What is held of one window; ``known`` is None until it has closed. ``truths`` and ``held`` follow :data:`GROUPS`."""

    end_hour: int
    n_rows: int
    n_awaited: int
    sums: ErrorSums
    known: ErrorSums | None
    late_hours: tuple[int, ...]
    late_values: tuple[float, ...]
    delay: int
    expected: float
    n_expected: int
    truths: tuple[int, ...]
    held: tuple[int, ...]


@dataclass(slots=True)
class _Book:
    """The same while it is written: once a row for each kind of window, so it changes in place."""

    end_hour: int
    n_rows: int = 0
    n_awaited: int = 0
    sums: RunningErrors = field(default_factory=RunningErrors)
    known: ErrorSums | None = None
    late_hours: list[int] = field(default_factory=list)
    late_values: list[float] = field(default_factory=list)
    delay: int = 0
    expected: float = 0.0
    n_expected: int = 0
    truths: list[int] = field(default_factory=lambda: [0] * len(GROUPS))
    held: list[int] = field(default_factory=lambda: [0] * len(GROUPS))

    def add_row(self, interval: Interval) -> None:
        self.n_rows += 1
        self.n_awaited += 1
        expected = interval.expected_square
        if expected == expected:  # not NaN
            self.expected += expected
            self.n_expected += 1

    def add_truth(self, hour: int, interval: Interval, inside: bool | None, late: Late | None) -> None:
        self.n_awaited -= 1
        if late is not None:
            self.late_hours.append(hour)
            self.late_values.append(late.value)
            self.delay += late.delay_hours
        if inside is not None:
            for group in (0, 1 + interval.level, 1 + len(LEVELS) + interval.silent):
                self.truths[group] += 1
                self.held[group] += inside

    def state(self) -> BookState:
        held: dict[str, Any] = {name: getattr(self, name) for name in _PLAIN}
        held |= {name: tuple(getattr(self, name)) for name in _LISTS}
        return BookState(**held, sums=self.sums.state())

    @classmethod
    def from_state(cls, state: BookState) -> Self:
        book = cls(state.end_hour, sums=RunningErrors(state.sums))
        for name in _PLAIN:
            setattr(book, name, getattr(state, name))
        for name in _LISTS:
            setattr(book, name, list(getattr(state, name)))
        return book


_LISTS = ("late_hours", "late_values", "truths", "held")
_PLAIN = tuple(each.name for each in fields(BookState) if each.name not in (*_LISTS, "sums"))


class Late(NamedTuple):
    """A truth that came after its row: its value, and how many hours after its own the first row came that could know it."""

    value: float
    delay_hours: int


@dataclass(frozen=True, slots=True)
class Record:
    """How far estimated errors were from final ones so far: the mean distance relative to the error, over ``n`` windows."""

    n: int = 0
    total: float = 0.0

    @property
    def mean_error(self) -> float:
        """The mean, NaN of none."""
        return self.total / self.n if self.n else math.nan

    def plus(self, said: WindowTruth) -> Record:
        """Return the record with one more window, if it has an estimate and truths enough."""
        judged = not math.isnan(said.estimated_rmse) and said.final.n >= MIN_TRUTHS and said.final.rmse > 0
        if not judged:
            return self
        return Record(self.n + 1, self.total + abs(said.estimated_rmse - said.final.rmse) / said.final.rmse)


@dataclass(frozen=True, slots=True)
class BooksState:
    """Everything :class:`WindowBooks` remembers; books by kind, oldest first."""

    anchor: int | None = None
    books: Mapping[str, tuple[BookState, ...]] = field(default_factory=dict)
    records: Mapping[str, Record] = field(default_factory=dict)


class WindowBooks:
    """The windows of one station whose error is not final; anchored at its first prediction, as the judged windows are."""

    def __init__(self, deadline_hours: int) -> None:
        self._deadline_hours = deadline_hours
        self._anchor: int | None = None
        self._books: dict[str, list[_Book]] = {kind.name: [] for kind in KINDS}
        self._next_end = math.inf  # the first last hour of an open window
        self._any_is_in = False  # whether a closed window may have all its truths
        self._deadline: float = math.inf  # the first hour at which a closed window waits no longer
        #: By kind: how far estimates were from what truth then said.
        self.records = {kind.name: Record() for kind in KINDS}

    def predict(self, hour: int, interval: Interval) -> None:
        """Note that an hour was predicted; hours ascend."""
        if self._anchor is None:
            self._anchor = hour
        for kind, hours in _HOURS:
            books = self._books[kind]
            if not books or books[-1].end_hour < hour:
                end = self._end_of(hours, hour)
                books.append(_Book(end))
                self._next_end = min(self._next_end, end)
            books[-1].add_row(interval)

    def learn(self, hour: int, prediction: float, interval: Interval, truth: float, delay: int) -> None:
        """Note the truth of a predicted hour: in its row (``delay`` 0), or before the row ``delay`` hours after its own."""
        inside = None if math.isnan(interval.lower) else interval.holds(truth)
        late = Late(truth, delay) if delay else None
        for kind, hours in _HOURS:
            for book in reversed(self._books[kind]):
                if book.end_hour - hours < hour <= book.end_hour:
                    book.sums.add(prediction, truth)
                    book.add_truth(hour, interval, inside, late)
                    self._any_is_in |= book.known is not None and not book.n_awaited
                    break

    def close_until(self, hour: int) -> None:
        """Note what is known of the windows whose last hour is ``hour`` or earlier, as they close."""
        if hour < self._next_end:
            return
        open_books = [book for books in self._books.values() for book in books if book.known is None]
        for book in open_books:
            if book.end_hour <= hour:
                book.known = book.sums.state()
                self._note_closed(book)
        self._next_end = min((book.end_hour for book in open_books if book.known is None), default=math.inf)

    def final(self, newest_hour: int) -> list[WindowTruth]:
        """Take out the windows that are final now, and return what their truth says, shorter windows first."""
        if not self._any_is_in and newest_hour < self._deadline:
            return []
        said = [truth for kind in self._books for truth in self._final(kind, newest_hour)]
        self._note_ends()
        return said

    def _note_ends(self) -> None:
        """Note anew when which window is to be looked at, so that the rows between need not look."""
        self._next_end = self._deadline = math.inf
        self._any_is_in = False
        for book in (book for books in self._books.values() for book in books):
            if book.known is None:
                self._next_end = min(self._next_end, book.end_hour)
            else:
                self._note_closed(book)

    def _note_closed(self, book: _Book) -> None:
        self._any_is_in |= not book.n_awaited
        self._deadline = min(self._deadline, book.end_hour + self._deadline_hours)

    def _final(self, kind: str, newest_hour: int) -> Iterator[WindowTruth]:
        waiting = []
        for book in self._books[kind]:
            over = newest_hour - book.end_hour >= self._deadline_hours
            if book.known is None or (book.n_awaited and not over):
                waiting.append(book)
                continue
            said = _said(kind, book, newest_hour)
            self.records[kind] = self.records[kind].plus(said)
            yield said
        self._books[kind] = waiting

    def _end_of(self, hours: int, hour: int) -> int:
        assert self._anchor is not None
        return self._anchor + ((hour - self._anchor) // hours + 1) * hours - 1

    def state(self) -> BooksState:
        """Return everything :meth:`from_state` needs."""
        books = {kind: tuple(book.state() for book in books) for kind, books in self._books.items()}
        return BooksState(self._anchor, books, dict(self.records))

    @classmethod
    def from_state(cls, state: BooksState, deadline_hours: int) -> Self:
        """Return the books whose :meth:`state` this is."""
        made = cls(deadline_hours)
        made._anchor = state.anchor
        made._books |= {kind: [_Book.from_state(book) for book in books] for kind, books in state.books.items()}
        made.records |= state.records
        made._note_ends()
        return made


def _said(kind: str, book: _Book, newest_hour: int) -> WindowTruth:
    sums = book.sums.state()
    return WindowTruth(
        kind=kind,
        end_hour=book.end_hour,
        at=newest_hour,
        complete=not book.n_awaited,
        n_rows=book.n_rows,
        known=(book.known or sums).performance(),
        final=sums.performance(),
        late=tuple(zip(book.late_hours, book.late_values, strict=True)),
        delay_hours=book.delay / len(book.late_hours) if book.late_hours else math.nan,
        estimated_rmse=math.sqrt(book.expected / book.n_expected) if book.n_expected else math.nan,
        coverage={name: Held(n, held) for name, n, held in zip(GROUPS, book.truths, book.held, strict=True)},
    )
