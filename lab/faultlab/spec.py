"""A fault as a person types it: ``gain:S1:1.3:2005-02-20``."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from airquality.ground.errors import UsageError
from airquality.monitoring.relations import Relations
from airquality.network.current import NETWORK
from airquality.records import hour_of_isoformat, isoformat
from lab.faultlab import faults
from lab.faultlab.faults import COLUMNS, SOURCES, Change, Fault, Healthy

if TYPE_CHECKING:
    from airquality.data.dataset import Frame

#: What a column may be called for short.
SHORT = {NETWORK[name].short.upper(): name for name in COLUMNS}


class Sized(NamedTuple):
    """A kind that takes a size: what it is, its usual value and its bounds, and the change of that size."""

    what: str
    usual: float
    least: float
    most: float
    change: Callable[[float], Change]


SIZED = {
    "gain": Sized("a factor reached within 7 days", 1.3, 0.01, 100.0, faults.gain),
    "step": Sized("standard deviations of the column", 2.0, -50.0, 50.0, faults.shift),
    "clock": Sized("whole hours late", 3.0, 1.0, 72.0, lambda hours: faults.late(round(hours))),
}
#: Every kind that can be asked for: those with a size, and all of the lab by their own names.
KINDS = (*SIZED, *faults.KINDS)
HELP = (
    "KIND:COLUMN[:SIZE]:DATE, e.g. gain:S1:1.3:2005-02-20 or stuck:RH:2005-03-01T06. "
    f"Kinds: {', '.join(kind.replace(' ', '-') for kind in KINDS)}, of which {', '.join(SIZED)} take a size; "
    f"columns: {', '.join(SHORT)}"
)


@dataclass(frozen=True, slots=True, eq=False)
class Spec:
    """A fault in words, its column, the change it makes, and its first hour."""

    text: str
    kind: str
    column: str
    change: Change
    hour: int

    @property
    def culprits(self) -> frozenset[str]:
        """The columns that may rightly be named."""
        return self._fault(0).culprits

    def require_within(self, first: int, last: int) -> None:
        """Raise ``UsageError`` unless the fault begins in the hours ``first`` to ``last``."""
        if not first <= self.hour <= last:
            raise UsageError(
                f"the fault {self.text} begins outside the rows, which are from {isoformat(first)} to {isoformat(last)}"
            )

    def _fault(self, onset: int) -> Fault:
        return Fault(self.kind, self.column, self.column in SOURCES, onset)

    def put_into(self, frame: Frame, history: Frame, relations: Relations) -> Frame:
        """Return the rows with the fault in them; columns that are computed from the faulty one follow it.

        Args:
            frame: Healthy, gap-free rows.
            history: Rows the column's usual spread is measured on.
            relations: How one column is computed from others.

        Raises:
            UsageError: the fault begins outside the rows.
        """
        self.require_within(int(frame.hours[0]), int(frame.hours[-1]))
        fault = self._fault(self.hour - int(frame.hours[0]))
        healthy = Healthy.of(frame.values, history.values)
        return replace(frame, values=faults.inject(healthy, fault, relations, self.change))


def parse(text: str) -> Spec:
    """Return the fault that ``text`` describes; raises ``UsageError`` with what can be said."""
    kind, _, rest = text.partition(":")
    kind = kind.replace("-", " ").replace("_", " ")
    column, _, rest = rest.partition(":")
    name = SHORT.get(column, column)
    if kind not in KINDS or name not in COLUMNS:
        raise UsageError(f"no fault is called {text!r}: {HELP}")
    size, date = ("", rest) if _is_date(rest) else (rest.partition(":")[0], rest.partition(":")[2])
    if not date:
        raise UsageError(f"when does {text!r} begin? {HELP}")
    return Spec(text, kind, name, _change(text, kind, size), _hour(text, date))


def _is_date(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _change(text: str, kind: str, size: str) -> Change:
    if kind not in SIZED:
        if size:
            raise UsageError(f"{kind!r} takes no size, in {text!r}; those that do are {', '.join(SIZED)}")
        return faults.KINDS[kind]
    sized = SIZED[kind]
    try:
        value = float(size) if size else sized.usual
    except ValueError:
        value = math.nan
    if not sized.least <= value <= sized.most:
        raise UsageError(f"the size of {text!r} must be {sized.what}, from {sized.least:g} to {sized.most:g}")
    return sized.change(value)


def _hour(text: str, date: str) -> int:
    try:
        return hour_of_isoformat(date)
    except ValueError as error:
        raise UsageError(f"when does {text!r} begin? {error}. {HELP}") from error
