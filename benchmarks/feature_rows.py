"""The cost of a feature row, and of the usual way to make one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from airquality.model import features
from airquality.records import HISTORY_HOURS, RAW_COLUMNS, TARGET

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]

FIRST_HOUR = 307_668


def made_up_values(rng: np.random.Generator, n_rows: int) -> Floats:
    scale = np.array([2, 1100, 100, 9, 940, 240, 800, 110, 1400, 1000, 18, 49, 1.0])
    values = np.round(scale * rng.uniform(0.5, 1.5, (n_rows, len(RAW_COLUMNS))), 1)
    values[rng.random(values.shape) < 0.05] = np.nan
    return values


@dataclass(frozen=True)
class Case:
    """A way to ask for feature rows, and how many it gives."""

    name: str
    call: Callable[[], object]
    n_rows: int


def cases() -> list[Case]:
    import pandas as pd  # it takes half a second to import, which no --help should

    values = made_up_values(np.random.default_rng(2), HISTORY_HOURS + 512)
    hours = np.arange(FIRST_HOUR, FIRST_HOUR + len(values))
    positions = np.arange(HISTORY_HOURS, len(values))
    many = np.vstack([values[: HISTORY_HOURS + 1]] * 1000)
    ends = np.arange(1000) * (HISTORY_HOURS + 1) + HISTORY_HOURS
    window = pd.DataFrame(values[: HISTORY_HOURS + 1], columns=list(RAW_COLUMNS))
    return [
        Case("512 rows of one station", lambda: features.rows(values, hours[positions], positions), 512),
        Case("one row of 1,000 stations", lambda: features.rows(many, np.full(1000, FIRST_HOUR), ends), 1000),
        Case("one row", lambda: features.rows(values, hours[positions[:1]], positions[:1]), 1),
        Case("one row by pandas", lambda: by_pandas(window), 1),
    ]


def by_pandas(window: pd.DataFrame) -> list[float]:
    """Compute about as many features the usual way: the rolling columns of the whole window, of which one row is kept."""
    target = window[TARGET].shift(1)
    columns = [target.shift(lag) for lag in (0, 1, 2, 5, 11, 23, 47, 71)]
    for hours in (3, 6, 12, 24, 72, 168):
        rolling = target.rolling(hours, min_periods=1)
        columns += [rolling.mean(), rolling.std(), rolling.min(), rolling.max()]
    for name in (name for name in RAW_COLUMNS if name != TARGET):
        sensor = window[name]
        columns += [sensor, sensor.diff(), sensor.diff().diff(), sensor.diff(24)]
        columns += [sensor / sensor.rolling(hours, min_periods=1).mean() for hours in (24, 168)]
    return [column.iloc[-1] for column in columns]
