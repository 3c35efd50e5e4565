"""Copies of the published file: taken where every value is the same, else refused with what differs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from airquality.data import copies, dataset, uci_file
from airquality.ground.errors import UsageError
from dataset.create_dataset import create
from tests import real_data

ROOT = Path(__file__).resolve().parent.parent
REAL = real_data.FILE and real_data.FILE.parent


@pytest.fixture(scope="module")
def text(simulated: dataset.Frame, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file in the published one's format."""
    path = tmp_path_factory.mktemp("made") / uci_file.UCI_NAME
    dataset.write_uci_csv(simulated, path)
    return path.read_text()


@pytest.fixture(scope="module")
def fingerprints(simulated: dataset.Frame) -> object:
    return copies.fingerprints(simulated.values)


@pytest.fixture(autouse=True)
def simulated_is_published(fingerprints: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the simulated values stand for the published ones, which are not always at hand."""
    monkeypatch.setattr(copies, "COLUMNS", fingerprints)


def with_points(text: str) -> str:
    """A comma copy: decimal points, no empty columns or rows, NA for -200."""
    lines = [line.removesuffix(";;").replace(",", ".").replace(";", ",") for line in text.splitlines() if line.strip(";")]
    return "\n".join(lines).replace("-200", "NA")


def by_time_of_day(text: str) -> str:
    header, *lines = with_points(text).splitlines()
    return "\n".join([header, *sorted(lines, key=lambda line: line.split(",")[1])])


@pytest.mark.parametrize(
    ("change", "form"),
    [
        (lambda text: "\ufeff" + text, "encoding UTF-8 with a BOM"),
        (lambda text: text.rstrip(";\n") + ";;\n", "without the 114 empty last rows"),
        (with_points, "separated by comma; decimal point; without the 114 empty last rows"),
        (by_time_of_day, "rows in another order"),
    ],
)
def test_copy_with_the_same_values_is_taken_and_what_differs_is_said(
    tmp_path: Path,
    text: str,
    change: Callable[[str], str],
    form: str,
    simulated: dataset.Frame,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / uci_file.UCI_NAME).write_text(change(text))
    caplog.set_level(logging.INFO)
    found = dataset.find(tmp_path, "uci")
    assert form in caplog.text
    assert "with the same values: taken" in caplog.text
    frame = dataset.load(found.path)
    assert (frame.source, frame.sha256) == ("uci", simulated.sha256)


def test_copy_makes_the_same_files_as_the_published_one(tmp_path: Path, text: str, simulated: dataset.Frame) -> None:
    (tmp_path / uci_file.UCI_NAME).write_text(with_points(text))
    create(tmp_path, "auto")
    assert dataset.current(tmp_path).sha256 == simulated.sha256
    assert dataset.read_stream_csv(tmp_path / dataset.STREAM_NAME).source == "uci"


def filled(text: str) -> str:
    """The mean in place of a missing CO, as tutorials do."""
    return "\n".join(
        [line.replace(";-200;", ";2,1;", 1) if line.split(";")[2:3] == ["-200"] else line for line in text.splitlines()]
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (filled, r"CO\(GT\): ([0-9,]+) of \1 missing values \(-200\) are filled"),
        (lambda text: text.replace(";18.00.00;", ";18.00.00;9", 1), r"CO\(GT\): other values\."),
        (lambda text: "\n".join(text.splitlines()[:9000]), "8,999 rows, .*: 358 published hours are absent"),
        (lambda text: text.replace("10/03/2004;18", "09/03/2004;18", 1), "1 published hours are absent, 1 rows are of"),
        (lambda text: "\ufeff" + filled(text), "are filled; encoding UTF-8 with a BOM"),
        (lambda text: text.replace(";2,", ";?,", 1), "it cannot be read: .*is no number"),
    ],
)  # fmt: skip
def test_copy_with_other_values_is_refused_with_what_differs(
    tmp_path: Path, text: str, change: Callable[[str], str], message: str
) -> None:
    path = tmp_path / uci_file.UCI_NAME
    path.write_text(change(text))
    for read in (lambda: dataset.find(tmp_path), lambda: dataset.load(path)):
        with pytest.raises(UsageError, match=f"is not the published data set: .*{message}"):
            read()


@pytest.mark.skipif(REAL is None, reason="the real data set is not at hand")
def test_copy_of_the_real_file_is_known_by_its_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert REAL is not None
    monkeypatch.undo()
    real = dataset.load(REAL / uci_file.UCI_NAME)
    path = tmp_path / uci_file.UCI_NAME
    path.write_bytes(b"\xef\xbb\xbf" + (REAL / uci_file.UCI_NAME).read_bytes())
    assert dataset.load(path).sha256 == real.sha256
