"""The pages that ``python -m airquality replay --page`` writes: one explained prediction, or two versions compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airquality.network.current import NETWORK
from airquality.reports import figures
from airquality.reports.paths import INDEX, link
from airquality.reports.plots import Line, clock_plot, described
from airquality.reports.rendering import page

_UNIT = NETWORK.target.unit


def prediction(here: str, document: Mapping[str, Any]) -> str:
    """Return the page at ``here`` of one explained prediction: ``document`` is what ``replay --json`` prints of it."""
    return page(
        "prediction.html",
        title=f"{NETWORK.target.spoken} predicted for {document['station_id']}, {figures.moment(document['DateTime'])}",
        simulated=document["data_source"] == "simulated",
        index=link(here, INDEX),
        made=document,
    )


def comparison(here: str, document: Mapping[str, Any]) -> str:
    """Return the page at ``here`` that compares another version of the model with what was published.

    ``document`` has what ``replay --from --to --version --json`` prints at its end, and ``daily_rmse``: of what was
    published and of the other version, for each hour from ``first`` on that of its day, None where no truth is known.
    """
    lines = [
        Line("published", "measured", document["daily_rmse"]["published"]),
        Line(f"version {document['comparison']['version']}", "predicted", document["daily_rmse"]["other"]),
    ]
    span = f"{figures.moment(document['first'])} to {figures.moment(document['last'])}"
    return page(
        "comparison.html",
        title=f"Version {document['comparison']['version']} on {document['station_id']}, {span}",
        simulated=document["data_source"] == "simulated",
        index=link(here, INDEX),
        made=document,
        compared=document["comparison"],
        plot=clock_plot(f"RMSE by day: {described(lines, _UNIT)}", _UNIT, document["first"], lines),
    )
