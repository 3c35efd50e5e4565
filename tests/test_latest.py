"""What the metrics of a station show after a restart is what they showed before: from its snapshot and the rows after it."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from airquality.ground.settings import Settings
from airquality.metrics import ConsumerMetrics
from airquality.monitoring.drift import Judge
from airquality.records import Served
from airquality.stream.latest import LatestFinal, LatestWindow
from monitoring_service import MonitoringService
from tests import report_writers, stations
from tests.forecasts import calibration
from tests.simulated_kafka import reading
from tests.worker_rig import RAW, START, Rig, Service

#: Its counters, as those of any program, begin anew with the process.
COUNTERS = ("_total", "_created")
#: Those that have been closed are shown as 0, or not at all.
ALARMS = "air_quality_open_alarms"


@dataclass
class Champion(Service):
    def check(self) -> Served:
        return Served("1", "uci", "data", None)


def send(rig: Rig, first: int, n_hours: int) -> None:
    """Send rows of one station, each taken in by Kafka a minute after its hour."""
    for hour in range(START + first, START + first + n_hours):
        row = reading(0, hour)
        rig.kafka.append(RAW, 0, row.station_id.encode(), row.to_bytes(), timestamp_ms=(hour * 60 + 1) * 60_000)


class Killed(BaseException):
    """The process ends here."""


def killed() -> None:
    raise Killed


def run(rig: Rig, folder: Path, *, dies: bool = False) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Let a new process take what was sent; return what it shows of its stations when it ends, or ``dies`` while idle."""
    registry = CollectorRegistry()
    metrics = ConsumerMetrics(registry)
    judge, settings = Judge(stations.judge().reference, stations.judge().calibration), Settings(reports_dir=folder)
    writer = report_writers.plain(folder)
    with MonitoringService(settings, judge, metrics, writer, intervals=calibration()) as monitoring:
        rig.restart(monitoring, metrics)
        if dies:
            rig.clock.at.append((rig.clock.now + 1, killed))
        with pytest.raises(Killed) if dies else contextlib.nullcontext():
            rig.worker.run()
    samples = [sample for family in registry.collect() for sample in family.samples if "station" in sample.labels]
    return {
        (sample.name, (*sorted(sample.labels.items()),)): sample.value
        for sample in samples
        if not sample.name.endswith(COUNTERS) and (sample.value or sample.name != ALARMS)
    }


@pytest.mark.slow
def test_restart_without_a_new_row_shows_of_a_station_what_was_shown_before(rig: Rig, tmp_path: Path) -> None:
    rig.service = Champion()
    send(rig, 0, 168 + 168 + 80)  # a week has closed, and is final at its deadline, as some of its truths never come
    before = run(rig, tmp_path)
    assert len({name for name, _ in before}) == 12
    assert run(rig, tmp_path) == before


@pytest.mark.slow
def test_restart_after_a_kill_shows_what_rows_without_a_snapshot_changed(rig: Rig, tmp_path: Path) -> None:
    rig.service = Champion()
    send(rig, 0, 168 + 20)
    saved = run(rig, tmp_path)
    send(rig, 168 + 20, 30)
    before = run(rig, tmp_path, dies=True)
    assert before != saved
    assert run(rig, tmp_path) == before


def test_latest_figure_that_is_not_known_is_that_of_the_window_before() -> None:
    before, newer = LatestWindow(24, 0.3, 0.2, 1), LatestWindow(48, math.nan, 0.4, 0)
    assert newer.after(before) == LatestWindow(48, 0.3, 0.4, 0)
    first, second = LatestFinal(0.3, 2.0, 0.1, {"all": 0.9}), LatestFinal(math.nan, 0.0, 0.2, {"all": math.nan})
    assert second.after(first) == LatestFinal(0.3, 0.0, 0.2, {"all": 0.9})
