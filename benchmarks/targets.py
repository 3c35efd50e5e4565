"""The targets: what is promised of a measured figure, and the judge who compares.

A target that is missed makes the run fail, unless ``benchmarks/exceptions.json`` excuses it with a reason and a limit of its
own. Nothing here measures anything.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from airquality.ground.errors import ContractError
from benchmarks.figures import Figure, shown

EXCEPTIONS = Path(__file__).resolve().parent / "exceptions.json"

Comparison = Literal["at least", "at most"]


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure of a section must be; ``figure`` names it among those that the section measures."""

    name: str
    section: str
    figure: str
    comparison: Comparison
    limit: float
    what: str
    stretch: float | None = None

    def holds(self, value: float, limit: float | None = None) -> bool:
        """Whether a value is on the right side of the limit, or of another one."""
        bound = self.limit if limit is None else limit
        return value >= bound if self.comparison == "at least" else value <= bound

    @property
    def wanted(self) -> str:
        """The limit in words."""
        stretch = "" if self.stretch is None else f" (stretch {shown(self.stretch)})"
        return f"{self.comparison} {shown(self.limit)}{stretch}"


@dataclass(frozen=True, slots=True)
class Excuse:
    """Why a target is missed for now: the reason, where the time goes, and how far it may be missed."""

    target: str
    reason: str
    where_the_time_goes: str
    limit: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a target: the figure that was measured, None where none was, and the excuse if there is one."""

    target: Target
    figure: Figure | None
    excuse: Excuse | None

    @property
    def met(self) -> bool:
        """Whether the median keeps the target."""
        return self.figure is not None and self.target.holds(self.figure.median)

    @property
    def word(self) -> str:
        """The verdict in a word or two."""
        if self.figure is None:
            return "not measured"
        if self.met:
            return "met" if self.excuse is None else "met: its exception is no longer needed"
        if self.excuse is None:
            return "MISSED"
        excused = self.target.holds(self.figure.median, self.excuse.limit)
        return "excepted" if excused else f"MISSED, also the exception's {shown(self.excuse.limit)}"

    @property
    def failed(self) -> bool:
        """Whether the run must fail for it."""
        return self.word.startswith("MISSED")


TARGETS = (
    Target("replay", "replay", "product / bare", "at least", 0.6, "replay beside the bare loop", 0.75),
    Target("replay-pandas", "replay", "product / pandas", "at least", 50, "replay beside a pandas row at a time"),
    Target("replay-quix", "replay", "product / quix", "at least", 2, "replay beside Quix Streams, same state and model", 3),
    Target("monitoring", "replay", "monitoring share", "at most", 0.10, "detectors and windows, share of CPU"),
    Target("reports-beside", "beside", "slowdown", "at most", 0.05, "what the report process takes from the replay"),
    Target("live-p99", "live", "p99 product / bare", "at most", 1.3, "50 rows/s, produced to readable: p99 beside bare"),
    Target("live-p50", "live", "p50 product - bare", "at most", 15, "... and p50, ms above that of bare"),
    Target("fleet", "stations", "1000 stations / bare", "at most", 1.5, "time of 1,000 stations' rows beside bare"),
    Target("fleet-memory", "stations", "memory of 10000 stations", "at most", 2048, "MB of a consumer of 10,000 stations"),
    Target("model-one", "kernels", "model, 1 row", "at most", 60, "CPU us of the model, one row", 25),
    Target("model-512", "kernels", "model / XGBoost, 512 rows", "at most", 1.0, "model, 512 rows, beside XGBoost's time"),
    Target("features-one", "kernels", "features, one row", "at most", 100, "CPU us of one row's features"),
    Target("features-512", "kernels", "features, 512 rows of one station", "at most", 3, "... a row, 512 rows of a station"),
    Target("features-fleet", "kernels", "features, one row of 1,000 stations", "at most", 5, "... a row, 1,000 stations"),
    Target("api-one", "serving", "one row: product / empty", "at least", 0.40, "one row, 16 connections, beside empty"),
    Target("api-one-bentoml", "serving", "one row: product / bentoml", "at least", 8, "... beside BentoML"),
    Target("api-one-mlflow", "serving", "one row: product / mlflow", "at least", 50, "... beside mlflow models serve"),
    Target("api-512-bentoml", "serving", "512 rows: json / bentoml", "at least", 1.5, "512 rows as JSON beside BentoML"),
    Target("api-512-mlflow", "serving", "512 rows: json / mlflow", "at least", 5, "... beside mlflow models serve"),
    Target("api-512-model", "serving", "512 rows: binary / model", "at least", 0.5, "512 rows as bytes beside the model"),
    Target("restart", "restart", "serving again", "at most", 5, "s from start to commit, 1,000 stations"),
    Target("memory", "stations", "memory of 4 stations", "at most", 200, "MB of a consumer with 4 stations"),
    Target("memory-station", "stations", "memory a station", "at most", 150, "KB that each further station takes"),
    Target("flat", "endurance", "growth", "at most", 10, "MB that 1,000,000 rows add to a consumer"),
    Target("daily-cpu", "reports", "daily, CPU", "at most", 1.0, "CPU s of a daily report"),
    Target("weekly-cpu", "reports", "weekly, CPU", "at most", 1.2, "CPU s of a weekly report"),
    Target("report-memory", "reports", "peak memory", "at most", 400, "MB at the peak of the report process"),
    Target("make-run", "starts", "make run", "at most", 90, "s of make run"),
    Target("help", "starts", "slowest --help", "at most", 0.5, "s of the slowest --help"),
    Target("ready", "starts", "API ready", "at most", 5, "s until the API is ready"),
)  # fmt: skip


def excuses(path: Path = EXCEPTIONS) -> dict[str, Excuse]:
    """Return the committed exceptions by target.

    Raises:
        ContractError: one is of no target, or says nothing.
    """
    listed = [Excuse(**entry) for entry in json.loads(path.read_text())]
    unknown = {excuse.target for excuse in listed} - {target.name for target in TARGETS}
    if unknown:
        raise ContractError(f"{path.name} excuses what is no target: {', '.join(sorted(unknown))}")
    if silent := [e.target for e in listed if not (e.reason.strip() and e.where_the_time_goes.strip())]:
        raise ContractError(f"{path.name} gives no reason, or no place where the time goes, for {', '.join(silent)}")
    return {excuse.target: excuse for excuse in listed}


def judge(
    figures: Mapping[str, Mapping[str, Figure]], excused: Mapping[str, Excuse], targets: Sequence[Target] = TARGETS
) -> list[Verdict]:
    """Return the verdict of every target on figures by section and name."""
    return [Verdict(t, figures.get(t.section, {}).get(t.figure), excused.get(t.name)) for t in targets]
