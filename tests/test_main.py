from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from airquality import __main__ as tools

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("name", tools.TOOLS)
@pytest.mark.slow
def test_tool_help_names_the_command_that_was_typed(name: str) -> None:
    done = subprocess.run([sys.executable, "-m", "airquality", name, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.startswith(f"usage: python -m airquality {name}")


def test_main_unknown_tool_is_wrong_usage_and_lists_the_tools(capsys: pytest.CaptureFixture[str]) -> None:
    assert tools.main(["brokr"]) == 2
    assert "broker" in capsys.readouterr().err


def test_installed_without_the_lab_leaves_its_tools_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tools.TOOLS, "broker", tools.Tool("not_in_this_image.broker", ""))
    assert "broker" not in tools.installed()
    assert "topics" in tools.installed()


@pytest.mark.parametrize(("version", "code"), [("3.10.9", 2), ("3.11.0", 0), ("3.14.2", 0), ("3.15.0", 2)])
@pytest.mark.slow
def test_other_pythons_are_refused_in_a_sentence(version: str, code: int) -> None:
    number = tuple(map(int, version.split(".")))
    program = f"import sys; sys.version_info, sys.version = {number}, '{version} (main)'; import airquality"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == code
    expected = f"Python 3.11 to 3.14 is needed, this is {version} ({sys.executable})\n" if code else ""
    assert done.stderr == expected


@pytest.mark.parametrize(
    "program",
    [
        ["consumer.py"],
        ["producer.py"],
        ["generate_reference_dataset.py"],
        ["dataset/create_dataset.py"],
        ["training/train.py"],
        ["-m", "airquality", "topics"],
        ["-m", "uvicorn", "api_service:app"],
        ["-m", "lab.demo"],
    ],
    ids=lambda program: program[-1],
)
@pytest.mark.slow
def test_every_program_refuses_python_without_assertions_in_a_sentence(program: list[str]) -> None:
    done = subprocess.run([sys.executable, "-O", *program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert "start without it" in line
