"""Judge files of readings with the detectors: no Kafka, no service, no model."""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from airquality.data import dataset
from airquality.data.accepted import accepted
from airquality.data.dataset import Frame
from airquality.data.files import answers
from airquality.data.files.answers import NO_ANSWERS, Answers
from airquality.data.steps import why_not_hourly
from airquality.ground import command, log
from airquality.ground.errors import UsageError
from airquality.ground.files import write_atomically
from airquality.ground.settings import read_settings
from airquality.ground.shown import printable, shown
from airquality.monitoring import calibration
from airquality.monitoring.alarms import Event
from airquality.monitoring.calibration import DEFAULT_BUDGET, STALE_HOURS, Calibration
from airquality.monitoring.learning import judged_from
from airquality.monitoring.network import NODE_COLUMNS
from airquality.monitoring.silence import silences
from airquality.monitoring.watch import Watch
from airquality.records import DEVICE_COLUMNS, RAW_COLUMNS, TARGET, isoformat

if TYPE_CHECKING:
    from airquality.data.files.reader import Table

ALARMS = 3
#: A file of that size takes some seconds to read.
LARGE_BYTES = 20_000_000
#: Between two steps of the bar.
_ROWS_AT_A_TIME = 4_032
#: How a file begins.
FOLLOWS = "follows the calibrated history"
COLD = "rows of no calibrated station, judged by the calibrated one's thresholds; starts cold"
#: What ``check`` leaves out, because it judges predictions and not rows.
NOT_JUDGED = ("prediction drift", "performance", "daily and weekly drift of distributions")
_DESCRIPTION = """\
Judge CSV files of hourly readings, each file one station, hour by hour, as the stream would.

A file has a time and the data set's thirteen columns, as docs/files.md says; an empty cell, NA or -200 is a missing value.
Whatever is in doubt is refused, with the flag that settles it. Its alarms are those that a station sending these rows would
raise. The station starts cold, so levels are judged from about the 18th day on, unless the file's first hour follows the
calibrated history: then it goes on where that ended.
"""
_EPILOG = """\
examples:
  python -m airquality check dataset/test_data_raw.csv            the test stream, as the calibrated station goes on
  python -m airquality check stations/*.csv --json                one JSON line an event, for programs
  python -m airquality check roof.csv --budget 2 --page pages     at most two false pages a month; a page of its own
  zcat roof.csv.gz | python -m airquality check -                 standard input

exit status: 0 no alarm, 3 alarms, 2 wrong usage or a file that cannot be read, 1 pages that cannot be written
"""


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found in one file. ``remarks`` say what was left out or could not be judged."""

    path: Path
    n_rows: int
    start: str
    events: tuple[Event, ...]
    remarks: tuple[str, ...]


def main(argv: list[str] | None = None) -> int:
    """Run the tool; 0 no alarm, 3 alarms, 2 usage, 1 failure."""
    args = _parser().parse_args(argv)
    return command.run("python -m airquality check", lambda: run(args))


def run(args: argparse.Namespace) -> int:
    """Check every file; a file that cannot be read is said and does not stop the others, and the exit code is 2."""
    settings = read_settings(dataset_dir=args.dataset_dir)
    fitted = calibration.load(settings.dataset_dir)
    watch = fitted.watch(args.budget)
    names = page_names(args.files) if args.page is not None else {}
    if names:
        args.page.mkdir(parents=True, exist_ok=True)  # if that cannot be, it is said before hours of rows are judged
    said = answers.from_arguments(args)
    n_alarms = n_unreadable = 0
    for path in tqdm(args.files, unit=" files", disable=None if len(args.files) > 1 else True):
        _announce_large(path)
        try:
            checked = check(path, fitted, watch, int(time.time()) // 3600, said)
        except UsageError as error:
            n_unreadable += 1
            with tqdm.external_write_mode():
                log.complain("python -m airquality check", str(error))
            continue
        n_alarms += sum(event.kind == "opened" for event in checked.events)
        _say(checked, as_json=args.json, fitted=fitted)
        if names:
            write_atomically(args.page / names[path], page(checked, fitted, args.budget).encode())
    return command.USAGE if n_unreadable else ALARMS if n_alarms else command.DONE


def _announce_large(path: Path) -> None:
    """Say on standard error that a file is being read that takes a while."""
    size = path.stat().st_size if path.is_file() else 0
    if size >= LARGE_BYTES:
        with tqdm.external_write_mode():
            log.complain("python -m airquality check", f"reading {path}, {size / 1e6:,.0f} MB")


def page_names(paths: Iterable[Path]) -> dict[Path, str]:
    """Return a file name for each path: its own, numbered from the second of that name on, whatever its capitals."""
    names: dict[Path, str] = {}
    used: set[str] = set()
    for path in dict.fromkeys(paths):
        numbered = itertools.chain([path.stem], (f"{path.stem}-{number}" for number in itertools.count(2)))
        name = next(name for name in numbered if name.lower() not in used)
        used.add(name.lower())
        names[path] = f"{name}.html"
    return names


def _parser() -> argparse.ArgumentParser:
    parser = command.parser("python -m airquality check", _DESCRIPTION, _EPILOG)
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE.csv", help="hourly readings of one station; - is standard input"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON line an event")
    parser.add_argument(
        "--budget", type=command.positive, default=DEFAULT_BUDGET, metavar="N", help="false pages a month (default 1)"
    )
    parser.add_argument("--page", type=Path, metavar="DIR", help="write one HTML page a file into DIR")
    parser.add_argument("--dataset-dir", type=Path, help="where detectors.json is (DATASET_DIR; default dataset)")
    answers.add_arguments(parser)
    return parser


def check(path: Path, fitted: Calibration, watch: Watch[str], now_hour: int, said: Answers = NO_ANSWERS) -> Checked:
    """Return what the detectors say of one file, read as its owner ``said``.

    Raises:
        UsageError: it cannot be read, or is not hourly.
    """
    from airquality.data.files import doubts, reader  # pandas takes half a second to import, which no --help should

    table = reader.read(path, said)
    if not len(table.hours):
        raise UsageError(f"{path} has a header but no rows.")
    whole, odd_steps = dataset.frame_of(path, table), why_not_hourly(table.hours)
    if odd_steps:
        raise UsageError(f"{path} is not judged: its rows are not hourly ({odd_steps}), and the detectors count hours")
    frame, left_out = accepted(whole, now_hour)
    remarks = [*(line.strip() for line in reader.sentences(path, table)[1:2]), *_doubts(path, table, said), *left_out]
    if 2 * len(frame) < len(whole):
        doubts.settle(path, table, said)  # where it knows why most rows are refused, there is nothing to judge
    if not len(frame):
        raise UsageError(f"{path} holds no row that a station could have sent{_because(remarks)}")
    if np.isnan(frame.values[:, [RAW_COLUMNS.index(name) for name in DEVICE_COLUMNS]]).all():
        raise UsageError(f"{path} holds no value of any sensor: nothing can be judged, which is not to say that all is well")
    station_id = str(path)
    follows = int(frame.hours[0]) == fitted.last_hour + 1
    if follows:
        watch.restore_memory(station_id, fitted.seed, fitted.first_hour)
    found = _judged(watch, station_id, frame)
    events = sorted([*silences(frame.hours.tolist()), *found], key=lambda event: event.at)
    learning = watch.learning(station_id)
    watch.forget(station_id)
    if not follows:
        remarks += _learning(learning, int(frame.hours[0]))
    remarks += [*_unusable(frame, fitted), *_stale(frame, fitted)]
    return Checked(path, len(frame), FOLLOWS if follows else COLD, tuple(events), tuple(remarks))


def _judged(watch: Watch[str], station_id: str, frame: Frame) -> list[Event]:
    """Judge all rows, as many at a time as take some seconds at the worst; a bar on a terminal shows how far it has come."""
    found: list[Event] = []
    with tqdm(total=len(frame), unit=" rows", desc=shown(station_id), delay=2.0, leave=False, disable=None) as bar:
        for start in range(0, len(frame), _ROWS_AT_A_TIME):
            rows = slice(start, start + _ROWS_AT_A_TIME)
            found += watch.observe({station_id: (frame.hours[rows], frame.values[rows])}).get(station_id, [])
            bar.update(len(frame.hours[rows]))
    return found


def _doubts(path: Path, table: Table, said: Answers) -> list[str]:
    """Return what is odd about the values. No reason not to judge: a fault may look like another unit."""
    from airquality.data.files import doubts

    try:
        return doubts.settle(path, table, said)
    except UsageError as doubt:
        return [f"in doubt: {doubt}"]


def _because(remarks: Sequence[str]) -> str:
    return f": {'; '.join(remarks)}" if remarks else ""


def _stale(frame: Frame, fitted: Calibration) -> Iterable[str]:
    """Say it where the thresholds are too old for the file's last row."""
    age = int(frame.hours[-1]) - fitted.last_hour
    if age > STALE_HOURS:
        yield (
            f"the thresholds end with {isoformat(fitted.last_hour)}, {age // 168:,} weeks before the last row: older than "
            f"{STALE_HOURS // 168} weeks, make them anew (python generate_reference_dataset.py)"
        )


