"""Predict the months before the test out of sample, so that monitoring is calibrated on errors like those it will see.

A model that scores rows it was fitted on looks better than it will ever be again. Here the champion's configuration is
fitted again every four weeks on what was known by then, and predicts the four weeks that follow; the last stretch, the
validation rows, is predicted by the train-only fit, as in ``reference.csv``.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # typed as `python training/backtest.py`, from any folder
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from tqdm import tqdm

from airquality.data import dataset
from airquality.ground import command, log
from airquality.ground.settings import read_settings
from airquality.model import backtest, features
from airquality.model.backtest import Origin
from airquality.records import isoformat
from training import champion, frozen
from training.protocol import Floats, Study

REFIT_HOURS = 28 * 24
#: History before the first fit: sixteen weeks, the least that holds every hour of the week often enough.
_FIRST_FIT_HOURS = 16 * 168
_EXAMPLES = """\
examples:
  python -m training.backtest                      of the data set in dataset/
  python -m training.backtest --dataset-dir data   of another folder's

exit status: 0 done, 1 failure, 2 wrong usage
"""


def forward_chain(
    study: Study,
    parameters: Mapping[str, Any],
    refit_hours: int = REFIT_HOURS,
    first_fit_hours: int = _FIRST_FIT_HOURS,
    workers: int = 1,
    show: bool = False,
) -> Floats:
    """Return out-of-sample predictions of every hour before the test block.

    Args:
        study: Its test rows, if it has any, are not looked at.
        parameters: XGBoost's, and ``rounds``.
        refit_hours: Between two fits before the validation block.
        first_fit_hours: The least the first fit knows.
        workers: Fits at a time, one thread each; the result does not depend on it.
        show: Whether to show progress: a bar on a terminal, a line a fit elsewhere.

    Returns:
        mg/m3, shape ``(first test row,)``, NaN before the first fit.
    """
    from sklearn.utils.parallel import Parallel, delayed  # it takes seconds to import, which no --help should

    validation, test = study.bounds
    predicted = np.full(test, np.nan)
    starts = [*range(validation, first_fit_hours - 1, -refit_hours)][::-1]
    stretches = list(zip(starts, [*starts[1:], test], strict=True))
    jobs = [delayed(_stretch)(study, parameters, *stretch) for stretch in stretches]
    # threads: XGBoost runs outside the interpreter's lock, and Ctrl-C has no worker processes to chase
    fits = Parallel(n_jobs=min(workers, len(jobs)), prefer="threads", return_as="generator")(jobs)
    with tqdm(total=len(jobs), unit=" fits", disable=not (show and sys.stderr.isatty())) as bar:
        for number, ((start, stop), values) in enumerate(zip(stretches, fits, strict=True), 1):
            predicted[start:stop] = values
            bar.update()
            if show and bar.disable:
                print(f"fit {number} of {len(jobs)} predicted {stop - start:,} hours", flush=True)
    return predicted


def _stretch(study: Study, parameters: Mapping[str, Any], start: int, stop: int) -> Floats:
    """Return predictions of the rows from ``start`` to ``stop`` by a fit that knows the rows before them."""
    known = study.measured_before(start)
    model = champion.fit_rows(study, known, parameters, f"rows before {start}", study.frame.rows(0, start))
    return model.predict(study.matrix[start:stop])


def origin_of(study: Study, parameters: Mapping[str, Any]) -> Origin:
    """Return what the predictions of a study before its test block are made of."""
    frame = study.frame
    return Origin(frame.source, frame.sha256, str(features.manifest()["hash"]), {**champion.FIXED, **parameters})


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 0 done, 1 failure, 2 usage."""
    parser = command.parser("python -m training.backtest", __doc__ or "", _EXAMPLES)
    parser.add_argument("--dataset-dir", type=Path, help="where the data is and the file goes (DATASET_DIR)")
    args = parser.parse_args(argv)
    return command.run("training.backtest", lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    settings = read_settings(dataset_dir=args.dataset_dir)
    log.configure(settings.log_level, settings.log_format)
    started = time.perf_counter()
    frame = dataset.current(settings.dataset_dir, settings.air_quality_data_source)
    study = Study.of(frame).before_test()
    parameters = frozen.read().champion_parameters
    workers = os.cpu_count() or 1
    print(
        f"{settings.dataset_dir} ({frame.source}): fits of ever more history, {workers} at a time; Ctrl-C stops it",
        flush=True,
    )
    predicted = forward_chain(study, parameters, workers=workers, show=True)
    path = settings.dataset_dir / backtest.FILE_NAME
    n_hours = backtest.write(path, study.frame, predicted, origin_of(study, parameters))
    first = isoformat(int(frame.hours[np.flatnonzero(~np.isnan(predicted))[0]]))
    print(f"{path} ({frame.source}): {n_hours:,} hours from {first} in {time.perf_counter() - started:.1f} s")


if __name__ == "__main__":
    sys.exit(main())
