"""The results of the rows: each kept by itself, and the page that is made of all that are kept."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from lab.proof.rows import ROWS, Outcome
from lab.proof.site import PROJECT

PAGE = PROJECT / "docs" / "delivery.md"
KEPT = PROJECT / "docs" / "delivery"

_HEADER = """\
# Delivery, proven

Every row is accounted for exactly once, whatever breaks. `make prove` checks it on your own machine: it injects the
faults below into a real Kafka, a real prediction service and real consumers, and compares every committed record with
what an oracle of its own says must be there ([how](decisions/proof.md)). Each line is one run: `make prove ROW=name`
runs it again, `ARGS="--write"` keeps its result here. Scale 1 is `QUICK=1`, 5 the whole.

| row | what is injected | figures | scale, seed | seconds | date, commit, machine | result |
|---|---|---|---|---|---|---|
"""


@dataclass(frozen=True, slots=True)
class Result:
    """How one run of a row ended: figures, what differs from the ruling, and where, when and of what it was."""

    name: str
    figures: Mapping[str, object]
    faults: tuple[str, ...]
    scale: int
    seed: int
    seconds: int
    date: str
    commit: str
    machine: str

    @classmethod
    def of(cls, name: str, outcome: Outcome, *, scale: int, seed: int, seconds: int) -> Result:
        """Return the result of a run that ended now, here."""
        machine = f"Python {platform.python_version()}, {os.cpu_count()} cores"
        today = f"{datetime.now(UTC):%Y-%m-%d}"
        return cls(name, outcome.figures, tuple(outcome.faults), scale, seed, seconds, today, _commit(), machine)

    @property
    def verdict(self) -> str:
        """The result in a word or two."""
        return "NOT PROVEN" if self.faults else "proven"

    @property
    def said(self) -> str:
        """The figures in words."""
        return ", ".join(f"{count} {what}" for what, count in self.figures.items())


def _commit() -> str:
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=PROJECT, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def keep(result: Result) -> None:
    """Keep a result in place of the row's last one of that seed."""
    KEPT.mkdir(exist_ok=True)
    name = result.name if result.seed == 1 else f"{result.name}-{result.seed}"
    (KEPT / f"{name}.json").write_text(json.dumps(asdict(result), indent=1) + "\n")


def write_page() -> Path:
    """Write the page of all results that are kept, in the order of the rows, and return where it is."""
    PAGE.write_text(_HEADER + "".join(line for name in ROWS for line in _lines(name)))
    return PAGE.relative_to(PROJECT)


def _lines(name: str) -> Iterator[str]:
    """Yield a line for each seed of which a result is kept, or one that says that there is none."""
    paths = [path for path in (KEPT / f"{name}.json", *sorted(KEPT.glob(f"{name}-[0-9]*.json"))) if path.exists()]
    if not paths:
        yield f"| `{name}` | {ROWS[name].title} | | | | | not run |\n"
    for path in paths:
        yield _line(Result(**json.loads(path.read_text())))


def _line(result: Result) -> str:
    ended = result.verdict if not result.faults else f"{result.verdict}: {'; '.join(result.faults)}"
    run = f"{result.date}, {result.commit}, {result.machine}"
    return (
        f"| `{result.name}` | {ROWS[result.name].title} | {result.said} | {result.scale}, {result.seed} | {result.seconds} "
        f"| {run} | {ended} |\n"
    )