def _learning(learning: Mapping[str, int], first_hour: int) -> Iterable[str]:
    """Say what a station that starts cold judges from when; ``learning`` are the columns that it still learns at its end."""
    usual = isoformat(judged_from(first_hour))
    if len(learning) == len(NODE_COLUMNS):
        yield f"learning: only the rules are judged; level, noise and ratio need rows up to {usual}"
        return
    yield f"learning until {usual}: before, only the rules were judged, not level, noise and ratio"
    if learning:
        yield f"learning still at the end, too few values: {', '.join(learning)}"


def _unusable(frame: Frame, fitted: Calibration) -> Iterable[str]:
    """Name the columns that were not judged, or whose unit seems to be another."""
    unread = [name for name in RAW_COLUMNS if name not in (*DEVICE_COLUMNS, TARGET)]
    yield f"no detector judges {', '.join(unread)}: the air itself varies too much there"
    for column in (*DEVICE_COLUMNS, TARGET):
        index = RAW_COLUMNS.index(column)
        known = frame.values[:, index][~np.isnan(frame.values[:, index])]
        if not len(known):
            yield f"{column} is not judged: it has no value"
            continue
        low, high = fitted.ranges[:, index]
        if np.median(known) < low or np.median(known) > high:
            yield (
                f"{column}: half of its values lie beyond {low:g} to {high:g}, all that the calibrated history has; "
                "is it in another unit, or another sensor?"
            )


