"""The pages: report, index, a station's month, one window of all stations.

Text in, text out: a report is described by its sidecar, the JSON document beside it, and every page is made from sidecars,
so what the index says is what the report says. Style and plots are in the page; nothing is fetched, nothing runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from markupsafe import Markup

from airquality.monitoring.calibration import SmallestShift
from airquality.monitoring.promise import Promise
from airquality.reports import figures, sections
from airquality.reports.document import Sidecar
from airquality.reports.findings import Finding
from airquality.reports.folder import Entry
from airquality.reports.nav import Nav
from airquality.reports.overview import Cell, Overview, Station
from airquality.reports.rendering import page
from airquality.reports.sections import Shown
from airquality.reports.sections.learning import learning_of
from airquality.reports.target_plot import target_plot


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a table of windows: a report, or a ``day`` without one."""

    entry: Entry | None
    day: str = ""

    @property
    def expected(self) -> float | None:
        """The error that is expected, while too little of the window's truth is in; None afterwards."""
        if self.entry is None or self.entry.document["error_judged"]:
            return None
        return self.entry.document.get("estimated_rmse")

    @property
    def found(self) -> str:
        """What was found, in words."""
        if self.entry is None:
            return ""
        return "; ".join(finding.sentence() for finding in self.entry.findings) or "nothing"


@dataclass(frozen=True, slots=True)
class Card:
    """A station on the index, with its strip of days."""

    station: Station
    cells: Sequence[Cell]

    @property
    def headline(self) -> str:
        """What is wrong, in a few words."""
        columns = list(dict.fromkeys(finding.column for finding in (*self.station.findings, *self.station.weekly)))
        return ", ".join(columns[:2]) + (f" and {len(columns) - 2} more" if len(columns) > 2 else "")

    @property
    def learning(self) -> list[tuple[str, str]]:
        """What the station still learns: the columns, and the day from which they can be judged."""
        return learning_of(self.station.latest.document)

    @property
    def first_day(self) -> str:
        """The label of the strip's first day."""
        return self.cells[0].label.partition(":")[0]

    @property
    def last_day(self) -> str:
        """The label of the strip's last day."""
        return self.cells[-1].label.partition(":")[0]


@dataclass(frozen=True, slots=True)
class WeekPlot:
    """The last week of a station: the target, measured and predicted, by hour from ISO time ``start`` on."""

    station_id: str
    start: str
    measured: Sequence[float | None]
    predicted: Sequence[float | None]

    @property
    def span(self) -> str:
        """The first and the last hour in words."""
        last = datetime.fromisoformat(self.start) + timedelta(hours=len(self.measured) - 1)
        return f"{figures.moment(self.start)} to {figures.moment(last.isoformat())}, station time"

    @property
    def svg(self) -> Markup:
        """The plot."""
        return target_plot(self.start, self.measured, self.predicted)


