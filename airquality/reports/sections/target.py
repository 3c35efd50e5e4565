"""The target, measured and predicted: its plot, its error, its intervals, and the hour of the largest error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from airquality.network.current import NETWORK
from airquality.reports import assured, figures
from airquality.reports.document import Sidecar
from airquality.reports.plots import Band
from airquality.reports.sections import Section, Shown
from airquality.reports.target_plot import target_plot

_TARGET, _UNIT = NETWORK.target.spoken, NETWORK.target.unit


def _values(shown: Shown) -> Mapping[str, Any]:
    document = shown.document
    series, worst = document["series"], worst_hour(document)
    explained = shown.nav.explained if shown.nav else ()
    return {
        "plot": target_plot(document["start"], series["measured"], series["predicted"], _band(series)),
        "error_sentence": _error(document),
        "assured": list(assured.sentences(document)),
        "error_lines": assured.error_lines(document),
        "coverage_lines": assured.coverage_lines(document),
        "worst": worst,
        "explained": explained,
        "worst_page": next((page for page in explained if page.moment == worst), None),
    }


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


def _error(document: Sidecar) -> str:
    performance, allowed = document["performance"], figures.measured(document["rmse_threshold"], _UNIT)
    if not document["error_judged"]:
        return f"The error is not judged: {performance['n']} measured {_TARGET} in this window are too few."
    rmse, normal = figures.measured(performance["rmse"], _UNIT), figures.measured(document["baseline"]["rmse"], _UNIT)
    verdict = "as expected" if performance["rmse"] <= document["rmse_threshold"] else "too large"
    return f"RMSE {rmse} over {performance['n']} measured hours: {verdict} (normally {normal}, allowed {allowed})."


def _band(series: Mapping[str, Sequence[float | None]]) -> Band | None:
    """Return the interval of each hour, None where there is none in the window."""
    low, high = series.get("lower", ()), series.get("upper", ())
    return Band("90 % interval", low, high) if any(value is not None for value in low) else None


SECTION = Section("target", _values)