def _say(checked: Checked, *, as_json: bool, fitted: Calibration) -> None:
    """Print what was found; with JSON, what is no event goes to standard error."""
    if as_json:
        for event in checked.events:
            tqdm.write(json.dumps({"file": str(checked.path), **event.to_json()}))
        for remark in checked.remarks:
            log.complain(str(checked.path), remark)
    else:
        tqdm.write("\n".join(map(printable, sentences(checked, fitted))))


def sentences(checked: Checked, fitted: Calibration) -> list[str]:
    """Return what is printed of one file."""
    opened = sum(event.kind == "opened" for event in checked.events)
    label = " (calibrated on SIMULATED data)" if fitted.data_source == "simulated" else ""
    rows, alarms = f"row{'s' * (checked.n_rows != 1)}", f"alarm{'s' * (opened != 1)}"
    lines = [f"{checked.path}: {checked.n_rows:,} {rows}, {checked.start}{label}; {opened or 'no'} {alarms}"]
    lines += [f"  {sentence(event)}" for event in checked.events]
    lines += [f"  note: {remark}" for remark in checked.remarks]
    return [*lines, f"  not judged here, needs the model: {', '.join(NOT_JUDGED)}"]


def sentence(event: Event) -> str:
    """Return an event in words."""
    size = "" if math.isnan(event.size) else f", size {event.size:.3g} {event.unit}"
    if event.kind == "closed":
        return f"{isoformat(event.at)} {event.column}: {event.detector} alarm closed"
    word = "alarm" if event.kind == "opened" else "now"
    return f"{isoformat(event.at)} {event.column}: {word} {event.detector}, since {isoformat(event.since)}{size}"


def page(checked: Checked, fitted: Calibration, budget: float) -> str:
    """Return a page of one file that needs nothing else."""
    keys = ("at", "event", "detector", "column", "since", "size", "unit")
    rows = [[str(event.to_json()[key]) for key in keys] for event in checked.events]
    purchase = fitted.purchase(budget)
    name = printable(checked.path.name)  # one that is not UTF-8 has no letters for some of its bytes
    notes: Sequence[str] = (*checked.remarks, f"not judged here, needs the model: {', '.join(NOT_JUDGED)}")
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{escape(name)}</title>"
        "<style>body{font:15px system-ui;margin:2em;max-width:70em}table{border-collapse:collapse}"
        "td,th{padding:.3em .8em;border-bottom:1px solid #ccc;text-align:left}</style>"
        f"<h1>{escape(name)}</h1><p>{escape(printable(sentences(checked, fitted)[0]))}</p>"
        f"<table><tr>{''.join(f'<th>{key}</th>' for key in keys)}</tr>"
        + "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
        + f"</table><ul>{''.join(f'<li>{escape(printable(note))}</li>' for note in notes)}</ul>"
        f"<p>False pages a month of these detectors on months they had not seen: "
        f"{sum(purchase.held_out) / fitted.tail.months:.2f} held out, "
        f"{sum(purchase.nested) / fitted.tail.months:.2f} nested (budget {purchase.budget:g}).</p></html>"
    )
