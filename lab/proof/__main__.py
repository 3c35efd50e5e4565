"""Prove the delivery promise with means that share nothing with the consumer: ``make prove``.

Each row of the proof injects one family of faults into a real Kafka, a real service and real consumers, and compares
every committed record with what the oracle says must be there: zero lost, zero repeated, values equal to the bit,
accounting closed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from airquality.data import dataset
from lab.proof.rows import ROWS, Outcome, Proof
from lab.proof.site import PROJECT, Failed, prepared
from lab.proof.traffic import Source

RESULTS = PROJECT / "docs" / "delivery.md"


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 0 proven, 1 not."""
    arguments = _parser().parse_args(argv)
    names = arguments.row or list(ROWS)
    with tempfile.TemporaryDirectory(prefix="air-quality-proof-") as directory, prepared(Path(directory)) as ground:
        source = Source(dataset.current(Path(ground.environment["DATASET_DIR"])))
        results = {}
        for name in names:
            proof = Proof(ground, source, np.random.default_rng(arguments.seed), 1 if arguments.quick else 5)
            results[name] = _run(name, proof)
    if arguments.write:
        RESULTS.write_text(_page(results, arguments))
        print(f"written: {RESULTS.relative_to(PROJECT)}")
    failed = [name for name, result in results.items() if result["faults"]]
    print(f"{len(results) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lab.proof", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="the small scale: about five minutes")
    parser.add_argument("--row", action="append", choices=list(ROWS), help="only this row; may be repeated")
    parser.add_argument("--seed", type=int, default=1, help="of the instants and the faults (default: %(default)s)")
    parser.add_argument("--write", action="store_true", help="write docs/delivery.md")
    return parser


def _run(name: str, proof: Proof) -> dict[str, Any]:
    print(f"{name}: {ROWS[name].__doc__}", flush=True)
    started = time.monotonic()
    try:
        outcome = ROWS[name](proof)
    except (Failed, subprocess.TimeoutExpired) as error:
        outcome = Outcome(faults=[f"{type(error).__name__}: {error}"])
    seconds = time.monotonic() - started
    figures = ", ".join(f"{count} {what}" for what, count in outcome.figures.items())
    print(f"{name}: {'NOT PROVEN' if outcome.faults else 'proven'} in {seconds:.0f} s ({figures})", flush=True)
    for fault in outcome.faults:
        print(f"  - {fault}", flush=True)
    return {**asdict(outcome), "seconds": round(seconds)}


def _page(results: dict[str, dict[str, Any]], arguments: argparse.Namespace) -> str:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=PROJECT, capture_output=True, text=True
    ).stdout.strip()
    lines = [
        "# Delivery, proven",
        "",
        f"Written by `python -m lab.proof {'--quick ' if arguments.quick else ''}--seed {arguments.seed} --write` on "
        f"{datetime.now(UTC):%Y-%m-%d} at commit {commit}; Python {platform.python_version()}, {os.cpu_count()} cores.",
        "",
        "| row | what is injected | scale | seconds | result |",
        "|---|---|---|---|---|",
    ]
    for name, result in results.items():
        figures = ", ".join(f"{count} {what}" for what, count in result["figures"].items())
        ended = "proven" if not result["faults"] else f"NOT PROVEN: {json.dumps(result['faults'])}"
        lines.append(f"| `{name}` | {ROWS[name].__doc__} | {figures} | {result['seconds']} | {ended} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(main())
