"""The detectors that judge every hour, fitted together: they share what is remembered, a budget, and one alarm a column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from airquality.monitoring import registry
from airquality.monitoring.detector import Cell, Detector
from airquality.monitoring.relations import Relations
from airquality.monitoring.rules import Limits


class Rule(Detector, Protocol):
    """An exact rule: its cells are ``exact``."""

    def __init__(self, relations: Relations, limits: Limits) -> None:
        """Fit it."""


class Statistical(Detector, Protocol):
    """A detector whose thresholds are bought."""

    def __init__(self, relations: Relations) -> None:
        """Fit it."""


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
    statistical: list[Detector] = [kind(relations) for kind in registry.statistical()]
    return Suite(relations, limits, (*(kind(relations, limits) for kind in registry.rules()), *statistical))
