"""The figures: columns without drift, the error beside the baseline, and how to read the verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airquality.reports.sections import Section, Shown
from airquality.reports.sections.profiles import judged_columns


def _values(shown: Shown) -> Mapping[str, Any]:
    return {"steady": judged_columns(shown.document, drifted=False)}


SECTION = Section("figures", _values)
