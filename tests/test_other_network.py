"""Another network, with other columns, units and target, from raw rows to a page; see ``tests/carry_other_network.py``."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from airquality.network.current import VARIABLE
from airquality.network.uci_360 import UCI_360
from tests.other_network import ROADSIDE

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def carried(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What came of the stream, by the name it is printed under."""
    program = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-m"]
    done = subprocess.run(
        [*program, "tests.carry_other_network", str(tmp_path_factory.mktemp("roadside"))],
        cwd=ROOT,
        env={**os.environ, VARIABLE: "tests.other_network:ROADSIDE"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_other_network_every_row_is_accounted_for(carried: dict[str, Any]) -> None:
    summary = carried["summary"]
    assert (summary["rows_in"], summary["warmup"], summary["predictions_total"]) == (408, 168, 240)
    assert (summary["dead_letters"], summary["duplicates"]) == ({}, 0)


def test_other_network_records_hold_its_columns_and_its_limits(carried: dict[str, Any]) -> None:
    assert list(carried["first_row"]) == ["station_id", "DateTime", *ROADSIDE.names]
    assert carried["unreadable"] == "PM2.5 = 2001.0 lies outside [0.0, 2000.0]"


def test_other_network_truth_is_its_target_though_not_the_first_column(carried: dict[str, Any]) -> None:
    _, predictions, truths = zip(*carried["predictions"], strict=True)
    np.testing.assert_array_equal(truths, carried["truths"])
    known = ~np.isnan(truths)
    errors = np.array(predictions)[known] - np.array(truths)[known]
    assert carried["summary"]["performance"]["n"] == known.sum() > 200
    assert carried["summary"]["performance"]["rmse"] == pytest.approx(math.sqrt(np.mean(errors**2)))


def test_other_network_features_are_named_after_its_columns(carried: dict[str, Any]) -> None:
    names = carried["features"]
    assert len(set(names)) == len(names)
    expected = {
        "pm25_base", "pm25_lag_24h_rel", "pm25_from_sc_last_rel", "pm25_from_no_168h_rel", "pm25_step_no_rel", "sc_log",
        "cn_rel", "du_over_mean_24h", "sc_cn_ratio", "air_humidity", "air_pressure", "air_humidity_x_air_pressure",
        "pr_over_mean_24h",
    }  # fmt: skip
    assert expected <= set(names)


def test_other_network_detectors_name_the_faulty_column_in_its_unit(carried: dict[str, Any]) -> None:
    stuck = [alarm for alarm in carried["alarms"] if alarm["detector"] == "stuck"]
    assert [(alarm["event"], alarm["column"], alarm["unit"]) for alarm in stuck] == [("opened", "counter", "1/cm3")]
    assert stuck[0]["since"] == "2005-02-16T07:00:00"
    assert "stuck:counter" in {alarm["alarm"] for alarm in carried["summary"]["open_alarms"]}


def test_other_network_windows_are_judged_and_reported(carried: dict[str, Any]) -> None:
    assert (carried["windows"].count("daily"), carried["windows"].count("weekly")) == (10, 1)
    assert carried["summary"]["reports_generated"] == {"daily": 10, "weekly": 1}


def test_other_network_page_speaks_of_its_target(carried: dict[str, Any]) -> None:
    assert "Measured and predicted PM2.5" in carried["page"]
    assert re.search(r"RMSE [0-9.]+ µg/m³ over \d+ measured hours", carried["page"])
    assert re.search(r"counter is stuck at \d", carried["page"])


def test_other_network_metrics_and_dashboard_carry_its_unit(carried: dict[str, Any]) -> None:
    assert "air_quality_station_prediction_ug_m3 Latest predicted PM2.5, in ug/m3." in carried["metrics"]
    panels = json.dumps(carried["panels"], ensure_ascii=False)
    assert "max by (station) (air_quality_station_prediction_ug_m3" in panels
    assert "Yellow from 15 ug/m3 (WHO 2021, 24-hour mean), red from 50 ug/m3 (a bad hour)" in panels


def test_other_network_nothing_of_the_real_network_appears(carried: dict[str, Any]) -> None:
    theirs = [name for name in UCI_360.names if len(name) > 2] + ["mg/m", "mg_m", "co_base", "CO error", "predicted CO"]
    for part, text in carried.items():
        said = json.dumps(text, ensure_ascii=False)
        assert [name for name in theirs if name in said] == [], part
