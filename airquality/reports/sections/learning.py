"""Which columns are still learned, and until when."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airquality.reports import figures
from airquality.reports.document import Sidecar
from airquality.reports.sections import Section, Shown


def _values(shown: Shown) -> Mapping[str, Any] | None:
    learning = learning_of(shown.document)
    return {"learning": learning} if learning else None


def learning_of(document: Sidecar) -> list[tuple[str, str]]:
    """Return the columns that are still learned and the day from which they can be judged, the earliest first."""
    by_day: dict[str, list[str]] = {}
    for column, until in sorted(document["learning"].items(), key=lambda item: item[1]):
        by_day.setdefault(figures.moment(until), []).append(column)
    return [(", ".join(sorted(columns)), until) for until, columns in by_day.items()]


SECTION = Section("learning", _values)
