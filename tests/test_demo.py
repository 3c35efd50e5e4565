"""`make run` without its broker choice, which has tests of its own: how it ends early, and what it never removes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from airquality.ground.settings import read_settings
from lab import demo, faulty, ownership, parts
from lab.broker import Broker
from lab.waiting import PATIENCE_SECONDS, wait_until
from tests.system import PROJECT, is_running

PROGRAM = [sys.executable, "-m", "lab.demo"]
needs_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads the process tree from /proc")


@contextmanager
def started(tmp_path: Path, *program: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Start a run on the mock broker whose folders are in ``tmp_path``, its output in a file."""
    environment = {
        **os.environ,
        "AIR_QUALITY_BROKER": "mock",
        "AIR_QUALITY_DATA_SOURCE": "simulated",
        "RUN_DIR": str(tmp_path / "run"),
        "REPORTS_DIR": str(tmp_path / "reports"),
        "TMPDIR": str(tmp_path / "temporary"),
    }
    (tmp_path / "temporary").mkdir()
    output = tmp_path / "output.txt"
    with output.open("wb") as file:
        process = subprocess.Popen(program, cwd=PROJECT, env=environment, stdout=file, stderr=subprocess.STDOUT)
    try:
        yield process, output
    finally:
        process.kill()
        process.wait()


def descendants(pid: int) -> set[int]:
    """Return the process and everything below it, from /proc."""
    return {pid}.union(*(descendants(child) for child in children(pid)))


def children(pid: int) -> set[int]:
    return {int(child) for task in Path(f"/proc/{pid}/task").glob("*/children") for child in task.read_text().split()}


