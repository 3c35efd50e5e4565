"""A long catch-up with its reports: when its rows are predicted, when its reports are made, what they take on disk."""

from __future__ import annotations

import time
from pathlib import Path

from airquality.ground.errors import ContractError
from airquality.truth.kinds import DAILY, WEEKLY, WindowKind
from benchmarks.figures import Figure
from benchmarks.replay import STATIONS, product
from benchmarks.sections import Bench, Outcome, section
from benchmarks.topics import Topics

#: A run ends by itself once nothing has come for so long and every report is made.
_IDLE_SECONDS = 3.0


@section("catchup", place=13, minutes=20, quick=False, alone=True)
def catchup(bench: Bench) -> Outcome:
    """50,000 rows of 4 stations with every report made, once: seconds until predicted, until reported, MB on disk."""
    topics = Topics(bench.ground)
    n_hours = bench.scaled(12_500, 500)
    n_rows = n_hours * STATIONS
    settings = topics.around(topics.raw(STATIONS, n_hours), 1, STATIONS)
    settings = settings.model_copy(update={"reports_dir": bench.ground.directory / "catchup-reports"})
    found = product(bench, settings, n_rows, STATIONS, idle_seconds=_IDLE_SECONDS, reports=True)
    ended = time.perf_counter()  # the same clock as that of the consumer: monotonic, of the machine
    predicted = next(commit[0] for commit in found["commits"] if commit[1] >= n_rows) - found["began"]
    pages = {kind.name: reports_made(settings.reports_dir, kind, n_hours) for kind in (DAILY, WEEKLY)}
    return Outcome(
        {
            "predicted": Figure("s", (predicted,)),
            "predicted and every report made": Figure("s", (ended - found["began"],)),
            **{f"{name} reports": Figure("", (float(n_made),)) for name, n_made in pages.items()},
            "reports on disk": Figure("MB", (_megabytes(settings.reports_dir),)),
        },
        remark=f"{n_rows:,} rows of {STATIONS} stations; every window that closed has its page and Evidently's part of it",
    )


def reports_made(folder: Path, kind: WindowKind, n_hours: int) -> int:
    """Return how many windows of a kind have both pages.

    Raises:
        ContractError: a page is missing: of each station every window closes in so many hours, and one more where the past
            had begun it.
    """
    pages, evidence = (len(list(place.rglob(f"{kind.name}_*.html"))) for place in (folder / kind.name, folder / "evidently"))
    closed = STATIONS * (n_hours // kind.hours)
    if evidence != pages or not closed <= pages <= closed + STATIONS:
        raise ContractError(
            f"{closed} {kind.name} windows closed at least, but there are {pages} pages, {evidence} of Evidently"
        )
    return pages


def _megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20
