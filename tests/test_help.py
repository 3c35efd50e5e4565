"""No program imports a heavy library to say what it does: each of them takes from a third of a second to three."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

import pytest

from airquality.__main__ import TOOLS

ROOT = Path(__file__).resolve().parent.parent
HEAVY = {
    *("mlflow", "xgboost", "sklearn", "scipy", "pandas", "pyarrow", "fastapi", "starlette", "uvicorn", "evidently"),
    *("matplotlib", "plotly", "lightgbm", "catboost", "skopt", "river"),
}
#: What a program needs to run, each a tenth of a second or less: all of them would keep its help waiting for half a second.
PARTS = {"kafka", "numpy", "prometheus_client", "pydantic", "pydantic_settings", "requests", "jinja2"}
#: Runs a file with --help as its own program, and prints which of the named modules that imported.
ASKED = """
import runpy, sys
path, *heavy = sys.argv[1:]
sys.argv = [path, "--help"]
try:
    runpy.run_path(path, run_name="__main__")
except SystemExit as end:
    assert not end.code, end.code
print()
print(*sorted(set(heavy) & set(sys.modules)))
"""
TOOL = """
import importlib, sys
module, *heavy = sys.argv[1:]
try:
    importlib.import_module(module).main(["--help"])
except SystemExit as end:
    assert not end.code, end.code
print()
print(*sorted(set(heavy) & set(sys.modules)))
"""


def is_program(path: Path) -> bool:
    """Whether a file is a program with a command line of its own, which ends by running ``main()``."""
    tree = ast.parse(path.read_text())
    return any(isinstance(node, ast.If) and "main()" in ast.unparse(node.body[-1]) for node in tree.body)


def programs() -> list[str]:
    folders = ("airquality", "training", "dataset", "benchmarks", "deploy", "lab", "grafana")
    files = [*ROOT.glob("*.py"), *(path for folder in folders for path in (ROOT / folder).rglob("*.py"))]
    return sorted(str(path.relative_to(ROOT)) for path in files if is_program(path))


def imported(code: str, name: str, libraries: Collection[str] = HEAVY) -> set[str]:
    """Return those of the libraries that the ``--help`` of one program imports."""
    command = [sys.executable, "-c", code, name, *sorted(libraries)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout.lower()
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("path", programs())
def test_help_of_a_program_imports_no_heavy_library(path: str) -> None:
    assert imported(ASKED, path) == set()


@pytest.mark.parametrize("tool", sorted(TOOLS))
def test_help_of_a_tool_imports_no_heavy_library(tool: str) -> None:
    assert imported(TOOL, TOOLS[tool].module) == set()


@pytest.mark.parametrize(
    ("code", "name", "needed"),
    [
        (ASKED, "consumer.py", set()),
        (TOOL, "airquality.replay.command", set()),
        (ASKED, "lab/demo.py", {"numpy"}),  # its help lists the kinds of faults that there are
    ],
)
def test_help_of_a_program_of_many_parts_imports_none_of_them(code: str, name: str, needed: set[str]) -> None:
    assert imported(code, name, PARTS) == needed
