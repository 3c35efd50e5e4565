"""The replay: order, pace, what counts as sent, what is shown, and what a wrong command line gets."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import producer
from airquality.data import dataset
from airquality.ground.settings import Settings
from airquality.records import RAW_COLUMNS, parse_reading
from airquality.stream import kafka_io, sending
from lab.broker import Broker, MockBroker
from lab.ports import free_port
from lab.waiting import PATIENCE_SECONDS
from tests import data_files
from tests.test_sending import FIRST, frame_of

ROOT = Path(__file__).resolve().parent.parent


def shown(capsys: pytest.CaptureFixture[str], n_rows: int, n_sent: int, slow: bool) -> list[str]:
    with sending.Progress(n_rows, n_rows, "air_quality.raw", slow, print) as progress:
        for number in range(1, n_sent + 1):
            progress(number)
    return capsys.readouterr().out.splitlines()


def test_slow_replay_shows_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, 1404, 17, slow=True)
    assert lines == [f"Sent row {k}/1404 to air_quality.raw" for k in range(1, 18)]


def test_fast_replay_shows_some_rows_and_the_last(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, 1404, 250, slow=False) == [f"Sent row {k}/1404 to air_quality.raw" for k in (100, 200, 250)]
    assert shown(capsys, 1404, 200, slow=False)[-1] == "Sent row 200/1404 to air_quality.raw"
    assert shown(capsys, 1404, 0, slow=False) == []


def test_later_passes_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, 2, 5, slow=True)
    assert lines[1:] == [
        "Sent row 2/2 to air_quality.raw",
        "Sent row 1/2 to air_quality.raw (pass 2)",
        "Sent row 2/2 to air_quality.raw (pass 2)",
        "Sent row 1/2 to air_quality.raw (pass 3)",
    ]


def test_on_a_terminal_a_fast_replay_shows_a_bar_and_the_last_row(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with sending.Progress(300, 300, "t", slow=False, say=print) as progress:
        for number in range(1, 301):
            progress(number)
    out, err = capsys.readouterr()
    assert out == "Sent row 300/300 to t\n"
    assert "300/300" in err


def test_announcement_of_an_odd_station_holds_no_control_character() -> None:
    line = producer.announcement(Path("x.csv"), frame_of([1], "uci"), "roof\x1b[31m\nnext")
    assert line.isprintable()
    assert "roof" in line


@pytest.mark.parametrize(("source", "loud"), [("uci", False), ("unlabelled", False), ("simulated", True)])
def test_announcement_names_the_source(source: dataset.DataSource, loud: bool) -> None:
    line = producer.announcement(Path("x.csv"), frame_of([1], source), "s")
    assert f"data source: {source}" in line
    assert ("*** SIMULATED DATA" in line) is loud


def clean_environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(("KAFKA_", "RAW_", "LOG_"))}


@pytest.fixture
def csv_path(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    dataset.write_stream_csv(frame_of([FIRST + 2, FIRST, FIRST + 1]), path)
    return path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--csv"),
        (["--csv", "{csv}", "--rate", "1", "--delay", "1"], "not allowed with"),
        (["--csv", "{csv}", "--rate", "0"], "'0' is not a positive number"),
        (["--csv", "{csv}", "--delay", "soon"], "'soon' is not a positive number"),
        (["--csv", "{csv}", "--max-records", "0"], "'0' is not a positive whole number"),
        (["--csv", "{csv}", "--start", "2005-02-05T03:30"], "not on the hour"),
        (["--csv", "{csv}", "--station-id", ""], "a station needs a name"),
    ],
)
def test_wrong_flags_are_usage_errors(
    csv_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        producer.main([argument.format(csv=csv_path) for argument in arguments])
    assert exit_info.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "No such file"),
        ("a,b\n1,2\n", "found:    a, b"),
        (",".join(("DateTime", *RAW_COLUMNS)) + "\n", "a header but no rows"),
        (",".join(("DateTime", *RAW_COLUMNS)) + "\n2005-02-05T03:00:00" + ",x" * 13, "line 2, column CO(GT)"),
    ],
)
def test_wrong_files_are_usage_errors(
    tmp_path: Path, text: str | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.csv"
    if text is not None:
        path.write_text(text)
    assert producer.main(["--csv", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err


@pytest.mark.parametrize(("hours", "found"), [(24, "9 of 9 steps are 24 h"), (3, "9 of 9 steps are 3 h")])
def test_a_file_that_is_not_hourly_is_refused_before_anything_is_sent(
    tmp_path: Path, hours: int, found: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_io, "idempotent_producer", lambda settings: pytest.fail("it connected"))
    dataset.write_stream_csv(frame_of([FIRST + hours * k for k in range(10)]), tmp_path / "rows.csv")
    assert producer.main(["--csv", str(tmp_path / "rows.csv")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert found in err
    assert "--any-step" in err


@pytest.mark.slow
def test_a_file_that_is_not_hourly_is_sent_with_a_warning_if_it_is_meant(tmp_path: Path) -> None:
    dataset.write_stream_csv(frame_of([FIRST + 24 * k for k in range(3)]), tmp_path / "rows.csv")
    with on_mock("--csv", str(tmp_path / "rows.csv"), "--any-step", "--station-id", "roof") as process:
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, err
    assert "2 of 2 steps are 24 h" in err
    assert out.endswith("3 rows acknowledged by air_quality.raw\n")


def test_dry_run_says_what_was_understood_and_connects_to_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_io, "idempotent_producer", lambda settings: pytest.fail("it connected"))
    monkeypatch.setattr(kafka_io, "ensure_topics", lambda settings: pytest.fail("it connected"))
    path = tmp_path / "rows.csv"
    path.write_text(data_files.published())
    assert producer.main(["--csv", str(path), "--dry-run"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith(f"{path}: 500 hourly rows 2004-03-10 to 2004-03-31, 13 of 13 columns, ")
    assert out[-1] == "nothing was sent (--dry-run)"


def test_a_file_nobody_labelled_asks_whose_readings_it_holds(
    csv_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_io, "ensure_topics", lambda settings: pytest.fail("it connected"))
    assert producer.main(["--csv", str(csv_path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "is not labelled by create_dataset.py: say --station-id NAME" in err


@pytest.mark.slow
def test_the_program_starts_from_any_directory_and_explains_itself(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "producer.py"), "--help"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "exit status" in done.stdout


@pytest.mark.slow
def test_an_unreachable_broker_fails_in_bounded_time_with_its_address(csv_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, str(ROOT / "producer.py"), "--csv", str(csv_path), "--station-id", "roof"]
    command += ["--bootstrap-servers", address]
    done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert address in done.stderr
    assert "Traceback" not in done.stderr


# librdkafka's mock cluster makes topics by itself and cannot be asked to.
ON_MOCK = """
import sys
from airquality.stream import kafka_io
kafka_io.ensure_topics = lambda settings, roles: None
import producer
sys.exit(producer.main(sys.argv[1:]))
"""


@contextmanager
def on_mock(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    with MockBroker("test") as broker:
        process = subprocess.Popen(
            [sys.executable, "-c", ON_MOCK, *arguments],
            cwd=ROOT,
            env=clean_environment() | {"KAFKA_API_VERSION": "2.3", "KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            try:
                yield process
            finally:
                process.kill()


@pytest.mark.slow
def test_rows_reach_a_broker_and_are_shown(csv_path: Path) -> None:
    flags = ["--station-id", "roof", "--delay", "0.1", "--loop", "--max-records", "4", "--topic", "raw.test"]
    with on_mock("--csv", str(csv_path), *flags) as process:
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, err
    servers = out.splitlines()[1].split()[3].rstrip(";")
    assert out.splitlines() == [
        f"{csv_path}: 3 rows of station roof, data source: unlabelled",
        f"to raw.test at {servers}; Ctrl-C stops it, and what was sent stays",
        *(f"Sent row {k}/3 to raw.test" for k in (1, 2, 3)),
        "Sent row 1/3 to raw.test (pass 2)",
        "4 rows acknowledged by raw.test",
    ]


@pytest.mark.slow
def test_simulated_rows_are_loud_and_a_station_of_their_own(tmp_path: Path) -> None:
    frame = dataset.simulate().rows(0, 150)
    dataset.write_stream_csv(frame, tmp_path / "rows.csv")
    dataset.write_label(tmp_path, frame, ["rows.csv"])
    with on_mock("--csv", str(tmp_path / "rows.csv")) as process:
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, err
    first, _, *middle, last = out.splitlines()
    assert "150 rows of station simulated-360, data source: simulated *** SIMULATED DATA" in first
    assert middle == [f"Sent row {k}/150 to air_quality.raw" for k in (100, 150)]
    assert last.startswith("150 rows acknowledged by air_quality.raw *** SIMULATED DATA")


@pytest.mark.slow
def test_sigterm_ends_a_slow_replay_at_once_and_in_order(csv_path: Path) -> None:
    with on_mock("--csv", str(csv_path), "--rate", "0.01", "--station-id", "roof") as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(3)][2] == "Sent row 1/3 to air_quality.raw\n"
        process.terminate()
        out, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert out == "Stopped by SIGTERM: 1 rows acknowledged by air_quality.raw\n"
    assert process.returncode == 0


@pytest.mark.broker
def test_a_real_broker_holds_every_row_in_order(tmp_path: Path, broker: Broker) -> None:
    frame = dataset.split(dataset.simulate()).test
    dataset.write_stream_csv(frame, tmp_path / "rows.csv")
    servers = ["--station-id", "roof", "--bootstrap-servers", broker.bootstrap_servers]
    command = [sys.executable, str(ROOT / "producer.py"), "--csv", str(tmp_path / "rows.csv"), "--topic", "raw.replay"]
    done = subprocess.run([*command, *servers], env=clean_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("Sent row 1404/1404 to raw.replay\n1,404 rows acknowledged by raw.replay\n")
    settings = Settings(kafka_bootstrap_servers=broker.bootstrap_servers, raw_topic="raw.replay")
    records = [record for part in range(3) for record in kafka_io.read(settings, "raw.replay", part)]
    rows = [parse_reading(record.key, record.value) for record in records]
    assert [row.hour for row in rows] == frame.hours.tolist()
    np.testing.assert_array_equal(np.array([row.values for row in rows]), frame.values)
