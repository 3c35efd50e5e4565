"""What a section of the benchmarks is: a name, what it measures, and the figures that it returns."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.figures import Figure
from benchmarks.ground import Ground

ROUNDS, QUICK_ROUNDS = 5, 3

#: A contender's one round: what it measured, by name.
Contender = Callable[[], Mapping[str, float]]


@dataclass(frozen=True)
class Outcome:
    """What a section measured, by name; ``stages`` is CPU time by stage, in us a row."""

    figures: Mapping[str, Figure]
    stages: Mapping[str, Figure] = field(default_factory=dict)
    remark: str = ""


@dataclass(frozen=True)
class Bench:
    """What a section is given: the ground, and how much of it to do."""

    ground: Ground
    quick: bool = False
    rounds: int = ROUNDS

    def scaled(self, whole: int, quick: int) -> int:
        """Return the size that this run takes."""
        return quick if self.quick else whole

    def interleave(self, contenders: Mapping[str, Contender]) -> dict[str, dict[str, list[float]]]:
        """Let every contender run once a round, in another order each round; return values by contender and name.

        What else the machine does meanwhile, and how warm it is, then disturbs all of them alike.
        """
        found: dict[str, dict[str, list[float]]] = {name: {} for name in contenders}
        order = random.Random(1)
        for number in range(self.rounds):
            names = list(contenders)
            order.shuffle(names)
            for name in names:
                measured = contenders[name]()
                for what, value in measured.items():
                    found[name].setdefault(what, []).append(value)
                listed = ", ".join(
                    f"{what} {value:,.4g}" for what, value in measured.items() if not what.startswith("stage/")
                )
                print(f"  round {number + 1}/{self.rounds}  {name}: {listed}", flush=True)
        return found


Run = Callable[[Bench], Outcome]


@dataclass(frozen=True)
class Section:
    """A part of the benchmarks that can run alone; ``quick`` where it belongs to the small run.

    ``place`` is its place in the run and on the page, ``minutes`` about how long the whole of it takes.
    """

    run: Run
    place: int
    quick: bool
    minutes: float

    @property
    def title(self) -> str:
        """What it measures, in a sentence."""
        return str(self.run.__doc__).split("\n")[0]


_SECTIONS: dict[str, Section] = {}


def section(name: str, *, place: int, minutes: float, quick: bool = True) -> Callable[[Run], Run]:
    """Register a section under the name that ``ONLY=`` takes."""

    def register(function: Run) -> Run:
        _SECTIONS[name] = Section(function, place, quick, minutes)
        return function

    return register


def sections() -> dict[str, Section]:
    """Return the sections whose modules were imported, in their order."""
    return dict(sorted(_SECTIONS.items(), key=lambda named: named[1].place))


def chosen(made: Mapping[str, Section], only: Sequence[str], *, quick: bool) -> list[str]:
    """Return the names of the sections of a run: those that are asked for, or else all of the small or of the whole run."""
    return list(only) or [name for name, each in made.items() if each.quick or not quick]
