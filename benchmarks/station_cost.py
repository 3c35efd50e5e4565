"""What one station costs a consumer: memory, its snapshot, its return, its reports; in this process, without a broker."""

from __future__ import annotations

import gc
import json
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest

from airquality.metrics import ConsumerMetrics
from airquality.records import Reading
from airquality.reports.folder import ReportsFolder
from airquality.reports.overview import overview
from airquality.stream import collector, heap, snapshots
from airquality.stream.feature_rows import take_features
from airquality.stream.station import Station
from airquality.truth.kinds import DAILY, WEEKLY
from benchmarks.ground import Ground
from benchmarks.lives import life
from benchmarks.report_parts import ReportParts
from monitoring_service import MonitoringService

_RESTORED, _TAKEN = 500, 50
_PAGE_BYTES = 4096
#: In the test period: a week, and a day before it whose report imports and compiles and is not counted.
_WEEK_STARTS, _WEEK_HOURS = 7_953, 8 * 24


def station_cost() -> dict[str, float]:
    """Let a station live eight weeks of the data set, snapshot it, and bring it back five hundred times."""
    heap.map_large_arrays()  # as the consumer does
    with tempfile.TemporaryDirectory() as folder, Ground(Path(folder)) as ground:
        station = life(ground, 0, 0).station
        monitoring = MonitoringService.open(ground.settings, ConsumerMetrics(CollectorRegistry()))
        snapshot, began = station.snapshot("footprint", 0), time.process_time()
        for _ in range(_TAKEN):
            station.snapshot("footprint", 0)
        taking = (time.process_time() - began) / _TAKEN
        gc.collect()
        heap.give_back()  # what is free here is no station's
        resident, began = _resident_bytes(), time.process_time()
        with collector.restoring():  # as the consumer does
            documents = (snapshots.decode(snapshot) for _ in range(_RESTORED))
            restored = [monitoring.open_station(f"station-{number}", document) for number, document in enumerate(documents)]
        restoring = (time.process_time() - began) / len(restored)
        _take_an_hour(restored, ground)
        return {
            "station: bytes of its snapshot": len(snapshot),
            "station: ms CPU to take a snapshot": 1e3 * taking,
            "station: ms CPU to bring it back": 1e3 * restoring,
            "station: bytes of memory": (_resident_bytes() - resident) / len(restored),
        }


def _take_an_hour(stations: list[Station], ground: Ground) -> None:
    """Let stations compute the features of another hour: only then all that they hold is there."""
    values = tuple(ground.frame.values[0].tolist())
    for station in stations:
        assert station.buffer.newest_hour is not None
        station.buffer.push(Reading(station.station_id, station.buffer.newest_hour + 1, values))
    take_features([station.buffer for station in stations])


def report_cost() -> dict[str, float]:
    """Write the reports of a station's week as the report process does: CPU, and all that lies in the folder then."""
    with tempfile.TemporaryDirectory() as folder, Ground(Path(folder)) as ground:
        windows = life(ground, 0, _WEEK_STARTS, _WEEK_HOURS).windows
        parts, spent, kept = ReportParts(ground.settings), dict.fromkeys(("daily", "weekly"), 0.0), 0
        for number, window in enumerate(windows):
            began = time.process_time()
            parts.write(window)
            if number:
                spent[window.kind.name] += time.process_time() - began
            else:
                kept = _kept_bytes(ground.settings.reports_dir)
        n_daily = sum(window.kind is DAILY for window in windows) - 1
        n_weekly = sum(window.kind is WEEKLY for window in windows)
        week = 7 * spent["daily"] / n_daily + spent["weekly"] / n_weekly
        return {
            "reports: s CPU a station and week": week,
            "reports: bytes a station and week": _kept_bytes(ground.settings.reports_dir) - kept,
        }


def _kept_bytes(reports: Path) -> int:
    """Return what each further window adds to: not what all reports share."""
    folders = ("daily", "weekly", "evidently")
    return sum(path.stat().st_size for name in folders for path in (reports / name).rglob("*") if path.is_file())


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES


def metrics_page() -> dict[str, float]:
    """Return the size of a consumer's metrics by stations."""
    figures: dict[str, float] = {}
    for n_stations in (1, 200, 10_000):
        registry = CollectorRegistry()
        metrics = ConsumerMetrics(registry).stations
        for number in range(n_stations):
            station = f"station_{number:05d}"
            metrics.open(station)
            metrics.show_row(station, 0, 0)
            metrics.show_prediction(station, 1.0, 0.5, 1.5)
            for kind in ("daily", "weekly"):
                metrics.show_window(station, kind, 0.2, 0.2)
                metrics.show_final(station, kind, 0.2, 1.0, 0.1)
        page = generate_latest(registry)
        figures[f"metrics: {n_stations} stations, bytes"] = len(page)
        figures[f"metrics: {n_stations} stations, series"] = sum(line[:1] != b"#" for line in page.splitlines())
    return figures


def index_page() -> dict[str, float]:
    """Fill a reports folder with stations, write one more report, and look at the index: its size, CPU to make it."""
    figures: dict[str, float] = {}
    for n_stations in (10, 10_000):
        with tempfile.TemporaryDirectory() as folder, Ground(Path(folder)) as ground:
            first, second, *_ = life(ground, 0, _WEEK_STARTS, 3 * 24).windows
            reports = ground.settings.reports_dir
            ReportParts(ground.settings).write(first)
            _multiply(reports, n_stations)
            ReportParts(ground.settings).write(second)
            figures[f"index: {n_stations} stations, bytes"] = (reports / "index.html").stat().st_size
            seen, began = ReportsFolder(reports), time.process_time()
            with seen.locked():
                figures[f"index: {n_stations} stations, s CPU of the first look"] = time.process_time() - began
                began = time.process_time()
                overview(seen, datetime.now(UTC).replace(tzinfo=None))
                figures[f"index: {n_stations} stations, s CPU each time"] = time.process_time() - began
    return figures


def _multiply(reports: Path, n_stations: int) -> None:
    """Give the report that is there to further stations, too."""
    [sidecar] = (reports / "daily").glob("*.json")
    text = sidecar.read_text()
    name = json.loads(text)["station_id"]
    for number in range(n_stations - 1):
        folder = reports / "daily" / f"copy-{number}"
        folder.mkdir()
        (folder / sidecar.name).write_text(text.replace(f'"{name}"', f'"copy-{number}"'))
        (folder / sidecar.name).with_suffix(".html").touch()
