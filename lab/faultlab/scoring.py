"""Score a method on faults: was the column named, after how many hours, and was the first name right?"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from airquality.monitoring.alarms import Event
from airquality.monitoring.network import GROUPS
from airquality.network.current import NETWORK
from lab.faultlab.faults import Fault

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

WITHIN_HOURS = 14 * 24
N_ONSETS = 12
#: A name so close to one of the clean stream's is the same page.
USUAL_HOURS = 72
#: A name so close to one of the clean stream's is the same page.
USUAL_HOURS = 72
#: Confusions within these are not held against the name.
KIN = tuple({*twin.sources, twin.column} for twin in NETWORK.twins)


@dataclass(frozen=True, slots=True)
class Name:
    """A column (or group) that a method names at an hour."""

    column: str
    at: int

    @property
    def columns(self) -> frozenset[str]:
        """The columns meant."""
        return frozenset(GROUPS.get(self.column, (self.column,)))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a method made of one fault; delays in hours, infinite if never. ``chance``: named without the fault, too."""

    fault: Fault
    named: float
    any_alarm: float
    first: str
    first_right: bool
    first_exact: bool
    chance: bool


def names_of(events: Iterable[Event]) -> list[Name]:
    """Return what alarm events name: an alarm that opens, or that a group narrows to one column."""
    return [Name(event.column, event.at) for event in events if event.kind in ("opened", "changed")]


def onsets_of(n_rows: int) -> list[int]:
    """Return twelve onsets spread over the rows, at twelve hours of the day, each with fourteen days after it.

    >>> onsets_of(1404)
    [5, 94, 183, 272, 361, 450, 539, 628, 717, 806, 895, 984]
    """
    longest = (n_rows - WITHIN_HOURS - 6) // (N_ONSETS - 1)
    stride = longest - (longest - 17) % 24  # 17 hours later in the day each time
    return [5 + index * stride for index in range(N_ONSETS)]


def judge(fault: Fault, onset_hour: int, names: Sequence[Name], clean: Sequence[Name]) -> Outcome:
    """Compare the names a method gave within 14 days of the onset with those it gives the clean stream then.

    A name that the clean stream gets within three days of the same hour is not the fault's.
    """
    window = range(onset_hour, onset_hour + WITHIN_HOURS)
    given = sorted((name for name in names if name.at in window), key=lambda name: name.at)
    usual = [name for name in clean if name.at in window]
    caused = [
        name
        for name in given
        if not any(name.column == other.column and abs(name.at - other.at) <= USUAL_HOURS for other in usual)
    ]
    named = [name.at - onset_hour for name in given if name.columns & fault.culprits]
    kin = fault.culprits.union(*(group for group in KIN if group & fault.culprits))
    return Outcome(
        fault=fault,
        named=min(named, default=math.inf),
        any_alarm=min((name.at - onset_hour for name in caused), default=math.inf),
        first=caused[0].column if caused else "",
        first_right=bool(caused) and bool(caused[0].columns & kin),
        first_exact=bool(caused) and bool(caused[0].columns & fault.culprits),
        chance=any(name.columns & fault.culprits for name in usual),
    )


@dataclass(frozen=True, slots=True)
class Cell:
    """The outcomes of one kind in one column: how many of them were named, the median and the 11th-of-12 delay in hours."""

    n: int
    named: int
    median: float
    late: float
    chance: int

    @classmethod
    def of(cls, outcomes: Sequence[Outcome]) -> Cell:
        """Count ``outcomes``."""
        delays = sorted(outcome.named for outcome in outcomes)
        middle = len(delays) // 2
        return cls(
            n=len(delays),
            named=sum(delay < math.inf for delay in delays),
            median=delays[middle] if len(delays) % 2 else (delays[middle - 1] + delays[middle]) / 2,
            late=delays[max(math.ceil(len(delays) * 11 / 12) - 1, 0)],
            chance=sum(outcome.chance for outcome in outcomes),
        )


def table(outcomes: Iterable[Outcome], key: Callable[[Outcome], tuple[str, str]]) -> Mapping[tuple[str, str], Cell]:
    """Return the cells of a table whose row and column ``key`` gives."""
    groups: dict[tuple[str, str], list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        groups[key(outcome)].append(outcome)
    return {place: Cell.of(group) for place, group in groups.items()}


def share(outcomes: Sequence[Outcome], what: Callable[[Outcome], bool]) -> float:
    """Return the share of outcomes for which ``what`` holds, NaN of none."""
    return sum(map(what, outcomes)) / len(outcomes) if outcomes else math.nan
