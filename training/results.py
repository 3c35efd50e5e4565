"""What a finished study leaves behind as text: a table a metric and block, and the tables of the model card."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING

from airquality.ground.files import write_atomically
from training.protocol import METRICS

if TYPE_CHECKING:  # the study's modules take seconds to import, which no --help should
    from training.final import Result, Results

TITLES = {
    "rmse": "RMSE, mg/m3",
    "mae": "MAE, mg/m3",
    "r2": "R2",
    "mape": "MAPE, %",
    "smape": "SMAPE, %",
    "mase": "MASE",
}


def write_metrics(results: Results, directory: Path) -> None:
    """Write ``{test,valid}_{metric}.csv``: run, group, value, its 90 % day-block bootstrap interval, hours scored."""
    for prefix, by_name in results.items():
        for metric in METRICS:
            text = io.StringIO()
            lines = csv.writer(text, lineterminator="\n")
            lines.writerow(("run", "group", metric, "low", "high", "n"))
            for name, result in by_name.items():
                low, high = result.intervals[metric]
                values = (_digits(v, 6) for v in (result.figures[metric], low, high))
                lines.writerow((name, result.run.group, *values, result.n))
            write_atomically(directory / f"{prefix}_{metric}.csv", text.getvalue().encode())


def read_metric(directory: Path, prefix: str, metric: str) -> dict[str, dict[str, str]]:
    """Return the rows of a metric's table by run."""
    with (directory / f"{prefix}_{metric}.csv").open(newline="") as file:
        return {row["run"]: row for row in csv.DictReader(file)}


def table(results: Results) -> str:
    """Return the table of all runs as Markdown."""
    header = "| run | VALID RMSE | test RMSE | 90 % interval | test MAE | test R2 | hours |"
    rows = [header, "|---|---|---|---|---|---|---|"]
    for name, test in results["test"].items():
        low, high = (_digits(limit, 3) for limit in test.intervals["rmse"])
        rmse, mae, r2 = (_digits(test.figures[metric], 4) for metric in ("rmse", "mae", "r2"))
        valid = _digits(results["valid"][name].figures["rmse"], 4)
        rows.append(f"| {name} | {valid} | {rmse} | {low} - {high} | {mae} | {r2} | {test.n:,} |")
    return "\n".join(rows)


def headline(valid: Result, test: Result) -> str:
    """Return the champion's figures on both blocks, with intervals, as Markdown."""
    rows = ["| metric | VALID | 90 % interval | test | 90 % interval |", "|---|---|---|---|---|"]
    for metric, title in TITLES.items():
        shown = [[_digits(v, 4) for v in (r.figures[metric], *r.intervals[metric])] for r in (valid, test)]
        cells = [f"{value} | {low} - {high}" for value, low, high in shown]
        rows.append(f"| {title} | {cells[0]} | {cells[1]} |")
    return "\n".join(rows)


def _digits(value: float, n: int) -> str:
    """Return ``value`` with n digits, rounded from the six the tables keep: page and table never differ in the last one."""
    return f"{float(f'{value:.6f}'):.{n}f}"


def fill(page: Path, **blocks: str) -> None:
    """Put each block between its markers ``<!-- name -->`` and ``<!-- /name -->`` in ``page``."""
    text = page.read_text()
    for name, block in blocks.items():
        before, _, rest = text.partition(f"<!-- {name} -->\n")
        text = f"{before}<!-- {name} -->\n{block}\n<!-- /{name} -->{rest.partition(f'<!-- /{name} -->')[2]}"
    write_atomically(page, text.encode())
