"""Score the prediction intervals and the estimated error on history and on the test, into docs/intervals.md.

Everything is played forward as the stream would publish it. The settings of ``airquality/truth/intervals.py`` were
chosen on the stretches of history alone; the test block had been used before (see docs/model-card.md) and is labelled so.
Needs the data set, ``backtest.csv`` and ``artifacts/``; chooses nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from airquality.data import dataset
from airquality.data.dataset import Frame
from airquality.ground import command, log
from airquality.ground.errors import UsageError
from airquality.ground.settings import Settings, read_settings
from airquality.model import backtest, features, inputs
from airquality.model.backtest import Origin
from airquality.model.inputs import LATE_HOURS
from airquality.model.model import TRAIN_ONLY_DIR, Model
from airquality.monitoring.coverage import CoverageWatch
from airquality.records import HISTORY_HOURS, datetime_of
from airquality.truth import interval_calibration
from airquality.truth.band import band_of
from airquality.truth.interval_calibration import Floats, Forecasts, forecasts_of
from airquality.truth.interval_scores import Coverage, IntervalScores, constant, score
from airquality.truth.intervals import Case, Interval, Intervals
from training import results

PAGE = Path(__file__).resolve().parent.parent / "docs" / "intervals.md"
#: What counts as a high hour in the tables, in the target's unit.
HIGH_FROM = 4.0
_MONTH_HOURS = 730.5
_EXAMPLES = """\
examples:
  python -m training.intervals             print the tables
  python -m training.intervals --write     and put them into docs/intervals.md
  python -m training.intervals --no-test   history only, as while settings are chosen