def belonging_to(folder: Path) -> list[int]:
    """Return the processes whose environment names the folder of a test."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            named = f"RUN_DIR={folder}/run".encode() in path.read_bytes()
        except OSError:  # it has ended, or is somebody else's
            continue
        if named:
            found.append(int(path.parent.name))
    return found


@pytest.mark.slow
@needs_proc
@pytest.mark.parametrize(
    ("during", "number", "code"),
    [
        ("=== training", signal.SIGTERM, 143),
        ("=== making", signal.SIGHUP, 129),
        ("Sent row", signal.SIGINT, 130),
    ],
)
def test_demo_interrupted_stops_everything_it_started(
    tmp_path: Path, during: str, number: signal.Signals, code: int
) -> None:
    with started(tmp_path, *PROGRAM) as (process, output):
        wait_until(lambda: during in output.read_text() or process.poll() is not None, f"it says {during!r}", 240)
        assert process.poll() is None, output.read_text()
        family = descendants(process.pid)
        process.send_signal(number)
        assert process.wait(PATIENCE_SECONDS) == code
    wait_until(lambda: not any(map(is_running, family)) and not belonging_to(tmp_path), "every process has ended")
    assert output.read_text().splitlines()[0].startswith("Broker: librdkafka mock cluster")
    assert "everything this run started has been stopped" in output.read_text()
    assert not re.search("Traceback", output.read_text())


def kill_the_parent(process: subprocess.Popen[bytes]) -> None:
    process.kill()


def hang_up(process: subprocess.Popen[bytes]) -> None:
    os.kill(run_of(process), signal.SIGHUP)


def kill_the_run(process: subprocess.Popen[bytes]) -> None:
    os.kill(run_of(process), signal.SIGKILL)


def run_of(process: subprocess.Popen[bytes]) -> int:
    """Return the process of the run itself: what it starts looks like it until it has become another program."""
    (run,) = children(process.pid)
    assert b"-m\0lab.demo" in Path(f"/proc/{run}/cmdline").read_bytes()
    return run


@pytest.mark.slow
@needs_proc
@pytest.mark.parametrize("happens", [kill_the_parent, hang_up, kill_the_run])
def test_demo_ended_by_force_leaves_nothing_running(tmp_path: Path, happens: Callable[[object], None]) -> None:
    parent = [sys.executable, "-c", f"import subprocess; subprocess.run({PROGRAM!r})"]
    with started(tmp_path, *parent) as (process, output):
        wait_until(lambda: "===" in output.read_text() and len(descendants(process.pid)) > 3, "a program runs")
        family = descendants(process.pid)
        happens(process)
        wait_until(lambda: not any(map(is_running, family - {process.pid})), "every process has ended")
    assert "Traceback" not in output.read_text()


@pytest.mark.slow
@needs_proc
def test_demo_output_closed_by_its_reader_ends_quietly_and_leaves_nothing_running(tmp_path: Path) -> None:
    codes = tmp_path / "codes"
    script = f'{sys.executable} -m lab.demo | head; echo "${{PIPESTATUS[0]}}" > {codes}'
    with started(tmp_path, "bash", "-c", script) as (process, output):
        assert process.wait(240) == 0
        wait_until(lambda: not belonging_to(tmp_path), "every process has ended")
    assert codes.read_text() == "141\n"
    assert not list((tmp_path / "temporary").rglob("*"))
    assert output.read_text().startswith("Broker: ")
    assert "Traceback" not in output.read_text()


def test_demo_run_folder_of_somebody_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / parts.FOLDER_NAME / "thesis.txt"
    mine.parent.mkdir()
    mine.write_text("the only copy")
    monkeypatch.setenv("RUN_DIR", str(tmp_path))
    monkeypatch.setattr(demo, "Interruption", lambda: None)
    assert demo.main([]) == 2
    assert "nothing was removed" in capsys.readouterr().err
    assert mine.read_text() == "the only copy"


def test_demo_reports_of_another_run_stay_and_new_ones_go_elsewhere(tmp_path: Path) -> None:
    wanted, folder = tmp_path / "reports", tmp_path / "run"
    with parts._reports_folder(wanted, folder) as reports_dir:
        assert reports_dir == wanted
        (wanted / "daily").mkdir(parents=True)
        (wanted / "daily" / "ours.html").write_text("ours")
    with parts._reports_folder(wanted, folder) as reports_dir:
        assert reports_dir == wanted
        assert not (wanted / "daily").exists(), "the last run's own reports make room"
        (wanted / "ours.html").write_text("ours")
    (wanted / "theirs.html").write_text("theirs")
    with parts._reports_folder(wanted, folder) as reports_dir:
        assert reports_dir == folder / "reports"
    assert {path.name for path in wanted.iterdir()} >= {"ours.html", "theirs.html"}


@pytest.mark.parametrize("place", ["file/reports", "reports"])
def test_demo_reports_folder_that_cannot_be_written_is_said_before_anything_starts(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / ".monitoring").touch()
    with pytest.raises(OSError, match=place), parts._reports_folder(tmp_path / place, tmp_path / "run"):
        pytest.fail("it went on")


def test_demo_clean_removes_what_runs_left_and_keeps_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RUN_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("REPORTS_DIR", str(tmp_path / "reports"))
    (tmp_path / "run" / "kafka").mkdir(parents=True)
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "theirs.html").write_text("theirs")
    with ownership.own_folder(tmp_path / "run" / parts.FOLDER_NAME):
        pass
    assert demo.main(["--clean"]) == 0
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["kafka"]
    assert (tmp_path / "reports" / "theirs.html").exists()
    assert f"kept {tmp_path / 'reports'}" in capsys.readouterr().out


def test_demo_commands_at_its_end_can_be_pasted_whatever_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faulty, "errors", lambda *_: {307_668: 0.1})
    broker = Broker("real", "localhost:27017", "Broker: one")
    said = parts._how_to_rebuild(read_settings(), broker, "uci-360", tmp_path / "run (mine)")
    lines = [line for line in said.splitlines() if line.startswith("  ")]
    assert len(lines) == 4
    for line in lines:
        assert subprocess.run(["bash", "-n", "-c", line], capture_output=True, check=False).stderr == b"", line
    assert all(sys.executable in line for line in lines if "airquality" in line.split("KAFKA")[0])


def test_demo_registry_is_beside_its_logs_and_free_of_odd_signs_of_the_checkout() -> None:
    assert parts._registry_uri(PROJECT / "run" / "mine") == "sqlite:///run/mine/mlflow.db"
    assert parts._registry_uri(PROJECT / "50%20" / "run") == "sqlite:///50%2520/run/mlflow.db"
