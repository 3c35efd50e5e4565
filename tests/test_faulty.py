"""Stations with faults beside a clean one: what is said of them. The run itself is tested where a broker is."""

from __future__ import annotations

from pathlib import Path

import pytest

from airquality.data import dataset
from airquality.events import AlarmEvent
from airquality.ground.errors import UsageError
from airquality.ground.settings import Settings
from airquality.monitoring import calibration
from airquality.monitoring.alarms import Event
from airquality.records import isoformat
from lab import demo, faulty
from lab.faultlab import spec
from tests import watched

HOUR = 307_668
FAULT = spec.parse(f"stuck:RH:{isoformat(HOUR)}")


def opened(column: str, after: int) -> AlarmEvent:
    return AlarmEvent("a", Event("opened", "stuck", column, HOUR + after, HOUR, 50.0, "%"))


@pytest.mark.parametrize(
    ("alarms", "said"),
    [
        ([opened("RH", 4)], f"noticed: RH named by stuck at {isoformat(HOUR + 4)}, 4 h after it began"),
        ([opened("T", 2), opened("T/RH/AH", 3)], "noticed: T/RH/AH named by stuck"),
        ([opened("T", -9), opened("T", 2)], "noticed: T is blamed instead, by stuck"),
        ([opened("RH", -1)], "not noticed: docs/detectors.md"),
        ([], "not noticed: docs/detectors.md"),
    ],
)
def test_verdict_says_what_was_noticed_and_when(alarms: list[AlarmEvent], said: str) -> None:
    assert faulty.verdict(FAULT, alarms).startswith(said)


def test_effect_compares_with_the_clean_station_in_the_same_hours() -> None:
    own = {HOUR - 1: 9.0, HOUR: 3.0, HOUR + 1: -4.0}
    said = faulty.effect(FAULT, own, {HOUR - 1: 9.0, HOUR: 1.0, HOUR + 1: 1.0})
    assert said.startswith(
        "error from then on: RMSE 3.536 mg/m3 of 2 hours; of the clean station in the same hours: RMSE 1.000"
    )


def test_stations_are_a_clean_one_and_one_for_each_fault(tmp_path: Path) -> None:
    whole = dataset.load(dataset.find(tmp_path, "simulated").path)
    stream = dataset.split(whole).test
    csv = tmp_path / dataset.STREAM_NAME
    dataset.write_stream_csv(stream, csv)
    dataset.write_label(tmp_path, whole, [dataset.STREAM_NAME])
    calibration.write(watched.calibration(), tmp_path)
    start = isoformat(int(stream.hours[300]))
    faults = [spec.parse(f"gain:S1:2:{start}"), spec.parse(f"gain:S1:3:{start}"), spec.parse(f"stuck:T:{start}")]
    found = faulty.stations("uci-360", csv, faults, tmp_path)
    assert [station.station_id for station in found] == [
        "uci-360",
        "uci-360-gain-S1",
        "uci-360-gain-S1-2",
        "uci-360-stuck-T",
    ]
    assert found[0].csv == csv
    assert len({station.csv.read_bytes() for station in found}) == 4


def test_require_within_before_anything_is_started_refuses_a_fault_outside_the_rows(tmp_path: Path) -> None:
    settings = Settings(dataset_dir=tmp_path, air_quality_data_source="simulated")
    faulty.require_within([], settings)
    with pytest.raises(UsageError, match="begins outside the rows, which are from"):
        faulty.require_within([spec.parse("stuck:T:1999-01-01")], settings)


@pytest.mark.parametrize("text", ["melt:S1:2005-02-20", "gain:S1:x:2005-02-20", "stuck:T:1999-01-01"])
def test_demo_wrong_fault_exits_2_with_one_sentence(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RUN_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("DATASET_DIR", str(tmp_path))
    monkeypatch.setenv("AIR_QUALITY_DATA_SOURCE", "simulated")
    assert demo.main(["--fault", text]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "run").exists()
