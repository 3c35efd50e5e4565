"""The one list of detectors, a line each: ``module:NAME``. Whoever keeps, judges or shows findings knows none by name.

Three kinds: those that judge every hour together (``suite.py``), exact rules first; components of a station that see its
rows one by one (``component.py``); those that judge closed windows (``verdicts.py``). What is said of each: ``listed.py``.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING

from airquality.ground import places

if TYPE_CHECKING:  # what is listed imports what it needs; this list must not import it back
    from airquality.monitoring.component import StationDetector
    from airquality.monitoring.detector import Detector
    from airquality.monitoring.suite import Rule, Statistical
    from airquality.monitoring.verdicts import WindowDetector

#: Exact rules, whose limits history gives.
RULES = (
    "airquality.monitoring.rules:Identity",
    "airquality.monitoring.rules:Stuck",
    "airquality.monitoring.rules:Missing",
    "airquality.monitoring.rules:Clipped",
    "airquality.monitoring.rules:Coarse",
)
#: Detectors whose thresholds are bought from the budget of false alarms.
STATISTICAL = (
    "airquality.monitoring.level:Level",
    "airquality.monitoring.roughness:Noise",
    "airquality.monitoring.roughness:Spike",
    "airquality.monitoring.clock:Clock",
    "airquality.monitoring.ratio:Ratio",
)
#: Components that are opened for every station, in this order.
COMPONENTS = (
    "airquality.monitoring.silence:Silence",
    "airquality.monitoring.silence:Lateness",
)
#: Detectors that judge a window once it is closed.
WINDOW_DETECTORS = (
    "airquality.monitoring.verdicts:DAILY_DISTANCE",
    "airquality.monitoring.verdicts:WEEKLY_DISTANCE",
    "airquality.monitoring.verdicts:ERROR",
    "airquality.monitoring.verdicts:ABSENT",
)


@functools.cache
def rules() -> tuple[type[Rule], ...]:
    """Return the exact rules."""
    return tuple(map(places.load, RULES))


@functools.cache
def statistical() -> tuple[type[Statistical], ...]:
    """Return the detectors with bought thresholds."""
    return tuple(map(places.load, STATISTICAL))


@functools.cache
def components() -> tuple[type[StationDetector], ...]:
    """Return the components of every station."""
    return tuple(map(places.load, COMPONENTS))


@functools.cache
def window_detectors() -> tuple[WindowDetector, ...]:
    """Return the detectors that judge closed windows."""
    return tuple(map(places.load, WINDOW_DETECTORS))


@functools.cache
def hour_by_hour() -> Mapping[str, type[Detector]]:
    """Return the detectors that judge every hour and share one alarm a column, by name."""
    return {kind.name: kind for kind in (*rules(), *statistical())}
