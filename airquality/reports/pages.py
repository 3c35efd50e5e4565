"""The pages around the plots: the header block of a report and the index of all windows, as plain HTML without assets.

Text in, text out. A report is described by its *sidecar*, the JSON document that lies beside the HTML file; both pages
are made from it, so what the index says is what the report says.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from airquality.monitoring.drift import KINDS, Calibration, Distance, Performance, Threshold, Window
from airquality.records import isoformat
from airquality.reports.folder import LAYOUT, Entry

Sidecar = Mapping[str, Any]

#: The index lists this many windows.
INDEX_ROWS = 400
_CHART_WINDOWS = 120
_CHART_WIDTH, _CHART_HEIGHT = 1130.0, 130.0


# ---- the sidecar ----


def sidecar(
    window: Window,
    calibration: Calibration,
    ks_p_values: Mapping[str, float],
    left_out: Sequence[tuple[str, str]],
    digest: str,
) -> dict[str, Any]:
    """Return the JSON document beside a report: what it is about, its verdict and figures; an undefined figure is null.

    Args:
        window: The judged window.
        calibration: What it was judged by.
        ks_p_values: By column, where the test could be made.
        left_out: (what, why) of everything the plots leave out.
        digest: Of all the report is made from; equal digests mean an equal report.
    """
    verdict, limits = window.verdict, calibration.kinds[window.kind.name]
    return {
        "layout": LAYOUT,
        "digest": digest,
        "station_id": window.station_id,
        "kind": window.kind.name,
        "start": isoformat(window.start_hour),
        "end": isoformat(window.end_hour),
        "hours": window.kind.hours,
        "predictions": len(window.predictions),
        "model_version": window.model_version,
        "data_source": calibration.data_source,
        "verdict": {
            "data_drift": verdict.data_drift,
            "prediction_drift": verdict.prediction_drift,
            "degraded": verdict.degraded,
            "too_few_truths": verdict.too_few_truths,
            "missing": list(verdict.missing),
            "all_silent": verdict.all_silent,
        },
        "drifted": [column.column for column in verdict.columns if column.drifted],
        "columns": [_distance(column, ks_p_values) for column in verdict.columns],
        "prediction": _distance(verdict.prediction, ks_p_values),
        "performance": _figures(verdict.performance),
        "baseline": _figures(calibration.baseline),
        "rmse_threshold": verdict.rmse_threshold,
        "thresholds": {
            "data drift": _provenance(limits.data),
            "prediction drift": _provenance(limits.prediction),
            "an error alarm": _provenance(limits.performance),
        },
        "left_out": [list(item) for item in left_out],
    }


def _distance(column: Distance, ks_p_values: Mapping[str, float]) -> dict[str, Any]:
    return {
        "column": column.column,
        "statistic": _or_null(column.statistic),
        "threshold": column.threshold,
        "drifted": column.drifted,
        "ks_p_value": _or_null(ks_p_values.get(column.column, math.nan)),
        "missing_share": column.missing_share,
    }


def _figures(performance: Performance) -> dict[str, float | None]:
    return {name: _or_null(figure) for name, figure in asdict(performance).items()}


def _provenance(threshold: Threshold) -> dict[str, Any]:
    return {name: getattr(threshold, name) for name in ("budget", "held_out_rate", "windows", "basis")}


def _or_null(figure: float) -> float | None:
    return None if math.isnan(figure) else figure


# ---- the header of a report ----


def header(document: Sidecar) -> str:
    """Return the HTML that stands above the plots of a report: what it is about, the verdict, and what was left out."""
    return (
        f"<style>{_style()}</style><div class='aq'>{_banner(document['data_source'])}"
        f"<h1>{escape(document['kind'].capitalize())} report · {escape(document['station_id'])}</h1>"
        f"{_facts(document)}{_cards(document)}{_distance_table(document)}{_error_table(document)}"
        f"{_left_out(document)}{_method(document)}<hr><p class='sub'>Drawn by Evidently, column by column. "
        "The green band is the reference, red is this window.</p></div>"
    )


@functools.lru_cache(maxsize=1)
def _style() -> str:
    return Path(__file__).with_suffix(".css").read_text()


def _banner(data_source: str) -> str:
    if data_source != "simulated":
        return ""
    return "<p class='simulated'>SIMULATED DATA: these are no real measurements</p>"


def _facts(document: Sidecar) -> str:
    facts = {
        "Window": f"{_moment(document['start'])} to {_moment(document['end'])}, both hours included",
        "Predictions": f"{document['predictions']} of {document['hours']} hours",
        "Model version": document["model_version"],
        "Data": document["data_source"],
    }
    items = "".join(f"<li><span>{name}</span>{escape(text)}</li>" for name, text in facts.items())
    return f"<ul class='facts'>{items}</ul>"


def _cards(document: Sidecar) -> str:
    cards = (_data_card(document), _prediction_card(document), _error_card(document), _silence_card(document))
    return f"<div class='cards'>{''.join(cards)}</div>"


def _card(state: str, title: str, text: str) -> str:
    return f"<div class='card {state}'><b>{escape(title)}</b><span>{escape(text)}</span></div>"


def _data_card(document: Sidecar) -> str:
    columns = document["columns"]
    judged = [column for column in columns if column["statistic"] is not None]
    if document["verdict"]["data_drift"]:
        return _card("bad", "Data drift", ", ".join(_drifted_columns(document)))
    if not judged:
        return _card("", "Data drift not judged", "no column has values enough")
    return _card("ok", "No data drift", f"{len(judged)} of {len(columns)} columns judged")


def _prediction_card(document: Sidecar) -> str:
    prediction = document["prediction"]
    if prediction["statistic"] is None:
        return _card("", "Prediction drift not judged", f"{document['predictions']} predictions are too few")
    text = f"distance {_figure(prediction['statistic'])} of {_figure(prediction['threshold'])} mg/m³ allowed"
    if prediction["drifted"]:
        return _card("bad", "Prediction drift", text)
    return _card("ok", "No prediction drift", text)


def _error_card(document: Sidecar) -> str:
    if document["verdict"]["too_few_truths"]:
        return _card("", "Error not judged", f"{document['performance']['n']} measured truths are too few")
    text = f"RMSE {_figure(document['performance']['rmse'])} of {_figure(document['rmse_threshold'])} mg/m³ allowed"
    if document["verdict"]["degraded"]:
        return _card("bad", "Error too large", text)
    return _card("ok", "Error as expected", text)


def _silence_card(document: Sidecar) -> str:
    if document["verdict"]["all_silent"]:
        return _card("bad", "Station silent", "no column reported in this window")
    if document["verdict"]["missing"]:
        return _card("bad", "Silent columns", ", ".join(document["verdict"]["missing"]))
    return _card("ok", "All columns report", "none silent for the whole window")


def _distance_table(document: Sidecar) -> str:
    rows = "".join(_distance_row(column) for column in (*document["columns"], document["prediction"]))
    return (
        "<h2>Distance to the reference</h2><div class='scroll'><table><tr><th>Column<th>Distance<th>Threshold"
        f"<th class='l'>Share of threshold<th class='l'>Verdict<th>KS p-value<th>Missing</tr>{rows}</table></div>"
    )


def _distance_row(column: Mapping[str, Any]) -> str:
    return (
        f"<tr class='{'bad' if column['drifted'] else ''}'><td>{escape(column['column'])}"
        f"<td>{_figure(column['statistic'])}<td>{_figure(column['threshold'])}"
        f"<td class='l'>{_share_of_threshold(column)}<td class='l'>{_distance_pill(column)}"
        f"<td>{p_value(column['ks_p_value'])}<td>{column['missing_share']:.0%}</tr>"
    )


def _share_of_threshold(column: Mapping[str, Any]) -> str:
    if column["statistic"] is None:
        return "–"
    share = column["statistic"] / column["threshold"]
    return f"<span class='bar'><i style='width:{min(share, 1.0):.0%}'></i></span> {share:.0%}"


def _distance_pill(column: Mapping[str, Any]) -> str:
    if column["statistic"] is None:
        return _pill("", "not judged")
    return _pill("bad", "drift") if column["drifted"] else _pill("ok", "no drift")


def _pill(state: str, text: str) -> str:
    return f"<span class='pill {state}'>{escape(text)}</span>"


def _error_table(document: Sidecar) -> str:
    return (
        "<h2>Error beside the baseline</h2><div class='scroll'><table><tr><th><th>RMSE mg/m³<th>MAE mg/m³<th>R²"
        "<th>Measured truths<th class='l'>Verdict</tr>"
        f"{_error_row('This window', document['performance'], _error_pill(document['verdict']))}"
        f"{_error_row('Baseline: the reference, out of sample', document['baseline'], '')}"
        f"<tr><td>Threshold<td>{_figure(document['rmse_threshold'])}<td><td><td><td></tr></table></div>"
    )


def _error_row(title: str, figures: Mapping[str, Any], pill: str) -> str:
    cells = "".join(f"<td>{_figure(figures[name])}" for name in ("rmse", "mae", "r2"))
    return f"<tr><td>{title}{cells}<td>{figures['n']}<td class='l'>{pill}</tr>"


def _error_pill(verdict: Mapping[str, Any]) -> str:
    if verdict["too_few_truths"]:
        return _pill("", "not judged")
    return _pill("bad", "too large") if verdict["degraded"] else _pill("ok", "as expected")


def _left_out(document: Sidecar) -> str:
    if not document["left_out"]:
        return ""
    items = "".join(f"<li><b>{escape(what)}</b>: {escape(why)}</li>" for what, why in document["left_out"])
    return f"<h2>Left out of the plots below</h2><ul class='plain'>{items}</ul>"


def _method(document: Sidecar) -> str:
    items = "".join(
        f"<li>{name}: at most {part['budget']:.1%} of {document['kind']} windows without known faults may raise it; "
        f"{part['held_out_rate']:.1%} of held-out ones did ({part['windows']} windows: {_unbroken(part['basis'])}).</li>"
        for name, part in document["thresholds"].items()
    )
    return (
        "<h2>How to read the verdicts</h2><div class='note'><p>The distance is Wasserstein's, in the column's own unit. "
        "A column with values in fewer than half of the hours is not judged. Thresholds are calibrated on history:</p>"
        f"<ul class='plain'>{items}</ul><p>The Kolmogorov-Smirnov p-value is evidence only: the hours of one day resemble "
        "each other, so it is small on most days on which nothing is wrong.</p></div>"
    )


def _unbroken(text: str) -> str:
    """Return ``text`` as HTML whose dates stay on one line."""
    return escape(text).replace("-", "&#8209;")


# ---- the index ----


def index(newest_first: Sequence[Entry], n_entries: int) -> str:
    """Return the page that lists the newest of ``n_entries`` windows, newest first."""
    simulated = any(entry.document["data_source"] == "simulated" for entry in newest_first)
    return (
        "<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width,initial-scale=1'><title>Monitoring reports</title>"
        f"<style>body{{margin:0}}{_style()}</style></head><body><div class='aq'>"
        f"{_banner('simulated' if simulated else '')}<h1>Monitoring reports</h1>{_index_facts(newest_first)}"
        f"{_charts(newest_first)}{_index_table(newest_first)}{_older(n_entries - len(newest_first))}</div></body></html>\n"
    )


def _index_facts(entries: Sequence[Entry]) -> str:
    if not entries:
        return "<p class='sub'>No window has closed yet.</p>"
    documents = [entry.document for entry in entries]
    stations = ", ".join(sorted({document["station_id"] for document in documents}))
    counts = "".join(_kind_facts(kind.name, [d for d in documents if d["kind"] == kind.name]) for kind in KINDS)
    return f"<ul class='facts'><li><span>Station</span>{escape(stations)}</li>{counts}</ul>"


def _kind_facts(kind: str, documents: Sequence[Sidecar]) -> str:
    drifted = sum(_is_drifted(document) for document in documents)
    degraded = sum(document["verdict"]["degraded"] for document in documents)
    text = f"{len(documents)} reports, {drifted} with drift, {degraded} with too large an error"
    return f"<li><span>{kind.capitalize()}</span>{text}</li>"


def _is_drifted(document: Sidecar) -> bool:
    return bool(document["verdict"]["data_drift"] or document["verdict"]["prediction_drift"])


def _drifted_columns(document: Sidecar) -> list[str]:
    return list(document["drifted"])


def _charts(entries: Sequence[Entry]) -> str:
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in reversed(entries):
        groups.setdefault((entry.document["station_id"], entry.document["kind"]), []).append(entry)
    return "".join(_chart(*key, group[-_CHART_WINDOWS:]) for key, group in sorted(groups.items()))


def _chart(station_id: str, kind: str, group: Sequence[Entry]) -> str:
    """Return one bar of RMSE per window, oldest left, with the latest baseline and threshold as lines."""
    latest = group[-1].document
    top = 1.12 * max(latest["rmse_threshold"], *(entry.document["performance"]["rmse"] or 0.0 for entry in group))
    step = _CHART_WIDTH / max(len(group), 14)
    bars = "".join(_bar(quote(e.path), e.document, number * step, step, top) for number, e in enumerate(group))
    return (
        f"<h2>RMSE per {kind} window · {escape(station_id)} <small>mg/m³, oldest left; a dot marks drift</small></h2>"
        f"<svg viewBox='0 -8 {_CHART_WIDTH:.0f} {_CHART_HEIGHT + 10:.0f}' width='100%' role='img'>{bars}"
        f"<line class='axis' x2='{_CHART_WIDTH}' y1='{_CHART_HEIGHT}' y2='{_CHART_HEIGHT}'/>"
        f"{_level('baseline', latest['baseline']['rmse'], top)}{_level('threshold', latest['rmse_threshold'], top)}</svg>"
    )


def _level(name: str, rmse: float, top: float) -> str:
    y = _CHART_HEIGHT * (1.0 - rmse / top)
    return (
        f"<line class='{name}' x2='{_CHART_WIDTH}' y1='{y:.1f}' y2='{y:.1f}'/>"
        f"<text class='{name}' x='{_CHART_WIDTH}' y='{y - 4:.1f}'>{name} {_figure(rmse)}</text>"
    )


def _bar(path: str, document: Sidecar, x: float, step: float, top: float) -> str:
    verdict, rmse = document["verdict"], document["performance"]["rmse"]
    size = _CHART_HEIGHT * (rmse or 0.0) / top
    state = "bad" if verdict["degraded"] else "unjudged" if verdict["too_few_truths"] else ""
    dot = f"<circle cx='{x + step / 2:.1f}' cy='{_CHART_HEIGHT - size - 6:.1f}' r='3'/>" if _is_drifted(document) else ""
    return (
        f"<a href='{escape(path)}'><title>{_moment(document['end'])}: RMSE {_figure(rmse)}</title>"
        f"<rect class='{state}' x='{x + step * 0.12:.1f}' y='{_CHART_HEIGHT - size:.1f}' width='{step * 0.76:.1f}' "
        f"height='{size:.1f}'/>{dot}</a>"
    )


def _index_table(entries: Sequence[Entry]) -> str:
    rows = "".join(_index_row(quote(entry.path), entry.document) for entry in entries)
    return (
        "<h2>Windows, newest first</h2><div class='scroll'><table><tr><th>Window<th class='l'>Up to and including"
        "<th class='l'>Station<th class='l'>Verdict<th>RMSE<th>Baseline<th>Measured truths<th class='l'>Model</tr>"
        f"{rows}</table></div>"
    )


def _index_row(path: str, document: Sidecar) -> str:
    return (
        f"<tr><td>{document['kind']}<td class='l'><a href='{escape(path)}'>{_moment(document['end'])}</a>"
        f"<td class='l'>{escape(document['station_id'])}<td class='l'>{_verdict_pills(document)}"
        f"<td>{_figure(document['performance']['rmse'])}<td>{_figure(document['baseline']['rmse'])}"
        f"<td>{document['performance']['n']}<td class='l'>{escape(document['model_version'])}</tr>"
    )


def _verdict_pills(document: Sidecar) -> str:
    verdict, columns = document["verdict"], ", ".join(_drifted_columns(document))
    said = {
        f"data drift: {columns}": verdict["data_drift"],
        "prediction drift": verdict["prediction_drift"],
        "error too large": verdict["degraded"],
        f"silent: {', '.join(verdict['missing'])}": bool(verdict["missing"]),
        "station silent": verdict["all_silent"],
    }
    pills = [_pill("bad", text) for text, holds in said.items() if holds] or [_pill("ok", "nothing found")]
    if verdict["too_few_truths"]:
        pills.append(_pill("", "error not judged"))
    if document["data_source"] == "simulated":
        pills.append(_pill("bad", "simulated"))
    return "".join(pills)


def _older(n_entries: int) -> str:
    if n_entries <= 0:
        return ""
    return f"<p class='sub'>{n_entries} older reports are in the folders beside this page.</p>"


# ---- figures ----


def _figure(value: float | None) -> str:
    """Return a figure with the digits that matter, a dash where it is undefined.

    >>> _figure(0.24231), _figure(12.345), _figure(1234.5), _figure(None)
    ('0.242', '12.35', '1234', '–')
    """
    if value is None:
        return "–"
    return f"{value:.{3 if abs(value) < 10 else 2 if abs(value) < 100 else 0}f}"


def p_value(value: float | None) -> str:
    """Return a p-value as it is read, a dash where there is none.

    >>> p_value(0.0417), p_value(1e-9), p_value(None)
    ('0.042', '< 0.001', '–')
    """
    if value is None:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _moment(text: str) -> str:
    return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M}"
