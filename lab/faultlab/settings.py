"""The lab's settings, and the check that they were committed before the test stream is scored."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from airquality.ground.errors import UsageError

ROOT = Path(__file__).resolve().parent.parent.parent
PATH = Path(__file__).with_name("settings.json")
#: Everything that decides a score.
_DECIDES = ("lab/faultlab", "airquality/monitoring", "airquality/network")


@dataclass(frozen=True, slots=True)
class LabSettings:
    """What is scored, and with which budget (false pages a month).

    ``scorings`` says how often the test stream was, and why again.
    """

    budget: float
    within_hours: int
    onsets: int
    kinds: tuple[str, ...]
    scorings: tuple[str, ...]


def read() -> LabSettings:
    """Return the settings."""
    document = json.loads(PATH.read_text())
    return LabSettings(
        budget=document["budget"],
        within_hours=document["within_hours"],
        onsets=document["onsets"],
        kinds=tuple(document["kinds"]),
        scorings=tuple(document["scorings"]),
    )


def require_committed(root: Path = ROOT) -> str:
    """Return the commit whose settings score the test stream.

    Raises:
        UsageError: the settings or the detectors differ from what is committed, or there is no repository to tell.
    """
    changed = _git(root, "status", "--porcelain", "--", *_DECIDES)
    if changed:
        raise UsageError(
            "The test stream is scored only with settings that were committed before, so that nobody can choose them by its "
            f"score. These differ from the last commit:\n{changed}\nCommit them first, or choose on history: --history"
        )
    return _git(root, "rev-parse", "HEAD").strip()


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise UsageError(f"Cannot tell whether the settings were committed: git {arguments[0]} failed ({error})") from error
    return done.stdout
