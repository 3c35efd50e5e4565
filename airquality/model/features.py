"""Every feature, declared once.

A feature row for hour *t* is a function of the 169 hours *t-168 .. t* of one station. CO(GT) of hour *t* is the truth
to be predicted and is hidden from it by construction; every other column of hour *t* may be used. Missing stays NaN.

The same function serves training (:func:`batch`, a whole file) and the stream (:func:`rows`, the newest hours of one or
many stations). Each output depends on its own window alone, and every reduction is element-wise along a tree that is
the same for every row, so the bits do not depend on how many rows are computed together.

The core is *causal re-calibration*. Sensors drift and seasons change, but over the recent past the log ratio of CO to
a sensor is nearly constant: ``log x(t) + mean of past (log CO - log x)`` estimates log CO(t) from the sensor *x* as it
behaves today. Their mean is the *base*; features are logs relative to it, and the model learns the rest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
import orjson
from numpy.typing import NDArray

from airquality.records import HISTORY_HOURS, RAW_COLUMNS, TARGET

Floats = NDArray[np.float64]

#: Raw columns that features read. NMHC(GT) is not among them: its analyser is silent after the first weeks.
INPUT_COLUMNS = tuple(name for name in RAW_COLUMNS if name != "NMHC(GT)")

SHORT_NAMES = {
    TARGET: "co",
    "PT08.S1(CO)": "s1",
    "C6H6(GT)": "c6h6",
    "PT08.S2(NMHC)": "s2",
    "NOx(GT)": "nox",
    "PT08.S3(NOx)": "s3",
    "NO2(GT)": "no2",
    "PT08.S4(NO2)": "s4",
    "PT08.S5(O3)": "s5",
    "T": "t",
    "RH": "rh",
    "AH": "ah",
}
#: Logged columns and the floor below which their logarithm is not taken further (half the instrument's resolution).
LOG_FLOORS = {
    "co": 0.05, "s1": 1.0, "c6h6": 0.05, "s2": 1.0, "nox": 0.5, "s3": 1.0, "no2": 0.5, "s4": 1.0, "s5": 1.0, "ah": 0.01,
}  # fmt: skip
#: Sensors that CO is re-calibrated on, with the exponent that makes them proportional to CO.
CALIBRATED = {"c6h6": 1.0, "nox": 1.0, "s1": 3.0}

CO_LAGS = (1, 2, 3, 6, 12, 24, 48, 72, 168)
WINDOWS = (3, 6, 12, 24, 72, 168)
CALIBRATION_WINDOWS = (6, 24, 72, 168)
SAME_HOUR_LAGS = tuple(range(24, HISTORY_HOURS + 1, 24))
WEATHER = ("t", "rh", "ah")
SENSORS = ("s1", "c6h6", "s2", "nox", "s3", "no2", "s4", "s5")
PAIRS = (("nox", "no2"), ("c6h6", "nox"), ("s1", "s2"), ("s3", "s5"), ("s2", "s4"), ("c6h6", "no2"))
#: The feature that holds the base in mg/m3; the target transform reads it back (see ``airquality.model.model``).
BASE_FEATURE = "co_base"


class History:
    """The 168 hours before each requested row, and the hour itself, by channel.

    Channels are the weather columns under their short names, logs as ``log_<name>``, ``ratio_<name>`` (log CO minus the
    scaled log of a calibrated sensor), and ``log_co_squared``. A *window* of W hours is the W hours before the row, hour t
    excluded. What is computed over windows is computed for all channels at once: a single row costs numpy calls, not sums.

    Args:
        values: Gap-free hour grid of raw values, shape ``(n_hours, len(RAW_COLUMNS))``, NaN where missing.
        hours: The hour (see ``airquality.records``) of each requested row, shape ``(n_rows,)``.
        positions: The grid index of each requested row, shape ``(n_rows,)``, each at least 168.
    """

    def __init__(self, values: Floats, hours: NDArray[np.int64], positions: NDArray[np.intp]) -> None:
        self.hours = hours
        self._positions = positions
        channels = _channels(values)
        self._index = {channel: index for index, channel in enumerate(channels)}
        self._table = np.array(list(channels.values()))
        self._missing = np.isnan(self._table)
        self._windows: dict[int, tuple[Floats, Floats]] = {}

    def now(self, channel: str) -> Floats:
        """Return the channel at hour t, shape ``(n_rows,)``; a channel made of CO has none, for that is the truth."""
        if channel in _TRUTH_CHANNELS:
            raise ValueError(f"{channel} of hour t is what is to be predicted")
        return self._row(self._table, channel)[self._positions]

    def lag(self, channel: str, hours: int) -> Floats:
        """Return the channel ``hours`` (at least 1) before each row, shape ``(n_rows,)``."""
        return self._row(self._table, channel)[self._positions - hours]

    def last(self, channel: str) -> Floats:
        """Return the most recent measured value before each row; NaN if the 168 hours hold none."""
        return self._row(self._last_values, channel)

    def mean(self, channel: str, window: int) -> Floats:
        """Return the mean of the window's measured values; NaN if none."""
        return self._row(self._window(window)[1], channel)

    def count(self, channel: str, window: int) -> Floats:
        """Return how many hours of the window were measured."""
        return self._row(self._window(window)[0], channel)

    def std(self, channel: str, window: int) -> Floats:
        """Return the population standard deviation of the window, to about 1e-7; NaN below two values.

        The channel must have its square beside it.
        """
        mean, mean_square = self.mean(channel, window), self.mean(f"{channel}_squared", window)
        std = np.sqrt(np.maximum(mean_square - mean * mean, 0.0))
        return np.where(self.count(channel, window) < 2, np.nan, std)

    def extremes(self, channel: str, windows: tuple[int, ...], pick: np.ufunc) -> list[Floats]:
        """Return each window's smallest (``np.fmin``) or largest (``np.fmax``) value; NaN if none."""
        doubled = _doublings(self._row(self._table, channel), pick)
        out = []
        for window in windows:
            level = window.bit_length() - 1  # two spans of this length cover the window, overlapping
            span = doubled[level]
            out.append(pick(span[self._positions - (1 << level)], span[self._positions - window]))
        return out

    def same_hour(self, channel: str) -> Floats:
        """Return the mean over the same hour of the last seven days; NaN if none was measured."""
        return self._row(self._same_hour_means, channel)

    def calibrated(self, name: str, ratio: Floats) -> Floats:
        """Return log CO of hour t as sensor ``name`` tells it, given the log ratio of CO to that sensor."""
        return CALIBRATED[name] * self.now(f"log_{name}") + ratio

    @cached_property
    def base(self) -> Floats:
        """Log CO of hour t as the last known ratios tell it; where no sensor reports, as CO's own past does.

        NaN only where the 168 hours hold no CO at all.
        """
        base = _mean_of([self.calibrated(name, self.last(f"ratio_{name}")) for name in CALIBRATED])
        past = _mean_of([self.last("log_co"), self.same_hour("log_co")])
        return np.where(np.isnan(base), past, base)

    def _row(self, table: Floats, channel: str) -> Floats:
        row: Floats = table[self._index[channel]]
        return row

    @cached_property
    def _last_values(self) -> Floats:
        hours = np.arange(self._table.shape[1])
        newest = np.maximum.accumulate(np.where(self._missing, -1, hours), axis=1)[:, self._positions - 1]
        values = np.take_along_axis(self._table, newest, axis=1)
        return np.where(self._positions - newest <= HISTORY_HOURS, values, np.nan)

    @cached_property
    def _same_hour_means(self) -> Floats:
        return _mean_of([self._table[:, self._positions - hours] for hours in SAME_HOUR_LAGS])

    @cached_property
    def _doubled(self) -> tuple[list[Floats], list[Floats]]:
        known = np.where(self._missing, 0.0, 1.0)
        return _doublings(known, np.add), _doublings(np.where(self._missing, 0.0, self._table), np.add)

    def _window(self, window: int) -> tuple[Floats, Floats]:
        """Return count and mean of the window's measured values, each of shape ``(n_channels, n_rows)``."""
        if window not in self._windows:
            counts, sums = (self._sum(doubled, window) for doubled in self._doubled)
            self._windows[window] = counts, _divide(sums, counts)
        return self._windows[window]

    def _sum(self, doubled: list[Floats], window: int) -> Floats:
        """Return the sum over the window, added up by its binary digits: a tree that is the same for every row."""
        first = self._positions
        total = np.zeros((len(self._table), len(first)))
        for level, sums in enumerate(doubled):
            if window >> level & 1:
                first = first - (1 << level)
                total = total + sums[:, first]
        return total


