"""Pages of windows: the interval as a band, the error that was expected, and what late truth made of it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from airquality.events import WindowSettled
from airquality.incoming import LateTruth
from airquality.monitoring.component import Predicted, Row
from airquality.monitoring.drift import Window
from airquality.records import TARGET_INDEX
from airquality.truth.window_truth import WindowTruth
from tests import stations
from tests.forecasts import calibration
from tests.whole_reports import WholeReports

pytestmark = pytest.mark.slow


def day_and_its_truth() -> tuple[Window, WindowSettled]:
    """Return a day that closed without any truth, and what its truth says that came later."""
    station = stations.opener(intervals=calibration()).open("station_1")
    values = stations.values_of(24)
    readings = stations.readings_of(values)
    found = []
    for reading, prediction in zip(readings, stations.predictions_of(values).tolist(), strict=True):
        row = reading.without_truth()
        station.buffer.push(row)
        found += station.update(Row(row, Predicted(prediction, "1", station.assurance.around(row, prediction))))
    for reading in readings:
        found += station.take_truth(LateTruth(reading.station_id, reading.hour, reading.actual))
    [window] = [each for each in found if isinstance(each, Window)]
    [truth] = [each for each in found if isinstance(each, WindowTruth)]
    return window, WindowSettled("station_1", truth)


def test_page_of_a_window_without_truth_shows_the_band_and_the_expected_error_dotted(tmp_path: Path) -> None:
    window, _ = day_and_its_truth()
    text = WholeReports(tmp_path, stations.judge()).write(window).read_text()
    assert "90 % interval" in text
    assert "Its truth is not in yet" in text
    assert f'<span class="dotted">{window.estimated_rmse:.1f}' in text


def test_settle_writes_the_page_once_more_with_the_final_error_and_the_late_truths(tmp_path: Path) -> None:
    window, settled = day_and_its_truth()
    writer = WholeReports(tmp_path, stations.judge())
    page = writer.write(window)
    assert settled.changes_page
    assert writer.write(settled) == page
    text, document = page.read_text(), json.loads(page.with_suffix(".json").read_bytes())
    assert "Final: the truth of all 24 predicted hours is in. 24 truths came late" in text
    assert 'class="dotted"' not in text
    assert "As known when it closed" in text
    measured = stations.values_of(24)[:, TARGET_INDEX]
    assert np.allclose(document["series"]["measured"], measured, rtol=1e-3)
    again = page.read_bytes()
    writer.write(window)
    writer.write(settled)
    assert page.read_bytes() == again


def test_settle_without_a_page_makes_none(tmp_path: Path) -> None:
    _, settled = day_and_its_truth()
    page = WholeReports(tmp_path, stations.judge()).write(settled)
    assert not page.exists()


def test_page_without_intervals_says_nothing_of_them(tmp_path: Path) -> None:
    values = stations.values_of(24)
    [window] = stations.windows_of(values)
    assert math.isnan(window.estimated_rmse)
    text = WholeReports(tmp_path, stations.judge()).write(window).read_text()
    assert "90 % interval" not in text
    assert "Expected before its truth" not in text
