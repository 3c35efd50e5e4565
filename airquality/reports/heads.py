"""The head of a sidecar: what the pages about many reports take of each, checked where it is read."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from airquality.truth.kinds import KIND_BY_NAME

#: Counts up when the sidecar's shape changes: a sidecar of another layout is another release's.
LAYOUT = 4
#: What is taken, and of which type it must be.
_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "layout": int,
    "digest": str,
    "station_id": str,
    "kind": str,
    "start": str,
    "end": str,
    "hours": int,
    "predictions": int,
    "model_version": str,
    "rows_source": str,
    "judge_source": str,
    "judged_by": str,
    "state": str,
    "findings": list,
    "learning": dict,
    "operations": list,
    "error_judged": bool,
    "performance": dict,
    "baseline": dict,
    "rmse_threshold": float,
}


def head_of(document: Any) -> dict[str, Any]:
    """Return the head of a sidecar.

    Raises:
        KeyError, TypeError, ValueError: the document is no sidecar of this release.
    """
    head = {key: document[key] for key in _TYPES}
    wrong = [key for key, wanted in _TYPES.items() if not isinstance(head[key], wanted)]
    if wrong or head["layout"] != LAYOUT or head["kind"] not in KIND_BY_NAME:
        raise TypeError(f"no sidecar of this release: {wrong or head['layout']}")
    head |= {"estimated_rmse": document.get("estimated_rmse"), "uncalibrated": document.get("uncalibrated", [])}
    _require_figures(head)
    for moment in (head["start"], head["end"], *head["learning"].values(), *(at for at, _ in head["operations"])):
        datetime.fromisoformat(moment)
    return head


def _require_figures(head: Mapping[str, Any]) -> None:
    figures = [head["performance"]["rmse"], head["baseline"]["rmse"], head["estimated_rmse"]]
    known = [head["performance"]["n"], *([figures[0]] if head["error_judged"] else [])]
    if not all(isinstance(figure, int | float) for figure in (*known, *(f for f in figures if f is not None))):
        raise TypeError(f"these are no figures: {[*known, *figures]}")
