"""The detectors that judge every hour, fitted together: they share what is remembered, a budget, and one alarm a column."""

from __future__ import annotations

from dataclasses import dataclass

from airquality.monitoring.clock import Clock
from airquality.monitoring.detector import Cell, Detector
from airquality.monitoring.level import Level
from airquality.monitoring.ratio import Ratio
from airquality.monitoring.relations import Relations
from airquality.monitoring.roughness import Noise, Spike
from airquality.monitoring.rules import RULES, Limits

STATISTICAL = (Level, Noise, Spike, Clock, Ratio)
#: The names of the detectors that judge every hour and share one alarm a column.
HOUR_BY_HOUR = frozenset(kind.name for kind in (*RULES, *STATISTICAL))


@dataclass(frozen=True, slots=True, eq=False)
class Suite:
    """All detectors, fitted to one kind of station, and their cells in the order of the statistics."""

    relations: Relations
    limits: Limits
    detectors: tuple[Detector, ...]

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All cells, detector by detector."""
        return tuple(cell for detector in self.detectors for cell in detector.cells)


def build(relations: Relations, limits: Limits) -> Suite:
    """Return every registered detector, fitted."""
    statistical: list[Detector] = [kind(relations) for kind in STATISTICAL]
    return Suite(relations, limits, (*(kind(relations, limits) for kind in RULES), *statistical))
