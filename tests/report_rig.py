"""A monitoring service over a stand-in report writer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from airquality.ground.settings import Settings
from airquality.metrics import ConsumerMetrics
from airquality.monitoring.drift import Window
from airquality.reports.child import OpenWriter
from airquality.reports.due import ReportResult
from airquality.reports.summary import PartitionFigures
from airquality.stream.station import Station
from lab.waiting import PATIENCE_SECONDS, wait_until
from monitoring_service import MonitoringService
from tests import stations

FIRST = stations.FIRST_HOUR


def drain(service: MonitoringService) -> list[ReportResult]:
    """Wait until nothing is due any more, end those who make reports, and return the reports that have ended."""
    ended: list[ReportResult] = []

    def nothing_due() -> bool:
        ended.extend(service.poll())
        return not service.backlog

    wait_until(nothing_due, "every report that is due has ended")
    service.close()
    return ended


class Rig:
    """A service over a stand-in report writer, with its registry."""

    def __init__(self, folder: Path, open_writer: OpenWriter, **changes: Any) -> None:
        self.folder = folder
        self.registry = CollectorRegistry()
        defaults = {"reports_dir": folder, "dataset_dir": folder, "report_timeout_seconds": PATIENCE_SECONDS}
        idle_cores, clock = changes.pop("idle_cores", lambda ours: 1), changes.pop("clock", time.monotonic)
        settings, metrics = Settings(**{**defaults, **changes}), ConsumerMetrics(self.registry)
        self.service = MonitoringService(settings, stations.judge(), metrics, open_writer, clock, idle_cores=idle_cores)

    def run(self, n_hours: int, station_id: str = "station_1", first: int = FIRST, **changes: float) -> Station:
        """Let a new station's quiet hours pass and submit their windows."""
        observer = self.service.open_station(station_id)
        values = stations.changed(stations.values_of(n_hours, seed=6), changes)
        rows = stations.readings_of(values, station_id, range(first, first + n_hours))
        for row, prediction in zip(rows, stations.predictions_of(values).tolist(), strict=True):
            self.submit(observer, stations.observe(observer, row, prediction))
        return observer

    def submit(self, observer: Station, windows: list[Window]) -> None:
        """Do what is done once the rows that closed ``windows`` are committed."""
        self.service.submit(windows, {observer.station_id: observer})
        self.service.show_alarms([observer])

    def metric(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)

    def poll_until(self, condition: Callable[[], bool], what: str) -> None:
        """Collect what has ended until something holds."""
        wait_until(lambda: not self.service.poll() and condition(), what)


COUNTS = {"rows_in": 400, "warmup": 168, "predictions_total": 232, "dead_letters": {}, "duplicates": 0}


def figures(counts: Mapping[str, Any], *owned: Station) -> PartitionFigures:
    return PartitionFigures(counts, tuple(station.figures() for station in owned))
