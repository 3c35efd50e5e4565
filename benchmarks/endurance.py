"""A million rows through one consumer: whether its memory stays where it is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.figures import Figure
from benchmarks.replay import product, rates
from benchmarks.sections import Bench, Outcome, section
from benchmarks.topics import Topics

_STATIONS = 50
#: The beginning is left out: caches fill, the stations' windows do.
_SETTLING = 0.2


@section("endurance", place=11, minutes=5, quick=False)
def endurance(bench: Bench) -> Outcome:
    """One consumer, 50 stations, 1,000,000 rows, once: how much its memory grows, and its rate at both ends."""
    topics = Topics(bench.ground)
    n_hours = bench.scaled(20_000, 400)
    n_rows = n_hours * _STATIONS
    found = product(bench, topics.around(topics.raw(_STATIONS, n_hours), 1, _STATIONS), n_rows, _STATIONS)
    commits = working(found["commits"])
    return Outcome(
        {
            "growth, by too few rows" if bench.quick else "growth": Figure(
                "MB", (growth([c[1] for c in commits], [c[3] for c in commits], n_rows),)
            ),
            "memory at the end": Figure("MB", (found["memory_mb"],)),
            "rows a second": Figure("rows/s", (rates(found, n_rows)["rows/s"],)),
            "rows a second, first and last tenth": Figure("rows/s", (_tenth(commits, 0), _tenth(commits, 9))),
        },
        remark="growth is the slope of resident memory after the first fifth, times 1,000,000 rows",
    )


def working(commits: Sequence[Sequence[float]]) -> Sequence[Sequence[float]]:
    """Return the commits from the first with predictions to the first that has all, without what the end writes.

    >>> working([(1.0, 0), (2.0, 500), (3.0, 1000), (7.0, 1000)])
    [(2.0, 500), (3.0, 1000)]
    """
    last = commits[-1][1]
    all_done = next(index for index, commit in enumerate(commits) if commit[1] == last)
    return [commit for commit in commits[: all_done + 1] if commit[1]]


def growth(rows: Sequence[float], megabytes: Sequence[float], n_rows: int) -> float:
    """Return by how many MB a million rows make the memory grow, from what was seen after the settling.

    >>> round(growth(range(0, 1000, 10), [100.0 + n / 1000 for n in range(0, 1000, 10)], 1000))
    1000
    """
    later = [index for index, done in enumerate(rows) if done >= n_rows * _SETTLING]
    slope = np.polyfit([rows[index] for index in later], [megabytes[index] for index in later], 1)[0]
    return float(slope) * 1e6


def _tenth(commits: Sequence[Sequence[float]], number: int) -> float:
    last = commits[-1][1]
    within = [c for c in commits if number * last / 10 <= c[1] <= (number + 1) * last / 10]
    return (within[-1][1] - within[0][1]) / (within[-1][0] - within[0][0])
