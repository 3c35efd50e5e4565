"""Ways to ask for feature rows, as the consumer does and as it is usually done, whose cost is to be measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airquality.records import HISTORY_HOURS, RAW_COLUMNS, TARGET, Reading
from airquality.stream.feature_rows import take_features
from airquality.stream.station import Station
from benchmarks.lives import Lives

if TYPE_CHECKING:
    import pandas as pd

#: Opens a station as the consumer does: those of one process share what they can.
Open = Callable[[str], Station]


@dataclass(frozen=True)
class Case:
    """A way to ask for feature rows: what comes before each call, unmeasured, the call, and how many rows it gives."""

    name: str
    prepare: Callable[[], object]
    call: Callable[[], object]
    n_rows: int


def cases(lives: Lives, open_station: Open) -> Iterator[Case]:
    """Yield the cases, on hours of the data set, through the stations' own buffers."""
    import pandas as pd  # it takes half a second to import, which no --help should

    yield _case("one row", lives, open_station, 1, 1)
    yield _case("512 rows of one station", lives, open_station, 1, 512)
    yield _case("one row of 1,000 stations", lives, open_station, 1_000, 1)
    values = [reading.values for reading in lives.rows(1, HISTORY_HOURS + 1)]
    window = pd.DataFrame(values, columns=list(RAW_COLUMNS))
    yield Case("one row by pandas", lambda: None, lambda: by_pandas(window), 1)


def _case(name: str, lives: Lives, open_station: Open, n_stations: int, n_hours: int) -> Case:
    """Return a case of warm stations, of each of which so many hours come between two calls."""
    readings = _endless(lives, n_stations)
    stations = [open_station(f"{name} {number}").buffer for number in range(n_stations)]

    def push(hours: int) -> None:
        for _ in range(hours):
            for station in stations:
                station.push(next(readings))

    push(HISTORY_HOURS)
    return Case(name, lambda: push(n_hours), lambda: take_features(stations), n_stations * n_hours)


def _endless(lives: Lives, n_stations: int) -> Iterator[Reading]:
    """Yield the hours of stations, hour by hour, and again from the start in the hours after that."""
    return lives.rows(n_stations, 10**9)


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
