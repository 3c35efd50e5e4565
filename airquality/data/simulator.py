"""Make up a history that looks like the real one, for where the data set cannot be had. Its numbers are no measurements."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from airquality.records import DEVICE_COLUMNS, RAW_COLUMNS, TARGET, hour_of

Hours = NDArray[np.int64]
Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Response:
    """How one instrument answers, as a log-linear law; ``drift`` is its gain in log units from first row to last."""

    base: float
    co: float
    temperature: float
    humidity: float
    drift: float
    noise: float

    def simulate(self, rng: np.random.Generator, log_co: Values, temperature: Values, humidity: Values) -> Values:
        """Return what it would report, shape ``(_N_ROWS,)``."""
        drift = self.drift * np.linspace(0, 1, _N_ROWS)
        noise = _wander(rng, 0.99, 0.5 * self.noise) + _wander(rng, 0.6, 0.6 * self.noise)
        weather = self.temperature * temperature + self.humidity * humidity
        return np.asarray(np.exp(self.base + self.co * log_co + weather + drift + noise))


# What the simulator knows of the real station: means by hour, ranges, and least-squares fits to its logs, all rounded.
_N_ROWS = 9357
_BLOCK_STARTS = (6549, 7953)  # missing shares differ by block of the 70/15/15 split
_FIRST_HOUR = hour_of(datetime(2004, 3, 10, 18))
_NMHC_ROWS = 1231
_C6H6_OF_S2 = (-1.7811, 20.7176, -8.7492, 0.4035)
_WORKDAY_LOG_CO = np.ravel(
    [
        [0.35, 0.16, -0.18, -0.45, -0.53, -0.5, -0.12, 0.57, 1.14, 1.17, 0.97, 0.81],
        [0.76, 0.79, 0.77, 0.73, 0.82, 1.05, 1.26, 1.35, 1.25, 0.91, 0.6, 0.52],
    ]
)
_WEEKEND_LOG_CO = np.ravel(
    [
        [0.69, 0.45, 0.17, 0.02, -0.22, -0.37, -0.39, -0.1, 0.15, 0.31, 0.39, 0.41],
        [0.42, 0.31, 0.14, 0.13, 0.32, 0.46, 0.62, 0.78, 0.78, 0.64, 0.52, 0.52],
    ]
)
_RESPONSES = {
    "PT08.S1(CO)": _Response(6.85, 0.222, -0.003, 0.095, -0.012, 0.098),
    "NMHC(GT)": _Response(4.42, 1.1, 0.0, 0.0, 0.0, 0.3),
    "PT08.S2(NMHC)": _Response(6.53, 0.34, 0.005, 0.035, -0.024, 0.113),
    "NOx(GT)": _Response(4.41, 0.938, -0.013, -0.087, 1.106, 0.36),
    "PT08.S3(NOx)": _Response(7.26, -0.313, -0.001, -0.21, -0.4, 0.141),
    "NO2(GT)": _Response(4.47, 0.476, 0.008, -0.458, 0.41, 0.255),
    "PT08.S4(NO2)": _Response(6.98, 0.189, 0.002, 0.299, -0.315, 0.092),
    "PT08.S5(O3)": _Response(6.53, 0.461, -0.008, 0.193, 0.084, 0.223),
}
#: Smallest and largest value reported, and decimals recorded.
RECORDED = {
    TARGET: (0.1, 11.9, 1),
    "PT08.S1(CO)": (600, 2100, 0),
    "NMHC(GT)": (7, 1200, 0),
    "C6H6(GT)": (0.1, 64.0, 1),
    "PT08.S2(NMHC)": (380, 2300, 0),
    "NOx(GT)": (2, 1500, 0),
    "PT08.S3(NOx)": (300, 2700, 0),
    "NO2(GT)": (2, 350, 0),
    "PT08.S4(NO2)": (500, 2800, 0),
    "PT08.S5(O3)": (200, 2600, 0),
    "T": (-2.0, 45.0, 1),
    "RH": (9.0, 89.0, 1),
    "AH": (0.15, 2.3, 4),
}
#: Share missing in train, validation and test; the columns of a group go missing together. NMHC ends at _NMHC_ROWS besides.
_MISSING_SHARES: dict[tuple[str, ...], tuple[float, float, float]] = {
    (TARGET,): (0.226, 0.121, 0.021),
    ("NMHC(GT)",): (0.255, 0.0, 0.0),
    ("NOx(GT)", "NO2(GT)"): (0.221, 0.108, 0.026),
    DEVICE_COLUMNS: (0.023, 0.1, 0.055),
}


def simulate(seed: int) -> tuple[Hours, Values]:
    """Make up a history with the real one's dates, precision, gaps and rough statistics; one ``seed``, one history.

    A hidden log CO follows traffic by hour and kind of day, season and weather; every analyser and sensor sees it with
    an exponent, temperature, humidity, drift and correlated noise of its own. C6H6 is computed from PT08.S2, as in the
    real data.

    Returns:
        Hours ``(9357,)`` and values ``(9357, 13)`` in ``RAW_COLUMNS`` order, NaN where missing.
    """
    rng = np.random.default_rng(seed)
    hours = _FIRST_HOUR + np.arange(_N_ROWS)
    year = 2 * np.pi * (hours / 24 % 365.25) / 365.25
    log_co = _simulated_log_co(rng, hours, year)
    columns = _simulated_weather(rng, hours, year)
    columns[TARGET] = np.exp(log_co + rng.normal(0, 0.04, _N_ROWS))
    for name, response in _RESPONSES.items():
        columns[name] = response.simulate(rng, log_co, columns["T"], columns["AH"])
    columns["C6H6(GT)"] = np.asarray(np.polyval(_C6H6_OF_S2, columns["PT08.S2(NMHC)"].round() / 1000), dtype=np.float64)
    values = np.column_stack([_as_recorded(columns[name], name) for name in RAW_COLUMNS])
    values[_simulated_gaps(rng, hours)] = np.nan
    return hours, values


def _as_recorded(column: Values, name: str) -> Values:
    low, high, places = RECORDED[name]
    return np.asarray(np.round(np.clip(column, low, high), places))


def _simulated_log_co(rng: np.random.Generator, hours: Hours, year: Values) -> Values:
    weekend = (hours // 24 + 3) % 7 >= 5  # 1970-01-01 was a Thursday
    traffic = np.where(weekend, _WEEKEND_LOG_CO[hours % 24], _WORKDAY_LOG_CO[hours % 24])
    winter = 0.2 * np.cos(year - 2 * np.pi * 0.95)
    return np.asarray(traffic + winter + _wander(rng, 0.985, 0.35) + _wander(rng, 0.75, 0.3))


def _simulated_weather(rng: np.random.Generator, hours: Hours, year: Values) -> dict[str, Values]:
    warmth = np.cos(year - 2 * np.pi * 0.56)
    temperature = 18 + 10 * warmth + (4 + warmth) * np.cos(2 * np.pi * (hours % 24 - 15.5) / 24) + _wander(rng, 0.985, 2.8)
    vapour = np.exp(-0.05 + 0.42 * warmth + _wander(rng, 0.99, 0.25))
    saturation = 0.607 * np.exp(17.67 * temperature / (temperature + 243.5))  # kPa; AH is recorded as vapour pressure
    humidity = np.clip(100 * vapour / saturation, *RECORDED["RH"][:2])
    return {"T": temperature, "RH": humidity, "AH": humidity * saturation / 100}


def _wander(rng: np.random.Generator, persistence: float, deviation: float) -> Values:
    """Return an AR(1) series of mean 0, shape ``(_N_ROWS,)``."""
    steps = rng.normal(0, deviation * math.sqrt(1 - persistence**2), _N_ROWS).tolist()
    level = rng.normal(0, deviation)
    return np.array([level := persistence * level + step for step in steps])


def _simulated_gaps(rng: np.random.Generator, hours: Hours) -> NDArray[np.bool_]:
    """Return what was not measured, shape ``(_N_ROWS, 13)``: outages per group of columns and block of the split."""
    missing = np.zeros((_N_ROWS, len(RAW_COLUMNS)), dtype=bool)
    for names, shares in _MISSING_SHARES.items():
        calibrates = names[0] not in DEVICE_COLUMNS
        blocks = zip(np.split(hours, _BLOCK_STARTS), shares, strict=True)
        outages = np.concatenate([_outages(rng, block, share, calibrates) for block, share in blocks])
        missing[:, [RAW_COLUMNS.index(name) for name in names]] = outages[:, np.newaxis]
    missing[_NMHC_ROWS:, RAW_COLUMNS.index("NMHC(GT)")] = True
    return missing


def _outages(rng: np.random.Generator, hours: Hours, share: float, calibrates: bool) -> NDArray[np.bool_]:
    """Return ``share`` of the hours as missing: a third of the 4 o'clocks if it ``calibrates`` then, the rest in blocks."""
    missing = np.asarray(calibrates & (hours % 24 == 4) & (rng.random(len(hours)) < 0.35))
    while (short := round(share * len(hours)) - int(missing.sum())) > 0:
        length = min(short, int(np.exp(rng.uniform(0, math.log(150)))))
        start = int(rng.integers(len(hours) - length + 1))
        missing[start : start + length] = True
    return missing
