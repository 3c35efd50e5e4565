"""Real Evidently reports: whatever a window lacks, the page is written, says so, and agrees with the verdict."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from scipy.stats import ks_2samp

from airquality.data import dataset
from airquality.data.dataset import Frame
from airquality.ground.settings import Settings
from airquality.metrics import ConsumerMetrics
from airquality.monitoring import drift, thresholds
from airquality.monitoring.drift import JUDGED_COLUMNS, Window
from airquality.records import RAW_COLUMNS, datetime_of
from airquality.reports import export, pages_around
from airquality.reports.document import Sidecar
from airquality.reports.paths import evidence_page
from airquality.reports.sources import KnownRows
from monitoring_service import MonitoringService
from tests import stations
from tests.report_rig import drain
from tests.whole_reports import WholeReports

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
#: What a reports folder holds beside its pages.
OWN = [".monitoring/folder.json", ".monitoring/lock"]
QUIET = stations.values_of(168, seed=6)


@pytest.fixture
def writer(tmp_path: Path) -> WholeReports:
    return WholeReports(tmp_path, stations.judge())


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a day on which nothing is wrong."""
    return WholeReports(tmp_path_factory.mktemp("quiet"), stations.judge()).write(daily())


@pytest.fixture(scope="module")
def shifted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the same day with another temperature."""
    return WholeReports(tmp_path_factory.mktemp("shifted"), stations.judge()).write(
        daily(stations.changed(QUIET[:24], {"T": 80.0}))
    )


def daily(values: np.ndarray = QUIET[:24], station_id: str = "station_1") -> Window:
    return stations.windows_of(values, station_id=station_id)[0]


def evidence_of(page: Path) -> Path:
    """Evidently's part of a report that lies flat."""
    return page.parent.parent / evidence_page(f"{page.parent.name}/{page.name}")


def sidecar_of(page: Path) -> Sidecar:
    document: Sidecar = json.loads(page.with_suffix(".json").read_text())
    return document


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_report_is_named_by_the_event_time_of_its_windows_last_hour(writer: WholeReports, tmp_path: Path) -> None:
    window = daily()
    end = datetime_of(window.end_hour)
    stem = f"daily_{end:%Y%m%d_%H%M%S}"
    assert writer.write(window) == tmp_path / "daily" / f"{stem}.html"
    around = [f"evidently/daily/{stem}.html", f"history/{end:%Y-%m}.html", "index.html", f"windows/{stem}.html"]
    found = [name for name in names(tmp_path) if not name.startswith("assets/")]
    assert found == [*OWN, f"daily/{stem}.html", f"daily/{stem}.json", *around]


def test_a_report_says_what_it_is_about_and_what_was_found(shifted: Path) -> None:
    text, document = shifted.read_text(), sidecar_of(shifted)
    assert "Daily report · station_1" in text
    assert "model version 1" in text
    assert "<strong>T</strong> median" in text
    assert "SIMULATED" not in text
    assert document["state"] == "alarm"
    assert [column["column"] for column in document["columns"] if column["drifted"]] == ["T"]
    assert document["baseline"]["n"] == 600
    assert document["performance"]["n"] == 24


def test_a_report_without_drift_says_so(quiet: Path) -> None:
    assert "All is well" in quiet.read_text()
    assert (sidecar_of(quiet)["state"], sidecar_of(quiet)["findings"]) == ("ok", [])


def test_evidentlys_own_verdicts_are_not_on_the_page(shifted: Path) -> None:
    text = evidence_of(shifted).read_text()
    assert not re.search(r"[Dd]rift (not )?detected|DATA DRIFT|Index binned", text)
    assert text.count("first to last hour of the window") == len(JUDGED_COLUMNS) + 1
    assert text.count("(evidence; the verdict is in the report)") == len(JUDGED_COLUMNS) + 1


def test_writer_evidentlys_part_is_small_beside_shared_assets(writer: WholeReports, tmp_path: Path) -> None:
    for window in stations.windows_of(QUIET):
        page = writer.write(window)
        evidence = evidence_of(page)
        assert page.stat().st_size < 200_000
        assert evidence.stat().st_size < 200_000
    assets = sorted(path.suffix for path in (tmp_path / "assets").iterdir())
    assert assets == [".css", ".js", ".js"]  # its code, and the template of its plots
    text = evidence.read_text()
    ways = re.findall(r"(?:href|src)='([^']+)'", text)
    assert {(evidence.parent / way).resolve() for way in ways} == {page, *(tmp_path / "assets").iterdir()}
    assert not re.search(r"(?:href|src)=.?https?:", text)
    assert text.index("evidently-template-") < text.index("var metric_")  # a script sees what came before it
    assert any("plotly" in path.read_text() for path in (tmp_path / "assets").glob("*.js"))


