"""Evidently's plots: the link to them, or the page itself, and what was left out of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airquality.reports.sections import Section, Shown


def _values(shown: Shown) -> Mapping[str, Any]:
    return {"nav": shown.nav, "embedded": shown.evidence}


SECTION = Section("evidence", _values)
