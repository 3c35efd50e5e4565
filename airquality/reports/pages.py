"""The pages: report, index, a station's month, one window of all stations. Jinja2 templates, everything escaped.

Text in, text out: a report is described by its sidecar, the JSON document beside it, and every page is made from sidecars,
so what the index says is what the report says. Style and plots are in the page; nothing is fetched, nothing runs.
"""

from __future__ import annotations

import functools
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from airquality.monitoring.calibration import STALE_HOURS, SmallestShift
from airquality.monitoring.promise import Promise
from airquality.network.current import NETWORK
from airquality.records import hour_of, isoformat
from airquality.reports import assured, figures
from airquality.reports.document import Sidecar
from airquality.reports.findings import Finding
from airquality.reports.folder import Entry, folder_name
from airquality.reports.overview import Cell, Overview, Station
from airquality.reports.paths import INDEX, evidence_page, link, month_page, prediction_page, window_page
from airquality.reports.plots import Band, Line, clock_plot, described, profile_plot

_TEMPLATES = Path(__file__).with_name("templates")
_TARGET, _UNIT = NETWORK.target.spoken, NETWORK.target.unit


@dataclass(frozen=True, slots=True)
class Nav:
    """Where a report's links lead; ``before`` and ``after`` are None where there is no such report."""

    index: str
    before: str | None
    after: str | None
    window: str
    history: str
    evidence: str

    def to(self, target: str) -> str:
        """Return the link to another page of the reports folder."""
        return self.index.removesuffix(INDEX) + link(INDEX, target)

    @classmethod
    def of(cls, page: str, entry: Entry, before: Entry | None, after: Entry | None) -> Nav:
        """Return the links of the report at ``page``, given its neighbours."""
        return cls(
            index=link(page, INDEX),
            before=link(page, before.path) if before and before.path else None,
            after=link(page, after.path) if after and after.path else None,
            window=link(page, window_page(entry.kind, entry.end)),
            history=link(page, month_page(entry.name, entry.end)),
            evidence=link(page, evidence_page(page)),
        )


def worst_hour(document: Sidecar) -> str | None:
    """Return the ISO hour of a window's largest error, None where no truth is known."""
    series = document["series"]
    errors = [
        (abs(predicted - measured), -index)
        for index, (measured, predicted) in enumerate(zip(series["measured"], series["predicted"], strict=True))
        if measured is not None and predicted is not None
    ]
    if not errors:
        return None
    return (datetime.fromisoformat(document["start"]) - timedelta(hours=max(errors)[1])).isoformat()


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
        return _target_plot(self.start, self.measured, self.predicted)


def report(document: Sidecar, nav: Nav | None, embedded: str | None = None) -> str:
    """Return the page of one window.

    Args:
        document: Its sidecar.
        nav: Its links; None for a page that stands alone.
        embedded: Evidently's page, for a page that holds it inside.
    """
    columns = [*document["columns"], document["prediction"]]
    findings = [Finding.from_json(fields) for fields in document["findings"]]
    worst = worst_hour(document)
    explained = prediction_page(folder_name(document["station_id"]), worst) if worst else None
    return _page(
        "report.html",
        title=f"{document['kind'].capitalize()} report of {document['station_id']}, {figures.moment(document['end'])}",
        simulated="simulated" in (document["rows_source"], document["judge_source"]),
        report=document,
        nav=nav,
        embedded=embedded,
        findings=findings,
        sentence=_verdict(document, findings),
        worst=worst,
        explained=nav.to(explained) if nav and explained else None,
        error_sentence=_error(document),
        learning=learning_of(document),
        drifted=[column for column in columns if column["drifted"]],
        steady=[column for column in columns if not column["drifted"]],
        plot=_target_plot(
            document["start"], document["series"]["measured"], document["series"]["predicted"], _band(document["series"])
        ),
        assured=list(assured.sentences(document)),
        error_lines=assured.error_lines(document),
        coverage_lines=assured.coverage_lines(document),
    )


def _band(series: Mapping[str, Sequence[float | None]]) -> Band | None:
    """Return the interval of each hour, None where there is none in the window."""
    low, high = series.get("lower", ()), series.get("upper", ())
    return Band("90 % interval", low, high) if any(value is not None for value in low) else None


def _verdict(document: Sidecar, findings: Sequence[Finding]) -> str:
    if findings:
        return "; ".join(finding.sentence() for finding in findings[:2]) + _more(len(findings) - 2)
    if document["state"] == "not judged":
        return "Not judged: too few values in any column"
    return "All is well: nothing found in this window"


def _more(count: int) -> str:
    return f"; and {count} more" if count > 0 else ""


def _error(document: Sidecar) -> str:
    performance, allowed = document["performance"], figures.measured(document["rmse_threshold"], _UNIT)
    if not document["error_judged"]:
        return f"The error is not judged: {performance['n']} measured {_TARGET} in this window are too few."
    rmse, normal = figures.measured(performance["rmse"], _UNIT), figures.measured(document["baseline"]["rmse"], _UNIT)
    verdict = "as expected" if performance["rmse"] <= document["rmse_threshold"] else "too large"
    return f"RMSE {rmse} over {performance['n']} measured hours: {verdict} (normally {normal}, allowed {allowed})."