def report(document: Sidecar, nav: Nav | None, embedded: str | None = None) -> str:
    """Return the page of one window.

    Args:
        document: Its sidecar.
        nav: Its links; None for a page without others beside it.
        embedded: Evidently's page, for a page that holds it inside.

    Raises:
        ValueError: the document is no whole sidecar of this release.
    """
    try:
        return _report(document, nav, embedded)
    except (LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise ValueError(f"no whole report, {type(error).__name__}: {error}") from error


def _report(document: Sidecar, nav: Nav | None, embedded: str | None) -> str:
    findings = [Finding.from_json(fields) for fields in document["findings"]]
    return page(
        "report.html",
        title=f"{document['kind'].capitalize()} report of {document['station_id']}, {figures.moment(document['end'])}",
        simulated="simulated" in (document["rows_source"], document["judge_source"]),
        report=document,
        nav=nav,
        alarmed=bool(findings),
        sentence=_verdict(document, findings),
        sections=sections.rendered(Shown(document, nav, embedded)),
    )


def _verdict(document: Sidecar, findings: Sequence[Finding]) -> str:
    if findings:
        return "; ".join(finding.sentence() for finding in findings[:2]) + _more(len(findings) - 2)
    if document["state"] == "not judged":
        return "Not judged: too few values in any column"
    return "All is well: nothing found in this window"


def _more(count: int) -> str:
    return f"; and {count} more" if count > 0 else ""


def index(
    seen: Overview, cards: Sequence[Card], plots: Sequence[WeekPlot], newest: Sequence[Entry], n_entries: int,
    *, written: datetime, pages_due: int, evidence_due: int, n_listed: int, promise: Promise | None,
) -> str:  # fmt: skip
    """Return the index.

    Args:
        seen: All stations, worst first.
        cards: The first of them in full.
        plots: Their last week.
        newest: The newest windows, newest first, out of ``n_entries``.
        n_entries: How many windows there are.
        written: UTC.
        pages_due: Pages that are still to be written.
        evidence_due: Evidently's parts that are still to be made.
        n_listed: How many further stations are listed, one line each.
        promise: What the hour-by-hour detectors would see, at which rate of false alarms; None where it is not known.
    """
    others = seen.stations[len(cards) :]
    return page(
        "index.html",
        title=f"{seen.sentence} · air quality monitoring",
        simulated=seen.simulated,
        overview=seen,
        cards=cards,
        others=others[:n_listed],
        unlisted=max(len(others) - n_listed, 0),
        plots=plots,
        rows=[Row(entry) for entry in newest],
        n_older=n_entries - len(newest),
        written=f"{written:%Y-%m-%d %H:%M:%S}",
        pages_due=pages_due,
        evidence_due=evidence_due,
        promise=promise,
        sights=[] if promise is None else sights(promise),
    )


def sights(promise: Promise) -> list[tuple[str, str, str]]:
    """Return by column what would be seen of it within a day and within a week, in words."""
    shifts = [(column, promise.within(column)) for column in promise.smallest or {}]
    return [(column, _sight(soon), _sight(late)) for column, (soon, late) in shifts]


def _sight(shift: SmallestShift | None) -> str:
    if shift is None:
        return "–"
    later = f" (after {shift.hours} h)" if shift.hours not in (24, 168) else ""
    unit = "°C" if shift.unit == "degC" else shift.unit
    up, down = (f"{size:+.0f}" if abs(size) >= 9.95 else f"{size:+.1f}" for size in (shift.up, shift.down))
    return f"{up} / {down} {unit}{later}".replace("-", "−")


def month(here: str, entries: Sequence[Entry], before: str | None, after: str | None) -> str:
    """Return the page at ``here`` of one station's windows of one month, newest first, silent days included.

    Args:
        here: The page.
        entries: The month's reports, at least one, in any order.
        before: The page of the month before that has one, None if there is none.
        after: The page of the month after.
    """
    newest_first = sorted(entries, key=lambda entry: (entry.end, entry.kind), reverse=True)
    days = [entry for entry in newest_first if entry.kind == "daily"]
    alarms = sum(entry.document["state"] == "alarm" for entry in days)
    document = newest_first[0].document
    return page(
        "month.html",
        title=f"{document['station_id']}, {document['end'][:7]}",
        simulated="simulated" in (document["rows_source"], document["judge_source"]),
        station_id=document["station_id"],
        month=document["end"][:7],
        counted=f"{len(days)} days reported, {alarms} with an alarm",
        rows=_with_silent_days(newest_first),
        here=here,
        before=before,
        after=after,
    )


def _with_silent_days(newest_first: Sequence[Entry]) -> list[Row]:
    rows: list[Row] = []
    later: datetime | None = None
    for entry in newest_first:
        if entry.kind == "daily":
            at = datetime.fromisoformat(entry.end)
            gap = 0 if later is None else (later - at) // timedelta(hours=24) - 1
            rows += [Row(None, figures.moment((at + timedelta(days=back)).isoformat())) for back in range(gap, 0, -1)]
            later = at
        rows.append(Row(entry))
    return rows


def window(here: str, entries: Sequence[Entry], n_listed: int) -> str:
    """Return the page at ``here`` of all stations' reports of one window, worst first, at most ``n_listed`` of them."""
    worst_first = sorted(
        entries, key=lambda entry: (-max((f.weight for f in entry.findings), default=0.0), entry.station_id)
    )
    return page(
        "window.html",
        title=f"{entries[0].kind.capitalize()} windows up to {figures.moment(entries[0].end)}",
        simulated=any("simulated" in (e.document["rows_source"], e.document["judge_source"]) for e in entries),
        kind=entries[0].kind,
        end=entries[0].end,
        n_stations=len(entries),
        rows=[Row(entry) for entry in worst_first[:n_listed]],
        here=here,
    )
