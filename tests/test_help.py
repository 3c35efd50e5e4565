"""No program imports a heavy library to say what it does: each of them takes from a third of a second to three."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

import pytest

from airquality.__main__ import TOOLS

pytestmark = pytest.mark.slow  # programs of their own

ROOT = Path(__file__).resolve().parent.parent
HEAVY = {
    *("mlflow", "xgboost", "sklearn", "scipy", "pandas", "pyarrow", "fastapi", "starlette", "uvicorn", "evidently"),
    *("matplotlib", "plotly", "lightgbm", "catboost", "skopt", "river"),
}
#: What a program needs to run, each a tenth of a second or less: all of them would keep its help waiting for half a second.
PARTS = {"kafka", "numpy", "prometheus_client", "pydantic", "pydantic_settings", "requests", "jinja2"}
#: Runs files with --help as their own programs, one after the other, and prints after each which libraries are loaded.
ASKED = """
import runpy, sys
libraries, *names = sys.argv[1:]
for name in names:
    sys.argv = [name, "--help"]
    try:
        runpy.run_path(name, run_name="__main__")
    except SystemExit as end:
        assert not end.code, end.code
    print("\\nloaded:", *sorted({*libraries.split(",")} & {*sys.modules}))
"""
TOOL = """
import importlib, sys
libraries, *names = sys.argv[1:]
for name in names:
    try:
        importlib.import_module(name).main(["--help"])
    except SystemExit as end:
        assert not end.code, end.code
    print("\\nloaded:", *sorted({*libraries.split(",")} & {*sys.modules}))
"""


def is_program(path: Path) -> bool:
    """Whether a file is a program with a command line of its own, which ends by running ``main()``."""
    text = path.read_text()
    if "__main__" not in text:
        return False
    tree = ast.parse(text)
    return any(isinstance(node, ast.If) and "main()" in ast.unparse(node.body[-1]) for node in tree.body)


def programs() -> list[str]:
    folders = ("airquality", "training", "dataset", "benchmarks", "deploy", "lab", "grafana")
    files = [*ROOT.glob("*.py"), *(path for folder in folders for path in (ROOT / folder).rglob("*.py"))]
    return sorted(str(path.relative_to(ROOT)) for path in files if is_program(path))


def imported(code: str, names: Collection[str], libraries: Collection[str] = HEAVY) -> dict[str, set[str]]:
    """Return by program those of the libraries that its ``--help``, or that of one before it, imports."""
    command = [sys.executable, "-c", code, ",".join(libraries), *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    *helps, rest = re.split(r"^loaded:", done.stdout, flags=re.MULTILINE)
    loaded = [*(text.partition("\n")[0] for text in helps[1:]), rest]
    assert all("usage" in text.lower() for text in helps)
    return {name: {*line.split()} for name, line in zip(names, loaded, strict=True)}


def test_help_of_a_program_imports_no_heavy_library() -> None:
    loaded = imported(ASKED, programs())
    assert len(loaded) > 20
    assert {name: libraries for name, libraries in loaded.items() if libraries} == {}


def test_help_of_a_tool_imports_no_heavy_library() -> None:
    loaded = imported(TOOL, sorted(tool.module for tool in TOOLS.values()))
    assert {name: libraries for name, libraries in loaded.items() if libraries} == {}


@pytest.mark.parametrize(
    ("code", "name", "needed"),
    [
        (ASKED, "consumer.py", set()),
        (TOOL, "airquality.replay.command", set()),
        (TOOL, "airquality.stream.alarms_command", {"numpy"}),  # its records are read with it
        (ASKED, "lab/demo.py", {"numpy"}),  # its help lists the kinds of faults that there are
    ],
)
def test_help_of_a_program_of_many_parts_imports_none_of_them(code: str, name: str, needed: set[str]) -> None:
    assert imported(code, [name], PARTS) == {name: needed}
