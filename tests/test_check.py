"""``python -m airquality check``: the stream's own alarms from a file, in words and in JSON."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from airquality import check
from airquality.data import dataset
from airquality.data.dataset import Frame
from airquality.monitoring import calibration
from tests import watched

S1 = "PT08.S1(CO)"
KEYS = {"file", "event", "detector", "column", "at", "since", "size", "unit"}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fitted")
    calibration.write(watched.calibration(), folder)
    return folder


def csv(path: Path, values: np.ndarray, rows: slice = slice(None)) -> Path:
    frame = watched.stream()
    dataset.write_stream_csv(Frame(frame.hours[rows], values[rows], frame.source), path)
    return path


def faulty() -> np.ndarray:
    values = watched.stream().values.copy()
    values[100:, watched.column(S1)] *= 1.5
    return values


def run(fitted: Path, *arguments: object) -> int:
    return check.main([*map(str, arguments), "--dataset-dir", str(fitted)])


def test_check_clean_file_exits_0(fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(fitted, csv(tmp_path / "clean.csv", watched.stream().values)) == 0
    out = capsys.readouterr().out
    assert "no alarms" in out
    assert "follows the calibrated history" in out
    assert "not judged here, needs the model" in out


@pytest.mark.slow
def test_check_json_is_the_streams_own_events_and_exits_3(
    fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = csv(tmp_path / "gain.csv", faulty())
    assert run(fitted, path, "--json") == 3
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    made = watched.calibration()
    watch = made.watch()
    watch.restore_memory("x", made.seed, made.first_hour)
    expected = []
    for row, hour in enumerate(watched.stream().hours):
        one = watch.observe({"x": (np.array([hour]), faulty()[row : row + 1])})
        expected += [event.to_json() for event in one.get("x", [])]
    assert [{**line, "file": str(path)} for line in expected] == lines
    assert set(lines[0]) == KEYS
    assert (lines[0]["event"], lines[0]["column"]) == ("opened", S1)


def test_check_file_elsewhere_in_time_starts_cold_and_says_so(
    fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(fitted, csv(tmp_path / "cold.csv", watched.stream().values, slice(1, 200))) == 0
    out = capsys.readouterr().out
    assert "starts cold" in out
    assert "learning: only the rules are judged; level, noise and ratio need rows up to" in out


def test_check_impossible_values_repeats_gaps_and_silent_columns_are_named(
    fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = watched.stream().values.copy()
    values[10, watched.column("RH")] = 300.0
    values[:, watched.column("AH")] = np.nan
    values[:, watched.column("PT08.S5(O3)")] /= 1000.0
    path = csv(tmp_path / "odd.csv", values, slice(0, 60))
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:40], lines[39], *lines[45:]]) + "\n")
    run(fitted, path)
    out = capsys.readouterr().out
    assert "1 row refused for impossible values of RH" in out
    assert "1 row ignored: the hour is there already, with the same values" in out
    assert "gaps," in out
    assert "AH is not judged: it has no value" in out
    assert "PT08.S5(O3): half of its values lie beyond" in out


def test_check_unreadable_file_exits_2_and_the_others_are_checked(
    fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    good = csv(tmp_path / "good.csv", watched.stream().values)
    assert run(fitted, tmp_path / "bad.csv", good) == 2
    captured = capsys.readouterr()
    assert "bad.csv" in captured.err
    assert "good.csv" in captured.out


def test_check_without_calibration_exits_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, csv(tmp_path / "a.csv", watched.stream().values)) == 2
    assert "generate_reference_dataset.py" in capsys.readouterr().err


def test_check_page_holds_the_events(fitted: Path, tmp_path: Path) -> None:
    run(fitted, csv(tmp_path / "gain.csv", faulty()), "--page", tmp_path / "pages")
    page = (tmp_path / "pages" / "gain.html").read_text()
    assert "PT08.S1(CO)" in page
    assert "http" not in page


def test_check_many_files_do_not_disturb_each_other(
    fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [
        csv(tmp_path / "a.csv", faulty()),
        csv(tmp_path / "b.csv", watched.stream().values),
        csv(tmp_path / "c.csv", faulty()),
    ]
    assert run(fitted, *paths, "--json") == 3
    files = [json.loads(line)["file"] for line in capsys.readouterr().out.splitlines()]
    assert set(files) == {str(paths[0]), str(paths[2])}
    assert files.count(str(paths[0])) == files.count(str(paths[2]))


def test_check_rows_the_stream_would_refuse_are_left_out_as_there(
    fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = faulty()
    good = csv(tmp_path / "good.csv", values)
    run(fitted, good, "--json")
    expected = capsys.readouterr().out
    lines = good.read_text().splitlines()
    late, other = lines[50], lines[201].replace(",", ",1", 1)
    future = lines[300].replace(lines[300].partition("-")[0], "2199", 1)
    good.write_text("\n".join([*lines[:202], other, late.replace(",", ",9", 1), future, *lines[202:]]) + "\n")
    run(fitted, good, "--json")
    captured = capsys.readouterr()
    assert captured.out == expected
    assert "2 rows refused: the hour is there already, with other values" in captured.err
    assert "1 row refused: in the future" in captured.err


def test_check_file_with_the_newest_row_first_is_judged_as_it_would_be_sent(
    fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = csv(tmp_path / "file.csv", faulty())
    assert run(fitted, path, "--json") == 3
    expected = capsys.readouterr()
    header, *lines = path.read_text().splitlines()
    path.write_text("\n".join([header, *reversed(lines)]) + "\n")
    assert run(fitted, path, "--json") == 3
    reversed_ = capsys.readouterr()
    assert reversed_.out == expected.out
    assert "not in the order of DateTime" in reversed_.err
    assert "not in the order of DateTime" not in expected.err


def test_check_daily_file_exits_2_and_says_why(fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(fitted, csv(tmp_path / "daily.csv", watched.stream().values, slice(0, None, 24))) == 2
    assert "its rows are not hourly (37 of 37 steps are 24 h)" in capsys.readouterr().err


def test_check_names_the_columns_no_detector_judges_and_whose_thresholds_are_used(
    fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(fitted, csv(tmp_path / "cold.csv", watched.stream().values, slice(1, 200)))
    out = capsys.readouterr().out
    assert "no detector judges NMHC(GT), NOx(GT), NO2(GT)" in out
    assert "rows of no calibrated station, judged by the calibrated one's thresholds" in out


def test_check_rows_long_after_the_calibration_say_that_the_thresholds_are_old(
    fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = watched.stream()
    dataset.write_stream_csv(Frame(frame.hours[:50] + 14 * 168, frame.values[:50], frame.source), tmp_path / "old.csv")
    run(fitted, tmp_path / "old.csv")
    assert "14 weeks before the last row: older than 13 weeks" in capsys.readouterr().out
    run(fitted, csv(tmp_path / "new.csv", frame.values))
    assert "older than" not in capsys.readouterr().out


def test_check_pages_of_files_with_one_name_do_not_overwrite_each_other(fitted: Path, tmp_path: Path) -> None:
    for folder, values in (("a", faulty()), ("b", watched.stream().values)):
        (tmp_path / folder).mkdir()
        csv(tmp_path / folder / "roof.csv", values)
    run(fitted, tmp_path / "a" / "roof.csv", tmp_path / "b" / "roof.csv", "--page", tmp_path / "pages")
    assert "level" in (tmp_path / "pages" / "roof.html").read_text()
    assert "no alarms" in (tmp_path / "pages" / "roof-2.html").read_text()


def testpage_names_never_meet_those_that_are_numbered() -> None:
    names = check.page_names(map(Path, ("a.csv", "x/A.csv", "a-2.csv", "y/a.csv")))
    assert list(names.values()) == ["a.html", "A-2.html", "a-2-2.html", "a-3.html"]


def test_check_page_of_a_file_whose_name_is_not_utf8_and_holds_markup(fitted: Path, tmp_path: Path) -> None:
    path = csv(tmp_path / os.fsdecode(b"gr\xfcn<script>.csv"), watched.stream().values)
    assert run(fitted, path, "--page", tmp_path / "pages") == 0
    [page] = (tmp_path / "pages").iterdir()
    assert "<h1>gr\\udcfcn&lt;script&gt;.csv</h1>" in page.read_text()


def test_check_file_without_any_value_is_no_clean_file(
    fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = np.full_like(watched.stream().values, np.nan)
    assert run(fitted, csv(tmp_path / "silent.csv", values)) == 2
    assert "holds no value of any sensor" in capsys.readouterr().err


def test_check_large_file_says_that_it_is_being_read(
    fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = csv(tmp_path / "clean.csv", watched.stream().values)
    assert run(fitted, path) == 0
    assert "reading" not in capsys.readouterr().err
    monkeypatch.setattr(check, "LARGE_BYTES", 1_000)
    assert run(fitted, path) == 0
    assert f"reading {path}, 0 MB" in capsys.readouterr().err


def test_check_page_in_a_place_that_cannot_be_used_is_said_before_anything_is_judged(
    fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = csv(tmp_path / "clean.csv", watched.stream().values)
    assert run(fitted, path, "--page", path / "pages") == 1
    captured = capsys.readouterr()
    assert (captured.out, "cannot be used: Not a directory" in captured.err) == ("", True)


def test_check_column_that_looks_like_another_unit_is_judged_and_the_doubt_is_said(
    fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = watched.stream().values.copy()
    values[100:, watched.column("RH")] = 0.0
    assert run(fitted, csv(tmp_path / "dead.csv", values)) == 3
    out = capsys.readouterr().out
    assert re.search("(RH|T/RH/AH): alarm", out)
    assert "in doubt: " in out
    values[:, watched.column("T")] += 273.15
    assert run(fitted, csv(tmp_path / "kelvin.csv", values)) == 2
    assert "--unit 'T=K'" in capsys.readouterr().err
