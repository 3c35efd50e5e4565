"""What a row of the proof is: a name, a family of faults, and the differences from the ruling that it returns."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lab.child import Child
from lab.proof import judge, oracle
from lab.proof.site import INJECT, Ground, Site
from lab.proof.topics import Found
from lab.proof.traffic import Source
from lab.waiting import PATIENCE_SECONDS, wait_until

SMALL = {"MAX_POLL_RECORDS": "20", "SNAPSHOT_OFFSETS": "200", "SNAPSHOT_SECONDS": "2"}
#: The consumer's session is 10 s: a freeze of this length is beyond it.
FREEZE_SECONDS = 14.0


@dataclass
class Proof:
    """What a row of the proof is given: the ground, the data, random numbers, and how much of it to do."""

    ground: Ground
    source: Source
    rng: np.random.Generator
    scale: int  # 1 for QUICK=1

    @property
    def whole(self) -> bool:
        """Whether this is the whole scale."""
        return self.scale > 1

    def verdict(self, site: Site, raw: Sequence[Found] | None = None, models: Mapping[str, Path] | None = None) -> list[str]:
        """Judge a site whose consumers have finished.

        Args:
            site: The site.
            raw: Its raw records, by default what the topic still holds.
            models: The folder of each version, where several predicted: a value must be that of the version it names.
        """
        cluster = site.cluster
        pred, dlq = cluster.committed(site.topic("pred")), cluster.committed(site.topic("dlq"))
        raw = cluster.committed(site.topic("raw")) if raw is None else raw
        ruling = oracle.rule(raw, self.ground.artifacts)
        for version, folder in (models or {}).items():
            ruling.predictions |= oracle.named(oracle.rule(raw, folder), version, pred)
        return judge.differences(ruling, pred, dlq, site.summary())


@dataclass
class Outcome:
    """How a row ended."""

    figures: Mapping[str, object] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


Run = Callable[[Proof], Outcome]


@dataclass(frozen=True)
class Row:
    """A row of the proof.

    ``alone`` where its faults would reach others that run beside it, ``quick`` where it is part of the small scale,
    ``on_demand`` where it only runs when it is named, ``seeds`` of the whole scale.
    """

    run: Run
    alone: bool
    quick: bool
    on_demand: bool
    seeds: int

    @property
    def title(self) -> str:
        """What it injects, in a sentence."""
        return str(self.run.__doc__)


ROWS: dict[str, Row] = {}


def row(
    name: str, *, alone: bool = False, quick: bool = True, on_demand: bool = False, seeds: int = 1
) -> Callable[[Run], Run]:
    """Register a row of the proof under the name that ``ROW=`` takes."""

    def register(function: Run) -> Run:
        ROWS[name] = Row(function, alone, quick, on_demand, seeds)
        return function

    return register


def injected(**environment: str) -> dict[str, str]:
    """Return the environment of a process that is ended or misled from inside."""
    paths = [str(INJECT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(paths), **environment}


def die(process: Child) -> None:
    """Kill a process as a crash would, if it still runs."""
    process.send_signal(signal.SIGKILL)
    process.wait()


def stop(*processes: Child) -> None:
    """End processes as an operator would."""
    for process in processes:
        process.send_signal(signal.SIGTERM)
    for process in processes:
        process.wait(PATIENCE_SECONDS)


class Supervised:
    """A consumer that is started once more whenever it ended by itself, as a supervisor does."""

    def __init__(self, site: Site, limits: Mapping[str, str]) -> None:
        self._site, self._limits = site, dict(limits)
        self.process = site.consumer(**self._limits)
        self.restarts = 0

    def catch_up(self) -> None:
        """Wait until the group has committed all there is in the raw topic."""
        cluster, raw = self._site.cluster, self._site.topic("raw")
        ends = cluster.end_offsets(raw)

        def done() -> bool:
            if self.process.poll() is not None:
                self.process = self._site.consumer(**self._limits)
                self.restarts += 1
            return cluster.committed_offsets(self._site.group, raw) == ends

        wait_until(done, f"{self._site.name}: caught up", 240)
