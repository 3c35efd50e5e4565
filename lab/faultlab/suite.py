"""Put the detectors through the lab: the state at each onset comes from the clean stream, every fault is a station.

Those that judge every hour and the components that see row by row are all here, by the registry. Those of windows judge
predictions, too, and have their budget and delay from the calibration of windows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from airquality.monitoring.alarms import Event
from airquality.monitoring.calibration import Calibration
from airquality.monitoring.watch import Watch
from lab.faultlab.components import Components
from lab.faultlab.faults import Fault, Healthy, inject
from lab.faultlab.scoring import WITHIN_HOURS, Outcome, judge, names_of

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_CLEAN = "clean"
_AT_ONCE = 64


def clean_events(calibration: Calibration, hours: Ints, values: Floats, budget: float) -> list[Event]:
    """Return the events of the stream without a fault, its station seeded with the end of the history."""
    watch = _seeded(calibration, budget)
    return [*watch.observe({_CLEAN: (hours, values)}).get(_CLEAN, []), *Components().observe(hours, values)]


def outcomes(
    calibration: Calibration, hours: Ints, healthy: Healthy, faults: Sequence[Fault], budget: float
) -> list[Outcome]:
    """Return what the detectors make of each fault."""
    by_onset: dict[int, list[Fault]] = defaultdict(list)
    for fault in faults:
        by_onset[fault.onset].append(fault)
    usual = names_of(clean_events(calibration, hours, healthy.values, budget))
    found: list[Outcome] = []
    clean, parts, at = _seeded(calibration, budget), Components(), 0
    for onset in sorted(by_onset):
        if onset > at:
            clean.observe({_CLEAN: (hours[at:onset], healthy.values[at:onset])})
            parts.observe(hours[at:onset], healthy.values[at:onset])
            at = onset
        state = clean.state(_CLEAN)
        for start in range(0, len(by_onset[onset]), _AT_ONCE):
            batch = by_onset[onset][start : start + _AT_ONCE]
            watch = calibration.watch(budget)
            rows = slice(onset, onset + WITHIN_HOURS)
            arrived = {}
            for index, fault in enumerate(batch):
                watch.restore(str(index), state)
                arrived[str(index)] = (hours[rows], inject(healthy, fault, calibration.suite.relations)[rows])
            events = watch.observe(arrived)
            for index, fault in enumerate(batch):
                said = [*events.get(str(index), []), *parts.copy().observe(*arrived[str(index)])]
                found.append(judge(fault, int(hours[onset]), names_of(said), usual))
    return found


def _seeded(calibration: Calibration, budget: float) -> Watch[str]:
    watch = calibration.watch(budget)
    watch.restore_memory(_CLEAN, calibration.seed, calibration.first_hour)
    return watch