def test_ks_p_values_are_scipys(quiet: Path) -> None:
    current, reference = QUIET[:24], stations.judge().reference.values
    for column in sidecar_of(quiet)["columns"]:
        index = RAW_COLUMNS.index(column["column"])
        assert column["ks_p_value"] == pytest.approx(ks_2samp(reference[:, index], current[:, index]).pvalue)


def test_a_sensor_silent_all_day_is_left_out_and_named(writer: WholeReports) -> None:
    window = daily(stations.without(QUIET[:24], "AH", "PT08.S1(CO)"))
    page = writer.write(window)
    assert "<b>AH</b>: no value in this window" in page.read_text()
    assert "<strong>AH</strong> silent for 24 h while other columns report" in page.read_text()
    document = sidecar_of(page)
    assert [what for what, _ in document["left_out"]] == ["PT08.S1(CO)", "AH"]
    assert next(column for column in document["columns"] if column["column"] == "AH")["ks_p_value"] is None


def test_a_day_without_any_truth_is_reported_without_errors(writer: WholeReports) -> None:
    page = writer.write(daily(stations.without(QUIET[:24], "CO(GT)")))
    assert "too few measured values (0), at least 12 are needed" in page.read_text()
    assert sidecar_of(page)["performance"] == {"rmse": None, "mae": None, "r2": None, "n": 0}


def test_eleven_truths_are_shown_and_not_judged(writer: WholeReports) -> None:
    page = writer.write(daily(stations.without(QUIET[:24], "CO(GT)", rows=slice(11, None))))
    assert "11 measured CO in this window are too few" in page.read_text()
    document = sidecar_of(page)
    assert document["error_judged"] is False
    assert document["performance"]["n"] == 11
    assert document["performance"]["rmse"] > 0


def test_twelve_truths_are_drawn(writer: WholeReports) -> None:
    page = writer.write(daily(stations.without(QUIET[:24], "CO(GT)", rows=slice(12, None))))
    assert sidecar_of(page)["left_out"] == []


def test_a_silent_station_still_gets_its_report(writer: WholeReports) -> None:
    page = writer.write(stations.windows_of(np.full((24, 13), np.nan), np.full(24, 2.5))[0])
    assert "the station sent rows without any value" in page.read_text()
    assert len(sidecar_of(page)["left_out"]) == len(JUDGED_COLUMNS) + 1


def test_a_window_of_one_row_still_gets_its_report(writer: WholeReports) -> None:
    window = daily()
    values, predictions = window.values[:1], window.predictions[:1]
    verdict = stations.judge().judge(window.kind, values, predictions)
    one = replace(window, hours=window.hours[:1], values=values, predictions=predictions, verdict=verdict)
    one = replace(one, intervals=window.intervals[:1])
    assert "1 of 24 hours" in writer.write(one).read_text()


def test_constant_values_still_get_their_report(writer: WholeReports) -> None:
    values = np.where(np.isnan(QUIET[:24]), np.nan, 2.0)
    assert "What is wrong" in writer.write(stations.windows_of(values, np.full(24, 2.0))[0]).read_text()


def test_simulated_data_are_called_so_loudly(tmp_path: Path) -> None:
    page = WholeReports(tmp_path, stations.judge("simulated")).write(daily())
    assert "SIMULATED DATA" in page.read_text()
    assert "SIMULATED DATA" in (tmp_path / "index.html").read_text()


def test_station_names_are_text_and_not_markup(writer: WholeReports, tmp_path: Path) -> None:
    page = writer.write(daily(station_id="<script>alert(1)</script>"))
    assert "<script>alert(1)" not in page.read_text()
    assert "<script>alert(1)" not in (tmp_path / "index.html").read_text()


def test_the_same_window_gives_the_same_bytes(quiet: Path, writer: WholeReports) -> None:
    from airquality.reports.evidence import Artist

    writer.artist = Artist(stations.judge())  # what it has drawn before is not used
    page = writer.write(daily())
    assert page.read_bytes() == quiet.read_bytes()
    assert page.with_suffix(".json").read_bytes() == quiet.with_suffix(".json").read_bytes()
    assert evidence_of(page).read_bytes() == evidence_of(quiet).read_bytes()


def test_a_report_that_is_there_is_not_made_again(writer: WholeReports, tmp_path: Path) -> None:
    page = writer.write(daily())
    drawn = evidence_of(page)
    drawn.write_text("made before")
    (tmp_path / "index.html").unlink()
    assert WholeReports(tmp_path, stations.judge()).write(daily()) == page
    assert drawn.read_text() == "made before"
    assert (tmp_path / "index.html").exists()


