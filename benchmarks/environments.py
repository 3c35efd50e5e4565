"""The contenders' own environments: made once by pip from pinned requirements, kept in ``run/bench-envs``."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import venv

from airquality.ground.errors import Unavailable
from benchmarks.ground import PROJECT

CONTENDERS = PROJECT / "benchmarks" / "contenders"
_ENVIRONMENTS = PROJECT / "run" / "bench-envs"
_INSTALL_SECONDS = 1_800


def python_of(contender: str) -> str:
    """Return the interpreter of a contender's environment, made anew where its requirements have changed.

    Raises:
        Unavailable: pip cannot install them.
    """
    requirements = CONTENDERS / contender / "requirements.txt"
    folder = _ENVIRONMENTS / contender
    python, done = folder / "bin" / "python", folder / ".installed"
    wanted = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    if done.exists() and done.read_text() == wanted:
        return str(python)
    print(f"installing {contender} into {folder.relative_to(PROJECT)} (once)", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", "--progress-bar", "off", "--no-deps"]
    made = subprocess.run(
        [*pip, "-r", str(requirements)], capture_output=True, text=True, check=False, timeout=_INSTALL_SECONDS
    )
    if made.returncode:
        raise Unavailable(f"the environment of {contender} cannot be made: {made.stderr[-1000:]}")
    done.write_text(wanted)
    return str(python)


def path_of(contender: str) -> str:
    """Return the PATH on which a contender finds its own programs first, as after ``source bin/activate``."""
    return os.pathsep.join([str(_ENVIRONMENTS / contender / "bin"), os.environ.get("PATH", os.defpath)])
