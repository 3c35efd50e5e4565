"""The hours of the day against normal: the truth, and the columns without drift."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airquality.reports.document import Sidecar
from airquality.reports.sections import Section, Shown


def judged_columns(document: Sidecar, *, drifted: bool) -> list[Mapping[str, Any]]:
    """Return the columns that a window's distance judges, the prediction last: those that drifted, or the others."""
    columns = [*document["columns"], document["prediction"]]
    return [column for column in columns if column["drifted"] == drifted]


def _values(shown: Shown) -> Mapping[str, Any]:
    return {"truth": shown.document["truth"], "steady": judged_columns(shown.document, drifted=False)}


SECTION = Section("profiles", _values)