def _doublings(values: Floats, pick: np.ufunc) -> list[Floats]:
    """Return, for each power of two up to 128, ``pick`` over that many hours beginning at each hour of the last axis.

    Each entry depends on the hours it covers and on nothing else, so its bits do not depend on where the grid begins.
    """
    levels = [values]
    for level in range(HISTORY_HOURS.bit_length() - 1):
        widest, span = levels[-1], 1 << level
        levels.append(pick(widest[..., span:], widest[..., :-span]))
    return levels


@dataclass(frozen=True)
class Family:
    """Features computed together: their names, the hours of history they read, and one function of the history.

    ``compute`` returns one array of shape ``(n_rows,)`` a name, in the order of ``names``.
    """

    title: str
    names: tuple[str, ...]
    history_hours: int
    compute: Callable[[History], list[Floats]]


def _channels(values: Floats) -> dict[str, Floats]:
    raw = {short: np.ascontiguousarray(values[:, RAW_COLUMNS.index(c)]) for c, short in SHORT_NAMES.items()}
    channels = {short: raw[short] for short in WEATHER}
    for name, floor in LOG_FLOORS.items():
        channels[f"log_{name}"] = np.log(np.maximum(raw[name], floor))
    for name, exponent in CALIBRATED.items():
        channels[f"ratio_{name}"] = channels["log_co"] - exponent * channels[f"log_{name}"]
    channels["log_co_squared"] = channels["log_co"] ** 2
    return channels


