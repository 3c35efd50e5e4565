"""The page of one explained prediction, which ``python -m airquality replay --page`` writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airquality.network.current import NETWORK
from airquality.reports import figures
from airquality.reports.paths import INDEX, link
from airquality.reports.rendering import page


def prediction(here: str, document: Mapping[str, Any]) -> str:
    """Return the page at ``here`` of one explained prediction: ``document`` is what ``replay --json`` prints of it."""
    return page(
        "prediction.html",
        title=f"{NETWORK.target.spoken} predicted for {document['station_id']}, {figures.moment(document['DateTime'])}",
        simulated=document["data_source"] == "simulated",
        index=link(here, INDEX),
        made=document,
    )
