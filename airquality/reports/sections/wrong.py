"""What is wrong: the findings, what to do about each, and the columns that drifted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airquality.reports.findings import Finding
from airquality.reports.sections import Section, Shown
from airquality.reports.sections.profiles import judged_columns


def _values(shown: Shown) -> Mapping[str, Any] | None:
    findings = [Finding.from_json(fields) for fields in shown.document["findings"]]
    drifted = judged_columns(shown.document, drifted=True)
    return {"findings": findings, "drifted": drifted} if findings else None


SECTION = Section("wrong", _values)
