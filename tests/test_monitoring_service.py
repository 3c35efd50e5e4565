"""The monitoring service: reports made, failed and hung; counters, alarms, summary."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from airquality.events import WindowSettled
from airquality.ground.errors import UsageError
from airquality.ground.settings import Settings
from airquality.incoming import LateTruth
from airquality.metrics import ConsumerMetrics
from airquality.monitoring.alarms import Event
from airquality.monitoring.component import Predicted, Row
from airquality.monitoring.drift import Window
from airquality.records import isoformat
from airquality.reports.due import ReportResult
from airquality.reports.queue import RETRY_SECONDS
from airquality.reports.summary import SUMMARY_NAME, PartitionFigures
from airquality.stream import snapshots
from airquality.stream.station import Station
from airquality.truth.performance import Performance
from airquality.truth.window_truth import WindowTruth
from lab.waiting import wait_until
from monitoring_service import MonitoringService
from tests import report_writers, stations
from tests.observed import FIRST, saved, through_codec
from tests.report_rig import COUNTS, Rig, drain, figures
from tests.system import is_running

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_reports_are_made_elsewhere_and_counted_by_poll(report_rig: Callable[..., Rig]) -> None:
    made = report_rig()
    observer = made.run(168)
    assert made.service.backlog == observer.reports.outstanding == 8
    assert made.metric("air_quality_report_backlog") == 8
    results: list[ReportResult] = []

    def collected() -> bool:
        results.extend(made.service.poll())
        return not made.service.backlog

    wait_until(collected, "eight reports")
    assert [result.result for result in results] == ["generated"] * 8
    assert all(result.path is not None and result.path.read_text() == "station_1, drawn" for result in results)
    assert observer.reports.generated == {"daily": 7, "weekly": 1}
    assert made.service.backlog == observer.reports.outstanding == 0
    assert made.metric("air_quality_reports_total", kind="daily", result="generated") == 7
    assert made.metric("air_quality_report_backlog") == made.metric("air_quality_evidence_backlog") == 0
    assert observer.state("group", 0).reports.generated == {"daily": 7, "weekly": 1}


@pytest.mark.parametrize("fault", ["fail", "fail beyond exceptions", "die"])
@pytest.mark.slow
def test_a_failed_report_is_counted_and_the_next_one_works(report_rig: Callable[..., Rig], fault: str) -> None:
    made = report_rig(fault, "daily")
    observer = made.run(168)
    results = drain(made.service)
    results.sort(key=lambda result: result.result)
    assert observer.reports.failed == {"daily": 7, "weekly": 0}
    assert observer.reports.generated == {"daily": 0, "weekly": 1}
    assert made.metric("air_quality_reports_total", kind="daily", result="failed") == 7
    assert {"fail": "no report of", "fail beyond exceptions": "NoExceptionError", "die": "exit code 3"}[fault] in results[
        0
    ].error


@pytest.mark.slow
def test_a_hung_report_process_is_replaced(report_rig: Callable[..., Rig]) -> None:
    made = report_rig("hang", "daily", report_timeout_seconds=0.5)
    observer = made.run(24)
    made.submit(observer, [_weekly(observer)])
    results = sorted(drain(made.service), key=lambda result: result.kind)
    assert [(result.kind, result.result) for result in results] == [("daily", "failed"), ("weekly", "generated")]
    assert "no answer within 0.5 s" in results[0].error


def _weekly(observer: Station) -> Window:
    observer.reports.outstanding += 1
    return replace(stations.windows_of(stations.values_of(168))[-1], station_id=observer.station_id)


@pytest.mark.parametrize("fault", ["fail", "die"])
@pytest.mark.slow
def test_a_report_that_fails_once_is_tried_again(report_rig: Callable[..., Rig], fault: str) -> None:
    made = report_rig(fault, "once")
    observer = made.run(24)
    drain(made.service)
    assert (observer.reports.generated["daily"], observer.reports.failed["daily"]) == (1, 0)


def failing_rig(tmp_path: Path, now: list[float]) -> Rig:
    """A service whose daily reports fail as long as the file ``broken`` is there."""
    (tmp_path / "broken").touch()
    return Rig(tmp_path, report_writers.faulty(tmp_path, "fail", "broken"), clock=lambda: now[0])


def test_show_alarms_names_the_column_each_alarm_is_of(report_rig: Callable[..., Rig]) -> None:
    made = report_rig()
    station = made.service.open_station("roof")
    for detector, column in (("stuck", "T"), ("absent", "missing:RH"), ("daily", "data_drift")):
        station.alarms.take(Event("opened", detector, column, FIRST, FIRST, 3.0, "h"))
    made.service.show_alarms([station])
    for alarm, column in (("sensor", "T"), ("missing", "RH"), ("data_drift", "")):
        assert made.metric("air_quality_open_alarms", station="roof", alarm=alarm, column=column) == 1
    station.alarms.take(Event("closed", "stuck", "T", FIRST, FIRST, 3.0, "h"))
    made.service.show_alarms([station])
    assert made.metric("air_quality_open_alarms", station="roof", alarm="sensor", column="T") == 0


@pytest.mark.slow
def test_service_failed_reports_are_made_once_their_cause_is_gone(tmp_path: Path) -> None:
    now = [0.0]
    made = failing_rig(tmp_path, now)
    observer = made.run(72)
    made.service.close()
    made = failing_rig(tmp_path, now)
    observer = made.run(72)
    made.poll_until(lambda: observer.reports.failed["daily"] == 3 and not made.service.backlog, "three failures")
    assert observer.state("group", 0).reports.failed["daily"] == 3  # a failed report does not hold up snapshots
    now[0] += RETRY_SECONDS[0]
    made.poll_until(lambda: not made.service.backlog, "a first new attempt, in vain")
    assert observer.reports.failed["daily"] == 3
    (tmp_path / "broken").unlink()
    now[0] += 2 * RETRY_SECONDS[0]
    made.poll_until(lambda: observer.reports.generated["daily"] == 3, "three reports")
    assert observer.reports.failed["daily"] == 0
    made.poll_until(lambda: not made.service.backlog, "Evidently's parts of them")
    made.service.close()


@pytest.mark.slow
def test_service_failed_reports_are_made_after_a_restart(tmp_path: Path) -> None:
    now = [0.0]
    made = failing_rig(tmp_path, now)
    observer = made.run(168)
    made.poll_until(lambda: not made.service.backlog, "seven failures and the week's report")
    assert observer.reports.failed == {"daily": 7, "weekly": 0}
    snapshot = saved(observer)
    made.service.close()
    made = failing_rig(tmp_path, now)
    (tmp_path / "broken").unlink()
    observer = made.service.open_station("station_1", snapshots.decode(snapshot))
    assert observer.reports.generated == {"daily": 0, "weekly": 1}
    made.poll_until(lambda: observer.reports.generated["daily"] == 7, "seven reports")
    assert observer.reports.failed == {"daily": 0, "weekly": 0}
    made.service.close()


def day_then_its_truth(made: Rig) -> tuple[Station, Callable[[], None]]:
    """Submit a day without truths, and return the station and what submits the truths that make it final."""
    observer, rows = made.service.open_station("station_1"), stations.readings_of(stations.values_of(24, seed=6))
    for row in rows:
        unknown, interval = row.without_truth(), observer.assurance.around(row, 2.0)
        found = observer.update(Row(unknown, Predicted(2.0, "1", interval)))
        made.submit(observer, [each for each in found if isinstance(each, Window)])

    def settle() -> None:
        found = [each for row in rows for each in observer.take_truth(LateTruth("station_1", row.hour, row.actual))]
        settled = [WindowSettled("station_1", each) for each in found if isinstance(each, WindowTruth)]
        assert len(settled) == 1
        made.service.submit(settled, {"station_1": observer})

    return observer, settle


@pytest.mark.parametrize("failed", ["report", "page"])
@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.slow
def test_service_page_that_could_not_be_made_final_is_made_so_later(tmp_path: Path, failed: str, restarted: bool) -> None:
    now = [0.0]
    made = failing_rig(tmp_path, now)
    if failed == "page":
        (tmp_path / "broken").unlink()
    observer, settle = day_then_its_truth(made)
    made.poll_until(lambda: not made.service.backlog, "the report's end")
    if failed == "page":
        (tmp_path / "broken").touch()
    else:  # the report has failed: there is no page that could become final
        (tmp_path / "broken").unlink()
    settle()
    made.poll_until(lambda: not made.service.backlog, "the end of what is final")
    assert observer.reports.generated["daily"] == (1 if failed == "page" else 0)
    (tmp_path / "broken").unlink(missing_ok=True)
    if restarted:
        snapshot = saved(observer)
        made.service.close()
        made = Rig(tmp_path, report_writers.plain(tmp_path))
        observer = made.service.open_station("station_1", snapshots.decode(snapshot))
    now[0] += RETRY_SECONDS[0]
    page = next(tmp_path.glob("daily_*.html"), tmp_path / f"daily_{FIRST + 23}.html")
    made.poll_until(lambda: page.exists() and "final" in page.read_text(), "the page says what is final")
    made.poll_until(lambda: not made.service.backlog, "the end of it")
    assert (observer.reports.generated["daily"], observer.reports.failed["daily"], made.service.backlog) == (1, 0, 0)
    made.service.close()


@pytest.mark.slow
def test_a_report_process_that_never_starts_fails_its_windows(tmp_path: Path) -> None:
    made = Rig(tmp_path, report_writers.never_ready)
    made.run(24)
    results = drain(made.service)
    assert results[0].result == "failed"
    assert "exit code 7" in results[0].error


@pytest.mark.slow
def test_closing_ends_a_report_process_in_the_middle_of_a_report(report_rig: Callable[..., Rig], tmp_path: Path) -> None:
    made = report_rig("hang", "daily", report_timeout_seconds=100_000.0)
    observer = made.run(24)
    wait_until(lambda: (tmp_path / "pid-pages").exists() and bool((tmp_path / "pid-pages").read_text()), "the first report")
    made.service.close()
    assert not is_running(int((tmp_path / "pid-pages").read_text()))
    assert observer.reports.failed["daily"] == 0


@pytest.mark.slow
def test_the_report_process_ignores_sigint(report_rig: Callable[..., Rig], tmp_path: Path) -> None:
    made = report_rig()
    observer = made.run(24)
    wait_until(lambda: bool(made.service.poll()), "the first report")
    pid = int((tmp_path / "pid-pages").read_text())
    os.kill(pid, signal.SIGINT)
    made.submit(observer, [_weekly(observer)])
    drain(made.service)
    assert int((tmp_path / "pid-pages").read_text()) == pid
    assert observer.reports.generated == {"daily": 1, "weekly": 1}


@pytest.mark.slow
def test_the_report_process_dies_with_its_parent(tmp_path: Path) -> None:
    program = (
        "import pathlib, signal, sys\n"
        "sys.path.insert(0, '.')\n"
        "from tests import report_rig, report_writers\n"
        "if __name__ == '__main__':\n"
        "    folder = pathlib.Path(sys.argv[1])\n"
        "    rig = report_rig.Rig(folder, report_writers.faulty(folder, 'hang', 'daily'))\n"
        "    rig.run(24)\n"
        "    signal.pause()\n"
    )
    script = tmp_path / "parent.py"
    script.write_text(program)
    with subprocess.Popen([sys.executable, str(script), str(tmp_path)], cwd=ROOT) as parent:
        try:
            wait_until(
                lambda: (tmp_path / "pid-pages").exists() and bool((tmp_path / "pid-pages").read_text()), "the first report"
            )
            pid = int((tmp_path / "pid-pages").read_text())
            assert is_running(pid)
        finally:
            parent.kill()
    wait_until(lambda: not is_running(pid), "the end of the report process")


@pytest.mark.slow
def test_a_station_that_moved_away_takes_its_windows_with_it(report_rig: Callable[..., Rig]) -> None:
    made = report_rig("hang", "once", report_timeout_seconds=4.0)
    lost, kept = made.run(72, "lost"), made.run(24, "kept")
    made.service.forget(lost)
    assert made.service.backlog == 1
    again = made.service.open_station("lost")
    results = drain(made.service)
    assert [result.station_id for result in results].count("kept") == 1  # what was stored of the other, its new owner finds
    assert (again.reports.outstanding, kept.reports.outstanding) == (0, 0)
    assert lost.reports.generated["daily"] == 0


def test_metrics_tell_drift_error_and_alarms(report_rig: Callable[..., Rig]) -> None:
    made = report_rig()
    assert made.metric("air_quality_baseline_rmse") == stations.judge().calibration.baseline.rmse
    made.run(168, "quiet")
    assert made.metric("air_quality_drift_windows_total", station="quiet", kind="daily") == 0
    assert made.metric("air_quality_windows_total", station="quiet", kind="daily") == 7
    shifted = made.run(24, "shifted", T=80.0)
    assert made.metric("air_quality_drift_windows_total", station="shifted", kind="daily") == 1
    assert made.metric("air_quality_open_alarms", station="shifted", alarm="data_drift", column="") == 1
    assert made.metric("air_quality_open_alarms", station="shifted", alarm="missing", column="") == 0
    assert made.metric("air_quality_open_alarms", station="quiet", alarm="data_drift", column="") == 0
    assert made.metric("air_quality_window_rmse", station="quiet", kind="weekly") == pytest.approx(0.3, abs=0.05)
    made.service.forget(shifted)
    assert made.metric("air_quality_open_alarms", station="shifted", alarm="data_drift", column="") is None
    assert made.metric("air_quality_open_alarms", station="quiet", alarm="data_drift", column="") == 0


def test_the_summary_is_complete_and_exact(report_rig: Callable[..., Rig], tmp_path: Path) -> None:
    made = report_rig()
    b, a = made.run(168, "b", T=80.0), made.run(64, "a")
    drain(made.service)
    made.service.write_summary({0: figures(COUNTS, a, b)})
    summary = json.loads((tmp_path / SUMMARY_NAME).read_text())
    assert {name: summary[name] for name in COUNTS} == COUNTS
    assert summary["data_source"] == "uci"
    assert summary["model_version"] == "1"
    assert summary["reports_generated"] == {"daily": 9, "weekly": 1}
    assert summary["reports_failed"] == 0
    assert summary["drift_detected"] == {"daily": 7, "weekly": 1}
    assert summary["open_alarms"] == [
        {"station_id": "b", "detector": detector, "alarm": "data_drift", "since": isoformat(FIRST + last)}
        for detector, last in (("daily", 23), ("weekly", 167))
    ]
    assert summary["baseline"]["n"] == stations.judge().calibration.baseline.n
    values = [stations.values_of(n, seed=6) for n in (168, 64)]
    predictions = np.concatenate([stations.predictions_of(v) for v in values])
    expected = Performance.of(predictions, np.concatenate([v[:, 0] for v in values]))
    assert summary["performance"]["n"] == expected.n == 232
    assert summary["performance"]["rmse"] == pytest.approx(expected.rmse)
    assert summary["performance"]["r2"] == pytest.approx(expected.r2)


def test_a_summary_of_nothing_says_null_and_not_zero(report_rig: Callable[..., Rig]) -> None:
    summary = report_rig().service.summary({0: PartitionFigures(COUNTS, ())})
    assert summary["performance"] == {"rmse": None, "mae": None, "r2": None, "n": 0}
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_counts_survive_a_restart(report_rig: Callable[..., Rig]) -> None:
    made = report_rig()
    observer = made.run(168)
    drain(made.service)
    before = made.service.summary({0: figures(COUNTS, observer)})
    after = report_rig()
    again = after.service.open_station("station_1", through_codec(observer))
    assert after.service.summary({0: figures(COUNTS, again)}) == before


def test_a_missing_reference_stops_the_service_before_it_starts(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="generate_reference_dataset"):
        MonitoringService.open(Settings(dataset_dir=tmp_path), ConsumerMetrics(CollectorRegistry()))


@pytest.mark.slow
def test_the_consumers_process_never_imports_the_plotting_stack() -> None:
    program = "import monitoring_service, sys; print(*({'evidently', 'plotly', 'pandas', 'xgboost'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
