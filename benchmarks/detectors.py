"""Measure what the detectors cost: a row alone, a batch of one station, one row each of a thousand stations.

Run ``python -m benchmarks.detectors``; it needs the data set and ``dataset/detectors.json``.
CPU time, the best of several rounds.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from airquality.data import dataset
from airquality.monitoring import calibration
from airquality.monitoring.calibration import Calibration

Floats = NDArray[np.float64]

_ROUNDS = 7


def cost(fitted: Calibration, past: Floats, n_stations: int, n_rows: int) -> float:
    """Return CPU microseconds a row of stations that each send the last ``n_rows`` of the ``past`` once more, at once."""
    best = float("inf")
    hours = fitted.last_hour + 1 + np.arange(n_rows)
    ids = [str(index) for index in range(n_stations)]
    for _ in range(_ROUNDS):
        watch = fitted.watch()
        for station_id in ids:
            watch.restore_memory(station_id, fitted.seed, fitted.first_hour)
        arrived = dict.fromkeys(ids, (hours, past[-n_rows:]))
        started = time.process_time()
        watch.observe(arrived)
        best = min(best, time.process_time() - started)
    return best / n_stations / n_rows * 1e6


def main() -> int:
    fitted = calibration.load(Path("dataset"))
    train, validation, _ = dataset.split(dataset.current(Path("dataset")))
    past = np.concatenate([train.values, validation.values])
    for n_stations, n_rows in ((1, 1), (1, 512), (1000, 1)):
        print(f"{n_stations:5} stations, {n_rows:4} rows each: {cost(fitted, past, n_stations, n_rows):7.1f} us CPU a row")
    state = sum(np.asarray(table).nbytes for table in fitted.seed.values())
    print(f"state of a station: {state / 1024:.1f} KiB and its alarms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
