"""What the index says: of each station its state, findings, effect and days, worst station first.

Made of the heads of sidecars alone, so that it costs the same however long the history is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from airquality.network.current import NETWORK
from airquality.reports.figures import day, measured, moment
from airquality.reports.findings import STATION, Finding
from airquality.reports.folder import Entry, ReportsFolder
from airquality.reports.paths import month_page

State = Literal["ok", "alarm", "silent", "not judged"]

#: Days of a strip.
STRIP_DAYS = 60
#: Stations that are shown in full; the others are one line each.
FULL_STATIONS = 8
LISTED_STATIONS = 150
#: A station behind the newest by more than this is silent, where data come in as they are measured.
_LATE = timedelta(hours=36)
#: Where the newest hour lies within this of the clock, data come in as they are measured; else an old file is replayed.
_LIVE = timedelta(days=3)
_DAY = timedelta(hours=24)
_TARGET, _UNIT = NETWORK.target.spoken, NETWORK.target.unit


@dataclass(frozen=True, slots=True)
class Cell:
    """One day of a strip; ``href`` is empty where there is no report."""

    label: str
    state: State
    href: str


@dataclass(frozen=True, slots=True)
class Station:
    """What the index shows of one station.

    ``findings`` are those of the last day, ``weekly`` those of the last whole week that the day does not have: a fault that
    shows on most days only, and not on the last one, has not gone.
    """

    station_id: str
    state: State
    findings: tuple[Finding, ...]
    effect: str
    last_hour: str
    days: str
    weekly: tuple[Finding, ...]
    latest: Entry
    history: str

    @property
    def needs_attention(self) -> bool:
        """Whether somebody has to look."""
        return bool(self.findings or self.weekly)

    @property
    def weight(self) -> float:
        """How bad the worst finding is; 0 if there is none."""
        return max((finding.weight for finding in (*self.findings, *self.weekly)), default=0.0)


@dataclass(frozen=True, slots=True)
class Overview:
    """All stations, worst first, and the facts that say how fresh this is."""

    stations: Sequence[Station]
    last_hour: str
    model_version: str
    judged_by: str
    simulated: bool
    live: bool

    @property
    def attention(self) -> int:
        """How many stations need attention."""
        return sum(station.needs_attention for station in self.stations)

    @property
    def sentence(self) -> str:
        """The first thing a reader sees."""
        total = len(self.stations)
        if not total:
            return "No window has closed yet"
        if self.attention:
            return f"{self.attention} of {total} station{'s' * (total > 1)} need{'s' * (self.attention == 1)} attention"
        unjudged = sum(station.state == "not judged" for station in self.stations)
        return f"Nothing found; {unjudged} of {total} could not be judged" if unjudged else "All is well"


def overview(folder: ReportsFolder, now: datetime) -> Overview:
    """Return what the index says at ``now``: naive UTC, which only tells live data from the replay of an old file."""
    latest = [entry for station_id in folder.stations() if (entry := _latest(folder, station_id)) is not None]
    newest = max(latest, key=lambda entry: entry.end, default=None)
    live = newest is not None and abs(now - datetime.fromisoformat(newest.end)) < _LIVE
    until = newest.end if newest is not None and live else ""
    stations = sorted((_station(folder, entry, until) for entry in latest), key=_worst_first)
    sources = {source for entry in latest for source in (entry.document["rows_source"], entry.document["judge_source"])}
    return Overview(
        stations=stations,
        last_hour=moment(newest.end) if newest else "",
        model_version=str(newest.document["model_version"]) if newest else "",
        judged_by=str(newest.document["judged_by"]) if newest else "",
        simulated="simulated" in sources,
        live=live,
    )


def _latest(folder: ReportsFolder, station_id: str) -> Entry | None:
    return next((entries[-1] for kind in ("daily", "weekly") if (entries := folder.of(station_id, kind, 1))), None)


def _worst_first(station: Station) -> tuple[bool, float, bool, str]:
    return not station.needs_attention, -station.weight, station.state == "ok", station.station_id


def _station(folder: ReportsFolder, latest: Entry, until: str) -> Station:
    findings = list(latest.findings)
    late = _late(latest, until)
    if late:
        findings.insert(0, late)
    weeks = folder.of(latest.station_id, "weekly", 1)
    known = {finding.key for finding in findings}
    weekly = tuple(finding for finding in weeks[-1].findings if finding.key not in known) if weeks else ()
    n_days, n_clean = _counted(folder, latest.station_id)
    return Station(
        station_id=latest.station_id,
        state="silent" if late else latest.document["state"],
        findings=tuple(findings),
        effect=effect(latest, weeks[-1] if weeks else None, wrong=bool(findings or weekly)),
        last_hour=moment(latest.end),
        days=f"{n_clean} of the last {n_days} days clean",
        weekly=weekly,
        latest=latest,
        history=month_page(latest.name, latest.end),
    )


def _counted(folder: ReportsFolder, station_id: str) -> tuple[int, int]:
    states = [entry.document["state"] for entry in folder.of(station_id, "daily", STRIP_DAYS)]
    return len(states), states.count("ok")


def _late(latest: Entry, until: str) -> Finding | None:
    """Return the finding that a station stays away, where others go on."""
    if not until or (behind := datetime.fromisoformat(until) - datetime.fromisoformat(latest.end)) < _LATE:
        return None
    advice = "Check the station's power and line, and whether its rows reach the raw topic."
    what = f"sent no rows for {behind / timedelta(hours=1):.0f} h while others do"
    return Finding("no_rows", STATION, what, None, "h", "", latest.end, advice, 5.0)


def effect(latest: Entry, week: Entry | None, *, wrong: bool) -> str:
    """Say in words what the state of things does to the error of the target."""
    document, span = latest.document, "on the last day"
    if not document["error_judged"] and week is not None and week.document["error_judged"]:
        document, span = week.document, "in the last week"
    n_truths = document["performance"]["n"]
    if not document["error_judged"]:
        return f"{_TARGET} error not judged: {n_truths} measured value{'s' * (n_truths != 1)} on the last day are too few"
    rmse, allowed = document["performance"]["rmse"], document["rmse_threshold"]
    usable = "predictions still usable" if wrong else "as expected"
    verdict = usable if rmse <= allowed else "do not rely on the predictions"
    normal = measured(document["baseline"]["rmse"], _UNIT)
    return (
        f"{_TARGET} error {measured(rmse, _UNIT)} {span}, normally {normal}, allowed {measured(allowed, _UNIT)}: {verdict}"
    )


def strip(folder: ReportsFolder, station: Station, until: str = "") -> list[Cell]:
    """Return the last :data:`STRIP_DAYS` days of a station, oldest first; a day without a report was silent."""
    entries = folder.of(station.station_id, "daily", STRIP_DAYS)
    if not entries:
        return []
    last = max(datetime.fromisoformat(entries[-1].end), datetime.fromisoformat(until or entries[-1].end))
    by_day = {(last - datetime.fromisoformat(entry.end)) // _DAY: entry for entry in entries}
    oldest = min(max(by_day), STRIP_DAYS - 1)
    return [_cell(by_day.get(back), last - back * _DAY) for back in range(oldest, -1, -1)]


def _cell(entry: Entry | None, end: datetime) -> Cell:
    if entry is None:
        return Cell(f"{day(end.isoformat())}: silent, no rows", "silent", "")
    state = "; ".join(finding.sentence() for finding in entry.findings) or entry.document["state"]
    return Cell(f"{day(entry.end)}: {state}", entry.document["state"], entry.path)