def _divide(numerator: Floats, denominator: Floats) -> Floats:
    return np.divide(numerator, denominator, out=np.full_like(numerator, np.nan), where=denominator > 0)


def _mean_of(parts: list[Floats]) -> Floats:
    """Return the mean of the parts that are known, added in their order; NaN where none is."""
    total, count = np.zeros_like(parts[0]), np.zeros_like(parts[0])
    for part in parts:
        known = ~np.isnan(part)
        total += np.where(known, part, 0.0)
        count += known
    return _divide(total, count)


def _calendar(h: History) -> list[Floats]:
    hour_of_day = h.hours % 24
    days = h.hours // 24
    # 1970-01-01 was a Thursday (3 where Monday is 0); months through datetime64, whose arithmetic is exact
    weekday = (days + 3) % 7
    month = days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64) % 12
    cycles = ((hour_of_day, 24), (weekday, 7), (month, 12))
    return [wave(2 * np.pi * np.arange(period) / period)[phase] for phase, period in cycles for wave in (np.sin, np.cos)]


def _base(h: History) -> list[Floats]:
    return [np.exp(h.base), h.base, h.count("log_co", 24), h.count("log_co", 168)]


def _recalibrated(h: History) -> list[Floats]:
    out = []
    for name in CALIBRATED:
        ratio = f"ratio_{name}"
        ratios = [h.last(ratio), *(h.mean(ratio, w) for w in CALIBRATION_WINDOWS), h.same_hour(ratio)]
        out += [h.calibrated(name, r) - h.base for r in ratios]
    return out


def _co_lags(h: History) -> list[Floats]:
    return [h.lag("log_co", lag) - h.base for lag in CO_LAGS]


