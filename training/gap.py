"""Why does the champion look better on the test block than on validation? Say it in figures, for the model card.

Needs the data set and ``artifacts/``; chooses nothing.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from airquality.data import dataset
from airquality.data.dataset import Frame
from airquality.ground import command, log
from airquality.ground.settings import read_settings
from airquality.model import features
from airquality.model.model import TRAIN_ONLY_DIR, Model
from airquality.records import DEVICE_COLUMNS, RAW_COLUMNS, datetime_of
from training import results

MODEL_CARD = Path(__file__).resolve().parent.parent / "docs" / "model-card.md"
_EXAMPLES = """\
examples:
  python -m training.gap           print the table
  python -m training.gap --write   and put it into docs/model-card.md

exit status: 0 done, 1 failure, 2 wrong usage
"""
Floats = NDArray[np.float64]


def table(frame: Frame, champion: Model, twin: Model) -> str:
    """Return the table as Markdown: the same fit on both blocks, and what sets the blocks apart.

    Args:
        frame: The data set.
        champion: Fitted on train and validation.
        twin: The fit that has seen only the training rows.
    """
    matrix = features.batch(frame.hours, frame.values)
    validation, test = dataset.split_rows(len(frame))
    blocks = {"VALID": slice(validation, test), "test": slice(test, len(frame))}
    errors = {name: _errors(twin, matrix, frame, rows) for name, rows in blocks.items()}
    refitted = _errors(champion, matrix, frame, blocks["test"])
    day, share, without = _worst_day(errors["VALID"], frame.hours[blocks["VALID"]])
    silent = [_silent_share(frame, rows) for rows in blocks.values()]
    levels = [float(np.nanmean(frame.values[rows, 0])) for rows in blocks.values()]
    return "\n".join(
        [
            "| figure | VALID | test |",
            "|---|---|---|",
            f"| RMSE of the train-only fit, mg/m3 | {_rmse(errors['VALID']):.4f} | {_rmse(errors['test']):.4f} |",
            f"| RMSE of the champion, refitted on train and validation | - | {_rmse(refitted):.4f} |",
            f"| the same without {day}, a day with {share:.0%} of VALID's squared error | {without:.4f} | - |",
            f"| measured hours without a reporting device | {silent[0]:.1%} | {silent[1]:.1%} |",
            f"| mean of measured CO, mg/m3 | {levels[0]:.2f} | {levels[1]:.2f} |",
        ]
    )


def _errors(model: Model, matrix: Floats, frame: Frame, rows: slice) -> Floats:
    """Return prediction minus truth of the block's hours, NaN where nothing was measured."""
    return np.asarray(model.predict(matrix[rows]) - frame.values[rows, 0], dtype=np.float64)


def _rmse(errors: Floats) -> float:
    return float(np.sqrt(np.nanmean(errors**2)))


def _worst_day(errors: Floats, hours: NDArray[np.int64]) -> tuple[str, float, float]:
    """Return the day with most of the squared error, its share of it, and the RMSE of the other days."""
    days = hours // 24
    sums = {int(day): float(np.nansum(errors[days == day] ** 2)) for day in np.unique(days)}
    worst = max(sums, key=lambda day: sums[day])
    return f"{datetime_of(worst * 24):%Y-%m-%d}", sums[worst] / sum(sums.values()), _rmse(errors[days != worst])


def _silent_share(frame: Frame, rows: slice) -> float:
    values = frame.values[rows]
    measured = values[~np.isnan(values[:, 0])]
    return float(np.isnan(measured[:, [RAW_COLUMNS.index(name) for name in DEVICE_COLUMNS]]).all(axis=1).mean())


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = command.parser("python -m training.gap", __doc__ or "", _EXAMPLES)
    parser.add_argument("--write", action="store_true", help="put the table into docs/model-card.md")
    args = parser.parse_args(argv)
    return command.run("training.gap", lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    settings = read_settings()
    log.configure(settings.log_level, settings.log_format)
    frame = dataset.current(settings.dataset_dir, settings.air_quality_data_source)
    text = table(frame, Model.load(settings.artifacts_dir), Model.load(settings.artifacts_dir / TRAIN_ONLY_DIR))
    print(text)
    if args.write:
        results.fill(MODEL_CARD, gap=text)


if __name__ == "__main__":
    sys.exit(main())
