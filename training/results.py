"""What a finished study leaves behind as text: a table a metric and block, and the tables of the model card."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from airquality.dataset import write_atomically
from training.final import Result, Results
from training.protocol import METRICS

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
                values = (f"{v:.6f}" for v in (result.figures[metric], low, high))
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
        low, high = test.intervals["rmse"]
        figures = (
            f"{test.figures['rmse']:.4f} | {low:.3f} - {high:.3f} | {test.figures['mae']:.4f} | {test.figures['r2']:.4f}"
        )
        rows.append(f"| {name} | {results['valid'][name].figures['rmse']:.4f} | {figures} | {test.n:,} |")
    return "\n".join(rows)


def headline(valid: Result, test: Result) -> str:
    """Return the champion's figures on both blocks, with intervals, as Markdown."""
    rows = ["| metric | VALID | 90 % interval | test | 90 % interval |", "|---|---|---|---|---|"]
    for metric, title in TITLES.items():
        cells = [
            f"{r.figures[metric]:.4f} | {r.intervals[metric][0]:.4f} - {r.intervals[metric][1]:.4f}" for r in (valid, test)
        ]
        rows.append(f"| {title} | {cells[0]} | {cells[1]} |")
    return "\n".join(rows)


def fill(page: Path, **blocks: str) -> None:
    """Put each block between its markers ``<!-- name -->`` and ``<!-- /name -->`` in ``page``."""
    text = page.read_text()
    for name, block in blocks.items():
        before, _, rest = text.partition(f"<!-- {name} -->\n")
        text = f"{before}<!-- {name} -->\n{block}\n<!-- /{name} -->{rest.partition(f'<!-- /{name} -->')[2]}"
    write_atomically(page, text.encode())
