"""The one final step: open the test rows for frozen choices, score every run, and write what is committed as results."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from airquality.ground.files import write_atomically
from training import frozen
from training.bench import Bench
from training.explore import described
from training.frozen import Frozen, Run
from training.protocol import METRICS
from training.runs import Predictions, predict, tasks
from training.tracking import Tracker

#: How tables and metrics call the blocks.
PREFIXES = {"validation": "valid", "test": "test"}

logger = logging.getLogger("training")


@dataclass(frozen=True)
class Result:
    """One run on one block: metrics with their 90 % intervals, and the predictions behind them."""

    run: Run
    figures: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    predictions: Predictions

    @property
    def n(self) -> int:
        """How many measured hours were scored."""
        return len(self.predictions.rows)


Results = dict[str, dict[str, Result]]


def open_test(path: Path, bench: Bench, tracker: Tracker) -> Results:
    """Score every frozen run on validation and test and log it; the results are by prefix (``valid``, ``test``) and name.

    Args:
        path: The frozen file.
        bench: Its studies hold the test rows.
        tracker: Where the runs are, or are made.

    Raises:
        ContractError: the file is not committed as it stands, or was made for other data or features. Nothing is scored.
    """
    commit = frozen.committed(path)
    choices = frozen.read(path)
    study = bench.studies["all"]
    frozen.require_fits(choices, study.before_test().frame.sha256)
    logger.info("opening the test rows for %s as committed in %s", path.name, commit[:12])
    # all fits first, so that no worker waits for the next run; what follows finds them on the bench
    bench.predict(
        [task for run in choices.runs for block in PREFIXES for task in tasks(run, bench.studies[run.inputs], block)]
    )
    results: Results = {prefix: {} for prefix in PREFIXES.values()}
    for run in choices.runs:
        with tracker.run(run.name) as run_id:
            for block, prefix in PREFIXES.items():
                results[prefix][run.name] = _result(run, choices, bench, block)
            metrics = [_metrics(results[prefix][run.name], prefix) for prefix in results]
            tracker.log(run_id, {**metrics[0], **metrics[1], "frozen": 1.0}, described(run))
    return results


def _result(run: Run, choices: Frozen, bench: Bench, block: str) -> Result:
    found = predict(run, choices.named(), bench, block)
    rows, predicted = found.rows, found.predicted
    return Result(run, found.study.score(rows, predicted), found.study.intervals(rows, predicted), found)


def _metrics(result: Result, prefix: str) -> dict[str, float]:
    figures = {f"{prefix}_{name}": value for name, value in result.figures.items()}
    for name in METRICS:
        figures[f"{prefix}_{name}_low"], figures[f"{prefix}_{name}_high"] = result.intervals[name]
    return figures


def write_opening(directory: Path, frozen_path: Path) -> None:
    """Write which commit froze the choices that the results beside this file belong to."""
    opening = {
        "frozen_commit": frozen.committed(frozen_path),
        "frozen_sha256": frozen.sha256(frozen_path),
        "code_commit": frozen.head(frozen_path.parent),
    }
    write_atomically(directory / "opened.json", (json.dumps(opening, indent=1) + "\n").encode())