def _target_plot(
    start: str, measured: Sequence[float | None], predicted: Sequence[float | None], band: Band | None = None
) -> Markup:
    lines = [
        Line(f"measured {_TARGET}", "measured", measured),
        Line(f"predicted {_TARGET}", "predicted", predicted),
    ]
    return clock_plot(f"{_TARGET} by hour: {described(lines, _UNIT)}", _UNIT, start, lines, band)


def index(
    seen: Overview, cards: Sequence[Card], plots: Sequence[WeekPlot], newest: Sequence[Entry], n_entries: int,
    *, written: datetime, waiting: int, n_listed: int, promise: Promise | None,
) -> str:  # fmt: skip
    """Return the index.

    Args:
        seen: All stations, worst first.
        cards: The first of them in full.
        plots: Their last week.
        newest: The newest windows, newest first, out of ``n_entries``.
        n_entries: How many windows there are.
        written: UTC.
        waiting: Reports that are still to be made.
        n_listed: How many further stations are listed, one line each.
        promise: What the hour-by-hour detectors would see, at which rate of false alarms; None where it is not known.
    """
    others = seen.stations[len(cards) :]
    return _page(
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
        waiting=waiting,
        promise=promise,
        sights=[] if promise is None else sights(promise),
    )


def learning_of(document: Sidecar) -> list[tuple[str, str]]:
    """Return the columns that are still learned and the day from which they can be judged, the earliest first."""
    by_day: dict[str, list[str]] = {}
    for column, until in sorted(document["learning"].items(), key=lambda item: item[1]):
        by_day.setdefault(figures.moment(until), []).append(column)
    return [(", ".join(sorted(columns)), until) for until, columns in by_day.items()]


def sights(promise: Promise) -> list[tuple[str, str, str]]:
    """Return by column what would be seen of it within a day and within a week, in words."""
    found = [(column, promise.within(column)) for column in promise.smallest or {}]
    return [(column, _sight(soon), _sight(late)) for column, (soon, late) in found]


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
    return _page(
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
    return _page(
        "window.html",
        title=f"{entries[0].kind.capitalize()} windows up to {figures.moment(entries[0].end)}",
        simulated=any("simulated" in (e.document["rows_source"], e.document["judge_source"]) for e in entries),
        kind=entries[0].kind,
        end=entries[0].end,
        n_stations=len(entries),
        rows=[Row(entry) for entry in worst_first[:n_listed]],
        here=here,
    )


def prediction(here: str, document: Mapping[str, Any]) -> str:
    """Return the page at ``here`` of one explained prediction: ``document`` is what ``replay --json`` prints of it."""
    return _page(
        "prediction.html",
        title=f"{_TARGET} predicted for {document['station_id']}, {figures.moment(document['DateTime'])}",
        simulated=document["data_source"] == "simulated",
        index=link(here, INDEX),
        made=document,
    )


def _weight(entry: Entry) -> float:
    return max((finding.weight for finding in entry.findings), default=0.0)


# ---- templates ----


def _page(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(**values)


@functools.lru_cache(maxsize=1)
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters.update(
        figure=figures.figure,
        measured=figures.measured,
        signed=figures.signed,
        p_value=figures.p_value,
        share=figures.share,
        moment=figures.moment,
        day=figures.day,
        shell=shlex.quote,
        css=lambda state: state.replace(" ", "-"),
        change=_change,
        hour=lambda hour: figures.moment(isoformat(hour)),
        age=_age,
        profile_plot=_profile,
    )
    made.globals.update(target=_TARGET, unit=_UNIT, link=link, style=Markup((_TEMPLATES / "pages.css").read_text()))
    return made


def _age(end: str, promise: Promise) -> str:
    """Say how old the thresholds are at the end of a window, in words."""
    hour = hour_of(datetime.fromisoformat(end))
    weeks = promise.age_hours(hour) / 168
    stale = f": older than {STALE_HOURS // 168} weeks, make them anew" if promise.is_stale(hour) else ""
    return f"thresholds {weeks:.1f} weeks old{stale}" if weeks < 100 else f"thresholds {weeks:,.0f} weeks old{stale}"


def _change(column: Mapping[str, Any]) -> str:
    """Say how far the median is from normal, with the direction."""
    now, normal, unit = column["median"], column["normal"], column["unit"]
    if now is None or normal is None:
        return "–"
    arrow = "▲" if now > normal else "▼" if now < normal else ""
    if unit in ("°C", "%") or normal <= 0:
        return f"{arrow} {figures.signed(now - normal, 'points' if unit == '%' else unit)}".strip()
    return f"{arrow} {figures.signed(100 * (now / normal - 1), '%')}".strip()


def _profile(column: Mapping[str, Any]) -> Markup:
    profile, unit = column["profile"], column["unit"]
    lines = [Line("this window", "now", profile["now"]), Line("normal", "usual", profile["normal"])]
    band = Band("8 of 10 normal hours", profile["low"], profile["high"])
    return profile_plot(f"By hour of the day: {described(lines, unit)}", unit, lines, band)
