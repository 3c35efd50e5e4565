"""Score the detectors on faults put into the test stream, beside what others would use; see ``--help``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from airquality.data import dataset
from airquality.data.dataset import Frame
from airquality.ground.errors import AirQualityError, UsageError
from airquality.ground.settings import read_settings
from airquality.monitoring import calibration
from airquality.monitoring.calibration import Calibration
from lab.faultlab import rivals, scoreboard, settings, suite
from lab.faultlab.faults import Fault, Healthy, cases, inject
from lab.faultlab.scoreboard import Score
from lab.faultlab.scoring import names_of, onsets_of

_DESCRIPTION = """\
Put thirteen kinds of fault into every column at twelve onsets and count what is named within 14 days, after how many hours.

The test stream is scored only with settings and detectors that are committed. To choose, score history: --history calibrates
on the training rows and puts the faults into the validation rows.
"""
_QUICK_EVERY = 4


def main(argv: list[str] | None = None) -> int:
    """Run the lab; 0 done, 1 failure, 2 usage."""
    args = _parser().parse_args(argv)
    try:
        run(args)
    except AirQualityError as error:
        print(f"faultlab: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lab.faultlab", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--history", action="store_true", help="score the validation rows, not the test")
    parser.add_argument("--quick", action="store_true", help="three onsets instead of twelve")
    parser.add_argument("--rival", action="append", default=[], metavar="MODULE:FUNCTION", help="score your own method, too")
    parser.add_argument("--out", type=Path, help="folder of the scoreboard (docs/faultlab; run/faultlab if not in full)")
    parser.add_argument("--dataset-dir", type=Path, help="where the data is (DATASET_DIR)")
    return parser


def run(args: argparse.Namespace) -> None:
    """Score, print and write; raises ``UsageError`` if settings are not committed or the data are not there."""
    started = time.perf_counter()
    chosen = settings.read()
    commit = "history" if args.history else settings.require_committed()
    choice = read_settings(dataset_dir=args.dataset_dir)
    frame = dataset.current(choice.dataset_dir, choice.air_quality_data_source)
    past, stream = _blocks(frame, args.history)
    fitted = calibration.calibrate(past.hours, past.values, past.source, past.sha256)
    onsets = onsets_of(len(stream))[:: _QUICK_EVERY if args.quick else 1]
    faults = cases(onsets, chosen.kinds)
    scores = score(fitted, past, stream, faults, chosen.budget, [rivals.own(place) for place in args.rival])
    facts = _facts(fitted, frame, commit, args, chosen, time.perf_counter() - started)
    in_full = not (args.history or args.quick)
    folder = args.out or Path("docs/faultlab" if in_full else "run/faultlab")
    for path in scoreboard.write(scores, facts, folder, _title(args)):
        print(path)
    for found in map(scoreboard.summary, scores):
        print("\n" + "\n".join(f"{name:34}{value}" for name, value in found.items()))


def _blocks(frame: Frame, history: bool) -> tuple[Frame, Frame]:
    train, validation, test = dataset.split(frame)
    return (train, validation) if history else (frame.rows(0, len(train) + len(validation)), test)


def _title(args: argparse.Namespace) -> str:
    what = "history (validation rows)" if args.history else "the test stream"
    return f"Fault lab: {what}{', three onsets' if args.quick else ''}"


def score(
    fitted: Calibration,
    past: Frame,
    stream: Frame,
    faults: Sequence[Fault],
    budget: float,
    more: Sequence[tuple[str, rivals.Rival]] = (),
) -> list[Score]:
    """Return the detectors' score, then each rival's."""
    healthy = Healthy.of(stream.values, past.values)
    clean = names_of(suite.clean_events(fitted, stream.hours, stream.values, budget))
    ours = suite.outcomes(fitted, stream.hours, healthy, faults, budget)
    scores = [Score(scoreboard.DETECTORS, ours, clean, len(stream))]
    inputs = [inject(healthy, fault, fitted.suite.relations) for fault in faults]
    reference = past.values[-len(stream) :]
    for name, rival in [*rivals.RIVALS.items(), *more]:
        found = rivals.outcomes(rival, reference, stream.hours, healthy, faults, inputs)
        names = rivals.clean_names(rival, reference, stream.hours, stream.values)
        scores.append(Score(name, found, names, len(stream)))
    return scores


def _facts(
    fitted: Calibration, frame: Frame, commit: str, args: argparse.Namespace, chosen: settings.LabSettings, seconds: float
) -> list[str]:
    budget = chosen.budget
    purchase, months = fitted.purchase(budget), fitted.tail.months
    held_out, nested = sum(purchase.held_out) / months, sum(purchase.nested) / months
    options = " --quick" * args.quick + " --history" * args.history
    command = f"python -m lab.faultlab{options}" if options else "make faultlab"
    return [
        f"Made by `{command}` in {seconds:.0f} s on {frame.source} data; settings and detectors of commit {commit[:12]}.",
        f"Budget {budget:g} false pages a month. On {months:.2f} months of history: {held_out:.2f} a month held out "
        f"{purchase.held_out}, {nested:.2f} nested, the rate itself chosen without the judged block {purchase.nested}.",
        "Named: an alarm names the column, or a group it belongs to, within 14 days. By chance: the stream without the "
        "fault has such an alarm then, too. First name: the first alarm the fault causes; T, RH, AH and S2, C6H6 are kin.",
        "Methods side by side: the seven nodes (S1 to S5, T, RH), C6H6 and AH computed from the faulty value.",
        *(
            []
            if args.history
            else [f"How often the test stream has been scored, and why again. {'. '.join(chosen.scorings)}."]
        ),
        *_agreement(args),
    ]


def _agreement(args: argparse.Namespace) -> list[str]:
    """Say that the distance called as a function is the one in Evidently's own report."""
    largest = _largest_difference(rivals.evidently_distance)
    return [f"Evidently's distance, called as a function, differs from its Report's by at most {largest:.1e} on 20 windows."]


def _largest_difference(distance: Callable[[NDArray[np.float64], NDArray[np.float64]], float]) -> float:
    rng = np.random.default_rng(360)
    reference = rng.gamma(4.0, 250.0, 1404)
    windows = [rng.gamma(4.0, 250.0 * factor, 24) for factor in np.linspace(0.6, 1.6, 20)]
    return max(abs(distance(reference, window) - rivals.report_distance(reference, window)) for window in windows)


if __name__ == "__main__":
    sys.exit(main())
