"""Make up a history that looks like the real one, for where the data set cannot be had. Its numbers are no measurements."""

from __future__ import annotations

import math
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from airquality.ground.errors import UsageError
from airquality.network.current import NETWORK
from airquality.network.declaration import Column, Recorded, Response, Twin, Weather
from airquality.records import hour_of

Hours = NDArray[np.int64]
Values = NDArray[np.float64]

# What the simulator knows of any station: the dates of the real history, how dry and humid its air is, and means by hour of
# its log target, all rounded. What it knows of single columns is in the declaration of the network.
_N_ROWS = 9357
_HUMIDITY = (9.0, 89.0)  # per cent
_BLOCK_STARTS = (6549, 7953)  # missing shares differ by block of the 70/15/15 split
_FIRST_HOUR = hour_of(datetime(2004, 3, 10, 18))
_WORKDAY = np.ravel(
    [
        [0.35, 0.16, -0.18, -0.45, -0.53, -0.5, -0.12, 0.57, 1.14, 1.17, 0.97, 0.81],
        [0.76, 0.79, 0.77, 0.73, 0.82, 1.05, 1.26, 1.35, 1.25, 0.91, 0.6, 0.52],
    ]
)
_WEEKEND = np.ravel(
    [
        [0.69, 0.45, 0.17, 0.02, -0.22, -0.37, -0.39, -0.1, 0.15, 0.31, 0.39, 0.41],
        [0.42, 0.31, 0.14, 0.13, 0.32, 0.46, 0.62, 0.78, 0.78, 0.64, 0.52, 0.52],
    ]
)


def simulate(seed: int) -> tuple[Hours, Values]:
    """Make up a history with the real one's dates, precision, gaps and rough statistics; one ``seed``, one history.

    A hidden log target follows traffic by hour and kind of day, season and weather; every analyser and sensor sees it with
    an exponent, temperature, humidity, drift and correlated noise of its own. Twins are computed from their sources, as
    in real data.

    Returns:
        Hours ``(9357,)`` and values ``(9357, n_columns)`` in the order of the declaration, NaN where missing.

    Raises:
        UsageError: the declaration of the network does not say how a column is simulated.
    """
    rng = np.random.default_rng(seed)
    hours = _FIRST_HOUR + np.arange(_N_ROWS)
    year = 2 * np.pi * (hours / 24 % 365.25) / 365.25
    log_target = _simulated_log_target(rng, hours, year)
    weather = _simulated_weather(rng, hours, year)
    columns = {NETWORK.target.name: np.asarray(np.exp(log_target + rng.normal(0, 0.04, _N_ROWS)))}
    for column in NETWORK.columns:
        if isinstance(column.simulated, Response):
            columns[column.name] = _respond(column.simulated, rng, log_target, weather)
        elif column.simulated is not None:
            columns[column.name] = weather[column.simulated]
    for twin in NETWORK.twins:
        if twin.simulated:
            columns[twin.column] = _computed(twin, columns)
    values = np.column_stack([_as_recorded(columns, column) for column in NETWORK.columns])
    values[_simulated_gaps(rng, hours)] = np.nan
    return hours, values


def _respond(response: Response, rng: np.random.Generator, log_target: Values, weather: dict[Weather, Values]) -> Values:
    """Return what an instrument would report, shape ``(_N_ROWS,)``."""
    drift = response.drift * np.linspace(0, 1, _N_ROWS)
    noise = _wander(rng, 0.99, 0.5 * response.noise) + _wander(rng, 0.6, 0.6 * response.noise)
    follows = response.temperature * weather["temperature"] + response.vapour * weather["vapour"]
    return np.asarray(np.exp(response.base + response.target * log_target + follows + drift + noise))


def _computed(twin: Twin, columns: dict[str, Values]) -> Values:
    """Return what the device computes, from its sources in the precision they are recorded in."""
    value = np.polyval(twin.simulated, _rounded(columns, NETWORK[twin.argument]) / twin.scale)
    factor = 1.0 if twin.factor is None else _rounded(columns, NETWORK[twin.factor])
    return np.asarray(factor * value, dtype=np.float64)


