"""Prove the delivery promise with means that share nothing with the consumer: ``make prove``.

Each row of the proof injects one family of faults into a real Kafka, a real service and real consumers, and compares
every committed record with what the oracle says must be there: zero lost, zero repeated, values equal to the bit,
accounting closed.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import numpy as np

from airquality.data import dataset
from airquality.ground import command
from lab.proof import (
    alias,
    brokers,
    crashes,
    identity,
    inputs,
    letters,
    machine,
    outages,
    producers,
    sabotage,
    soak,
    truths,
    upgrade,
)
from lab.proof.results import Result, keep, write_page
from lab.proof.rows import ROWS, Outcome, Proof
from lab.proof.site import Ground, prepared
from lab.proof.traffic import Source
from lab.waiting import Failed

#: The modules whose rows there are: importing one registers them.
REGISTERED = (
    crashes,
    outages,
    alias,
    inputs,
    letters,
    identity,
    brokers,
    producers,
    truths,
    machine,
    upgrade,
    sabotage,
    soak,
)
QUICK_SCALE, WHOLE_SCALE = 1, 5

_EXAMPLES = """\
examples:
  make prove QUICK=1              the small scale, without the rows that take longest
  make prove                      the whole proof; each row keeps its result, and docs/delivery.md is written of them
  make prove ROW=kills            one row
  make prove ROW=kills ARGS="--seed 7"

exit status: 0 proven, 1 not, 130 interrupted
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 0 proven, 1 not, 130 interrupted: what it started is ended then, and no result is kept."""
    arguments = _parser().parse_args(argv)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores one of them
            signal.signal(number, signal.default_int_handler)
    return command.run("proof", lambda: _prove(arguments))


def _prove(arguments: argparse.Namespace) -> int:
    names = arguments.row or [name for name, row in ROWS.items() if not row.on_demand and (row.quick or not arguments.quick)]
    with tempfile.TemporaryDirectory(prefix="air-quality-proof-") as directory, prepared(Path(directory)) as ground:
        try:
            results = _run_all(names, ground, arguments)
        except KeyboardInterrupt:
            ground.end()
            print("interrupted", flush=True)
            os._exit(command.INTERRUPTED)  # rows beside each other cannot be interrupted; the brokers end with this process
    if arguments.write:
        print(f"written: {write_page()}")
    failed = sum(bool(result.faults) for result in results)
    print(f"{len(results) - failed} passed, {failed} failed")
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lab.proof",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="the small scale, without the rows that take longest")
    parser.add_argument("--row", action="append", choices=list(ROWS), help="only this row; may be repeated")
    parser.add_argument("--seed", type=int, default=1, help="of the instants and the faults (default: %(default)s)")
    parser.add_argument("--seeds", type=int, help="how many seeds from there on (default: as many as the row has)")
    parser.add_argument("--jobs", type=int, default=4, help="rows at a time; most of them wait (default: %(default)s)")
    parser.add_argument("--write", action="store_true", help="keep each result as it comes, and write docs/delivery.md")
    return parser


def _run_all(names: Sequence[str], ground: Ground, arguments: argparse.Namespace) -> list[Result]:
    """Run rows beside each other, then those that must be alone."""
    source = Source(dataset.current(Path(ground.environment["DATASET_DIR"])))
    scale = QUICK_SCALE if arguments.quick else WHOLE_SCALE

    def run(name: str) -> list[Result]:
        n_seeds = arguments.seeds or (1 if arguments.quick else ROWS[name].seeds)
        seeds = range(arguments.seed, arguments.seed + n_seeds)
        results = []
        for seed in seeds:
            results.append(_run(name, Proof(ground, source, _rng(seed, name), scale), seed))
            if arguments.write:  # at once: what is cut later loses only what was not done
                keep(results[-1])
        return results

    pool = ThreadPoolExecutor(arguments.jobs)  # in no with block, which would wait for rows that nothing can interrupt
    beside = list(pool.map(run, [name for name in names if not ROWS[name].alone]))
    return list(chain(*beside, *(run(name) for name in names if ROWS[name].alone)))


def _rng(seed: int, name: str) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def _run(name: str, proof: Proof, seed: int) -> Result:
    print(f"{name}: {ROWS[name].title}", flush=True)
    started = time.monotonic()
    try:
        outcome = ROWS[name].run(proof)
    except Exception as error:  # noqa: BLE001 - of whatever kind, it is this row's, and the others go on
        outcome = Outcome(faults=[f"{type(error).__name__}: {error}"])
    if proof.ground.over.is_set():
        raise Failed(f"{name}: interrupted")
    result = Result.of(name, outcome, scale=proof.scale, seed=seed, seconds=round(time.monotonic() - started))
    print(f"{name}: {result.verdict} in {result.seconds} s ({result.said})", flush=True)
    for fault in result.faults:
        print(f"  - {fault}", flush=True)
    return result


if __name__ == "__main__":
    sys.exit(main())