@pytest.mark.parametrize("change", ["values", "version", "calibration", "no page"])
def test_a_report_of_anything_else_is_made_anew(tmp_path: Path, change: str) -> None:
    judge, window = stations.judge(), daily()
    page = WholeReports(tmp_path, judge).write(window)
    page.write_text("made before")
    if change == "values":
        window = daily(stations.changed(QUIET[:24], {"T": 1.0}))
    elif change == "version":
        window = replace(window, model_version="2")
    elif change == "calibration":
        judge = drift.Judge(judge.reference, replace(judge.calibration, model_hash="other"))
    else:
        page.unlink()
    WholeReports(tmp_path, judge).write(window)
    assert "Daily report" in page.read_text()


def test_writer_second_station_gets_a_folder_and_the_first_stays(writer: WholeReports, tmp_path: Path) -> None:
    for window in (*stations.windows_of(QUIET[:24]), daily(station_id="b/../c")):
        writer.write(window)
    writer.write(stations.windows_of(QUIET)[-1])
    stem = f"daily_{datetime_of(stations.FIRST_HOUR + 23):%Y%m%d_%H%M%S}"
    week = f"weekly_{datetime_of(stations.FIRST_HOUR + 167):%Y%m%d_%H%M%S}"
    files = [f"daily/{stem}", f"daily/b%2F..%2Fc/{stem}", f"weekly/{week}"]
    reports = [name for name in names(tmp_path) if name.startswith(("daily/", "weekly/"))]
    assert reports == sorted(f"{f}{end}" for f in files for end in (".html", ".json"))
    links = set(re.findall(r'href="([^"]+)"', (tmp_path / "index.html").read_text()))
    assert {f"daily/{stem}.html", f"daily/b%252F..%252Fc/{stem}.html", f"weekly/{week}.html"} <= links
    assert_links_work(tmp_path)


def assert_links_work(reports_dir: Path) -> None:
    """Every link of every page of ours leads to a file that is there."""
    for page in reports_dir.rglob("*.html"):
        ways = re.findall(r"""(?:href|src)=["']([^"'#]+)["']""", page.read_text())
        lost = [way for way in ways if not (page.parent / unquote(unescape(way))).is_file()]
        assert lost == [], page


def test_writer_reports_are_linked_with_their_neighbours_in_whatever_order_they_came(
    writer: WholeReports, tmp_path: Path
) -> None:
    windows = [window for window in stations.windows_of(QUIET[:96]) if window.kind.name == "daily"]
    made = [writer.write(window) for window in windows]
    other = WholeReports(tmp_path / "other", stations.judge())
    again = [other.write(windows[number]) for number in (2, 0, 3, 1)]
    for page in made:
        twin = next(found for found in again if found.name == page.name)
        assert page.read_bytes() == twin.read_bytes()
    ways = [re.findall(r'href="(daily_[^"]+)"|href="(?:../)?(daily/daily_[^"]+)"', page.read_text()) for page in made]
    assert [len(found) for found in ways] == [1, 2, 2, 1]
    assert_links_work(tmp_path)


def test_writer_old_reports_are_removed_with_all_that_belongs_to_them(tmp_path: Path) -> None:
    writer = WholeReports(tmp_path, stations.judge(), keep_days=2)
    for window in stations.windows_of(QUIET):
        writer.write(window)
        if window is stations.windows_of(QUIET)[0]:
            writer.write(replace(window, station_id="another"))
    kept = [f"daily_{datetime_of(stations.FIRST_HOUR + 24 * day - 1):%Y%m%d_%H%M%S}" for day in (5, 6, 7)]
    for folder in ("daily", "evidently/daily"):
        assert sorted(path.stem for path in (tmp_path / folder).glob("daily_*.html")) == kept
    assert sorted(path.stem for path in (tmp_path / "windows").glob("daily*")) == kept
    assert_links_work(tmp_path)


def test_writer_rows_are_called_the_data_sets_only_if_they_are(tmp_path: Path) -> None:
    hours = np.arange(stations.FIRST_HOUR, stations.FIRST_HOUR + 48)
    known = KnownRows(Frame(hours, QUIET[:48], "uci"))
    window = daily()
    assert known.source_of(window) == "uci"
    assert known.source_of(replace(window, hours=window.hours + 48)) == "uci"  # the file sent once more
    assert known.source_of(replace(window, hours=window.hours + 24)) == "unlabelled"
    assert known.source_of(daily(stations.changed(QUIET[:24], {"T": 0.1}))) == "unlabelled"
    assert KnownRows().source_of(window) == "unlabelled"
    assert "rows: uci, judged by: uci-360" in WholeReports(tmp_path, stations.judge(), known).write(window).read_text()
    assert KnownRows.of(tmp_path).source_of(window) == "unlabelled"


