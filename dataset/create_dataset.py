"""Make the files the other programs read from the data set; see ``--help``."""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

sys.path.insert(
    0, str(Path(__file__).resolve().parent.parent)
)  # `python dataset/create_dataset.py` puts dataset/ there instead

from airquality.data import dataset
from airquality.data.dataset import Frame, Split
from airquality.ground import command, log
from airquality.ground.errors import UsageError
from airquality.ground.settings import read_settings
from airquality.model import features
from airquality.records import RAW_COLUMNS, TARGET, datetime_of

EVAL_NAME = "eval_data_engineered.csv"
_SIMULATED_NOTICE = (
    "*** SIMULATED DATA: the real data set could not be had or was not wanted. Nothing below is a measurement. ***"
)
_DESCRIPTION = """\
Find the UCI Air Quality data set, cut it by time and write what the other programs read. No service is needed.

It looks for AirQualityUCI.csv in the dataset folder, then in folders called dataset of the directories beside the
project (another checkout, say), then downloads it (data set 360, CC BY 4.0; checked by SHA-256). A copy of the file is
taken if every value in it is the published one, however it is written; of any other it is said what differs. Offline it
makes up a history of the same format and says SIMULATED.

The first 70 % of the hours are for training, the next 15 % for validation, the last 15 % for the test. Written are
  test_data_raw.csv         the test hours as measured: what producer.py replays
  eval_data_engineered.csv  the features of the same hours beside the target as measured: what offline scores are made of
  source.json               whether all this is real or simulated
A missing value stays missing: nothing is filled.
"""
_EXAMPLES = """\
examples:
  python dataset/create_dataset.py                      the real data if it can be had, else simulated
  python dataset/create_dataset.py --source uci         the real data or an error
  python dataset/create_dataset.py --source simulated   no download, no real data

exit status: 0 done, 1 the real data cannot be had, 2 wrong usage or a file that is not the published one
"""


def main(argv: list[str] | None = None) -> int:
    """Run the program and return its exit code."""
    args = _parser().parse_args(argv)
    return command.run("create_dataset.py", lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    settings = read_settings(dataset_dir=args.dataset_dir, air_quality_data_source=args.source)
    log.configure(settings.log_level, settings.log_format)
    chosen = "dataset_dir" in settings.model_fields_set
    create(settings.dataset_dir if chosen else Path(__file__).resolve().parent, settings.air_quality_data_source)


def _parser() -> argparse.ArgumentParser:
    parser = command.parser("python dataset/create_dataset.py", _DESCRIPTION, _EXAMPLES)
    parser.add_argument(
        "--source", choices=("auto", "uci", "simulated"), help="which data to use (AIR_QUALITY_DATA_SOURCE; default auto)"
    )
    parser.add_argument(
        "--dataset-dir", type=Path, help="where to look and write (DATASET_DIR; default: beside this program)"
    )
    return parser


def create(dataset_dir: Path, choice: dataset.Choice) -> None:
    """Find the data set, write the derived files and their label into ``dataset_dir``, and print what they hold."""
    found = dataset.find(dataset_dir, choice)
    frame = dataset.load(found.path)
    parts = dataset.split(frame)
    with kept_if_foreign(dataset_dir / dataset.STREAM_NAME):
        dataset.write_stream_csv(parts.test, dataset_dir / dataset.STREAM_NAME)
    with kept_if_foreign(dataset_dir / EVAL_NAME):
        write_engineered(frame, dataset_dir / EVAL_NAME)
    dataset.write_label(dataset_dir, frame, (dataset.STREAM_NAME, EVAL_NAME))
    print("\n".join(summary(found.path, dataset_dir, frame, parts)))


@contextmanager
def kept_if_foreign(path: Path) -> Iterator[None]:
    """Move a file that this program did not write out of the way before the block writes it anew, and say so."""
    if not path.exists() or _is_own(path):
        yield
        return
    kept = path.with_name(f"{path.stem}.kept-{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}{path.suffix}")
    path.replace(kept)
    yield
    if kept.read_bytes() == path.read_bytes():
        kept.unlink()
    else:
        print(f"{path} was not written by this program, or was changed since: kept as {kept}")


def _is_own(path: Path) -> bool:
    """Whether the label beside a file lists it unchanged."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == dataset.read_label(path.parent).files.get(path.name)
    except UsageError:
        return False


def write_engineered(frame: Frame, path: Path) -> None:
    """Write the features of the test hours, made of all earlier hours, beside the target as measured."""
    first = dataset.split_rows(len(frame))[1]
    rows = features.batch(frame.hours, frame.values)[first:]
    target = frame.truths[first:, np.newaxis]
    dataset.write_table(path, (TARGET, *features.NAMES), frame.hours[first:], np.hstack([target, rows]))


def summary(path: Path, dataset_dir: Path, frame: Frame, parts: Split) -> list[str]:
    """Return the lines that say what was found, what is missing from it, and what was written."""
    notice = [_SIMULATED_NOTICE] if frame.source == "simulated" else []
    n_rows, n_measured = len(parts.test), _measured(parts.test)
    return [
        *notice,
        f"{path} ({frame.source}): {len(frame):,} hourly rows, {_span(frame)}",
        "",
        *_block_lines(parts),
        "",
        *_missing_lines(parts),
        "",
        f"{dataset_dir / dataset.STREAM_NAME}: {n_rows:,} rows for producer.py",
        f"{dataset_dir / EVAL_NAME}: {n_rows:,} rows of {len(features.NAMES)} features, {n_measured:,} with {TARGET}",
        f"{dataset_dir / dataset.LABEL_NAME}: data source {frame.source}",
        *notice,
    ]


def _block_lines(parts: Split) -> list[str]:
    lines = [f"{'block':12} {'rows':>6} {'measured ' + TARGET:>16}  hours"]
    for name, part in zip(Split._fields, parts, strict=True):
        lines.append(f"{name:12} {len(part):6,} {_measured(part):16,}  {_span(part)}")
    return lines


def _missing_lines(parts: Split) -> list[str]:
    shares = np.column_stack([100 * np.isnan(part.values).mean(axis=0) for part in parts])
    lines = [f"{'missing, %':14} {'train':>6} {'valid.':>6} {'test':>6}"]
    for name, (train, validation, test) in zip(RAW_COLUMNS, shares.tolist(), strict=True):
        lines.append(f"{name:14} {train:6.1f} {validation:6.1f} {test:6.1f}")
    return lines


def _measured(frame: Frame) -> int:
    return int(np.count_nonzero(~np.isnan(frame.truths)))


def _span(frame: Frame) -> str:
    first, last = (f"{datetime_of(int(hour)):%Y-%m-%d %H:%M}" for hour in frame.hours[[0, -1]])
    return f"{first} to {last}"


if __name__ == "__main__":
    sys.exit(main())
