"""Evidently's part of a report: plots and p-values of one window. The only module that imports Evidently.

Evidently is given only what it can digest, because one silent column or a missing truth would otherwise cost the whole
page. Its own verdicts rest on thresholds that flag nearly every day of this data, so they are not shown: its p-values are
evidence, the verdict is :mod:`airquality.monitoring.drift`'s.

Of a page Evidently saves, 95 % is the same code in every page. That code is written once, as an asset, and a page refers
to it.
"""

from __future__ import annotations

import contextlib
import functools
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from airquality.ground.errors import ContractError
from airquality.monitoring.drift import JUDGED_COLUMNS, Floats, Judge, Window
from airquality.records import RAW_COLUMNS, TARGET, datetime_of
from airquality.reports.evidence_page import Evidence, apart
from airquality.reports.figures import p_value
from airquality.truth.performance import MIN_TRUTHS

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # deprecations among its own dependencies
    from evidently import DataDefinition, Dataset, Regression, Report
    from evidently.core.report import ReferenceMetricNotFound
    from evidently.legacy.base_metric import ColumnNotFound
    from evidently.metrics import MAE, RMSE, R2Score, ValueDrift

_PREDICTION = "prediction"
_OWN_VERDICT = re.compile(r"Data drift (?:not )?detected\. Drift detection method: K-S p_value\. Drift score: [-+.\de]+")
#: Titles that would read as a verdict, and an axis that stretches every window to 150 steps without saying so.
_WORDING = {
    "Drift in column": "Distribution of",
    '"DATA DRIFT"': '"IN THE ORDER OF TIME"',
    '"DATA DISTRIBUTION"': '"DISTRIBUTION"',
    '"Index binned"': '"first to last hour of the window, as 150 steps"',
}
_ERRORS = "RMSE, MAE and R²"
#: Two of its errors derive from BaseException.
_EVIDENTLY_ERRORS = (Exception, ReferenceMetricNotFound, ColumnNotFound)
_RANDOM_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_LONG_NUMBER = re.compile(r"-?\d+\.\d{7,}(?:e[-+]?\d+)?")


class Artist:
    """Draw windows beside one reference."""

    def __init__(self, judge: Judge) -> None:
        self._reference = _table(judge.reference.values, judge.reference.predictions)

    def draw(self, window: Window) -> Evidence:
        """Return Evidently's part of the report of ``window``; what cannot be drawn is left out and named."""
        columns, left_out = plan(window)
        current = _table(window.values, window.predictions)
        page, p_values, not_drawn = _evidence(self._reference, current, columns, window)
        page, assets = apart(page)
        return Evidence(page, assets, p_values, [*left_out, *not_drawn])


def plan(window: Window) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the columns whose distribution is drawn, and (what, why) of everything that is left out of the plots."""
    seen = dict(zip(RAW_COLUMNS, (~np.isnan(window.values)).sum(axis=0).tolist(), strict=True))
    columns = [name for name in JUDGED_COLUMNS if seen[name]]
    left_out = [(name, "no value in this window") for name in JUDGED_COLUMNS if not seen[name]]
    n_truths = window.verdict.performance.n
    if window.verdict.too_few_truths:
        left_out.append((_ERRORS, f"too few measured values ({n_truths}), at least {MIN_TRUTHS} are needed"))
    return columns, left_out


def _table(values: Floats, predictions: Floats) -> pd.DataFrame:
    table = pd.DataFrame(values, columns=list(RAW_COLUMNS), dtype=np.float64)
    table[_PREDICTION] = predictions
    return table


def _evidence(
    reference: pd.DataFrame, current: pd.DataFrame, columns: Sequence[str], window: Window
) -> tuple[str, dict[str, float], list[tuple[str, str]]]:
    """Return Evidently's page, the KS p-value of each drawn column, and (what, why) of what Evidently could not draw.

    Evidently loses the whole page over one plot it cannot make, an error whose truths are all 0 for one. So the errors are
    left out first, then column by column what cannot be drawn alone.
    """
    draw = functools.partial(_draw, reference, current, window=window)
    with_errors = not window.verdict.too_few_truths
    try:
        return *draw(columns, with_errors=with_errors), []
    except _EVIDENTLY_ERRORS as error:
        why = f"Evidently cannot draw this ({type(error).__name__})"
    if with_errors:
        with contextlib.suppress(*_EVIDENTLY_ERRORS):
            return *draw(columns, with_errors=False), [(_ERRORS, why)]
    drawn = [name for name in columns if _works(functools.partial(draw, [name], with_errors=False))]
    left_out = [*((name, why) for name in columns if name not in drawn), *([(_ERRORS, why)] if with_errors else [])]
    return *draw(drawn, with_errors=False), left_out


def _works(draw: Callable[[], object]) -> bool:
    try:
        draw()
    except _EVIDENTLY_ERRORS:
        return False
    return True


def _draw(
    reference: pd.DataFrame, current: pd.DataFrame, columns: Sequence[str], *, window: Window, with_errors: bool
) -> tuple[str, dict[str, float]]:
    """Return Evidently's page and the KS p-value of each drawn column."""
    drawn = [*columns, _PREDICTION]
    metrics: list[Any] = [ValueDrift(column=name, method="ks") for name in drawn]
    regression = None
    if with_errors:
        metrics += [RMSE(), MAE(error_distr=False), R2Score()]  # the errors' distribution once
        regression = [Regression(target=TARGET, prediction=_PREDICTION)]
        drawn.append(TARGET)
    definition = DataDefinition(numerical_columns=drawn, regression=regression)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # R2 of an hour of the day that occurs once, and the like
        snapshot = Report(metrics, include_tests=False).run(
            current_data=Dataset.from_pandas(current[drawn], data_definition=definition),
            reference_data=Dataset.from_pandas(reference[drawn], data_definition=definition),
            timestamp=datetime_of(window.end_hour),
        )
        page = snapshot.get_html_str(as_iframe=False)
    p_values = _ks_p_values(snapshot.dict())
    return _as_evidence(page, list(p_values.values())), p_values


def _ks_p_values(result: Mapping[str, Any]) -> dict[str, float]:
    drifts = (metric for metric in result["metrics"] if metric["config"]["type"].endswith(":ValueDrift"))
    return {metric["config"]["column"]: float(metric["value"]) for metric in drifts}


def _as_evidence(page: str, p_values: Sequence[float]) -> str:
    """Replace Evidently's own verdicts by their p-value, and its random ids by running numbers: same window, same bytes.

    Args:
        page: Evidently's page, which holds one verdict per column.
        p_values: In the order of the columns on the page.
    """
    before, start, rest = page.partition("<script>\n    var metric_")
    widgets, end, after = rest.partition("</script>")  # the rest of the page, 95 % of it, is fonts and code
    if len(_OWN_VERDICT.findall(widgets)) != len(p_values):
        raise ContractError("Evidently's page does not hold one verdict per column: its wording has changed")
    texts = (f"Kolmogorov-Smirnov p-value {p_value(p)} (evidence; the verdict is in the report)" for p in p_values)
    widgets = _OWN_VERDICT.sub(lambda _: next(texts), widgets)
    widgets = _LONG_NUMBER.sub(lambda match: f"{float(match[0]):.6g}", widgets)
    for theirs, ours in _WORDING.items():
        widgets = widgets.replace(theirs, ours)
    numbers: dict[str, str] = {}
    widgets = _RANDOM_ID.sub(lambda match: numbers.setdefault(match[0], f"{len(numbers):032x}"), widgets)
    page_id = rest[:32]
    return f"{before}{start}{widgets}{end}{after}".replace(page_id, "0" * 32)
