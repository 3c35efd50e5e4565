"""Measure the product beside its limits and beside others, and judge what is measured by the targets: ``make bench``.

Every section runs its contenders one after the other in each round, on one machine and one real Kafka, and keeps its result
with its commit; docs/benchmarks.md is made of all results that are kept.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path

from airquality.ground import command
from airquality.ground.errors import AirQualityError
from benchmarks import (
    batches,
    beside,
    catchup,
    endurance,
    kernels,
    live,
    page,
    replay,
    reports,
    restart,
    results,
    serving,
    spread,
    starts,
    stations,
    targets,
)
from benchmarks.ground import PROJECT, Ground
from benchmarks.sections import QUICK_ROUNDS, ROUNDS, Bench, chosen, sections
from lab.interruption import Interruption
from lab.waiting import Failed

#: The modules whose sections there are: importing one registers it.
REGISTERED = (
    replay,
    live,
    stations,
    kernels,
    serving,
    batches,
    spread,
    restart,
    beside,
    reports,
    endurance,
    starts,
    catchup,
)

_EXAMPLES = """\
examples:
  make bench                       everything; each section keeps its result, and docs/benchmarks.md is written
  make bench QUICK=1               the small sizes, without the sections that take longest: under 5 minutes, into run/bench
  make bench ONLY=serving          one section
  make bench ARGS="--out /tmp/b"   the page and the results somewhere else

A real Apache Kafka is started for the run (Java 17 and Maven, or KAFKA_BOOTSTRAP_SERVERS); the other contenders are
installed once into run/bench-envs. Nothing else should run on the machine.

exit status: 0 all targets of these sections are met or excepted with a reason (benchmarks/exceptions.json), 1 not, 2 usage
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 0 done, 1 a target is missed or a section failed, 2 usage."""
    arguments = _parser().parse_args(argv)
    return command.run("benchmarks", lambda: _run(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = command.parser("python -m benchmarks", __doc__ or "", _EXAMPLES)
    parser.add_argument("--quick", action="store_true", help="the small sizes, without the sections that take longest")
    parser.add_argument("--only", action="append", choices=list(sections()), help="only this section; may be repeated")
    parser.add_argument(
        "--rounds", type=int, metavar="N", help=f"rounds of each section ({ROUNDS}, or {QUICK_ROUNDS} with --quick)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="where page and results go (docs; run/bench with --quick, which publishes nothing)",
    )
    parser.add_argument("--page", action="store_true", help="measure nothing: write the page of what is kept, and judge it")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    Interruption()
    excused, out = targets.excuses(), page.Place(arguments.out or PROJECT / ("run/bench" if arguments.quick else "docs"))
    names = [] if arguments.page else chosen(sections(), arguments.only or [], quick=arguments.quick)
    failed = _measure(names, arguments, out)
    kept = results.kept(out.results)
    verdicts = targets.judge({name: result.figures for name, result in kept.items()}, excused)
    print(f"written: {page.write(out, kept, verdicts)}")
    if failed:
        print(f"not measured, because they failed: {', '.join(failed)}")
    judged = [verdict for verdict in verdicts if arguments.page or verdict.target.section in names]
    for verdict in judged:
        print(f"{verdict.target.name}: {verdict.word} ({verdict.figure or 'no figure'}, {verdict.target.wanted})")
    return 1 if failed or any(verdict.failed for verdict in judged) else 0


def _measure(names: list[str], arguments: argparse.Namespace, out: page.Place) -> list[str]:
    """Run sections and keep their results as they come; return those that failed."""
    failed = []
    rounds = arguments.rounds or (QUICK_ROUNDS if arguments.quick else ROUNDS)
    with tempfile.TemporaryDirectory(prefix="air-quality-bench-") as directory, Ground(Path(directory)) as ground:
        for number, name in enumerate(names):
            section = sections()[name]
            print(f"[{number + 1}/{len(names)}] {name}: {section.title}", flush=True)
            load, began = os.getloadavg()[0], time.monotonic()
            try:
                outcome = section.run(Bench(ground, arguments.quick, rounds))
            except Exception as error:  # noqa: BLE001 - whatever it is, the other sections are measured
                print(f"{name} FAILED: {type(error).__name__}: {error}", flush=True)
                if not isinstance(error, Failed | AirQualityError):
                    traceback.print_exc()
                failed.append(name)
                continue
            seconds = round(time.monotonic() - began)
            result = results.Result.of(name, outcome, quick=arguments.quick, rounds=rounds, seconds=seconds, load=load)
            results.keep(result, out.results)
            for what, figure in result.figures.items():
                print(f"  {what}: {figure}")
            print(f"{name}: {seconds} s", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
