"""Where monitoring fails, predictions go on: a part that raises is off, said once, and the other parts and Kafka go on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from airquality.events import RowsMissed, finding_of
from airquality.ground.settings import Settings
from airquality.incoming import LateTruth, Operation
from airquality.metrics import ConsumerMetrics
from airquality.monitoring.alarms import Event
from airquality.monitoring.assurance import Assurance
from airquality.monitoring.component import Missed, Row
from airquality.monitoring.detectors import Detectors, StationDetectors
from airquality.monitoring.failures import Failures
from airquality.monitoring.registry import components
from airquality.monitoring.silence import Lateness, Silence
from airquality.monitoring.windows import WINDOWS, Windows
from airquality.records import Reading, isoformat
from airquality.reports.summary import PartitionFigures
from airquality.stream import snapshots
from airquality.stream.station import INTERVALS, Off
from monitoring_service import HOURLY, MonitoringService
from tests import report_writers, stations
from tests.forecasts import calibration
from tests.observed import FIRST, row_at
from tests.simulated_kafka import reading
from tests.worker_rig import PRED, RAW, SETTINGS, START, STATE, Rig

N_HOURS = 240
FAULTS = [
    (Windows, WINDOWS, "update"),
    (Windows, WINDOWS, "hear"),
    (Windows, WINDOWS, "operate"),
    (Windows, WINDOWS, "take_truth"),
    (Windows, WINDOWS, "state"),
    (Assurance, INTERVALS, "around"),
    (Assurance, INTERVALS, "update"),
    (Assurance, INTERVALS, "take_truth"),
    (Assurance, INTERVALS, "state"),
    (Silence, "silence", "update"),
    (Silence, "silence", "note_newest"),
    (Silence, "silence", "pass_time"),
    (Silence, "silence", "operate"),
    (Silence, "silence", "state"),
    (Lateness, "late", "update"),
    (Lateness, "late", "take_refusal"),
    (StationDetectors, HOURLY, "update"),
    (StationDetectors, HOURLY, "learning"),
    (StationDetectors, HOURLY, "state"),
]


def fail(*_: object, **__: object) -> None:
    raise FloatingPointError("a sum went wrong")


def send_everything(rig: Rig) -> None:
    """Send two stations' rows, one of them silent at the end, and what else a station can get."""
    for first in range(0, N_HOURS, 10):
        rig.send(first, 10)
        rig.send(first, 10, station=1) if first < N_HOURS - 20 else None
    rig.kafka.append(RAW, 0, b"station_0", reading(0, START - 5).to_bytes())  # late
    unknown = max(hour for hour in range(START, START + N_HOURS) if math.isnan(reading(0, hour).actual))
    for record in (Operation("station_0", "reset", "T", who="Ada"), LateTruth("station_0", unknown, 2.5)):
        rig.kafka.append(RAW, 0, b"station_0", record.to_bytes(), headers=(*record.headers,))


def run(rig: Rig) -> Failures:
    rig.restart()
    rig.monitors.opener.intervals = calibration()
    rig.worker.run()
    return rig.monitors.opener.failures


