"""Score the validation rows with the fit that never saw them, and calibrate the monitoring on history.

Writes ``reference.csv`` (every validation hour with its prediction) and ``reference_calibration.json`` (column scales,
thresholds with their false-alarm budgets, the baseline error), and ``detectors.json`` with ``detectors.npz``, the
hour-by-hour detectors (off, and saying so, where the history is too short for them), and ``intervals.json``, the scores
that prediction intervals are made of. Needs no running service.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

import numpy as np

from airquality.data import dataset
from airquality.data.dataset import Frame
from airquality.ground import command, log
from airquality.ground.errors import ContractError, UsageError
from airquality.ground.files import write_atomically
from airquality.ground.settings import Settings, read_settings
from airquality.model import backtest, features, inputs
from airquality.model.backtest import Origin
from airquality.model.model import TRAIN_ONLY_DIR, Model
from airquality.monitoring import calibration as detectors
from airquality.monitoring.reference import Reference
from airquality.monitoring.thresholds import CALIBRATION_NAME, REFERENCE_NAME, Calibration, Threshold
from airquality.monitoring.window_calibration import History, calibrate_history, span
from airquality.records import RAW_COLUMNS, TARGET_INDEX, TARGET_UNIT
from airquality.truth import interval_calibration
from airquality.truth.interval_calibration import Floats, Forecasts, forecasts_of
from airquality.truth.intervals import Case
from airquality.truth.kinds import KINDS, WindowKind
from airquality.truth.performance import Performance

_EXAMPLES = """\
examples:
  python generate_reference_dataset.py                      from dataset/ and artifacts/
  python generate_reference_dataset.py --dataset-dir data   from another folder

