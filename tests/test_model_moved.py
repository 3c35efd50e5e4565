"""The champion is moved while the consumer runs: it is asked who predicts, and windows say whose reference judges them."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from airquality.events import WindowJudged, finding_of
from airquality.ground.errors import ContractError, Unavailable
from airquality.ground.settings import Settings
from airquality.metrics import ConsumerMetrics
from airquality.model.predictor import FeatureRows
from airquality.monitoring.drift import Judge, Window
from airquality.records import RowAnswer, Served
from airquality.reports import pages
from airquality.reports.document import Describer
from airquality.reports.summary import SUMMARY_NAME
from airquality.stream.station import Station
from monitoring_service import MonitoringService
from tests import report_writers, stations
from tests.worker_rig import SETTINGS, Rig, Service

MODEL = Served("1", "uci", "data", None)
OTHER = Served("2", "uci", "other data", None)


@dataclass
class Moves(Service):
    """A prediction service whose champion moves to version 2 with its second batch."""

    checks: int = 0
    unknown: int = 0  # so many checks after the move have no answer

    def check(self) -> Served:
        self.checks += 1
        if self.asked and self.unknown:
            self.unknown -= 1
            raise Unavailable("the prediction service does not answer")
        return OTHER if self.asked else MODEL

    def predict(self, asked: FeatureRows) -> list[RowAnswer]:
        answers = super().predict(asked)
        version = "1" if len(self.asked) == 1 else "2"
        return [(answer[0], version) for answer in answers if isinstance(answer, tuple)]


@pytest.mark.parametrize("unknown", [0, 2])
def test_run_champion_moved_is_asked_who_it_is_and_predictions_go_on(rig: Rig, unknown: int) -> None:
    service = rig.service = Moves(unknown=unknown)
    rig.restart()
    rig.send(0, 600)
    rig.worker.run()
    assert rig.monitors.served == [OTHER]
    assert service.checks == 2 + unknown  # at the start, and until it is known who predicts
    assert [p.model_version for p in rig.predictions()] == ["1"] * 32 + ["2"] * 400


def test_begin_worker_that_starts_over_with_another_champion_goes_on(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    judge = Judge(stations.judge().reference, stations.judge().calibration)
    settings = Settings(reports_dir=tmp_path, dataset_dir=tmp_path)
    with MonitoringService(settings, judge, ConsumerMetrics(registry), report_writers.plain(tmp_path)) as service:
        with pytest.raises(ContractError, match="not calibrated for the served model"):
            service.begin(OTHER, goes_on=False)
        for served, uncalibrated in ((MODEL, 0), (OTHER, 1)):
            service.begin(served, goes_on=False)
            assert registry.get_sample_value("air_quality_model_uncalibrated") == uncalibrated


@dataclass
class Champion(Service):
    """A prediction service that serves one model."""

    served: Served = MODEL

    def check(self) -> Served:
        return self.served

    def predict(self, asked: FeatureRows) -> list[RowAnswer]:
        answers = super().predict(asked)
        return [(answer[0], self.served.version) for answer in answers if isinstance(answer, tuple)]


@dataclass
class Restarts:
    """Processes after each other, each with a monitoring service of its own: what they know of each other is in Kafka."""

    rig: Rig
    reports: Path
    sent: int = 0
    metric: float = math.nan

    def run(self, served: Served, n_rows: int, *, dies: bool = False) -> dict[str, Any]:
        """Let a new process take ``n_rows`` more rows; return its summary, nothing if it ``dies`` before it has one."""
        judge = Judge(stations.judge().reference, stations.judge().calibration)
        settings = Settings(reports_dir=self.reports, dataset_dir=self.reports)
        registry = CollectorRegistry()
        metrics = ConsumerMetrics(registry)
        self.rig.service = Champion(served=served)
        with MonitoringService(settings, judge, metrics, report_writers.plain(self.reports)) as monitoring:
            self.rig.restart(monitoring)
            self.rig.send(self.sent, n_rows)
            self.sent += n_rows
            if dies:
                self.rig.clock.at.append((self.rig.clock.now + 1, killed))
                with pytest.raises(Killed):
                    self.rig.worker.run()
                return {}
            self.rig.worker.run()
            self.metric = registry.get_sample_value("air_quality_model_uncalibrated") or 0.0
        summary: dict[str, Any] = json.loads((self.reports / SUMMARY_NAME).read_bytes())
        return summary

    def windows(self) -> list[tuple[str, int, tuple[str, ...]]]:
        """Return the judged windows of the events topic: kind, rows, and the versions the reference is not of."""
        found = [finding_of(record.value) for record in self.rig.kafka.log(SETTINGS.events_topic)]
        return [(each.kind, each.n_rows, each.uncalibrated) for each in found if isinstance(each, WindowJudged)]


class Killed(BaseException):
    """The process ends here."""


def killed() -> None:
    raise Killed


@pytest.mark.slow
def test_begin_champion_of_another_calibration_after_a_crash_goes_on_and_says_so(rig: Rig, tmp_path: Path) -> None:
    processes = Restarts(rig, tmp_path)
    processes.run(MODEL, 168 + 12)
    processes.run(OTHER, 60, dies=True)  # moved while no consumer ran; killed before any snapshot
    summary = processes.run(OTHER, 24)
    assert [p.model_version for p in rig.predictions()] == ["1"] * 12 + ["2"] * 84
    assert (summary["model_version"], summary["uncalibrated"]) == ("2", ["2"])
    assert processes.metric == 1
    assert processes.windows() == [("daily", 24, ("2",))] * 4


@pytest.mark.slow
def test_begin_rolled_back_champion_windows_of_the_one_before_keep_their_mark(rig: Rig, tmp_path: Path) -> None:
    processes = Restarts(rig, tmp_path)
    processes.run(MODEL, 168 + 12)
    processes.run(OTHER, 6, dies=True)
    processes.run(MODEL, 6)  # its process knows of version 2 from Kafka alone
    summary = processes.run(MODEL, 144)
    assert (summary["model_version"], summary["uncalibrated"]) == ("1", [])
    assert processes.metric == 0
    daily = [("daily", 24, ())] * 6
    assert processes.windows() == [("daily", 24, ("2",)), *daily, ("weekly", 168, ("2",))]


@pytest.mark.parametrize("n_rows", [0, 100])
def test_begin_champion_of_another_calibration_before_any_prediction_is_refused(
    rig: Rig, tmp_path: Path, n_rows: int
) -> None:
    processes = Restarts(rig, tmp_path)
    if n_rows:
        processes.run(MODEL, n_rows)
    with pytest.raises(
        ContractError, match=r"not calibrated for the served model \(version 2\).*generate_reference_dataset"
    ):
        processes.run(OTHER, 100)


@pytest.mark.slow
def test_begin_offsets_that_expired_snapshots_say_that_predictions_go_on(rig: Rig, tmp_path: Path) -> None:
    processes = Restarts(rig, tmp_path)
    processes.run(MODEL, 180)
    rig.kafka.positions.clear()
    processes.run(OTHER, 12)
    assert [p.model_version for p in rig.predictions()] == ["1"] * 12 + ["2"] * 12


def observe(station: Station, hours: Sequence[int], version: str) -> list[Window]:
    rows = dict(zip(range(48), stations.readings_of(stations.values_of(48)), strict=True))
    return [window for hour in hours for window in stations.observe(station, rows[hour], 2.0, version)]


def test_note_served_model_of_another_calibration_is_said_by_its_windows(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    registry = CollectorRegistry()
    judge = Judge(stations.judge().reference, stations.judge().calibration)
    settings = Settings(reports_dir=tmp_path, dataset_dir=tmp_path)
    with MonitoringService(settings, judge, ConsumerMetrics(registry), report_writers.plain(tmp_path)) as service:
        station = service.open_station("station_1")
        [before] = observe(station, range(24), "1")
        with caplog.at_level(logging.ERROR):
            service.note_served(OTHER)
        [after] = observe(station, range(24, 48), "2")
        assert registry.get_sample_value("air_quality_model_uncalibrated") == 1
        service.note_served(MODEL)
        assert registry.get_sample_value("air_quality_model_uncalibrated") == 0
    [said] = [record.getMessage() for record in caplog.records]
    assert "not calibrated for the served model (version 2)" in said
    assert "predictions go on" in said
    published = [finding_of(WindowJudged.of(window).to_bytes()) for window in (before, after)]
    assert [each.uncalibrated for each in published if isinstance(each, WindowJudged)] == [(), ("2",)]
    assert Window.from_state("station_1", after.state(), judge).uncalibrated == ("2",)
    describer = Describer(judge)
    shown = [pages.report(describer.sidecar(each, "uci", ""), None) for each in (before, after)]
    assert ["Another model's reference" in page for page in shown] == [False, True]
