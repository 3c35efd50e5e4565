"""The proof proves itself: a consumer that is broken on purpose must be noticed."""

from __future__ import annotations

import signal
import time
from itertools import islice

from lab.proof.rows import FREEZE_SECONDS, SMALL, Outcome, Proof, die, injected, row, stop
from lab.proof.traffic import HOURS, STATIONS, interleaved
from lab.waiting import PATIENCE_SECONDS


@row("sabotage")
def the_proof_can_fail(proof: Proof) -> Outcome:
    """The proof proves itself: with the commit moved before the publish, and with fencing off, it must go red."""
    faults = []
    for sabotage, run in (("commit-first", _killed_after_committing), ("unfenced", _woken_without_fence)):
        differences = run(proof, injected(PROOF_SABOTAGE=sabotage))
        if not differences:
            faults.append(f"{sabotage}: the judge noticed nothing")
    return Outcome({"sabotages": 2}, faults)


def _killed_after_committing(proof: Proof, sabotage: dict[str, str]) -> list[str]:
    with proof.ground.site("commit-first") as site:
        rows = interleaved(proof.source, STATIONS, HOURS)
        site.cluster.send(site.topic("raw"), islice(rows, 16 * 172))
        site.finish()
        site.cluster.send(site.topic("raw"), rows)
        killed = {**SMALL, **sabotage, "PROOF_KILL_AT": "after_commit:1", "CONSUMER_INSTANCE_ID": "one"}
        site.consumer(**killed).wait(PATIENCE_SECONDS)
        said = site.run("consumer.py", "--idle-exit-seconds", "6", code=None, environment={"CONSUMER_INSTANCE_ID": "one"})
        return ["refused"] if "--accept-loss" in said else proof.verdict(site)


def _woken_without_fence(proof: Proof, sabotage: dict[str, str]) -> list[str]:
    with proof.ground.site("unfenced") as site:
        site.cluster.send(site.topic("raw"), interleaved(proof.source, STATIONS, HOURS))
        frozen = site.consumer(**SMALL, **sabotage)
        site.grown("pred", 60)
        frozen.send_signal(signal.SIGSTOP)
        other = site.consumer(**SMALL)
        time.sleep(FREEZE_SECONDS + 4)
        frozen.send_signal(signal.SIGCONT)
        time.sleep(4.0)
        die(frozen)
        stop(other)
        said = site.run("consumer.py", "--idle-exit-seconds", "14", code=None)
        return ["refused"] if "--accept-loss" in said else proof.verdict(site)