def _co_rolling(h: History) -> list[Floats]:
    means = [h.mean("log_co", w) - h.base for w in WINDOWS]
    stds = [h.std("log_co", w) for w in WINDOWS]
    extremes = [x - h.base for pick in (np.fmin, np.fmax) for x in h.extremes("log_co", WINDOWS, pick)]
    return [*means, *stds, *extremes, h.same_hour("log_co") - h.base]


def _co_differences(h: History) -> list[Floats]:
    one, two, three = (h.lag("log_co", lag) for lag in (1, 2, 3))
    steps = [CALIBRATED[x] * (h.now(f"log_{x}") - h.lag(f"log_{x}", 1)) for x in CALIBRATED]
    return [one - two, one - 2 * two + three, one - h.lag("log_co", 25), *(one + step - h.base for step in steps)]


def _sensor_levels(h: History) -> list[Floats]:
    return [h.now(f"log_{x}") for x in SENSORS]


def _sensor_over_base(h: History) -> list[Floats]:
    return [h.now(f"log_{x}") - h.base for x in SENSORS]


def _sensor_over_mean(h: History) -> list[Floats]:
    return [h.now(f"log_{x}") - h.mean(f"log_{x}", w) for x in SENSORS for w in (24, 168)]


def _sensor_differences(h: History) -> list[Floats]:
    out = []
    for x in SENSORS:
        now, (one, two, day) = h.now(f"log_{x}"), (h.lag(f"log_{x}", lag) for lag in (1, 2, 24))
        out += [now - one, now - 2 * one + two, now - day]
    return out


def _ratios(h: History) -> list[Floats]:
    out = []
    for a, b in PAIRS:
        usual = h.mean(f"log_{a}", 168) - h.mean(f"log_{b}", 168)
        out.append(h.now(f"log_{a}") - h.now(f"log_{b}") - usual)
    return out


def _products(h: History) -> list[Floats]:
    return [(h.now(f"log_{a}") + h.now(f"log_{b}")) / 2 - h.base for a, b in PAIRS]


def _weather(h: History) -> list[Floats]:
    t, rh, ah = h.now("t"), h.now("rh"), h.now("ah")
    return [t, rh, ah, t * rh, t - h.mean("t", 24), rh - h.mean("rh", 24), h.now("log_ah") - h.mean("log_ah", 24)]


def _names(pattern: str, *axes: tuple[object, ...]) -> tuple[str, ...]:
    """Return the pattern filled with every combination of the axes, the last one running fastest.

    >>> _names("{}_over_mean_{}h", ("s1", "s2"), (24, 168))
    ('s1_over_mean_24h', 's1_over_mean_168h', 's2_over_mean_24h', 's2_over_mean_168h')
    """
    return tuple(pattern.format(*values) for values in product(*axes))


_PAIR_NAMES = tuple(f"{a}_{b}" for a, b in PAIRS)
_RATIO_KINDS = ("last", *(f"{w}h" for w in CALIBRATION_WINDOWS), "same_hour")