@pytest.mark.parametrize(("kind", "part", "method"), FAULTS)
def test_run_part_of_the_monitoring_that_raises_is_off_and_predictions_go_on(
    rig: Rig,
    kind: type[Any],
    part: str,
    method: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    send_everything(rig)
    with monkeypatch.context() as broken:
        broken.setattr(kind, method, fail)
        failures = run(rig)
    assert len(rig.predictions()) == 2 * N_HOURS - 20 - 2 * 168
    assert len({p.source_offset for p in rig.predictions()}) == len(rig.predictions())
    assert [said.partition(" of ")[0] for said in failures.sentences] == [part]
    assert "FloatingPointError: a sum went wrong" in failures.sentences[0]
    assert len([record for record in caplog.records if record.exc_info]) == 1  # the traceback once, not by station
    if method in ("around", "update"):
        assert all(math.isnan(p.lower) for p in rig.predictions()[1:]) == (part == INTERVALS)
    closed = {station_id for station_id, _, _ in rig.monitors.made}
    assert (closed == {"station_0", "station_1"}) == (part != WINDOWS or method not in ("update", "hear"))

    rig.send(N_HOURS, 5)  # the next start has all parts again
    failures = run(rig)
    assert failures.sentences == []
    assert len(rig.kafka.log(PRED)) == len({p.source_offset for p in rig.predictions()}) == 2 * N_HOURS - 20 - 2 * 168 + 5
    assert not any(math.isnan(p.lower) for p in rig.predictions()[-4:])


def test_snapshot_part_that_failed_is_saved_as_it_was(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.send(0, 200)
    run(rig)
    before = snapshots.decode(rig.kafka.log(STATE)[-1].value or b"")
    rig.send(200, 10)
    monkeypatch.setattr(Windows, "update", fail)
    run(rig)
    after = snapshots.decode(rig.kafka.log(STATE)[-1].value or b"")
    assert after["offset"] == 209
    assert snapshots.encode(after["windows"]) == snapshots.encode(before["windows"])
    assert after["assurance"]["newest_hour"] == START + 209


def fail_from(hour: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the windows fail with the row of ``hour`` after the start."""
    update = Windows.update

    def failing(windows: Windows, row: Row) -> Any:
        return fail() if row.reading.hour == START + hour else update(windows, row)

    monkeypatch.setattr(Windows, "update", failing)


def missed(rig: Rig) -> list[Missed]:
    found = [finding_of(record.value) for record in rig.kafka.log(SETTINGS.events_topic)]
    return [each.missed for each in found if isinstance(each, RowsMissed)]


def test_restart_windows_that_were_off_are_counted_as_not_judged_and_said(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.send(0, 264)
    with monkeypatch.context() as broken:
        fail_from(200, broken)
        run(rig)
    assert missed(rig) == []
    rig.send(264, 24)
    run(rig)
    [said] = missed(rig)
    assert said == Missed("windows", START + 200, START + 263, "FloatingPointError: a sum went wrong")
    assert f"Not judged by windows from {isoformat(START + 200)}" in "\n".join(rig.lines)
    figures = rig.monitors.stations["station_0"].figures()
    assert figures.reports["unjudged"] == {"daily": 2, "weekly": 0}  # 216 to 239 and 240 to 263; the first has eight rows
    assert figures.reports["empty"] == {"daily": 0, "weekly": 0}
    run(rig)
    assert len(missed(rig)) == 1  # said once


def test_restart_after_a_crash_before_the_snapshot_judges_what_was_off(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.send(0, 200)
    run(rig)
    rig.send(200, 64)
    with monkeypatch.context() as broken:
        fail_from(200, broken)
        rig.restart()
        rig.clock.at.append((rig.clock.now + 1, fail))
        with pytest.raises(FloatingPointError):
            rig.worker.run()
    rig.send(264, 1)
    run(rig)
    assert missed(rig) == []
    assert [end - START for _, kind, end in rig.monitors.made if kind == "daily"] == [215, 239, 263]


def test_report_of_the_window_that_goes_on_says_which_hours_were_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    station = stations.new()
    for at, row in enumerate(stations.readings_of(stations.values_of(40))):
        if at == 30:
            station.note_off("silence", "ValueError: no", row.hour)
        if at == 36:
            station.reports.outstanding = 0  # the first day's was made
            document = snapshots.decode(station.snapshot("group", at))
            station = stations.opener().open("station_1", document)
        stations.observe(station, row, 2.0)
    [note] = station.windows.state().operations
    assert note[0] == stations.FIRST_HOUR + 35
    assert note[1].startswith(f"Not judged by silence from {isoformat(stations.FIRST_HOUR + 30)} to ")


def test_snapshot_part_whose_memory_cannot_be_saved_begins_anew(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.send(0, 200)
    update = Silence.update

    def break_later(silence: Silence, row: Row) -> list[Event]:
        found = update(silence, row)
        infinite: Any = math.inf  # no hour, so it cannot be saved
        silence._newest_then = infinite
        return found

    with monkeypatch.context() as broken:
        broken.setattr(Silence, "update", break_later)
        broken.setattr(Silence, "note_newest", lambda silence, newest: None)
        failures = run(rig)
    assert [said.partition(":")[0] for said in failures.sentences] == ["silence of station_0"]
    saved = snapshots.decode(rig.kafka.log(STATE)[-1].value or b"")
    assert sorted(saved["detectors"]) == [HOURLY, "late"]
    rig.send(200, 5)
    assert run(rig).sentences == []
    assert len(rig.predictions()) == 37


def test_service_part_that_fails_is_in_the_metric_and_the_summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = CollectorRegistry()
    settings = Settings(reports_dir=tmp_path, dataset_dir=tmp_path)
    with MonitoringService(settings, stations.judge(), ConsumerMetrics(registry), report_writers.plain(tmp_path)) as service:
        opened = [service.open_station(f"station_{n}") for n in range(3)]
        monkeypatch.setattr(Windows, "update", fail)
        for station in opened[:2]:
            stations.observe(station, reading(0, START), 2.0)
        figures = PartitionFigures({}, tuple(station.figures() for station in opened))
        assert service.summary({0: figures})["detectors_off"] == (
            "none were given; windows of station_0 and 1 more stations: FloatingPointError: a sum went wrong"
        )
        by_part = {
            part: registry.get_sample_value("air_quality_monitoring_parts_off", {"part": part})
            for part in (WINDOWS, INTERVALS, *(kind.name for kind in components()))
        }
        assert by_part == {WINDOWS: 2, INTERVALS: 0, **{kind.name: 0 for kind in components()}}
        service.forget(opened[0])
        assert registry.get_sample_value("air_quality_monitoring_parts_off", {"part": WINDOWS}) == 1


class Broken(Detectors):
    """Detectors with a fault of their own."""

    def __init__(self) -> None:
        super().__init__(None)

    def judge(self, arrived: Mapping[StationDetectors, Sequence[Reading | Operation]]) -> None:
        if not self.why_off:
            raise FloatingPointError("a sum went wrong")


def test_judge_detectors_that_fail_are_off_and_predictions_go_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    registry = CollectorRegistry()
    settings = Settings(reports_dir=tmp_path, dataset_dir=tmp_path)
    writer = report_writers.plain(tmp_path)
    service = MonitoringService(settings, stations.judge(), ConsumerMetrics(registry), writer, detectors=Broken())
    assert registry.get_sample_value("air_quality_detectors_off") == 0
    station = service.open_station("station_1")
    for hour in (FIRST, FIRST + 1):
        service.judge([(station, [row_at(hour)])])
        assert stations.observe(station, row_at(hour), 2.0) == []
    service.close()
    assert registry.get_sample_value("air_quality_detectors_off") == 1
    summary = service.summary({0: PartitionFigures({}, (station.figures(),))})
    assert summary["detectors_off"] == "FloatingPointError: a sum went wrong"
    assert station.state("group", 1).off == {"hourly": Off(FIRST, "FloatingPointError: a sum went wrong")}
    assert len([record for record in caplog.records if "predictions go on" in record.getMessage()]) == 1
