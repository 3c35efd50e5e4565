"""The files that create_dataset.py makes, and the label that says of what."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from airquality.data import dataset, uci_file
from airquality.data.dataset import Frame
from airquality.ground.errors import UsageError
from airquality.ground.files import write_atomically
from airquality.model import features
from dataset.create_dataset import create
from tests.real_data import REAL, needs_real_data
from tests.test_dataset import HEADER, ROOT, ROW


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset folder made by the program from another working directory, without network."""
    base = tmp_path_factory.mktemp("made")
    done = create_dataset("--source", "simulated", "--dataset-dir", str(base / "project" / "dataset"), cwd=base)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("*** SIMULATED DATA")
    assert done.stdout.rstrip().endswith("***")
    assert "data source simulated" in done.stdout
    return base / "project" / "dataset"


def create_dataset(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    nowhere = {"HTTPS_PROXY": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    return subprocess.run(
        [sys.executable, str(ROOT / "dataset" / "create_dataset.py"), *arguments],
        cwd=cwd,
        env={k: v for k, v in os.environ.items() if not k.startswith("AIR_QUALITY")} | nowhere,
        capture_output=True,
        text=True,
        check=False,
    )


def copy_of(home: Path, tmp_path: Path) -> Path:
    """Return a dataset folder of its own that a test may damage."""
    for path in [p for p in home.rglob("*") if p.is_file()]:
        write_atomically(tmp_path / "dataset" / path.relative_to(home), path.read_bytes())
    return tmp_path / "dataset"


@pytest.mark.slow
def test_a_file_of_somebody_else_is_kept_when_the_program_writes_its_own(home: Path, tmp_path: Path) -> None:
    folder = copy_of(home, tmp_path)
    (folder / dataset.STREAM_NAME).write_text("the only copy")
    for _ in range(2):
        done = create_dataset("--source", "simulated", "--dataset-dir", str(folder), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    kept = [path for path in folder.iterdir() if ".kept-" in path.name]
    assert [path.read_text() for path in kept] == ["the only copy"]
    assert len(dataset.read_stream_csv(folder / dataset.STREAM_NAME)) == 1404


@pytest.mark.slow
def test_a_place_that_cannot_be_written_is_said_in_one_line(home: Path, tmp_path: Path) -> None:
    folder = copy_of(home, tmp_path)
    (folder / dataset.LABEL_NAME).unlink()
    (folder / dataset.LABEL_NAME).mkdir()
    done = create_dataset("--source", "simulated", "--dataset-dir", str(folder), cwd=tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
    assert f"{folder / dataset.LABEL_NAME} cannot be used: Is a directory" in done.stderr


def test_streamed_rows_are_the_test_block_with_its_gaps(home: Path, simulated: Frame) -> None:
    streamed = dataset.read_stream_csv(home / dataset.STREAM_NAME)
    test = dataset.split(simulated).test
    assert len(streamed) == 1404
    assert streamed.sha256 == test.sha256
    assert streamed.source == "simulated"


def test_engineered_rows_are_the_features_of_the_whole_history(home: Path, simulated: Frame) -> None:
    lines = (home / "eval_data_engineered.csv").read_text().splitlines()
    assert lines[0].split(",") == ["DateTime", "CO(GT)", *features.NAMES]
    rows = np.array([[float(cell or "nan") for cell in line.split(",")[1:]] for line in lines[1:]])
    np.testing.assert_array_equal(rows[:, 0], dataset.split(simulated).test.values[:, 0])
    np.testing.assert_array_equal(rows[:, 1:], features.batch(simulated.hours, simulated.values)[-1404:])


def test_label_names_the_source_and_nothing_is_left_over(home: Path, simulated: Frame) -> None:
    label = dataset.read_label(home)
    assert (label.source, label.sha256, label.rows) == ("simulated", simulated.sha256, 9357)
    assert dataset.current_source(home) == "simulated"
    names = {path.name for path in home.rglob("*") if path.is_file()}
    assert names == {"AirQualityUCI.csv", "test_data_raw.csv", "eval_data_engineered.csv", "source.json"}
    assert not (home / uci_file.UCI_NAME).exists()


def test_label_holds_only_for_the_bytes_it_was_made_for(home: Path, tmp_path: Path) -> None:
    copy = copy_of(home, tmp_path)
    stream = copy / dataset.STREAM_NAME
    stream.rename(copy / "renamed.csv")
    assert dataset.read_stream_csv(copy / "renamed.csv").source == "simulated"
    (copy / "renamed.csv").write_text(f"{HEADER}\n{ROW}\n")
    assert dataset.read_stream_csv(copy / "renamed.csv").source == "unlabelled"


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"data_source": "other", "sha256": "", "rows": 0, "files": {}}'])
def test_broken_label_is_not_taken_for_none(home: Path, tmp_path: Path, text: str) -> None:
    copy = copy_of(home, tmp_path)
    (copy / dataset.LABEL_NAME).write_text(text)
    for read in (
        dataset.current_source,
        dataset.current,
        lambda folder: dataset.read_stream_csv(folder / "test_data_raw.csv"),
    ):
        with pytest.raises(UsageError, match=r"source\.json is absent or broken: run python dataset/create_dataset\.py"):
            read(copy)


def test_no_label_is_an_error_where_one_is_needed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="absent"):
        dataset.current_source(tmp_path)


def test_current_is_what_the_derived_files_were_made_of(home: Path, simulated: Frame) -> None:
    assert dataset.current(home).sha256 == simulated.sha256
    assert dataset.current(home, "simulated").source == "simulated"
    with pytest.raises(UsageError, match="holds simulated data but uci is asked for"):
        dataset.current(home, "uci")


def test_current_before_anything_was_made(tmp_path: Path) -> None:
    assert dataset.current(tmp_path / "dataset", "simulated").source == "simulated"


def test_current_notices_other_data(home: Path, tmp_path: Path, simulated: Frame) -> None:
    copy = copy_of(home, tmp_path)
    dataset.write_uci_csv(simulated.rows(0, 500), copy / dataset.SIMULATED_DIR / uci_file.UCI_NAME)
    with pytest.raises(UsageError, match="changed since"):
        dataset.current(copy)


@needs_real_data
def test_real_data_replaces_simulated_data_and_its_label(home: Path, tmp_path: Path, real: Frame) -> None:
    assert REAL is not None
    copy = copy_of(home, tmp_path)
    write_atomically(copy / uci_file.UCI_NAME, (REAL / uci_file.UCI_NAME).read_bytes())
    assert dataset.current(copy).source == "simulated"
    create(copy, "auto")
    assert dataset.current_source(copy) == "uci"
    assert dataset.current(copy).sha256 == real.sha256
    assert dataset.read_stream_csv(copy / dataset.STREAM_NAME).source == "uci"


@pytest.mark.slow
def test_create_dataset_exit_codes(tmp_path: Path) -> None:
    home = tmp_path / "project" / "dataset"
    unavailable = create_dataset("--source", "uci", "--dataset-dir", str(home), cwd=tmp_path)
    assert (unavailable.returncode, unavailable.stdout) == (1, "")
    assert "cannot be downloaded" in unavailable.stderr
    write_atomically(home / uci_file.UCI_NAME, b"not it")
    refused = create_dataset("--dataset-dir", str(home), cwd=tmp_path)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "not the published data set" in refused.stderr
    assert "Traceback" not in refused.stderr + unavailable.stderr
    assert create_dataset("--source", "other", cwd=tmp_path).returncode == 2
    assert "exit status" in create_dataset("--help", cwd=tmp_path).stdout