#: Every feature, in the order of the model's columns. Names end in what they are relative to: ``rel`` is log over the base.
FAMILIES = (
    Family("calendar", _names("{}_{}", ("hour", "weekday", "month"), ("sin", "cos")), 0, _calendar),
    Family("base", (BASE_FEATURE, "log_co_base", "co_count_24h", "co_count_168h"), 168, _base),
    Family("re-calibration", _names("co_from_{}_{}_rel", tuple(CALIBRATED), _RATIO_KINDS), 168, _recalibrated),
    Family("CO lags", _names("co_lag_{}h_rel", CO_LAGS), 168, _co_lags),
    Family(
        "CO rolling",
        (
            *_names("co_mean_{}h_rel", WINDOWS),
            *_names("co_std_{}h", WINDOWS),
            *_names("co_{}_{}h_rel", ("min", "max"), WINDOWS),
            "co_same_hour_rel",
        ),
        168,
        _co_rolling,
    ),
    Family(
        "CO differences",
        ("co_diff_1h", "co_acceleration", "co_diff_24h", *_names("co_step_{}_rel", tuple(CALIBRATED))),
        168,
        _co_differences,
    ),
    Family("sensor levels", _names("{}_log", SENSORS), 0, _sensor_levels),
    Family("sensors over base", _names("{}_rel", SENSORS), 168, _sensor_over_base),
    Family("sensors over their mean", _names("{}_over_mean_{}h", SENSORS, (24, 168)), 168, _sensor_over_mean),
    Family("sensor differences", _names("{}_{}", SENSORS, ("diff_1h", "acceleration", "diff_24h")), 24, _sensor_differences),
    Family("ratios", _names("{}_ratio", _PAIR_NAMES), 168, _ratios),
    Family("products", _names("{}_product_rel", _PAIR_NAMES), 168, _products),
    Family(
        "weather",
        (
            "temperature",
            "humidity",
            "absolute_humidity",
            "temperature_x_humidity",
            *_names("{}_over_mean_24h", ("t", "rh", "ah")),
        ),
        24,
        _weather,
    ),
)
NAMES: tuple[str, ...] = tuple(name for family in FAMILIES for name in family.names)
_TRUTH_CHANNELS = frozenset({"log_co", "log_co_squared", *(f"ratio_{name}" for name in CALIBRATED)})
_BATCH_ROWS = 512


def rows(values: Floats, hours: NDArray[np.int64], positions: NDArray[np.intp]) -> Floats:
    """Compute the feature rows at ``positions`` of a gap-free hour grid.

    Args:
        values: Raw values by hour, shape ``(n_hours, len(RAW_COLUMNS))`` in that order, NaN where missing.
        hours: The hour of each requested row, shape ``(n_rows,)``.
        positions: The grid index of each requested row, shape ``(n_rows,)``; each needs 168 hours before it in the grid.

    Returns:
        Shape ``(n_rows, len(NAMES))``, NaN where a feature's inputs are missing.

    Raises:
        ValueError: a position has fewer than 168 hours of grid before it.
    """
    if len(positions) == 0:
        return np.empty((0, len(NAMES)))
    if positions.min() < HISTORY_HOURS:
        raise ValueError(f"position {positions.min()} has fewer than {HISTORY_HOURS} hours of history before it")
    with np.errstate(invalid="ignore", over="ignore"):  # an infinite value is refused at the edge; here it must not warn
        history = History(values, hours, positions)
        return np.stack([column for family in FAMILIES for column in family.compute(history)], axis=1)


def batch(hours: NDArray[np.int64], values: Floats) -> Floats:
    """Compute the feature row of every hour of a gap-free file; the hours before it count as missing.

    Args:
        hours: Consecutive hours, shape ``(n,)``.
        values: Raw values, shape ``(n, len(RAW_COLUMNS))``, NaN where missing.

    Returns:
        Shape ``(n, len(NAMES))``.

    Raises:
        ValueError: the hours are not consecutive.
    """
    if np.any(np.diff(hours) != 1):
        raise ValueError("hours must be consecutive: put NaN rows where the file has gaps")
    grid = np.vstack([np.full((HISTORY_HOURS, len(RAW_COLUMNS)), np.nan), values])
    out = np.empty((len(hours), len(NAMES)))
    for start in range(0, len(hours), _BATCH_ROWS):
        chunk = slice(start, start + _BATCH_ROWS)
        block = grid[start : start + _BATCH_ROWS + HISTORY_HOURS]
        out[chunk] = rows(block, hours[chunk], np.arange(HISTORY_HOURS, len(block)))
    return out


def manifest() -> dict[str, object]:
    """Return what ``artifacts/features.json`` holds: the ordered names, the target, the history and a hash of all of it."""
    body: dict[str, object] = {"features": list(NAMES), "target": TARGET, "history_hours": HISTORY_HOURS}
    digest = hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()
    return {**body, "hash": digest}


def raw_manifest() -> dict[str, object]:
    """Return what ``artifacts/raw_columns.json`` holds: the raw columns features read, and the target."""
    return {"raw_features": list(INPUT_COLUMNS), "target": TARGET}
