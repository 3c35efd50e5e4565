"""What operators decided in the hours of the window."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airquality.reports.sections import Section, Shown


def _values(shown: Shown) -> Mapping[str, Any] | None:
    operations = shown.document["operations"]
    return {"operations": operations} if operations else None


SECTION = Section("operations", _values)
