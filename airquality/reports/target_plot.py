"""The target by hour, measured and predicted, with the interval of its predictions."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from airquality.network.current import NETWORK
from airquality.reports.plots import Band, Line, clock_plot, described

_TARGET, _UNIT = NETWORK.target.spoken, NETWORK.target.unit


def target_plot(
    start: str, measured: Sequence[float | None], predicted: Sequence[float | None], band: Band | None = None
) -> Markup:
    """Return the plot of the hours from ISO time ``start`` on."""
    lines = [
        Line(f"measured {_TARGET}", "measured", measured),
        Line(f"predicted {_TARGET}", "predicted", predicted),
    ]
    return clock_plot(f"{_TARGET} by hour: {described(lines, _UNIT)}", _UNIT, start, lines, band)