exit status: 0 done, 1 failure, 2 wrong usage
"""


@dataclass(frozen=True)
class Stretch:
    """One line of the tables: what was known, and the hours after it that are judged."""

    name: str
    case: Case
    calibrated_on: Forecasts
    judged: Forecasts

    def scores(self) -> IntervalScores:
        """Return the figures of the intervals that would have been published."""
        return score(self._published(), self.judged, HIGH_FROM)

    def coverage_alarms(self) -> int:
        """Return how often coverage would have left its band: none of these hours has a known fault, so each is false."""
        known = interval_calibration.play(self._calibrated(), self.calibrated_on)
        watch = CoverageWatch(self.case, band_of(interval_calibration.inside(known, self.calibrated_on)))
        truths = interval_calibration.inside(self._published(), self.judged)
        return sum(event.kind == "opened" for at, inside in enumerate(truths) for event in watch.learn(at, inside))

    def _published(self) -> list[Interval | None]:
        live = self._calibrated()
        if self.calibrated_on.hours[-1] < self.judged.hours[0]:
            interval_calibration.play(live, _end_of(self.calibrated_on))
        return interval_calibration.play(live, self.judged)

    def _calibrated(self) -> Intervals:
        table = interval_calibration.table_of(self.case, self.calibrated_on)
        if table is None:
            raise UsageError(f"{self.name}: too few truths to calibrate on")
        return Intervals({self.case: table}, "")


def _end_of(known: Forecasts) -> Forecasts:
    """Return the last truths before the judged hours without predictions: they say how late truth is, and teach nothing."""
    return _cut(known, len(known.hours) - 2 * LATE_HOURS, len(known.hours), np.full(len(known.hours), np.nan))


def _cut(whole: Forecasts, start: int, stop: int, predictions: Floats | None = None) -> Forecasts:
    made = whole.predictions if predictions is None else predictions
    rows = slice(start, stop)
    return Forecasts(whole.hours[rows], made[rows], whole.truths[rows], whole.silent[rows], whole.delay_hours)


def stretches_of_history(frame: Frame, twin: Model, earlier: Path) -> list[Stretch]:
    """Return the stretches that settings were chosen on, all of them before the test rows."""
    validation, test = dataset.split_rows(len(frame))
    known = frame.rows(0, test)
    predicted = _out_of_sample(known, twin, earlier, validation)
    whole = _forecasts(known, predicted)
    first = int(np.flatnonzero(~np.isnan(predicted))[0])
    middle = (first + validation) // 2
    late = _forecasts(known, inputs.late_predictions(twin, known, validation), LATE_HOURS)
    half = (validation + test) // 2
    one, other = _cut(late, validation, half), _cut(late, half, test)
    return [
        Stretch("history, second half", "prompt", _cut(whole, first, middle), _cut(whole, middle, validation)),
        Stretch("validation", "prompt", _cut(whole, first, validation), _cut(whole, validation, test)),
        Stretch("validation, second half", "late", one, other),
        Stretch("validation, first half (known: the second)", "late", other, one),
    ]


def stretches_of_test(frame: Frame, champion: Model, twin: Model, earlier: Path) -> list[Stretch]:
    """Return the test block as a stream that begins there publishes it, calibrated as shipped."""
    validation, test = dataset.split_rows(len(frame))
    known, block = frame.rows(0, test), frame.rows(test, len(frame))
    whole = _forecasts(known, _out_of_sample(known, twin, earlier, validation))
    late = _forecasts(known, inputs.late_predictions(twin, known, validation), LATE_HOURS)
    prompt_test = _without_warmup(champion.predict(features.batch(block.hours, block.values)))
    late_test = _without_warmup(inputs.late_predictions(champion, block, 0))
    return [
        Stretch("test", "prompt", whole, _forecasts(block, prompt_test)),
        Stretch("test", "late", _cut(late, validation, test), _forecasts(block, late_test, LATE_HOURS)),
    ]


def _forecasts(frame: Frame, predictions: Floats, delay_hours: int = 0) -> Forecasts:
    return forecasts_of(frame.hours, frame.values, predictions, delay_hours)


def _without_warmup(predictions: Floats) -> Floats:
    return np.concatenate([np.full(HISTORY_HOURS, np.nan), predictions[HISTORY_HOURS:]])


def _out_of_sample(known: Frame, twin: Model, earlier: Path, validation: int) -> Floats:
    origin = Origin(known.source, known.sha256, twin.card.features_hash, twin.card.parameters)
    predicted = backtest.read(earlier, known, origin)
    if np.isnan(predicted).all():
        raise UsageError(f"{earlier} is absent: python -m training.backtest makes it")
    predicted[validation:] = twin.predict(features.batch(known.hours, known.values)[validation:])
    return predicted


def table(stretches: list[Stretch]) -> str:
    """Return coverage, widths and errors of the stretches as Markdown."""
    return "\n".join([*_HEADER, *_lines(stretches)])


_HEADER = (
    "| hours | truth | from | truths | covered | low / middle / high level | CO >= 4 | device silent | worst week"
    " | mean width | constant, known before: covered, width | constant, known after: width | weekly RMSE, estimated"
    " | coverage alarms |",
    "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
)


def _lines(stretches: list[Stretch]) -> Iterator[str]:
    for stretch in stretches:
        found = stretch.scores()
        covered, width = constant(stretch.calibrated_on, stretch.judged)
        cells = [
            stretch.name,
            {"prompt": "in the row", "late": f"{LATE_HOURS} h late"}[stretch.case],
            f"{datetime_of(int(stretch.judged.hours[0])):%Y-%m-%d}",
            f"{found.every.n:,}",
            _share(found.every),
            " / ".join(_share(level) for level in found.levels),
            _with_n(found.high),
            _with_n(found.silent),
            f"{found.worst_week:.3f}",
            f"{found.width:.3f}",
            f"{covered:.3f}, {width:.3f}",
            f"{found.constant_width:.3f}",
            f"{found.weekly_error.share:.0%} off, {found.weekly_error.n} weeks",
            f"{stretch.coverage_alarms()} in {len(stretch.judged.hours) / _MONTH_HOURS:.1f} months",
        ]
        yield f"| {' | '.join(cells)} |"


def _share(coverage: Coverage) -> str:
    return f"{coverage.share:.3f}" if coverage.n else "-"


def _with_n(coverage: Coverage) -> str:
    return f"{coverage.share:.3f} ({coverage.n})" if coverage.n else "-"


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = command.parser("python -m training.intervals", __doc__ or "", _EXAMPLES)
    parser.add_argument("--write", action="store_true", help="put the tables into docs/intervals.md")
    parser.add_argument("--no-test", action="store_true", help="leave the test block alone")
    args = parser.parse_args(argv)
    return command.run("training.intervals", lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    settings = read_settings()
    log.configure(settings.log_level, settings.log_format)
    blocks = tables(settings, with_test=not args.no_test)
    print("\n\n".join(blocks.values()))
    if args.write:
        results.fill(PAGE, **blocks)


def tables(settings: Settings, *, with_test: bool) -> dict[str, str]:
    """Return the tables of the page by the name of their place."""
    frame = dataset.current(settings.dataset_dir, settings.air_quality_data_source)
    twin, earlier = Model.load(settings.artifacts_dir / TRAIN_ONLY_DIR), settings.dataset_dir / backtest.FILE_NAME
    blocks = {"history": table(stretches_of_history(frame, twin, earlier))}
    if with_test:
        blocks["test"] = table(stretches_of_test(frame, Model.load(settings.artifacts_dir), twin, earlier))
    return blocks


if __name__ == "__main__":
    sys.exit(main())
