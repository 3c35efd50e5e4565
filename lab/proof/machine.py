"""A host whose disk is full, whose reports folder cannot be written, whose clock is stepped."""

from __future__ import annotations

import shutil
import subprocess
from functools import partial
from itertools import islice

from lab.proof.oracle import HISTORY
from lab.proof.rows import SMALL, Outcome, Proof, injected, row, stop
from lab.proof.site import Site
from lab.proof.traffic import HOURS, STATIONS, interleaved
from lab.waiting import wait_until

#: A namespace of its own, in which anybody may mount: a reports folder that is full, or that is read-only.
_NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")
_FULL, _READ_ONLY = "size=16k", "ro"


@row("disk", quick=False)
def disk_full_or_read_only(proof: Proof) -> Outcome:
    """The reports folder on a full disk, then read-only: predictions go on, and monitoring says what is missing."""
    if not _can_mount():
        return Outcome(faults=["this machine lets nobody mount in a namespace of his own (unshare): not tried"])
    faults: list[str] = []
    sent = 0
    with proof.ground.site("disk") as site:
        rows = interleaved(proof.source, STATIONS[:3], 230)
        for options in (_FULL, _READ_ONLY):
            sent += site.cluster.send(site.topic("raw"), islice(rows, 3 * (200 if options == _FULL else 25)))
            said = _consume_with(site, options)
            if "Traceback" in said:
                faults.append(f"{options}: a traceback: {said[-400:]}")
            if "cannot be written" not in said:
                faults.append(f"{options}: nobody was told that something cannot be written: {said[-400:]}")
            made, due = len(site.cluster.committed(site.topic("pred"))), sent - 3 * HISTORY
            if made != due:
                faults.append(f"{options}: {made} predictions were made meanwhile, not {due}")
        sent += site.cluster.send(site.topic("raw"), rows)
        site.finish()
        if not list((site.directory / "reports" / "daily").rglob("*.html")):
            faults.append("no report was made once the folder could be written")
        return Outcome({"rows": sent}, faults + proof.verdict(site))


def _can_mount() -> bool:
    if shutil.which(_NAMESPACE[0]) is None:
        return False
    tried = subprocess.run([*_NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False)
    return tried.returncode == 0


def _consume_with(site: Site, options: str) -> str:
    """Run a consumer to its end with a reports folder that is mounted with ``options``; return what it printed."""
    reports = site.directory / "reports"
    reports.mkdir(exist_ok=True)
    mounted = 'mount -t tmpfs -o "$1" tmpfs "$2" && shift 2 && exec "$@"'
    consumer = (site.python, "consumer.py", "--idle-exit-seconds", "6")
    return site.execute(*_NAMESPACE, "sh", "-c", mounted, "sh", options, str(reports), *consumer, code=None)


_DAY, _YEARS = 86_400, 3 * 365 * 86_400  # seconds


@row("clock", quick=False)
def clock_stepped(proof: Proof) -> Outcome:
    """The clock of the host stepped by a day and by three years while the consumer runs, and wrong at its start."""
    with proof.ground.site("clock") as site:
        rows = interleaved(proof.source, STATIONS, HOURS)
        sent = site.cluster.send(site.topic("raw"), islice(rows, 16 * 172))
        steps = (_DAY, -2 * _DAY, _DAY, _YEARS, -2 * _YEARS)
        consumer = site.consumer(**SMALL, **injected(PROOF_CLOCK_STEPS=",".join(map(str, steps))))
        site.grown("pred", 20)
        for step in range(len(steps)):
            wait_until(partial(_stepped, site, step + 1), f"{site.name}: step {step + 1}")
            sent += site.cluster.send(site.topic("raw"), islice(rows, 16 * 2))
            site.caught_up()
        stop(consumer)
        for wrong in (_YEARS, -_YEARS):
            sent += site.cluster.send(site.topic("raw"), islice(rows, 16 * 4))
            site.finish(idle_seconds=14, **injected(PROOF_CLOCK_WRONG=str(wrong)))
        return Outcome({"steps": len(steps), "starts": 2, "rows": sent}, proof.verdict(site))


def _stepped(site: Site, many: int) -> bool:
    return site.said().count("the proof steps the clock") >= many
