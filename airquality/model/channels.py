"""The channels of an hour: its weather as measured, logarithms, and log ratios of the target to what it is calibrated on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from airquality.network.current import NETWORK

Floats = NDArray[np.float64]

#: The channel of the target's logarithm, and that of its square.
LOG_TARGET = f"log_{NETWORK.target.short}"
LOG_TARGET_SQUARED = f"{LOG_TARGET}_squared"
#: Logged columns and the floor below which their logarithm is not taken further.
LOG_FLOORS = {column.short: column.floor for column in NETWORK.inputs if column.floor is not None}
#: Sensors that the target is re-calibrated on, with the exponent that makes them proportional to it.
CALIBRATED = {NETWORK[name].short: exponent for name, exponent in NETWORK.calibrated}
WEATHER = tuple(column.short for column in NETWORK.of_role("weather"))
_RATIOS = tuple(f"ratio_{name}" for name in CALIBRATED)

#: Every channel: the weather columns under their short names, logs as ``log_<name>``, ``ratio_<name>`` (the target's log
#: minus the scaled log of a calibrated sensor), and the target's log squared.
CHANNELS = (*WEATHER, *(f"log_{name}" for name in LOG_FLOORS), *_RATIOS, LOG_TARGET_SQUARED)
#: Channels made of the target.
TRUTH_CHANNELS = frozenset({LOG_TARGET, LOG_TARGET_SQUARED, *_RATIOS})

_COLUMN = {column.short: NETWORK.index(column.name) for column in NETWORK.inputs}
_WEATHER_COLUMNS = np.array([_COLUMN[name] for name in WEATHER], dtype=np.intp)
_LOGGED_COLUMNS = np.array([_COLUMN[name] for name in LOG_FLOORS], dtype=np.intp)
_FLOORS = np.array(list(LOG_FLOORS.values()))
_TARGET_LOG = list(LOG_FLOORS).index(NETWORK.target.short)
_CALIBRATED_LOGS = np.array([list(LOG_FLOORS).index(name) for name in CALIBRATED], dtype=np.intp)
_EXPONENTS = np.array(list(CALIBRATED.values()), dtype=np.float64)


def channels_of(values: Floats) -> Floats:
    """Return the channels of hours of raw values, shape ``(n, len(CHANNELS))``, NaN where missing.

    The bits of a logarithm do not depend on where it lies among others, so each hour's are its own.

    Args:
        values: Shape ``(n, len(RAW_COLUMNS))``.
    """
    logs = np.log(np.maximum(values.take(_LOGGED_COLUMNS, axis=1), _FLOORS))
    target = logs[:, _TARGET_LOG, None]
    ratios = target - _EXPONENTS * logs.take(_CALIBRATED_LOGS, axis=1)
    return np.concatenate([values.take(_WEATHER_COLUMNS, axis=1), logs, ratios, target * target], axis=1)
