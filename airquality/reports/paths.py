"""Where things lie in a reports folder, relative to it, and how a page links to another."""

from __future__ import annotations

from datetime import datetime
from pathlib import PurePosixPath
from typing import Protocol
from urllib.parse import quote

from airquality.truth.kinds import WindowKind

INDEX = "index.html"
ASSETS = "assets"


class OfWindow(Protocol):
    """Whatever is of one window of one station."""

    @property
    def station_id(self) -> str:
        """The station's name."""

    @property
    def kind(self) -> WindowKind:
        """The kind of the window."""

    @property
    def end_hour(self) -> int:
        """Its last hour."""


def evidence_page(page: str) -> str:
    """Return where Evidently's part of a report lies.

    >>> evidence_page("daily/roof/daily_20050213_020000.html")
    'evidently/daily/roof/daily_20050213_020000.html'
    """
    return f"evidently/{page}"


def month_page(sidecar: str, end: str) -> str:
    """Return the page that lists a station's windows of the month in which one ends.

    >>> month_page("daily/roof/daily_20050213_020000.json", "2005-02-13T02:00:00")
    'history/roof/2005-02.html'
    >>> month_page("weekly/weekly_20050213_020000.json", "2005-02-13T02:00:00")
    'history/2005-02.html'
    """
    station = sidecar.split("/")[1:-1]
    return "/".join(["history", *station, f"{datetime.fromisoformat(end):%Y-%m}.html"])


def window_page(kind: str, end: str) -> str:
    """Return the page that lists all stations' reports of one window.

    >>> window_page("daily", "2005-02-13T02:00:00")
    'windows/daily_20050213_020000.html'
    """
    return f"windows/{kind}_{datetime.fromisoformat(end):%Y%m%d_%H%M%S}.html"


#: Pages that a person asked for: explained predictions. No run of the reports writes or removes anything there.
ASKED_FOR = "replay"


def prediction_page(folder: str, moment: str) -> str:
    """Return where the page of one explained prediction lies, given its station's folder name and its hour.

    >>> prediction_page("roof", "2005-02-13T02:00:00")
    'replay/roof/20050213_020000.html'
    """
    return f"{ASKED_FOR}/{folder}/{datetime.fromisoformat(moment):%Y%m%d_%H%M%S}.html"


def comparison_page(folder: str, first: str, last: str, version: str) -> str:
    """Return where the page lies that compares a version with what was published, given the station's folder and hours.

    >>> comparison_page("roof", "2005-03-01T00:00:00", "2005-03-31T23:00:00", "2")
    'replay/roof/20050301_000000-20050331_230000-version-2.html'
    """
    begin, end = (f"{datetime.fromisoformat(moment):%Y%m%d_%H%M%S}" for moment in (first, last))
    return f"{ASKED_FOR}/{folder}/{begin}-{end}-version-{quote(version, safe='')}.html"


def link(source: str, target: str) -> str:
    """Return the link from one page to another, both relative to the reports folder, with what a URL must quote.

    >>> link("daily/roof%20x/a.html", "history/roof%20x/2005-02.html")
    '../../history/roof%2520x/2005-02.html'
    >>> link("index.html", "daily/a.html")
    'daily/a.html'
    """
    up = "../" * (len(PurePosixPath(source).parts) - 1)
    return up + quote(target)
