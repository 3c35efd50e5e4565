"""Write ``docs/licences.md``: the licence of every direct dependency, as the installed packages state it."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "licences.md"
_HEAD = """# Licences of direct dependencies

Written by `make licences` from the packages as they are locked and installed; a test compares. `make sbom` lists everything
below them, too (CycloneDX). The system itself is under the Apache licence 2.0.

| package | version | licence | for |
|---|---|---|---|
"""
#: What a package's own metadata leave out, from the licence file it ships.
_STATED_ELSEWHERE = {"river": "BSD-3-Clause", "scikit-optimize": "BSD-3-Clause"}


def direct(name: str = "requirements-dev.txt") -> dict[str, str]:
    """Return the packages that a requirements file names, in order, and the reason beside each."""
    found: dict[str, str] = {}
    reason = ""
    for line in (ROOT / name).read_text().splitlines():
        requirement, _, comment = line.partition("#")
        if requirement.startswith("-r"):
            found |= direct(requirement[2:].strip())
        elif package := re.match(r"[\w.-]+", requirement):
            if "darwin" not in requirement.replace('!= "darwin"', ""):
                found.setdefault(package[0], comment.strip() or reason)
        elif comment and not comment.endswith("."):  # the heading of a group
            reason = comment.strip()
    return found


def licence(package: str) -> str:
    """Return the licence that a package's metadata name."""
    declared = metadata.metadata(package)
    classified = [
        value.split(" :: ")[-1] for value in declared.get_all("Classifier", []) if value.startswith("License :: OSI")
    ]
    expression, text = (declared.get_all(name, [""])[0] for name in ("License-Expression", "License"))
    return expression or ", ".join(classified) or text.split("\n")[0] or _STATED_ELSEWHERE.get(package, "not stated")


def page() -> str:
    """Return the page."""
    rows = (
        f"| {package} | {metadata.version(package)} | {licence(package)} | {reason} |"
        for package, reason in direct().items()
    )
    return _HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
    print(f"wrote {PAGE}")
