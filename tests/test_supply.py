"""What the project is made of: locks that pin everything by hash, licences that are listed, an audit that does not lie."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from deploy import audit, licences

ROOT = Path(__file__).resolve().parent.parent
LOCKS = {
    "requirements.lock": "requirements-dev.txt",
    **{f"requirements-{role}.lock": f"requirements-{role}.txt" for role in ("api", "producer", "consumer", "data", "tools")},
}
#: Packages nobody imports, and what they are for.
NOT_IMPORTED = {
    "fastapi-offline": "its files are served",
    "crc32c": "kafka-python imports it",
    "python-snappy": "kafka-python imports it",
    "uvloop": "uvicorn imports it",
    "httptools": "uvicorn imports it",
    "openapi-python-client": "a test runs its program",
    "pytest-timeout": "a plugin of pytest",
    "pytest-xdist": "a plugin of pytest",
    "ruff": "make lint",
    "mypy": "make lint",
    "types-requests": "mypy reads it",
    "ipykernel": "nbclient starts it",
}
IMPORTED_AS = {
    "kafka-python": "kafka",
    "xgboost-cpu": "xgboost",
    "scikit-learn": "sklearn",
    "scikit-optimize": "skopt",
}


def locked(name: str) -> dict[str, tuple[str, int]]:
    """Return each package of a lock with its version and the number of hashes."""
    found: dict[str, tuple[str, int]] = {}
    package = ""
    for line in (ROOT / name).read_text().splitlines():
        if pinned := re.match(r"([a-z0-9-]+)==([\w.]+)( ; [^\\]+)? \\$", line):
            package = pinned[1]
            assert package not in found
            found[package] = pinned[2], 0
        elif re.match(r"    --hash=sha256:[0-9a-f]{64}( \\)?$", line):
            found[package] = found[package][0], found[package][1] + 1
        else:
            assert line.startswith("#"), f"{name}: {line}"
    return found


@pytest.mark.parametrize("name", LOCKS)
def test_lock_pins_every_requirement_with_hashes_and_names_no_host(name: str) -> None:
    found = locked(name)
    assert all(hashes for _, hashes in found.values())
    assert {re.sub(r"[-_.]+", "-", package).lower() for package in licences.direct(LOCKS[name])} <= set(found)
    assert "://" not in (ROOT / name).read_text()


@pytest.mark.parametrize("role", ["api", "producer", "consumer", "data"])
def test_image_lock_holds_the_versions_that_are_tested(role: str) -> None:
    everything = {package: version for package, (version, _) in locked("requirements.lock").items()}
    found = {package: version for package, (version, _) in locked(f"requirements-{role}.lock").items()}
    assert found.items() <= everything.items()


def test_setup_and_images_check_the_hashes() -> None:
    assert "--no-deps --require-hashes -r requirements.lock" in (ROOT / "Makefile").read_text()
    installs = re.findall(r"RUN pip install (.*?)(?: &&.*)?$", (ROOT / "Dockerfile").read_text(), re.M)
    assert len(installs) == 4
    assert all(re.fullmatch(r"--no-deps --require-hashes -r requirements-\w+\.lock", install) for install in installs)


def test_licences_page_is_that_of_the_direct_dependencies() -> None:
    assert licences.PAGE.read_text() == licences.page(), "run make licences"
    assert "not stated" not in licences.page()


def test_every_direct_dependency_is_used() -> None:
    sources = [path.read_text() for path in ROOT.rglob("*.py") if not {".venv", "run"} & set(path.relative_to(ROOT).parts)]
    imported = set(re.findall(r"(?:from|import)[ ]+([a-zA-Z_]\w+)", "\n".join(sources)))
    names = {package: IMPORTED_AS.get(package, package.replace("-", "_")) for package in licences.direct()}
    assert {package for package, name in names.items() if name not in imported} == set(NOT_IMPORTED)


def fake(tmp_path: Path, output: str, status: int) -> str:
    program = tmp_path / "pip-audit"
    program.write_text(f"#!{sys.executable}\nprint({output!r})\nraise SystemExit({status})\n")
    program.chmod(0o755)
    return str(program)


@pytest.mark.parametrize(
    ("output", "printed", "code"),
    [
        ("", "not checked: the database", 0),
        ('{"dependencies": [{"name": "a", "skip_reason": "Dependency not found"}]}', "not checked: the database", 0),
        ('{"dependencies": [{"name": "a", "version": "1", "vulns": []}]}', "1 of 1 packages checked, 0 known", 0),
        (
            '{"dependencies": [{"name": "a", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}]}',
            "a 1: CVE-1, fixed in 2",
            1,
        ),
    ],
)
def test_audit_says_what_was_not_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], output: str, printed: str, code: int
) -> None:
    assert audit.main([fake(tmp_path, output, code), "x.lock"]) == code
    assert printed in capsys.readouterr().out
