"""Every program begins and ends alike: help with examples, a version, one message, one exit code for each kind of end."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from airquality.ground import command
from airquality.ground.errors import ContractError, Unavailable, UsageError
from airquality.ground.files import write_atomically
from lab.waiting import PATIENCE_SECONDS

ROOT = Path(__file__).resolve().parent.parent
#: Every program of the commands a user types, and what it needs to get as far as its settings.
PROGRAMS: dict[str, list[str]] = {
    "producer": ["--csv", "none.csv"],
    "api_service": ["--port", "0"],
    "dataset.create_dataset": [],
    "generate_reference_dataset": [],
    "training.backtest": [],
    "training.train": ["--quick"],
    "lab.demo": [],
    "lab.prepare": [],
    "training.gap": [],
}
TOOLS: dict[str, list[str]] = {"topics": [], "registry": ["list"]}


def fail(error: BaseException) -> Callable[[], int]:
    def work() -> int:
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("no such file"), 2),
        (Unavailable("no broker"), 1),
        (ContractError("two hashes"), 1),
        (KeyboardInterrupt("stopped by me"), 130),
        (command.EndedBySignal("ended by SIGTERM", 15), 143),
    ],
)
def test_run_foreseen_failure_is_one_line_and_a_code(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.run("it", fail(error)) == code
    assert capsys.readouterr() == ("", f"it: {error}\n")


def test_run_returns_what_the_work_returns() -> None:
    works: list[Callable[[], int | None]] = [lambda: None, lambda: 0, lambda: 3]
    assert [command.run("it", work) for work in works] == [0, 0, 3]


def test_run_unforeseen_error_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        command.run("it", lambda: 1 // 0)


@pytest.mark.parametrize("place", ["file/page.html", "folder", "loop/page.html", "file/deep/page.html"])
def test_run_place_that_cannot_be_used_is_one_line_and_a_failure(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    assert command.run("it", lambda: write_atomically(tmp_path / place, b"page")) == command.FAILURE
    said = capsys.readouterr().err
    assert re.fullmatch(rf"it: {tmp_path}/\S+ cannot be used: [A-Z].*\. Name another place, .*\n", said), said
    assert ".tmp" not in said


def test_run_reader_gone_ends_quietly() -> None:
    program = "import sys; from airquality.ground import command; sys.exit(command.run('it', lambda: print('x' * 10**6)))"
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert (process.wait(PATIENCE_SECONDS), process.stderr.read()) == (command.OUTPUT_CLOSED, b"")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_run_user_without_name_or_home_gets_both() -> None:
    program = """
import getpass, os, sys
from pathlib import Path
from airquality.ground import command
os.setuid(54321)
os.environ.clear()
sys.exit(command.run("it", lambda: print(getpass.getuser(), Path.home())))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "uid-54321 /nonexistent\n", "")


def test_run_proxy_in_the_environment_is_kept_from_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "example.org")
    command.run("it", lambda: None)
    assert {"example.org", "127.0.0.1", "localhost"} <= set(os.environ["no_proxy"].split(","))


@pytest.mark.parametrize("module", PROGRAMS)
def test_program_wrong_setting_is_one_line_and_wrong_usage(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOG_LEVEL", "loud")
    assert importlib.import_module(module).main(PROGRAMS[module]) == 2
    assert_says_loud(capsys)


@pytest.mark.parametrize("tool", TOOLS)
def test_tool_wrong_setting_is_one_line_and_wrong_usage(
    tool: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOG_LEVEL", "loud")
    assert importlib.import_module("airquality.__main__").main([tool, *TOOLS[tool]]) == 2
    assert_says_loud(capsys)


def assert_says_loud(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "LOG_LEVEL=loud" in err


@pytest.mark.parametrize("module", [*PROGRAMS, "consumer", "lab.embedded_kafka", "training.notebook", "benchmarks.__main__"])
@pytest.mark.parametrize(
    ("flag", "said"), [("--help", "examples:"), ("--version", f"air-quality-monitoring {command.VERSION}")]
)
def test_program_explains_itself(module: str, flag: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(module).main([flag])
    assert ended.value.code == 0
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(
    ("module", "arguments", "said"),
    [
        ("consumer", ["--max-records", "-5"], "'-5' is not a positive whole number"),
        ("consumer", ["--timeout-seconds", "nan"], "'nan' is not a positive number"),
        ("consumer", ["--idle-exit-seconds", "inf"], "'inf' is not a positive number"),
        ("producer", ["--csv", "x", "--station-id", "x" * 256], "station_id must be of 1 to 255 bytes, not 256"),
        ("producer", ["--csv", "x", "--station-id", "\udcff"], "surrogates not allowed"),
        ("producer", ["--csv", "x", "--max-records", "٣"], "is not a positive whole number"),
        ("airquality.stream.repartition", ["--partitions", "0"], "'0' is not a positive whole number"),
        ("airquality.stream.lag", ["--port", "65536"], "'65536' is not a port"),
        ("api_service", ["--port", "x"], "'x' is not a port (1 to 65535, or 0)"),
        ("lab.embedded_kafka", ["--port", "٣"], "is not a port"),
        ("airquality.replay.command", ["--station", "x", "--hour", "2005-02-30"], "is no hour such as 2005-03-01T08:00"),
        ("airquality.stream.dlq", ["list", "--since", "tomorrow"], "is no time such as 2026-11-26T08:00"),
    ],
)
def test_argument_that_can_mean_nothing_is_wrong_usage_in_words(
    module: str, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(module).main(arguments)
    assert ended.value.code == command.USAGE
    assert said in capsys.readouterr().err


def test_tools_say_their_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert importlib.import_module("airquality.__main__").main(["--version"]) == 0
    assert command.VERSION in capsys.readouterr().out


def test_version_is_the_project_files() -> None:
    assert f'\nversion = "{command.VERSION}"\n' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
def test_run_output_on_a_full_disk_is_one_line_and_a_failure() -> None:
    code = "import sys; from airquality.ground import command; sys.exit(command.run('tool', lambda: print('result')))"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "tool: what it writes cannot be written: No space left on device\n")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_run_closed_streams_are_neither_a_traceback_nor_a_number_for_connections(closed: str) -> None:
    work = "[os.fstat(n) for n in range(3)] and print('out') or sys.exit(0 if os.open('.', 0) > 2 else 9)"
    code = f"import os, sys; from airquality.ground import command; sys.exit(command.run('tool', lambda: {work}))"
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, code], capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
