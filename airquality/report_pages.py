"""The pages around the plots: the header block of a report and the index of all windows, as plain HTML without assets.

Text in, text out. A report is described by its *sidecar*, the JSON document that lies beside the HTML file; both pages
are made from it, so what the index says is what the report says.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from html import escape
from typing import Any

from airquality.drift import KINDS, Calibration, Distance, Window
from airquality.schemas import isoformat

Sidecar = Mapping[str, Any]

_INDEX_ROWS = 2_000
_CHART_WINDOWS = 120

_STYLE = """
.aq{font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;color:#1f2933;max-width:1180px;
margin:0 auto;padding:28px 24px 12px;box-sizing:border-box;background:#fff}
.aq *{box-sizing:border-box}
.aq h1{font-size:26px;line-height:1.25;margin:0;font-weight:650;letter-spacing:-.01em}
.aq h2{font-size:16px;margin:28px 0 10px;font-weight:650}
.aq p{margin:6px 0}
.aq .sub{color:#52606d}
.aq .simulated{background:#b42318;color:#fff;font-weight:700;letter-spacing:.04em;padding:12px 18px;border-radius:8px;margin:0 0 20px;text-align:center}
.aq .facts{display:flex;flex-wrap:wrap;gap:6px 28px;margin:12px 0 18px;padding:0;list-style:none}
.aq .facts span{color:#7b8794;margin-right:6px}
.aq .cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(210px,1fr));gap:12px;margin:18px 0 4px}
.aq .card{border:1px solid #e4e7eb;border-left:4px solid #9aa5b1;border-radius:8px;padding:12px 14px;background:#fff}
.aq .card b{display:block;font-size:17px;font-weight:650}
.aq .card span{color:#52606d;font-size:13px}
.aq .card.ok{border-left-color:#2f8f5b}.aq .card.bad{border-left-color:#c2410c;background:#fff8f3}
.aq table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:14px}
.aq th{font-weight:600;color:#52606d;font-size:13px;border-bottom:1px solid #cbd2d9;padding:6px 10px;text-align:right;white-space:nowrap}
.aq td{border-bottom:1px solid #edf0f2;padding:6px 10px;text-align:right;white-space:nowrap}
.aq th:first-child,.aq td:first-child,.aq .l{text-align:left}
.aq tr.bad td{background:#fff8f3}
.aq .pill{display:inline-block;border-radius:99px;padding:1px 10px;font-size:12.5px;font-weight:600;background:#edf0f2;color:#52606d;margin-right:4px}
.aq .pill.ok{background:#e3f4ea;color:#1e6b43}.aq .pill.bad{background:#fde7d9;color:#9a3412}
.aq .bar{display:inline-block;width:110px;height:8px;border-radius:4px;background:#edf0f2;vertical-align:middle;overflow:hidden}
.aq .bar i{display:block;height:100%;background:#7ba7c9;border-radius:4px}.aq tr.bad .bar i{background:#e07b39}
.aq .note{color:#52606d;font-size:13px;max-width:92ch}
.aq ul.plain{margin:6px 0;padding-left:20px}
.aq a{color:#0b5cad;text-decoration:none}.aq a:hover{text-decoration:underline}
.aq .scroll{overflow-x:auto}
.aq hr{border:0;border-top:1px solid #e4e7eb;margin:28px 0 8px}
"""


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
    verdict = window.verdict
    limits = calibration.kinds[window.kind.name]
    return {
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
        "columns": [_distance_row(column, ks_p_values) for column in (*verdict.columns, verdict.prediction)],
        "performance": _figures(verdict.performance),
        "baseline": _figures(calibration.baseline),
        "rmse_threshold": verdict.rmse_threshold,
        "budget": {
            "data": limits.data.budget,
            "prediction": limits.prediction.budget,
            "performance": limits.performance.budget,
        },
        "held_out_rate": {
            "data": limits.data.held_out_rate,
            "prediction": limits.prediction.held_out_rate,
            "performance": limits.performance.held_out_rate,
        },
        "calibration_windows": {
            "data": limits.data.windows,
            "prediction": limits.prediction.windows,
            "performance": limits.performance.windows,
        },
        "left_out": [list(item) for item in left_out],
    }


def _distance_row(column: Distance, ks_p_values: Mapping[str, float]) -> dict[str, Any]:
    return {
        "column": column.column,
        "statistic": _or_null(column.statistic),
        "threshold": column.threshold,
        "drifted": column.drifted,
        "ks_p_value": _or_null(ks_p_values.get(column.column, math.nan)),
        "missing_share": column.missing_share,
    }


def _figures(performance: Any) -> dict[str, Any]:
    return {
        "rmse": _or_null(performance.rmse),
        "mae": _or_null(performance.mae),
        "r2": _or_null(performance.r2),
        "n": performance.n,
    }


def _or_null(figure: float) -> float | None:
    return None if math.isnan(figure) else figure


# ---- the header of a report ----


def header(document: Sidecar) -> str:
    """Return the HTML block that stands above the plots of a report: what it is about, the verdict, and what was left out."""
    return (
        f'<style>{_STYLE}</style><div class="aq">{_simulated(document["data_source"])}'
        f"<h1>{escape(document['kind'].capitalize())} report · {escape(document['station_id'])}</h1>"
        f"{_facts(document)}{_cards(document)}{_sensor_table(document)}{_performance_table(document)}"
        f"{_left_out(document)}{_method(document)}<hr><p class='sub'>Distributions and errors, drawn by Evidently. "
        f"Grey is the reference where shown beside the window.</p></div>"
    )


def _simulated(data_source: str) -> str:
    return '<p class="simulated">SIMULATED DATA — no real measurement on this page</p>' if data_source == "simulated" else ""


def _facts(document: Sidecar) -> str:
    facts = {
        "Window": f"{_moment(document['start'])} – {_moment(document['end'])}, both hours included",
        "Predictions": f"{document['predictions']} of {document['hours']} hours",
        "Model version": document["model_version"],
        "Data": document["data_source"],
    }
    items = "".join(f"<li><span>{name}</span>{escape(text)}</li>" for name, text in facts.items())
    return f'<ul class="facts">{items}</ul>'


def _cards(document: Sidecar) -> str:
    return f'<div class="cards">{"".join((_data_card(document), _prediction_card(document), _error_card(document), _missing_card(document)))}</div>'


def _card(state: str, title: str, text: str) -> str:
    return f'<div class="card {state}"><b>{escape(title)}</b><span>{escape(text)}</span></div>'


def _data_card(document: Sidecar) -> str:
    columns = document["columns"][:-1]
    judged = [column for column in columns if column["statistic"] is not None]
    drifted = [column["column"] for column in columns if column["drifted"]]
    if drifted:
        return _card("bad", "Data drift", ", ".join(drifted))
    if not judged:
        return _card("", "Data drift not judged", "no column has values enough")
    return _card("ok", "No data drift", f"{len(judged)} of {len(columns)} columns judged")


def _prediction_card(document: Sidecar) -> str:
    prediction = document["columns"][-1]
    if prediction["statistic"] is None:
        return _card("", "Prediction drift not judged", f"{document['predictions']} predictions are too few")
    text = f"distance {prediction['statistic']:.3f}, threshold {prediction['threshold']:.3f} mg/m³"
    return _card("bad", "Prediction drift", text) if prediction["drifted"] else _card("ok", "No prediction drift", text)


def _error_card(document: Sidecar) -> str:
    n_truths = document["performance"]["n"]
    if document["verdict"]["too_few_truths"]:
        return _card("", "Error not judged", f"{n_truths} measured truths are too few")
    text = f"RMSE {document['performance']['rmse']:.3f}, threshold {document['rmse_threshold']:.3f} mg/m³"
    return (
        _card("bad", "Error too large", text) if document["verdict"]["degraded"] else _card("ok", "Error as expected", text)
    )


def _missing_card(document: Sidecar) -> str:
    verdict = document["verdict"]
    if verdict["all_silent"]:
        return _card("bad", "Station silent", "no column reported in this window")
    if verdict["missing"]:
        return _card("bad", "Silent columns", ", ".join(verdict["missing"]))
    return _card("ok", "All columns report", "none silent for the whole window")


def _sensor_table(document: Sidecar) -> str:
    rows = "".join(_sensor_row(column) for column in document["columns"])
    return (
        "<h2>Distance to the reference</h2><div class='scroll'><table><tr><th>Column<th>Distance<th>Threshold"
        f"<th class='l'>Share of threshold<th class='l'>Verdict<th>KS p-value<th>Missing</tr>{rows}</table></div>"
    )


def _sensor_row(column: Mapping[str, Any]) -> str:
    statistic, threshold = column["statistic"], column["threshold"]
    if statistic is None:
        flag, share = '<span class="pill">not judged</span>', "–"
    else:
        ratio = statistic / threshold if threshold else math.inf
        flag = '<span class="pill bad">drift</span>' if column["drifted"] else '<span class="pill ok">no drift</span>'
        share = f'<span class="bar"><i style="width:{min(ratio, 1.0):.0%}"></i></span> {ratio:.0%}'
    return (
        f"<tr{' class=bad' if column['drifted'] else ''}><td>{escape(column['column'])}<td>{_figure(statistic)}"
        f"<td>{_figure(threshold)}<td class='l'>{share}<td class='l'>{flag}<td>{_p_value(column['ks_p_value'])}"
        f"<td>{column['missing_share']:.0%}</tr>"
    )


def _performance_table(document: Sidecar) -> str:
    def row(title: str, figures: Mapping[str, Any], extra: str) -> str:
        cells = "".join(f"<td>{_figure(figures[name])}" for name in ("rmse", "mae", "r2"))
        return f"<tr><td>{title}{cells}<td>{figures['n']}<td class='l'>{extra}</tr>"

    verdict = document["verdict"]
    said = "degraded" if verdict["degraded"] else "as expected"
    flag = "not judged" if verdict["too_few_truths"] else said
    state = "bad" if verdict["degraded"] else "" if verdict["too_few_truths"] else "ok"
    return (
        "<h2>Error beside the baseline</h2><div class='scroll'><table><tr><th><th>RMSE mg/m³<th>MAE mg/m³<th>R²"
        "<th>Measured truths<th class='l'>Verdict</tr>"
        + row("This window", document["performance"], f'<span class="pill {state}">{flag}</span>')
        + row("Baseline (reference, out of sample)", document["baseline"], "")
        + f"<tr><td>Threshold<td>{_figure(document['rmse_threshold'])}<td><td><td><td></tr></table></div>"
    )


def _left_out(document: Sidecar) -> str:
    if not document["left_out"]:
        return ""
    items = "".join(f"<li><b>{escape(what)}</b>: {escape(why)}</li>" for what, why in document["left_out"])
    return f"<h2>Left out of the plots below</h2><ul class='plain'>{items}</ul>"


def _method(document: Sidecar) -> str:
    budget, rate, windows = document["budget"], document["held_out_rate"], document["calibration_windows"]
    return (
        "<h2>How to read the verdicts</h2><p class='note'>The distance is Wasserstein's, in the column's own unit. Thresholds are "
        f"calibrated on history without known faults so that at most {budget['data']:.1%} of {document['kind']} windows raise data drift "
        f"({rate['data']:.1%} of {windows['data']} held-out windows did), {budget['prediction']:.1%} prediction drift "
        f"({rate['prediction']:.1%} of {windows['prediction']}) and {budget['performance']:.1%} an error alarm "
        f"({rate['performance']:.1%} of {windows['performance']}). The Kolmogorov-Smirnov p-value is evidence only: hours of one day resemble "
        "each other, so it is small on most days on which nothing is wrong. A column with values in fewer than half of the hours is not judged.</p>"
    )


# ---- the index ----


def index(documents: Iterable[tuple[str, Sidecar]]) -> str:
    """Return the page that lists every window, newest first.

    Args:
        documents: (path of the report relative to the index, its sidecar), in any order.
    """
    entries = sorted(documents, key=lambda entry: (entry[1]["end"], entry[1]["kind"], entry[1]["station_id"]), reverse=True)
    sources = {document["data_source"] for _, document in entries}
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Monitoring reports</title><style>body{{margin:0;background:#fff}}{_STYLE}</style></head><body><div class='aq'>"
        f"{_simulated('simulated') if 'simulated' in sources else ''}<h1>Monitoring reports</h1>{_index_facts(entries)}"
        f"{_charts(entries)}{_index_table(entries[:_INDEX_ROWS])}{_older(len(entries))}</div></body></html>\n"
    )


def _index_facts(entries: Sequence[tuple[str, Sidecar]]) -> str:
    if not entries:
        return "<p class='sub'>No window has closed yet.</p>"
    stations = sorted({document["station_id"] for _, document in entries})
    counts = []
    for kind in KINDS:
        documents = [document for _, document in entries if document["kind"] == kind.name]
        flagged = sum(_is_drifted(document) for document in documents)
        degraded = sum(document["verdict"]["degraded"] for document in documents)
        counts.append(
            f"<li><span>{kind.name.capitalize()}</span>{len(documents)} windows, {flagged} with drift, {degraded} with too large an error</li>"
        )
    return f"<ul class='facts'><li><span>Stations</span>{escape(', '.join(stations))}</li>{''.join(counts)}</ul>"


def _is_drifted(document: Sidecar) -> bool:
    return bool(document["verdict"]["data_drift"] or document["verdict"]["prediction_drift"])


def _charts(entries: Sequence[tuple[str, Sidecar]]) -> str:
    groups: dict[tuple[str, str], list[tuple[str, Sidecar]]] = {}
    for path, document in reversed(entries):
        groups.setdefault((document["station_id"], document["kind"]), []).append((path, document))
    return "".join(_chart(station_id, kind, group[-_CHART_WINDOWS:]) for (station_id, kind), group in sorted(groups.items()))


def _chart(station_id: str, kind: str, group: Sequence[tuple[str, Sidecar]]) -> str:
    """Return one bar of RMSE per window with the baseline and the threshold as lines; oldest left."""
    latest = group[-1][1]
    baseline, threshold = latest["baseline"]["rmse"], latest["rmse_threshold"]
    top = 1.1 * max([threshold, *(d["performance"]["rmse"] or 0.0 for _, d in group)])
    width, height, step = 1130, 130, 1130 / max(len(group), 14)
    bars = "".join(_bar(path, d, number * step, step, height, top) for number, (path, d) in enumerate(group))
    lines = "".join(
        f'<line x1="0" x2="{width}" y1="{height - height * level / top:.1f}" y2="{height - height * level / top:.1f}" '
        f'stroke="{colour}" stroke-dasharray="{dash}"/><text x="{width}" y="{height - height * level / top - 4:.1f}" '
        f'text-anchor="end" font-size="11" fill="{colour}">{name} {level:.3f}</text>'
        for name, level, colour, dash in (
            ("baseline", baseline, "#52606d", "5 4"),
            ("threshold", threshold, "#c2410c", "2 3"),
        )
    )
    return (
        f"<h2>RMSE per {kind} window · {escape(station_id)} <span class='sub' style='font-weight:400'>mg/m³, oldest left</span></h2>"
        f'<svg viewBox="0 0 {width} {height + 2}" width="100%" role="img">'
        f'<line x1="0" x2="{width}" y1="{height}" y2="{height}" stroke="#cbd2d9"/>{bars}{lines}</svg>'
    )


def _bar(path: str, document: Sidecar, x: float, step: float, height: int, top: float) -> str:
    rmse = document["performance"]["rmse"]
    if rmse is None:
        return ""
    size = height * rmse / top
    judged = not document["verdict"]["too_few_truths"]
    colour = "#e07b39" if document["verdict"]["degraded"] else "#7ba7c9" if judged else "#d5dbe1"
    return (
        f'<a href="{escape(path)}"><rect x="{x + step * 0.12:.1f}" y="{height - size:.1f}" width="{step * 0.76:.1f}" height="{size:.1f}" '
        f'fill="{colour}"><title>{_moment(document["end"])}: {rmse:.3f}</title></rect></a>'
    )


def _index_table(entries: Sequence[tuple[str, Sidecar]]) -> str:
    rows = "".join(_index_row(path, document) for path, document in entries)
    return (
        "<h2>Windows, newest first</h2><div class='scroll'><table><tr><th>Window<th class='l'>Up to and including<th class='l'>Station<th class='l'>Verdict"
        f"<th>RMSE<th>Baseline<th>Truths<th class='l'>Model</tr>{rows}</table></div>"
    )


def _index_row(path: str, document: Sidecar) -> str:
    return (
        f'<tr><td><a href="{escape(path)}">{document["kind"]}</a><td class="l"><a href="{escape(path)}">{_moment(document["end"])}</a>'
        f'<td class="l">{escape(document["station_id"])}<td class="l">{_pills(document)}<td>{_figure(document["performance"]["rmse"])}'
        f'<td>{_figure(document["baseline"]["rmse"])}<td>{document["performance"]["n"]}<td class="l">{escape(document["model_version"])}</tr>'
    )


def _pills(document: Sidecar) -> str:
    verdict = document["verdict"]
    drifted = [column["column"] for column in document["columns"][:-1] if column["drifted"]]
    bad = [
        *([f"data drift: {', '.join(drifted)}"] if drifted else []),
        *(["prediction drift"] if verdict["prediction_drift"] else []),
        *(["error too large"] if verdict["degraded"] else []),
        *([f"silent: {', '.join(verdict['missing'])}"] if verdict["missing"] else []),
        *(["station silent"] if verdict["all_silent"] else []),
    ]
    notes = ["error not judged"] if verdict["too_few_truths"] else []
    pills = [f'<span class="pill bad">{escape(text)}</span>' for text in bad] or ['<span class="pill ok">no drift</span>']
    return "".join([*pills, *(f'<span class="pill">{text}</span>' for text in notes)])


def _older(n_entries: int) -> str:
    older = n_entries - _INDEX_ROWS
    return f"<p class='sub'>{older} older windows are in the folders beside this page.</p>" if older > 0 else ""


# ---- figures ----


def _figure(value: float | None) -> str:
    """Return three significant digits or more, a dash for an undefined figure.

    >>> _figure(0.24231), _figure(12.345), _figure(1234.5), _figure(None)
    ('0.242', '12.35', '1234', '–')
    """
    if value is None:
        return "–"
    digits = 3 if abs(value) < 10 else 2 if abs(value) < 100 else 0
    return f"{value:.{digits}f}"


def _p_value(value: float | None) -> str:
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _moment(text: str) -> str:
    return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M}"
