"""The picture of the page: who does how many rows a second, and where the consumer's CPU time goes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure
from benchmarks.results import Result

_SUFFIX = ", rows a second"


def draw(kept: Mapping[str, Result], path: Path) -> bool:
    """Draw what is kept of the replay and of the serving; return whether there was anything to draw."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    panels = [panel for name, panel in (("replay", _replay), ("replay", _stages), ("serving", _serving)) if name in kept]
    if not panels:
        return False
    drawn, axes = plt.subplots(1, len(panels), figsize=(5.2 * len(panels), 3.4), squeeze=False)
    for panel, place in zip(panels, axes[0], strict=True):
        panel(place, kept)
        place.spines[["top", "right"]].set_visible(False)
    drawn.tight_layout()
    drawn.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(drawn)
    return True


def _replay(axes: Any, kept: Mapping[str, Result]) -> None:
    figures = kept["replay"].figures
    _bars(axes, {name: figures[f"{name}{_SUFFIX}"] for name in ("bare", "product", "quix", "pandas")})
    axes.set_title("a catch-up of 4 stations", fontsize=10)
    axes.set_xlabel("rows a second, median and range (log)", fontsize=8)


def _serving(axes: Any, kept: Mapping[str, Result]) -> None:
    figures = kept["serving"].figures
    names = ("empty", "product", "bentoml", "mlflow")
    _bars(axes, {name: figures[f"{name}, 16 connections: rows/s"] for name in names})
    axes.set_title("one row over HTTP, 16 connections", fontsize=10)
    axes.set_xlabel("requests a second, median and range (log)", fontsize=8)


def _bars(axes: Any, figures: Mapping[str, Figure]) -> None:
    for place, (name, figure) in enumerate(reversed(list(figures.items()))):
        colour = "#c44e52" if name == "product" else "#8c8c8c"
        ranges = [[figure.median - figure.low], [figure.high - figure.median]]
        axes.barh(place, figure.median, color=colour, xerr=ranges, ecolor="#333333", capsize=2)
        axes.text(figure.high * 1.12, place, f"{figure.median:,.0f}", va="center", fontsize=8)
    axes.set_yticks(range(len(figures)), list(reversed(list(figures))), fontsize=8)
    axes.set_xscale("log")
    axes.set_xlim(right=max(figure.high for figure in figures.values()) * 3)
    axes.tick_params(axis="x", labelsize=8)


def _stages(axes: Any, kept: Mapping[str, Result]) -> None:
    stages = {name: figure.median for name, figure in kept["replay"].stages.items()}
    axes.barh(range(len(stages)), list(reversed(stages.values())), color="#4c72b0")
    axes.set_yticks(range(len(stages)), list(reversed(stages)), fontsize=8)
    axes.set_title(f"CPU a row by stage, {sum(stages.values()):,.0f} us in all", fontsize=10)
    axes.set_xlabel("us a row", fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
