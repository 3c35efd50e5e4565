"""Measure what the detectors cost: a row alone, a batch of one station, one row each of a thousand stations.

Run ``python -m benchmarks.detectors``; ``--write`` keeps the table in ``benchmarks/detectors.md``. It needs the data set,
whose test rows follow the history the detectors are calibrated on. CPU time, the best of several rounds; once as the rows
are, and once with a column stuck, so that an alarm is open.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from airquality.data import dataset
from airquality.monitoring import calibration
from airquality.monitoring.calibration import Calibration
from airquality.network.current import NETWORK
from airquality.records import RAW_COLUMNS

Floats = NDArray[np.float64]

_ROUNDS = 7
_PATH = Path(__file__).with_suffix(".md")
#: What is measured: stations, rows of each, rows at a time, and the most it may cost.
_CASES = {
    "one row alone": (1, 168, 1, "1,000"),
    "512 rows of one station": (1, 512, 512, "20, or 60"),
    "one row of each of 1,000 stations": (1000, 1, 1, "20, or 60"),
}
_STUCK = NETWORK.of_role("weather")[0].name


def cost(fitted: Calibration, rows: Floats, n_stations: int, at_once: int, rounds: int = _ROUNDS) -> float:
    """Return CPU microseconds a row of stations that each send ``rows``, ``at_once`` at a time."""
    ids = [str(index) for index in range(n_stations)]
    hours = fitted.last_hour + 1 + np.arange(len(rows))
    edges = [*range(0, len(rows), at_once), len(rows)]
    best = float("inf")
    for _ in range(rounds):
        watch = fitted.watch()
        for station_id in ids:
            watch.restore_memory(station_id, fitted.seed, fitted.first_hour)
        started = time.process_time()
        for begin, end in itertools.pairwise(edges):
            watch.observe(dict.fromkeys(ids, (hours[begin:end], rows[begin:end])))
        best = min(best, time.process_time() - started)
    return best / n_stations / len(rows) * 1e6


def table(fitted: Calibration, stream: Floats) -> list[str]:
    """Return the result as lines of markdown."""
    stuck = stream.copy()
    stuck[:, RAW_COLUMNS.index(_STUCK)] = 20.0
    lines = [
        f"| µs of CPU a row | as it is | with {_STUCK} stuck, an alarm open | target |",
        "|---|---|---|---|",
    ]
    for name, (n_stations, n_rows, at_once, target) in _CASES.items():
        clean, faulty = (cost(fitted, rows[:n_rows], n_stations, at_once) for rows in (stream, stuck))
        lines.append(f"| {name} | {clean:,.0f} | {faulty:,.0f} | {target} |")
    state = sum(np.asarray(part).nbytes for part in fitted.seed.values())
    return [*lines, "", f"State of a station: {state / 1024:.1f} KiB and its alarms; at most 64 KiB."]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.detectors", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--write", action="store_true", help=f"keep the table in benchmarks/{_PATH.name}")
    args = parser.parse_args(argv)
    frame = dataset.current(Path("dataset"))
    train, validation, test = dataset.split(frame)
    history = frame.rows(0, len(train) + len(validation))
    fitted = calibration.calibrate(history.hours, history.values, history.source, history.sha256)
    load = os.getloadavg()[0]
    head = ["# What the detectors cost", "", f"Made by `python -m benchmarks.detectors --write` on {frame.source} data."]
    made = (
        f"Machine: {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, numpy {np.__version__};"
    )
    text = "\n".join([*head, f"{made} load average {load:.1f} before.", "", *table(fitted, test.values), ""])
    print(text)
    if args.write:
        _PATH.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
