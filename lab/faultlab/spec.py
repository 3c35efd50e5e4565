"""A fault as a person types it: ``gain:S1:1.3:2005-02-20``."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from airquality.data.dataset import Frame
from airquality.ground.errors import UsageError
from airquality.monitoring.relations import Relations
from airquality.records import TARGET, hour_of, isoformat
from lab.faultlab import faults
from lab.faultlab.faults import COLUMNS, SOURCES, Change, Fault, Healthy

#: What a column may be called for short.
SHORT = {
    **{f"S{number}": name for number in range(1, 6) for name in COLUMNS if name.startswith(f"PT08.S{number}")},
    "C6H6": "C6H6(GT)",
    "CO": TARGET,
}
#: Kinds that take a size: what it is, its usual value, and the change of that size.
SIZED: dict[str, tuple[str, float, Callable[[float], Change]]] = {
    "gain": ("a factor reached within 7 days", 1.3, faults.gain),
    "step": ("standard deviations of the column", 2.0, faults.shift),
    "clock": ("hours late", 3.0, lambda hours: faults.late(round(hours))),
}
UNSIZED = ("slow", "stuck", "noise", "missing", "spikes", "swap", "clip")
HELP = (
    "KIND:COLUMN[:SIZE]:DATE, e.g. gain:S1:1.3:2005-02-20 or stuck:RH:2005-03-01T06. "
    f"Kinds: {', '.join((*SIZED, *UNSIZED))}; columns: {', '.join((*SHORT, 'T', 'RH', 'AH'))}"
)


@dataclass(frozen=True, slots=True, eq=False)
class Spec:
    """A fault in words, its column, the change it makes, and its first hour."""

    text: str
    kind: str
    column: str
    change: Change
    hour: int

    def put_into(self, frame: Frame, history: Frame, relations: Relations) -> Frame:
        """Return the rows with the fault in them; columns that are computed from the faulty one follow it.

        Args:
            frame: Healthy, gap-free rows.
            history: Rows the column's usual spread is measured on.
            relations: How one column is computed from others.

        Raises:
            UsageError: the fault begins outside the rows.
        """
        onset = self.hour - int(frame.hours[0])
        if not 0 <= onset < len(frame):
            first, last = isoformat(int(frame.hours[0])), isoformat(int(frame.hours[-1]))
            raise UsageError(f"the fault {self.text} begins outside the rows, which are from {first} to {last}")
        healthy = Healthy.of(frame.values, history.values)
        fault = Fault(self.kind, self.column, self.column in SOURCES, onset)
        return Frame(frame.hours, faults.inject(healthy, fault, relations, self.change), frame.source)


def parse(text: str) -> Spec:
    """Return the fault that ``text`` describes; raises ``UsageError`` with what can be said."""
    kind, _, rest = text.partition(":")
    column, _, rest = rest.partition(":")
    name = SHORT.get(column, column)
    if kind not in (*SIZED, *UNSIZED) or name not in COLUMNS:
        raise UsageError(f"no fault is called {text!r}: {HELP}")
    size, _, date = rest.partition(":") if kind in SIZED and not _is_date(rest) else ("", "", rest)
    return Spec(text, kind, name, _change(text, kind, size), _hour(text, date))


def _is_date(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _change(text: str, kind: str, size: str) -> Change:
    if kind not in SIZED:
        return faults.KINDS[kind]
    what, usual, change = SIZED[kind]
    try:
        value = float(size) if size else usual
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"the size of {text!r} is no number; it is {what}")
    return change(value)


def _hour(text: str, date: str) -> int:
    try:
        return hour_of(datetime.fromisoformat(date))
    except ValueError as error:
        raise UsageError(f"when does {text!r} begin? {error}. {HELP}") from error
