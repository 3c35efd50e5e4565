"""Hours in which somebody works on a station: what it then reads is neither judged nor learned from."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from airquality.incoming import Operation
from airquality.records import RAW_COLUMNS

Floats = NDArray[np.float64]

#: Spans that are kept for a station at a time; of more, the oldest are dropped.
MAX_SPANS = 16


@dataclass(frozen=True, slots=True)
class Maintenance:
    """Hours ``first`` to ``last``, inclusive, event time, of one column, or of the whole station where it is empty."""

    column: str
    first: int
    last: int

    @classmethod
    def of(cls, operation: Operation) -> Self:
        """Return the span that an operation names; raises ``ValueError`` if it names none."""
        if operation.from_hour is None or operation.to_hour is None:
            raise ValueError(f"{operation} says not from when to when")
        return cls(operation.column or "", operation.from_hour, operation.to_hour)

    @property
    def columns(self) -> frozenset[str]:
        """The columns that are worked on."""
        return frozenset((self.column,) if self.column else RAW_COLUMNS)

    def state(self) -> dict[str, Any]:
        """Return the span as JSON values."""
        return asdict(self)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Return the span whose state this is."""
        return cls(**state)


def columns_at(spans: Iterable[Maintenance], hour: int) -> frozenset[str]:
    """Return the columns that are worked on in an hour."""
    return frozenset(column for span in spans if span.first <= hour <= span.last for column in span.columns)


def _changes(spans: Iterable[Maintenance], first: int, last: int) -> list[int]:
    """Return the hours from ``first`` + 1 to ``last`` at which a span begins or has ended, ascending."""
    bounds = {bound for span in spans for bound in (span.first, span.last + 1)}
    return sorted(bound for bound in bounds if first < bound <= last)


def hours_outside(spans: Iterable[Maintenance], first: int, last: int) -> int:
    """Return how many of the hours ``first`` to ``last``, inclusive, lie in no span of the whole station.

    >>> hours_outside([Maintenance("", 3, 5), Maintenance("", 5, 7), Maintenance("T", 9, 9)], 1, 10)
    5
    """
    n_outside, after = max(last - first + 1, 0), first
    for span in sorted((span for span in spans if not span.column), key=lambda span: span.first):
        begin, end = max(span.first, after), min(span.last, last)
        if begin <= end:
            n_outside, after = n_outside - (end - begin + 1), end + 1
    return n_outside


def cut_at_work(spans: Sequence[Maintenance], first: int, table: Floats, most: int) -> list[tuple[int, Floats]]:
    """Return rows as steps of at most so many, cut where work begins or ends; what is worked on has no value."""
    end_hour = first + len(table)
    bounds = [first, *(_changes(spans, first, end_hour - 1) if spans else ()), end_hour]
    cut = []
    for begin, end in itertools.pairwise(bounds):
        part = table[begin - first : end - first]
        worked_on = columns_at(spans, begin)
        if worked_on:
            part = np.where(np.isin(RAW_COLUMNS, sorted(worked_on)), np.nan, part)
        cut += [(begin + at, part[at : at + most]) for at in range(0, len(part), most)]
    return cut
