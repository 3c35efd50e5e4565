"""Every feature, declared once.

A feature row for hour *t* is a function of the 169 hours *t-168 .. t* of one station. The target of hour *t* is the truth
to be predicted and is hidden from it by construction; every other column of hour *t* may be used. Missing stays NaN.

Which columns a feature is made of follows from their roles in the declared network: gases (the device's sensors and the
reference analysers), weather, the target, those it is re-calibrated on, pairs.

The same function serves training (:func:`batch`, a whole file) and the stream (:func:`rows`, the newest hours of one or
many stations). Each output depends on its own window alone, and every reduction is element-wise along a tree that is
the same for every row, so the bits do not depend on how many rows are computed together.

The core is *causal re-calibration*. Sensors drift and seasons change, but over the recent past the log ratio of the target
*y* to a sensor is nearly constant: ``log x(t) + mean of past (log y - log x)`` estimates log y(t) from the sensor *x* as it
behaves today. Their mean is the *base*; features are logs relative to it, and the model learns the rest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
import orjson
from numpy.typing import NDArray

from airquality.model import calendar
from airquality.model.channels import CALIBRATED, LOG_FLOORS, LOG_TARGET, WEATHER, Floats
from airquality.model.grid import Grid
from airquality.model.history import History
from airquality.model.plan import BEST_ROWS, Plan
from airquality.model.terms import Term
from airquality.network.current import NETWORK
from airquality.records import HISTORY_HOURS, RAW_COLUMNS, TARGET

#: Raw columns that features read.
INPUT_COLUMNS = tuple(column.name for column in NETWORK.inputs)

#: The target in the names of features, and in sentences.
_TARGET, _LABEL = NETWORK.target.short, NETWORK.target.spoken

TARGET_LAGS = (1, 2, 3, 6, 12, 24, 48, 72, 168)
WINDOWS = (3, 6, 12, 24, 72, 168)
CALIBRATION_WINDOWS = (6, 24, 72, 168)
GASES = tuple(column.short for column in NETWORK.of_role("analyser", "sensor"))
PAIRS = tuple((NETWORK[a].short, NETWORK[b].short) for a, b in NETWORK.pairs)
_WEATHER_PRODUCTS = tuple((NETWORK[a], NETWORK[b]) for a, b in NETWORK.weather_products)
#: The feature that holds the base in the unit of the target; the target transform reads it back.
BASE_FEATURE = f"{_TARGET}_base"


@dataclass(frozen=True)
class Family:
    """Features computed together: their names, the hours of history they read, and what each is made of.

    ``compute`` returns one term a name, in the order of ``names``; see :class:`airquality.model.history.History`.
    """

    title: str
    names: tuple[str, ...]
    history_hours: int
    compute: Callable[[History], list[Term]]


def _calendar(h: History) -> list[Term]:
    return [h.wave(*wave) for wave in calendar.WAVES]


def _base(h: History) -> list[Term]:
    return [h.base_level, h.base, h.count(LOG_TARGET, 24), h.count(LOG_TARGET, 168)]


def _recalibrated(h: History) -> list[Term]:
    out = []
    for name in CALIBRATED:
        ratio = f"ratio_{name}"
        ratios = [h.last(ratio), *(h.mean(ratio, w) for w in CALIBRATION_WINDOWS), h.same_hour(ratio)]
        out += [h.calibrated(name, r) - h.base for r in ratios]
    return out


def _target_lags(h: History) -> list[Term]:
    return [h.lag(LOG_TARGET, lag) - h.base for lag in TARGET_LAGS]


def _target_rolling(h: History) -> list[Term]:
    means = [h.mean(LOG_TARGET, w) - h.base for w in WINDOWS]
    stds = [h.std(LOG_TARGET, w) for w in WINDOWS]
    extremes = [pick(LOG_TARGET, w) - h.base for pick in (h.lowest, h.highest) for w in WINDOWS]
    return [*means, *stds, *extremes, h.same_hour(LOG_TARGET) - h.base]


def _target_differences(h: History) -> list[Term]:
    one, two, three = (h.lag(LOG_TARGET, lag) for lag in (1, 2, 3))
    steps = [CALIBRATED[x] * (h.now(f"log_{x}") - h.lag(f"log_{x}", 1)) for x in CALIBRATED]
    return [one - two, one - 2 * two + three, one - h.lag(LOG_TARGET, 25), *(one + step - h.base for step in steps)]


def _sensor_levels(h: History) -> list[Term]:
    return [h.now(f"log_{x}") for x in GASES]


def _sensor_over_base(h: History) -> list[Term]:
    return [h.now(f"log_{x}") - h.base for x in GASES]


def _sensor_over_mean(h: History) -> list[Term]:
    return [h.now(f"log_{x}") - h.mean(f"log_{x}", w) for x in GASES for w in (24, 168)]


def _sensor_differences(h: History) -> list[Term]:
    out = []
    for x in GASES:
        now, (one, two, day) = h.now(f"log_{x}"), (h.lag(f"log_{x}", lag) for lag in (1, 2, 24))
        out += [now - one, now - 2 * one + two, now - day]
    return out


def _ratios(h: History) -> list[Term]:
    out = []
    for a, b in PAIRS:
        usual = h.mean(f"log_{a}", 168) - h.mean(f"log_{b}", 168)
        out.append(h.now(f"log_{a}") - h.now(f"log_{b}") - usual)
    return out


def _products(h: History) -> list[Term]:
    return [0.5 * (h.now(f"log_{a}") + h.now(f"log_{b}")) - h.base for a, b in PAIRS]


def _weather(h: History) -> list[Term]:
    products = [h.now(a.short) * h.now(b.short) for a, b in _WEATHER_PRODUCTS]
    over_mean = [h.now(channel) - h.mean(channel, 24) for channel in map(_scale, WEATHER)]
    return [*(h.now(name) for name in WEATHER), *products, *over_mean]


def _scale(name: str) -> str:
    """Return the channel a weather column is compared on: its logarithm where it has a floor."""
    return f"log_{name}" if name in LOG_FLOORS else name


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
    Family("calendar", tuple(f"{cycle}_{wave}" for cycle, wave in calendar.WAVES), 0, _calendar),
    Family("base", (BASE_FEATURE, f"log_{BASE_FEATURE}", f"{_TARGET}_count_24h", f"{_TARGET}_count_168h"), 168, _base),
    Family("re-calibration", _names(f"{_TARGET}_from_{{}}_{{}}_rel", tuple(CALIBRATED), _RATIO_KINDS), 168, _recalibrated),
    Family(f"{_LABEL} lags", _names(f"{_TARGET}_lag_{{}}h_rel", TARGET_LAGS), 168, _target_lags),
    Family(
        f"{_LABEL} rolling",
        (
            *_names(f"{_TARGET}_mean_{{}}h_rel", WINDOWS),
            *_names(f"{_TARGET}_std_{{}}h", WINDOWS),
            *_names(f"{_TARGET}_{{}}_{{}}h_rel", ("min", "max"), WINDOWS),
            f"{_TARGET}_same_hour_rel",
        ),
        168,
        _target_rolling,
    ),
    Family(
        f"{_LABEL} differences",
        (
            *(f"{_TARGET}_{step}" for step in ("diff_1h", "acceleration", "diff_24h")),
            *_names(f"{_TARGET}_step_{{}}_rel", tuple(CALIBRATED)),
        ),
        168,
        _target_differences,
    ),
    Family("sensor levels", _names("{}_log", GASES), 0, _sensor_levels),
    Family("sensors over base", _names("{}_rel", GASES), 168, _sensor_over_base),
    Family("sensors over their mean", _names("{}_over_mean_{}h", GASES, (24, 168)), 168, _sensor_over_mean),
    Family("sensor differences", _names("{}_{}", GASES, ("diff_1h", "acceleration", "diff_24h")), 24, _sensor_differences),
    Family("ratios", _names("{}_ratio", _PAIR_NAMES), 168, _ratios),
    Family("products", _names("{}_product_rel", _PAIR_NAMES), 168, _products),
    Family(
        "weather",
        (
            *(column.level_feature for column in NETWORK.of_role("weather")),
            *(f"{a.level_feature}_x_{b.level_feature}" for a, b in _WEATHER_PRODUCTS),
            *_names("{}_over_mean_24h", WEATHER),
        ),
        24,
        _weather,
    ),
)
NAMES: tuple[str, ...] = tuple(name for family in FAMILIES for name in family.names)
_HISTORY = History()
#: How they are computed.
PLAN = Plan([term for family in FAMILIES for term in family.compute(_HISTORY)])
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
    if positions.min(initial=HISTORY_HOURS) < HISTORY_HOURS:
        raise ValueError(f"position {positions.min()} has fewer than {HISTORY_HOURS} hours of history before it")
    with np.errstate(invalid="ignore", over="ignore"):  # an infinite value is refused at the edge; here it must not warn
        grid = Grid(PLAN.reading, values)
        wanted = grid.rows(hours, positions)
        computed = np.empty((len(positions), len(NAMES)))
        for first in range(0, len(positions), BEST_ROWS):
            piece = slice(first, first + BEST_ROWS)
            PLAN.compute(PLAN.reading.read(grid.kept, wanted.part(piece)), computed[piece])
        return computed


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
