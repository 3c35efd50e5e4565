"""Forward out-of-sample statistics: the history as detectors that were fitted before it would have seen it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from airquality.monitoring import relations
from airquality.monitoring.bank import statistics_of
from airquality.monitoring.network import NODE_COLUMNS
from airquality.monitoring.rules import Limits
from airquality.monitoring.suite import Suite, build

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Relations are fitted again every four weeks on everything up to two weeks earlier, the first time after 18 weeks.
REFIT_HOURS, GUARD_HOURS, FIRST_HOURS = 4 * 168, 2 * 168, 18 * 168
#: Hours before a stretch that fill its windows and baselines.
_LEAD_HOURS = 38 * 24


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """Four weeks of history and the detectors fitted before them; ``start`` and ``stop`` are rows."""

    start: int
    stop: int
    suite: Suite


def stretches(hours: Ints, values: Floats) -> list[Stretch]:
    """Return the stretches of a history, their detectors without the exact rules."""
    found = []
    for start in range(FIRST_HOURS, len(hours), REFIT_HOURS):
        known = slice(0, start - GUARD_HOURS)
        suite = build(relations.fit(hours[known], values[known]), Limits.unit())
        statistical = tuple(detector for detector in suite.detectors if not detector.cells[0].exact)
        suite = Suite(suite.relations, suite.limits, statistical)
        found.append(Stretch(start, min(start + REFIT_HOURS, len(hours)), suite))
    return found


def statistics(parts: list[Stretch], hours: Ints, values: Floats, wrong: frozenset[str] = frozenset()) -> Floats:
    """Return the statistics of all stretches, ``(n, cells)``, judged while the columns ``wrong`` are known to be."""
    out = []
    for part in parts:
        begin = max(part.start - _LEAD_HOURS, 0)
        found = statistics_of(part.suite, hours[begin : part.stop], values[begin : part.stop], wrong)
        out.append(found[part.start - begin :])
    return np.concatenate(out)


def beside(parts: list[Stretch], hours: Ints, values: Floats) -> list[Floats]:
    """Return the statistics while each node in turn is known to be wrong."""
    return [statistics(parts, hours, values, frozenset({column})) for column in NODE_COLUMNS]
