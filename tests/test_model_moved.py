"""The champion is moved while the consumer runs: it is asked who predicts, and windows say whose reference judges them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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
from airquality.reports.document import Describer, Drawn
from airquality.stream.station import Station
from monitoring_service import MonitoringService
from tests import report_writers, stations
from tests.worker_rig import Rig, Service

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


def test_require_calibrated_for_worker_that_starts_over_with_another_champion_goes_on(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    judge = Judge(stations.judge().reference, stations.judge().calibration)
    settings = Settings(reports_dir=tmp_path, dataset_dir=tmp_path)
    with MonitoringService(settings, judge, ConsumerMetrics(registry), report_writers.plain(tmp_path)) as service:
        with pytest.raises(ContractError, match="not calibrated for the served model"):
            service.require_calibrated_for(OTHER)
        for served, uncalibrated in ((MODEL, 0), (OTHER, 1)):
            service.require_calibrated_for(served)
            assert registry.get_sample_value("air_quality_model_uncalibrated") == uncalibrated


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
    shown = [pages.report(describer.sidecar(each, "uci", Drawn({}, [], False), ""), None) for each in (before, after)]
    assert ["Another model's reference" in page for page in shown] == [False, True]
