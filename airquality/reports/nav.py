"""Where a report's links lead."""

from __future__ import annotations

from dataclasses import dataclass

from airquality.reports.folder import Entry
from airquality.reports.paths import INDEX, evidence_page, link, month_page, window_page


@dataclass(frozen=True, slots=True)
class Explained:
    """The page of one explained prediction: its hour, an ISO time, and the link to it."""

    moment: str
    link: str


@dataclass(frozen=True, slots=True)
class Nav:
    """Where a report's links lead; ``before`` and ``after`` are None where there is no such report.

    ``explained`` are the pages that somebody asked for, of hours of the window.
    """

    index: str
    before: str | None
    after: str | None
    window: str
    history: str
    evidence: str
    explained: tuple[Explained, ...] = ()

    @classmethod
    def of(
        cls, page: str, entry: Entry, before: Entry | None, after: Entry | None, explained: tuple[Explained, ...] = ()
    ) -> Nav:
        """Return the links of the report at ``page``, given its neighbours and the explained predictions of its hours."""
        return cls(
            index=link(page, INDEX),
            before=link(page, before.path) if before and before.path else None,
            after=link(page, after.path) if after and after.path else None,
            window=link(page, window_page(entry.kind, entry.end)),
            history=link(page, month_page(entry.name, entry.end)),
            evidence=link(page, evidence_page(page)),
            explained=explained,
        )