exit status: 0 done, 1 failure, 2 wrong usage, or a model that was fitted on other data
"""
_ELSEWHERE = ", then pass --artifacts-dir run/training-simulated/artifacts"


def main(argv: list[str] | None = None) -> int:
    """Run the program and return its exit code."""
    args = _parser().parse_args(argv)
    return command.run("generate_reference_dataset.py", lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    settings = read_settings(dataset_dir=args.dataset_dir, artifacts_dir=args.artifacts_dir)
    log.configure(settings.log_level, settings.log_format)
    print("\n".join(generate(settings)))


def _parser() -> argparse.ArgumentParser:
    parser = command.parser("python generate_reference_dataset.py", __doc__ or "", _EXAMPLES)
    parser.add_argument("--dataset-dir", type=Path, help="where the data is and the files go (DATASET_DIR; default dataset)")
    parser.add_argument("--artifacts-dir", type=Path, help="where the fitted models are (ARTIFACTS_DIR; default artifacts)")
    return parser


def generate(settings: Settings) -> list[str]:
    """Write the files and return the lines that say what they hold.

    Raises:
        UsageError: the model was fitted on other data than the data set at hand, or that is too short.
        ContractError: the reference's error is not the VALID the model's card states.
    """
    frame = dataset.current(settings.dataset_dir, settings.air_quality_data_source)
    model = Model.load(settings.artifacts_dir / TRAIN_ONLY_DIR)
    _require_same_data(model, frame)
    reference = score(frame, model)
    calibration = calibrate_on(frame, model, reference, settings.dataset_dir / backtest.FILE_NAME)
    _require_valid(model, calibration.baseline)
    table = np.column_stack((reference.values, reference.predictions))
    path = settings.dataset_dir / REFERENCE_NAME
    dataset.write_table(path, (*RAW_COLUMNS, "prediction"), reference.hours, table)
    text = json.dumps(calibration.to_json(), indent=1) + "\n"
    write_atomically(settings.dataset_dir / CALIBRATION_NAME, text.encode())
    known = frame.rows(0, len(dataset.split(frame).train) + len(reference.hours))
    lines = detectors.make(known.hours, known.values, known.source, known.sha256, settings.dataset_dir)
    lines += ["", *_make_intervals(known, model, reference, settings.dataset_dir)]
    return _summary(path, reference, calibration, lines)


def _make_intervals(known: Frame, model: Model, reference: Reference, folder: Path) -> list[str]:
    """Calibrate the intervals on the predictions that the thresholds are calibrated on, and on ones with late truth."""
    first = len(known) - len(reference.hours)
    late = inputs.late_predictions(model, known, first)[first:]
    prompt = out_of_sample(known, model, reference, folder / backtest.FILE_NAME)
    history: dict[Case, Forecasts] = {
        "prompt": forecasts_of(known.hours, known.values, prompt),
        "late": forecasts_of(reference.hours, reference.values, late, inputs.LATE_HOURS),
    }
    made = interval_calibration.calibrate(history, known.source, known.sha256, model.hash)
    interval_calibration.write(made, folder)
    return interval_calibration.summary(made, folder)


def _require_same_data(model: Model, frame: Frame) -> None:
    if model.card.data_hash != dataset.split(frame).train.sha256:
        raise UsageError(
            f"The model was fitted on {model.card.data_source} data with hash {model.card.data_hash[:12]}, not on the "
            f"training rows of the {frame.source} data set at hand. Train again: python training/train.py --quick"
            f"{_ELSEWHERE if frame.source == 'simulated' else ''}"
        )


def _require_valid(model: Model, baseline: Performance) -> None:
    valid = model.card.scores["validation"]["rmse"]
    if not math.isclose(baseline.rmse, valid, rel_tol=1e-9):
        raise ContractError(f"The reference's RMSE is {baseline.rmse!r} but the model's card says VALID {valid!r}")


def score(frame: Frame, model: Model) -> Reference:
    """Return the validation rows with their predictions; their features may look back into the training rows."""
    train, validation, _ = dataset.split(frame)
    known = frame.rows(0, len(train) + len(validation))
    rows = features.batch(known.hours, known.values)[len(train) :]
    return Reference(validation.hours, validation.values, model.predict(rows))


def calibrate_on(frame: Frame, model: Model, reference: Reference, earlier: Path) -> Calibration:
    """Return all thresholds, from training and validation rows alone.

    Args:
        frame: The data set.
        model: The fit that predicted the reference.
        reference: The validation rows.
        earlier: ``backtest.csv``, which need not exist.

    Raises:
        UsageError: ``earlier`` was made of other data, or by another champion.
    """
    n_train, n_reference = len(dataset.split(frame).train), len(reference.hours)
    known = frame.rows(0, n_train + n_reference)
    predictions = out_of_sample(known, model, reference, earlier)
    history = History(known.hours, known.values, predictions, n_reference)
    return Calibration(
        kinds={kind.name: calibrate_history(history, kind) for kind in KINDS},
        baseline=Performance.of(reference.predictions, reference.values[:, TARGET_INDEX]),
        data_source=frame.source,
        data_hash=known.sha256,
        model_hash=model.hash,
        reference_hash=reference.digest(),
    )


def out_of_sample(known: Frame, model: Model, reference: Reference, earlier: Path) -> Floats:
    """Return predictions of the hours before the test block by fits that had not seen them; NaN where there is none."""
    origin = Origin(known.source, known.sha256, model.card.features_hash, model.card.parameters)
    predictions = backtest.read(earlier, known, origin)
    predictions[len(known) - len(reference.hours) :] = reference.predictions
    return predictions


def _summary(path: Path, reference: Reference, calibration: Calibration, of_detectors: list[str]) -> list[str]:
    baseline = calibration.baseline
    notice = ["SIMULATED DATA: no real measurement in these files"] if calibration.data_source == "simulated" else []
    return [
        *notice,
        f"{path} ({calibration.data_source}): {len(reference.hours):,} hours, {span(reference.hours)}, out of sample",
        f"baseline: RMSE {baseline.rmse:.4f}, MAE {baseline.mae:.4f} {TARGET_UNIT}, R2 {baseline.r2:.4f} "
        f"on {baseline.n:,} truths",
        "",
        f"{'window':8}{'verdict':18}{'budget':>8}{'held out':>10}{'windows':>9}",
        *(
            _threshold_line(kind.name, name, threshold)
            for kind in KINDS
            for name, threshold in _thresholds(calibration, kind)
        ),
        "",
        f"{path.with_name(CALIBRATION_NAME)}: budget is the share of windows without known faults that may raise",
        "the verdict, held out the share that did when each four weeks were judged by thresholds calibrated without them.",
        "",
        *of_detectors,
        *notice,
    ]


def _thresholds(calibration: Calibration, kind: WindowKind) -> list[tuple[str, Threshold]]:
    limits = calibration.kinds[kind.name]
    return [("data drift", limits.data), ("prediction drift", limits.prediction), ("performance", limits.performance)]


def _threshold_line(kind: str, name: str, threshold: Threshold) -> str:
    over = "  over its budget" if threshold.held_out_rate > threshold.budget else ""
    return f"{kind:8}{name:18}{threshold.budget:8.1%}{threshold.held_out_rate:10.1%}{threshold.windows:9,}{over}"


if __name__ == "__main__":
    sys.exit(main())
