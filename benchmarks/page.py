"""docs/benchmarks.md: the targets and what became of them, a plot, and the figures of every section that is kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import plot
from benchmarks.results import Result
from benchmarks.sections import sections
from benchmarks.targets import Verdict

_HEADER = """\
# Benchmarks

Made by `make bench` on a real Apache Kafka, with every contender on the same machine: in each round one after the other, in
another order every time. A figure is the median of its rounds, with the range in brackets; a ratio is taken round by round,
so that what disturbed a round disturbed both sides of it. Stations begin from snapshots written offline: no row of a
warm-up is counted. `make bench ONLY=replay` measures one section again and keeps its result in
[docs/benchmarks](benchmarks); [how, and what each contender is](decisions/benchmarks.md).

"""


@dataclass(frozen=True)
class Place:
    """The folder that page, results and plot go to."""

    docs: Path

    @property
    def page(self) -> Path:
        """The page."""
        return self.docs / "benchmarks.md"

    @property
    def results(self) -> Path:
        """The folder of the sections' results."""
        return self.docs / "benchmarks"

    @property
    def image(self) -> Path:
        """The plot."""
        return self.docs / "images" / "benchmarks.png"


def write(place: Place, kept: Mapping[str, Result], verdicts: Sequence[Verdict]) -> Path:
    """Write the page and its plot of the results that are kept, and return where the page is."""
    place.image.parent.mkdir(parents=True, exist_ok=True)
    drawn = plot.draw(kept, place.image)
    place.page.write_text("\n".join(_lines(kept, verdicts, drawn)) + "\n")
    return place.page


def _lines(kept: Mapping[str, Result], verdicts: Sequence[Verdict], drawn: bool) -> Iterator[str]:
    yield _HEADER.rstrip("\n")
    yield ""
    yield from _summary(verdicts)
    if drawn:
        yield "![Rows a second of every contender, and where the consumer's time goes](images/benchmarks.png)\n"
    for name, section in sections().items():
        yield f"## {name}\n"
        yield f"{section.title}\n"
        yield from _section(kept[name]) if name in kept else iter(["Not measured yet.\n"])


def _summary(verdicts: Sequence[Verdict]) -> Iterator[str]:
    words = [verdict.word for verdict in verdicts]
    met = sum(word.startswith("met") for word in words)
    missed, excepted = sum(word.startswith("MISSED") for word in words), words.count("excepted")
    yield "## Targets\n"
    yield f"{met} met, {excepted} missed with an exception, {missed} missed, {words.count('not measured')} not measured.\n"
    yield "| target | what | wanted | measured | |\n|---|---|---|---|---|"
    for verdict in verdicts:
        target, figure = verdict.target, verdict.figure
        yield f"| `{target.name}` | {target.what} | {target.wanted} | {figure or ''} | {verdict.word} |"
    yield ""
    excused = [verdict for verdict in verdicts if verdict.excuse]
    if excused:
        yield "## Exceptions\n"
        yield "| target | holds up to | why | where the time goes |\n|---|---|---|---|"
    for verdict in excused:
        assert verdict.excuse is not None
        excuse = verdict.excuse
        yield f"| `{excuse.target}` | {excuse.limit:g} | {excuse.reason} | {excuse.where_the_time_goes} |"
    if excused:
        yield ""


def _section(result: Result) -> Iterator[str]:
    size = "the small size (QUICK=1), " if result.quick else ""
    yield (
        f"{result.date}, commit {result.commit}, {size}{result.rounds} rounds, {result.seconds} s; load average "
        f"{result.load[0]} before, {result.load[1]} after. {result.machine}. {result.versions}.\n"
    )
    yield "| what | median (range) |\n|---|---|"
    for what, figure in result.figures.items():
        yield f"| {what} | {figure} |"
    yield ""
    if result.stages:
        whole = sum(figure.median for figure in result.stages.values())
        yield "| stage | CPU a row | share |\n|---|---|---|"
        for stage, figure in result.stages.items():
            yield f"| {stage} | {figure} | {figure.median / whole:.0%} |"
        yield f"| all | {whole:,.0f} us | |\n"
    if result.remark:
        yield f"{result.remark[0].upper()}{result.remark[1:]}.\n"
