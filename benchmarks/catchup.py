"""A long catch-up with its reports: when its rows are predicted, when its reports are made, what they take on disk."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from airquality.ground.errors import ContractError
from airquality.ground.settings import Settings
from airquality.truth.kinds import DAILY, WEEKLY, WindowKind
from benchmarks.figures import Figure
from benchmarks.replay import STATIONS, product, rates
from benchmarks.sections import Bench, Outcome, section
from benchmarks.topics import Topics

#: A run ends by itself once nothing has come for so long and every report is made.
_IDLE_SECONDS = 3.0
#: Hours of the catch-up, and of the part of it whose reports are made: all of them take half an hour.
_HOURS, _REPORTED_HOURS = (12_500, 1_000), (500, 200)


@dataclass(frozen=True)
class Reported:
    """A catch-up all of whose reports were made: how many, in how many seconds after its last prediction, how large."""

    n_daily: int
    n_weekly: int
    seconds: float
    megabytes: float

    @property
    def n_reports(self) -> int:
        """Reports of both kinds."""
        return self.n_daily + self.n_weekly


@section("catchup", place=13, minutes=3, quick=False)
def catchup(bench: Bench) -> Outcome:
    """50,000 rows of 4 stations: seconds until predicted; every report of 2,000 of them, and what all would take."""
    topics = Topics(bench.ground)
    n_hours, reported_hours = bench.scaled(*_HOURS), bench.scaled(*_REPORTED_HOURS)
    predicted = _predicted(bench, topics, n_hours)
    reported = _reported(bench, topics, reported_hours)
    n_reports = sum(STATIONS * (n_hours // kind.hours) for kind in (DAILY, WEEKLY))
    return Outcome(
        {
            f"{n_hours * STATIONS:,} rows: predicted": Figure("s", (predicted,)),
            f"{reported_hours * STATIONS:,} rows: daily reports": Figure("", (float(reported.n_daily),)),
            f"{reported_hours * STATIONS:,} rows: weekly reports": Figure("", (float(reported.n_weekly),)),
            f"{reported_hours * STATIONS:,} rows: s a report": Figure("s", (reported.seconds / reported.n_reports,)),
            **_extrapolated(n_hours * STATIONS, n_reports, predicted, reported),
        },
        remark=f"once; every window of the {reported_hours * STATIONS:,} rows has its page and Evidently's part of it; what "
        f"{n_reports:,} reports take is extrapolated from these",
    )


def _extrapolated(n_rows: int, n_reports: int, predicted: float, reported: Reported) -> dict[str, Figure]:
    share = n_reports / reported.n_reports
    return {
        f"{n_rows:,} rows: predicted and reported, extrapolated": Figure("s", (predicted + share * reported.seconds,)),
        f"{n_rows:,} rows: reports on disk, extrapolated": Figure("MB", (share * reported.megabytes,)),
    }


def _predicted(bench: Bench, topics: Topics, n_hours: int) -> float:
    """Return the seconds until every row is predicted, while reports are made beside; it is stopped then."""
    n_rows = n_hours * STATIONS
    found = product(bench, _around(bench, topics, n_hours), n_rows, STATIONS, reports=True)
    return n_rows / rates(found, n_rows)["rows/s"]


def _reported(bench: Bench, topics: Topics, n_hours: int) -> Reported:
    settings, n_rows = _around(bench, topics, n_hours), n_hours * STATIONS
    found = product(bench, settings, n_rows, STATIONS, idle_seconds=_IDLE_SECONDS, reports=True)
    ended = time.perf_counter()  # the same clock as that of the consumer: monotonic, of the machine
    predicted = next(commit[0] for commit in found["commits"] if commit[1] >= n_rows)
    n_daily, n_weekly = (reports_made(settings.reports_dir, kind, n_hours) for kind in (DAILY, WEEKLY))
    return Reported(n_daily, n_weekly, ended - predicted, _megabytes(settings.reports_dir))


def _around(bench: Bench, topics: Topics, n_hours: int) -> Settings:
    settings = topics.around(topics.raw(STATIONS, n_hours), 1, STATIONS)
    return settings.model_copy(update={"reports_dir": bench.ground.directory / settings.pred_topic})


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
