"""What each image holds, installs and runs as."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from pathlib import Path

import kafka.codec
import pytest

from tests.compose_files import DOCKERFILE, ROOT, STAGES

#: What each image starts.
DOORS = {
    "api": ["api_service"],
    "producer": ["producer", "airquality.stream.lag", "deploy.forward"],
    "consumer": ["consumer"],
    "data": ["deploy.make_data", "dataset.create_dataset", "generate_reference_dataset", "training.train"],
}


def closure(door: str) -> tuple[set[str], set[str]]:
    """Return the project's own modules that ``door`` imports, itself included, and the other top-level names it imports."""
    own: set[str] = set()
    foreign: set[str] = set()
    left = [door]
    while left:
        module = left.pop()
        path = ROOT / (module.replace(".", "/") + ".py")
        if not path.exists():
            foreign.add(module.split(".")[0])
        elif module not in own:
            own.add(module)
            left += imports(ast.parse(path.read_text()))
    return own, foreign - set(sys.stdlib_module_names) - {"airquality"}


def imports(tree: ast.AST) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [
                node.module,
                *(f"{node.module}.{a.name}" for a in node.names if node.module == "airquality"),
            ]
    return found


def requirements(name: str) -> dict[str, str]:
    """Return package -> bounds of a requirements file, those it includes among them; markers left out."""
    found: dict[str, str] = {}
    for line in (ROOT / name).read_text().splitlines():
        line = line.split("#")[0].split(";")[0].strip()
        if line.startswith("-r"):
            found |= requirements(line[2:].strip())
        elif line:
            match = re.match(r"([\w-]+)(.*)", line)
            assert match
            found.setdefault(match[1], match[2])
    return found


def copied(role: str) -> dict[str, list[Path]]:
    """Return what each source that a stage copies names, relative to the project."""
    sources = [name for line in re.findall(r"^COPY (.*) \S+$", STAGES[role], re.M) for name in line.split()]
    return {source: [path.relative_to(ROOT) for path in ROOT.glob(source)] for source in sources}


@pytest.mark.parametrize("role", sorted(DOORS))
def test_an_image_holds_the_modules_its_program_imports_and_no_others(role: str) -> None:
    own = {module for door in DOORS[role] for module in closure(door)[0] if not module.startswith("airquality")}
    own = {module.removeprefix("deploy.") for module in own}
    modules = {
        source: {".".join(path.with_suffix("").parts).removeprefix("deploy.") for path in paths if path.suffix == ".py"}
        for source, paths in copied(role).items()
    }
    assert own <= set().union(*modules.values())
    named = {module for source, found in modules.items() if "*" not in source for module in found}
    assert named - {"run_as_owner"} <= own


@pytest.mark.parametrize("role", sorted(DOORS))
def test_what_an_image_copies_enters_its_build_context(role: str) -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    sources = copied(role)
    assert [source for source, found in sources.items() if not found] == []
    assert [source for source in sources if not any(Path(source).match(pattern) for pattern in allowed)] == []


PACKAGES = {"kafka": "kafka-python", "prometheus_client": "prometheus-client", "pydantic_settings": "pydantic-settings"}
PACKAGES |= {"xgboost": "xgboost-cpu", "mlflow": "mlflow-skinny", "sklearn": "scikit-learn", "snappy": "python-snappy"}
#: Comes with a package that is listed (pydantic-settings, fastapi, requests).
INDIRECT = {"pydantic", "starlette", "urllib3"}
#: Asked for only where it is: an image that lacks it says what works without.
OPTIONAL = {"sqlalchemy"}
#: The project's own, imported by name; that `train.py --quick` finds all it needs is tried in the container.
OWN_PACKAGES = {"training"}


@pytest.mark.parametrize("role", sorted(DOORS))
def test_an_image_installs_what_its_program_imports(role: str) -> None:
    foreign = {name for door in DOORS[role] for name in closure(door)[1]} - INDIRECT - OPTIONAL - OWN_PACKAGES
    assert {PACKAGES.get(name, name) for name in foreign} <= set(requirements(f"requirements-{role}.txt"))


@pytest.mark.parametrize("role", sorted(DOORS))
def test_images_install_within_the_bounds_of_requirements_txt(role: str) -> None:
    everything = requirements("requirements.txt")
    everything["mlflow-skinny"] = everything["mlflow"]
    for package, bounds in requirements(f"requirements-{role}.txt").items():
        assert everything[package] == bounds, package


def test_api_image_serves_with_the_loop_and_the_parser_of_the_benchmarks() -> None:
    measured = {name for name in ("uvloop", "httptools") if importlib.util.find_spec(name)}  # uvicorn takes what it finds
    assert measured <= set(requirements("requirements-api.txt"))


def test_the_api_image_neither_trains_nor_reports() -> None:
    assert not {"evidently", "scikit-learn", "lightgbm", "catboost", "mlflow", "matplotlib"} & set(
        requirements("requirements-api.txt")
    )


@pytest.mark.parametrize("role", [*sorted(DOORS), "mlflow"])
def test_an_image_runs_as_its_own_user(role: str) -> None:
    assert re.findall(r"^USER (\S+)$", STAGES[role], re.M)[-1:] == ["app"]


def test_no_stage_may_compile() -> None:
    assert "PIP_ONLY_BINARY=:all:" in STAGES["base"]
    assert not re.search(r"apt-get|gcc|build-essential", DOCKERFILE)


def test_no_dockerfile_feature_that_needs_more_than_the_classic_builder() -> None:
    assert not re.search(r"^#\s*syntax|--mount=|<<EOF", DOCKERFILE, re.M)


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_requirements_codec_any_producer_may_choose_is_installed(codec: str) -> None:
    assert getattr(kafka.codec, f"has_{codec}")()
    assert {"zstandard", "lz4", "python-snappy"} <= set(requirements("requirements-consumer.txt"))


def test_build_context_holds_no_secrets() -> None:
    """The last pattern that matches decides, so whatever is kept out must stand after all that is let in."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    last_allowed = max(index for index, line in enumerate(lines) if line.startswith("!"))
    kept_out = set(lines[last_allowed + 1 :])
    assert {"**/.env*", "**/*.pem", "**/*.key", "**/*.p12", "**/*.jks", "**/.netrc", "**/id_*"} <= kept_out
    assert lines[0] == "*"
