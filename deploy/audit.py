"""Look up known vulnerabilities of what is locked: ``python -m deploy.audit PIP_AUDIT LOCK``.

pip-audit passes over what its database does not know, and then finds nothing: where the database is out of reach it would
call everything clean. Here what was not checked is said.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any


def main(argv: list[str]) -> int:
    """Run the audit; 0 nothing is known, or nothing could be asked; 1 vulnerabilities; 2 usage."""
    if len(argv) != 2:
        print("usage: python -m deploy.audit PIP_AUDIT LOCK", file=sys.stderr)
        return 2
    program, lock = argv
    command = [
        program,
        "--require-hashes",
        "--disable-pip",
        "--progress-spinner=off",
        "--format=json",
        f"--requirement={lock}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        dependencies = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        dependencies = []
    lines, found = verdict(dependencies, lock)
    print("\n".join(lines))
    return 1 if found else 0


def verdict(dependencies: list[dict[str, Any]], lock: str) -> tuple[list[str], bool]:
    """Return what is to be said, and whether any vulnerability is known.

    >>> verdict([{"name": "a", "skip_reason": "not found"}], "x.lock")
    (['x.lock: not checked: the database of known vulnerabilities does not answer here'], False)
    """
    checked = [each for each in dependencies if "vulns" in each]
    if not checked:
        return [f"{lock}: not checked: the database of known vulnerabilities does not answer here"], False
    lines = [
        f"{each['name']} {each['version']}: {found['id']}, fixed in {', '.join(found['fix_versions']) or 'none'}"
        for each in checked
        for found in each["vulns"]
    ]
    summary = f"{lock}: {len(checked)} of {len(dependencies)} packages checked, {len(lines)} known vulnerabilities"
    return [*lines, summary], bool(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