def test_export_makes_one_file_that_needs_no_other(writer: WholeReports, tmp_path: Path) -> None:
    page = writer.write(daily(station_id="b/../c"))
    out = tmp_path / "out" / "alone.html"
    assert export.main(["export", str(page), "--out", str(out)]) == 0
    text = out.read_text()
    assert "Daily report · b/../c" in text
    assert "plotly" in text
    inside = unescape(text.partition('srcdoc="')[2].partition('"')[0])
    for found in (text.partition("srcdoc")[0], inside):
        assert re.findall(r"""<(?:a|link|script|img) [^>]*(?:href|src)=["'][^"']+["']""", found) == []


@pytest.mark.parametrize("what", ["nothing there", "no report", "another release"])
def test_export_of_no_report_is_a_usage_error(tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "daily_20050213_020000.html"
    if what != "nothing there":
        page.write_text("page")
        page.with_suffix(".json").write_text('{"layout": 1}' if what == "another release" else "[]")
    assert export.main(["export", str(page)]) == 2
    assert "is no page of a report" in capsys.readouterr().err


def test_writer_backlog_writes_the_index_now_and_then_and_at_its_end(
    writer: WholeReports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index, dues = tmp_path / "index.html", [writer.store(window) for window in stations.windows_of(QUIET[:72])]
    writer.writer.write(dues[:1])
    assert "2 reports waiting, Evidently's plots of 3 still being made" in index.read_text()
    monkeypatch.setattr(pages_around, "INDEX_SECONDS", 1e9)
    writer.writer.write(dues[1:])
    for due in dues[:2]:
        writer.writer.draw(due.then("evidence"), writer.artist)
    assert "2 reports waiting" in index.read_text()
    writer.writer.draw(dues[2].then("evidence"), writer.artist)
    assert "0 reports waiting ·" in index.read_text()


def test_writer_truths_of_zero_throughout_still_get_a_report(writer: WholeReports) -> None:
    page = writer.write(daily(stations.changed(QUIET[:24] * np.where(np.arange(13) == 0, 0.0, 1.0), {})))
    document = sidecar_of(page)
    assert document["performance"]["n"] == 24
    assert document["performance"]["rmse"] > 0
    assert document["left_out"] == [["RMSE, MAE and R²", "Evidently cannot draw this (IndexError)"]]


def test_writer_column_that_evidently_cannot_draw_is_left_out_alone(
    writer: WholeReports, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airquality.reports import evidence

    draw = evidence._draw

    from evidently.core.report import ReferenceMetricNotFound  # after evidence, which imports it without its warnings

    def refusing(reference: Any, current: Any, columns: Sequence[str], **rest: Any) -> Any:
        if "RH" in columns:
            raise ReferenceMetricNotFound("no RH today")
        return draw(reference, current, columns, **rest)

    monkeypatch.setattr(evidence, "_draw", refusing)
    writer.artist = evidence.Artist(stations.judge())
    left_out = dict(sidecar_of(writer.write(daily()))["left_out"])
    assert set(left_out) == {"RH", "RMSE, MAE and R²"}
    assert "ReferenceMetricNotFound" in left_out["RH"]


def test_the_index_knows_what_another_process_wrote(writer: WholeReports, tmp_path: Path) -> None:
    first, second = stations.windows_of(QUIET[:48])
    writer.write(first)
    WholeReports(tmp_path, stations.judge()).write(second)
    writer.write(first)
    assert (tmp_path / "index.html").read_text().count("<td>daily</td>") == 2


def test_a_window_becomes_a_report_through_the_real_process(tmp_path: Path) -> None:
    judge = stations.judge()
    table = np.column_stack((judge.reference.values, judge.reference.predictions))
    dataset.write_table(tmp_path / thresholds.REFERENCE_NAME, (*RAW_COLUMNS, "prediction"), judge.reference.hours, table)
    (tmp_path / thresholds.CALIBRATION_NAME).write_text(json.dumps(judge.calibration.to_json()))
    metrics = ConsumerMetrics(CollectorRegistry())
    with MonitoringService.open(Settings(reports_dir=tmp_path / "reports", dataset_dir=tmp_path), metrics) as service:
        station = service.open_station("station_1")
        for reading in stations.readings_of(QUIET[:24]):
            service.submit(stations.observe(station, reading, 2.5), {"station_1": station})
        results = drain(service)
    assert [result.result for result in results] == ["generated"], results
    assert results[0].path is not None
    assert "Daily report" in results[0].path.read_text()