def _rounded(columns: dict[str, Values], column: Column) -> Values:
    return columns[column.name].round(_recorded(columns, column).decimals)


def _as_recorded(columns: dict[str, Values], column: Column) -> Values:
    recorded = _recorded(columns, column)
    return np.asarray(np.round(np.clip(columns[column.name], recorded.low, recorded.high), recorded.decimals))


def _recorded(columns: dict[str, Values], column: Column) -> Recorded:
    if column.recorded is None or column.name not in columns:
        raise UsageError(
            f"{column.name} cannot be simulated: the declaration of {NETWORK.name} does not say how. Use real data, or "
            "declare what it records and how it answers."
        )
    return column.recorded


def _simulated_log_target(rng: np.random.Generator, hours: Hours, year: Values) -> Values:
    weekend = (hours // 24 + 3) % 7 >= 5  # 1970-01-01 was a Thursday
    traffic = np.where(weekend, _WEEKEND[hours % 24], _WORKDAY[hours % 24])
    winter = 0.2 * np.cos(year - 2 * np.pi * 0.95)
    return np.asarray(traffic + winter + _wander(rng, 0.985, 0.35) + _wander(rng, 0.75, 0.3))


def _simulated_weather(rng: np.random.Generator, hours: Hours, year: Values) -> dict[Weather, Values]:
    warmth = np.cos(year - 2 * np.pi * 0.56)
    temperature = 18 + 10 * warmth + (4 + warmth) * np.cos(2 * np.pi * (hours % 24 - 15.5) / 24) + _wander(rng, 0.985, 2.8)
    vapour = np.exp(-0.05 + 0.42 * warmth + _wander(rng, 0.99, 0.25))
    saturation = 0.607 * np.exp(17.67 * temperature / (temperature + 243.5))  # kPa; vapour is recorded as pressure
    humidity = np.clip(100 * vapour / saturation, *_HUMIDITY)
    return {"temperature": temperature, "humidity": humidity, "vapour": humidity * saturation / 100}


def _wander(rng: np.random.Generator, persistence: float, deviation: float) -> Values:
    """Return an AR(1) series of mean 0, shape ``(_N_ROWS,)``."""
    steps = rng.normal(0, deviation * math.sqrt(1 - persistence**2), _N_ROWS).tolist()
    level = rng.normal(0, deviation)
    return np.array([level := persistence * level + step for step in steps])


def _simulated_gaps(rng: np.random.Generator, hours: Hours) -> NDArray[np.bool_]:
    """Return what was not measured, shape ``(_N_ROWS, n_columns)``: outages per group of columns and block of the split."""
    missing = np.zeros((_N_ROWS, len(NETWORK.columns)), dtype=bool)
    for outage in NETWORK.outages:
        calibrates = NETWORK[outage.columns[0]].role in ("target", "analyser")
        blocks = zip(np.split(hours, _BLOCK_STARTS), outage.shares, strict=True)
        lost = np.concatenate([_outages(rng, block, share, calibrates) for block, share in blocks])
        missing[:, [NETWORK.index(name) for name in outage.columns]] = lost[:, np.newaxis]
    for index, column in enumerate(NETWORK.columns):
        if column.recorded is not None and column.recorded.rows is not None:
            missing[column.recorded.rows :, index] = True
    return missing


def _outages(rng: np.random.Generator, hours: Hours, share: float, calibrates: bool) -> NDArray[np.bool_]:
    """Return ``share`` of the hours as missing: a third of the 4 o'clocks if it ``calibrates`` then, the rest in blocks."""
    missing = np.asarray(calibrates & (hours % 24 == 4) & (rng.random(len(hours)) < 0.35))
    while (short := round(share * len(hours)) - int(missing.sum())) > 0:
        length = min(short, int(np.exp(rng.uniform(0, math.log(150)))))
        start = int(rng.integers(len(hours) - length + 1))
        missing[start : start + length] = True
    return missing
