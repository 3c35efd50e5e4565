"""The results of the sections: each kept by itself, with where, when and of which commit it was."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.ground import PROJECT
from benchmarks.sections import Outcome, sections

_PACKAGES = ("kafka-python", "fastapi", "uvicorn", "xgboost-cpu", "numpy", "pandas", "orjson", "evidently", "mlflow")


@dataclass(frozen=True, slots=True)
class Result:
    """What one run of a section measured, and where, when and of what it was; ``load`` is before and after."""

    section: str
    figures: Mapping[str, Figure]
    stages: Mapping[str, Figure]
    remark: str
    quick: bool
    rounds: int
    seconds: int
    date: str
    commit: str
    machine: str
    versions: str
    load: tuple[float, float]

    @classmethod
    def of(cls, name: str, outcome: Outcome, *, quick: bool, rounds: int, seconds: int, load: float) -> Result:
        """Return the result of a section that ended now, here."""
        return cls(
            section=name,
            figures=outcome.figures,
            stages=outcome.stages,
            remark=outcome.remark,
            quick=quick,
            rounds=rounds,
            seconds=seconds,
            date=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            commit=commit(),
            machine=machine(),
            versions=versions(),
            load=(round(load, 2), round(os.getloadavg()[0], 2)),
        )

    def to_json(self) -> str:
        """Return the result as it is kept."""
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Result:
        """Return the result of :meth:`to_json`."""
        fields = json.loads(text)
        for name in ("figures", "stages"):
            fields[name] = {what: Figure(f["unit"], tuple(f["values"])) for what, f in fields[name].items()}
        return cls(**{**fields, "load": tuple(fields["load"])})


def keep(result: Result, folder: Path) -> None:
    """Keep a result in place of the section's last one."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{result.section}.json").write_text(result.to_json())


def kept(folder: Path) -> dict[str, Result]:
    """Return the results that are kept, in the order of the sections."""
    paths = {name: folder / f"{name}.json" for name in sections()}
    return {name: Result.from_json(path.read_text()) for name, path in paths.items() if path.exists()}


def commit() -> str:
    """Return the commit that is measured, marked where code differs from it; results kept since do not count as code."""
    head = _git("rev-parse", "--short", "HEAD") or "unknown"
    return f"{head}-dirty" if _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs") else head


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=PROJECT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def machine() -> str:
    """Return processor, cores, memory, system and Python."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{_cpu()}, {os.cpu_count()} cores, {memory:.0f} GB, {platform.system()}, Python {platform.python_version()}"


def versions() -> str:
    """Return the versions of the packages that matter."""
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES)


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(": ")[1] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()
