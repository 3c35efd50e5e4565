"""The committed pictures of a study: one a metric and block, prediction against actual, error by week, importance."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import ConciseDateFormatter
from matplotlib.figure import Figure

from airquality.ground.files import write_atomically
from airquality.model import features
from airquality.model.model import Model
from airquality.records import WEEKLY_HOURS, datetime_of
from training.final import Result, Results
from training.protocol import METRICS, Study
from training.results import TITLES

_COLOURS = {"baseline": "#9aa5b1", "family": "#4c78a8", "ensemble": "#72b7b2", "variant": "#e8a33d", "rows": "#b79ad1"}
_CHAMPION_COLOUR = "#d1495b"
_LEAST = 1e-4  # mg/m3; bars of groups worth less are drawn at this length
_BLOCK_TITLES = {"valid": "validation rows, train-only fits", "test": "test rows, fits on train and validation"}


def draw(results: Results, champion: str, directory: Path, notice: str = "") -> None:
    """Draw every picture that needs the results alone; ``notice`` goes into every title (simulated data)."""
    for prefix, by_name in results.items():
        for metric in METRICS:
            _save(_bars(by_name, metric, champion, _BLOCK_TITLES[prefix] + notice), directory / f"{prefix}_{metric}.png")
    test = results["test"]
    _save(_against_actual(test[champion], notice), directory / "prediction_vs_actual.png")
    shown = [test[name] for name in (champion, "weekly refit", "base alone", "persistence")]
    _save(_by_week(shown, notice), directory / "error_by_week.png")


def draw_importance(importance: Mapping[str, float], directory: Path, notice: str = "") -> None:
    """Draw how much RMSE each group of features is worth."""
    figure, axes = _canvas(8.5, 4.5)
    ordered = sorted(importance.items(), key=lambda item: item[1])
    axes.barh([name for name, _ in ordered], [max(value, _LEAST) for _, value in ordered], color=_COLOURS["family"])
    for place, (_, value) in enumerate(ordered):
        axes.annotate(
            f"{value:.4f}", (max(value, _LEAST), place), xytext=(4, 0), textcoords="offset points", va="center", size=8
        )
    axes.set_xscale("log")  # the base alone is worth fifty times the next group
    axes.set_xlim(_LEAST, 5)
    axes.set_xlabel("RMSE gained when the group's columns are shuffled together, mg/m3 (log scale)")
    axes.set_title(f"Importance by feature group (champion's train-only twin on validation rows){notice}", fontsize=10)
    _save(figure, directory / "importance_by_feature_group.png")


def importance(twin: Model, study: Study, repeats: int = 5) -> dict[str, float]:
    """Return, for each feature family, by how much shuffling its columns together raises the twin's VALID RMSE."""
    rows = study.measured("validation")
    matrix = study.matrix[rows]
    whole = study.score(rows, twin.predict(matrix))["rmse"]
    rng = np.random.default_rng(0)
    orders = [rng.permutation(len(rows)) for _ in range(repeats)]
    worth = {}
    for family in features.FAMILIES:
        columns = [features.NAMES.index(name) for name in family.names]
        losses = []
        for order in orders:
            shuffled = matrix.copy()
            shuffled[:, columns] = matrix[order][:, columns]
            losses.append(study.score(rows, twin.predict(shuffled))["rmse"] - whole)
        worth[family.title] = float(np.mean(losses))
    return worth


def _bars(by_name: Mapping[str, Result], metric: str, champion: str, where: str) -> Figure:
    ordered = sorted(by_name.values(), key=lambda r: r.figures[metric], reverse=metric != "r2")
    values = np.array([r.figures[metric] for r in ordered])
    limits = np.array([r.intervals[metric] for r in ordered]).T
    figure, axes = _canvas(8.5, 0.3 * len(ordered) + 1.3)
    colours = [_CHAMPION_COLOUR if r.run.name == champion else _COLOURS[r.run.group] for r in ordered]
    places = np.arange(len(ordered))
    axes.barh(places, values, color=colours)
    spread = np.abs(limits - values)
    axes.errorbar(values, places, xerr=spread, fmt="none", ecolor="#333333", elinewidth=0.9, capsize=2)
    for place, value in zip(places, values, strict=True):
        axes.annotate(
            f"{value:.3f} ", (0, place), xytext=(4, 0), textcoords="offset points", va="center", color="white", size=8
        )
    axes.set_yticks(places, [r.run.name for r in ordered], fontsize=8)
    axes.set_ylim(-0.6, len(ordered) - 0.4)
    axes.set_xlim(left=0 if values.min() >= 0 else None)
    axes.set_xlabel(f"{TITLES[metric]} (line: 90 % day-block bootstrap interval; red: the champion)")
    axes.set_title(where, fontsize=10)
    return figure


def _against_actual(result: Result, notice: str) -> Figure:
    found = result.predictions
    actual = found.study.target[found.rows]
    figure = Figure(figsize=(11, 4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(1, 2.2))
    top = float(max(actual.max(), found.predicted.max())) * 1.03
    left.plot([0, top], [0, top], color="#333333", linewidth=0.8)
    left.scatter(actual, found.predicted, s=5, alpha=0.35, color=_COLOURS["family"], linewidths=0)
    left.set(xlabel="measured CO, mg/m3", ylabel="predicted, mg/m3", xlim=(0, top), ylim=(0, top))
    rows = np.arange(found.rows[0], found.rows[-1] + 1)
    moments = [datetime_of(int(hour)) for hour in found.study.frame.hours[rows]]
    predicted = np.full(len(rows), np.nan)
    predicted[found.rows - rows[0]] = found.predicted
    right.plot(moments, found.study.target[rows], color="#333333", linewidth=0.7, label="measured")
    right.plot(moments, predicted, color=_CHAMPION_COLOUR, linewidth=0.7, alpha=0.85, label="predicted")
    right.set_ylabel("CO, mg/m3")
    right.xaxis.set_major_formatter(ConciseDateFormatter(right.xaxis.get_major_locator()))
    right.legend(frameon=False, ncols=2)
    figure.suptitle(
        f"{result.run.name}: RMSE {result.figures['rmse']:.3f} mg/m3 on {result.n:,} measured test hours{notice}"
    )
    return figure


def _by_week(results: list[Result], notice: str) -> Figure:
    figure, axes = _canvas(8.5, 4)
    for result in results:
        found = result.predictions
        week = (found.study.frame.hours[found.rows] - found.study.frame.hours[found.study.bounds[1]]) // WEEKLY_HOURS
        error = found.predicted - found.study.target[found.rows]
        weeks = np.unique(week)
        rmse = [float(np.sqrt(np.mean(error[week == w] ** 2))) for w in weeks]
        axes.plot(weeks + 1, rmse, marker="o", markersize=4, label=result.run.name)
    axes.set(xlabel="week of the test block", ylabel="RMSE, mg/m3", ylim=(0, None))
    axes.set_title(f"Error by week of the test block{notice}", fontsize=10)
    axes.legend(frameon=False)
    return figure


def _canvas(width: float, height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure: Figure, path: Path) -> None:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=100, metadata={"Software": None})
    write_atomically(path, content.getvalue())
