"""Consumers and brokers that crash, freeze and come back."""

from __future__ import annotations

import os
import signal
import time
from itertools import islice

from lab.proof.rows import FREEZE_SECONDS, SMALL, Outcome, Proof, die, injected, row, stop
from lab.proof.site import Site, wait_until
from lab.proof.traffic import STATIONS, interleaved


@row("kills")
def kill_at_random(proof: Proof) -> Outcome:
    """Kill -9 at random instants, also during a restore."""
    n_rows, kills = 260 * proof.scale, 6 * proof.scale
    with proof.ground.site("kills") as site:
        sent = site.cluster.send(site.topic("raw"), interleaved(proof.source, STATIONS, n_rows))
        for _ in range(kills):
            consumer = site.consumer(**SMALL, CONSUMER_INSTANCE_ID="one")
            time.sleep(float(proof.rng.uniform(0.5, 9.0)))
            die(consumer)
        site.finish(CONSUMER_INSTANCE_ID="one")
        return Outcome({"kills": kills, "rows": sent}, proof.verdict(site))


POINTS = (
    "after_poll:3",
    "after_begin:4",
    "between_sends:30",
    "after_send_offsets:3",
    "before_commit:5",
    "after_commit:4",
    "report_rename:2",
)


@row("points")
def kill_at_named_points(proof: Proof) -> Outcome:
    """Kill -9 at named points of the loop and of a report."""
    with proof.ground.site("points") as site:
        sent = site.cluster.send(site.topic("raw"), interleaved(proof.source, STATIONS[:4], 220 + 60 * proof.scale))
        reached = []
        for point in POINTS * proof.scale:
            consumer = site.consumer(**SMALL, **injected(PROOF_KILL_AT=point), CONSUMER_INSTANCE_ID="one")
            wait_until(lambda c=consumer: c.poll() is not None or _idle(site), f"{point} is reached", 60)  # type: ignore[misc]
            reached.append(consumer.poll() == -signal.SIGKILL)
            die(consumer)
        site.finish(CONSUMER_INSTANCE_ID="one")
        missed = [f"{point} was never reached" for point, hit in zip(POINTS, reached, strict=False) if not hit]
        return Outcome({"kills": sum(reached), "rows": sent}, missed + proof.verdict(site))


def _idle(site: Site) -> bool:
    """Say whether the log has stood still for 20 seconds: the point will not be reached any more."""
    path = site.directory / "log.txt"
    return path.exists() and time.time() - path.stat().st_mtime > 20


@row("freeze")
def freeze_beyond_the_session(proof: Proof) -> Outcome:
    """Freeze one of two consumers for longer than the session, then let it go on beside the new owner."""
    with proof.ground.site("freeze") as site:
        rows = interleaved(proof.source, STATIONS, 260)
        sent = 0
        first = site.consumer(**SMALL)
        second = site.consumer(**SMALL)
        for _ in range(proof.scale):
            sent += site.cluster.send(site.topic("raw"), islice(rows, 800))
            time.sleep(float(proof.rng.uniform(0.5, 3.0)))
            victim = first if proof.rng.random() < 0.5 else second
            victim.send_signal(signal.SIGSTOP)
            time.sleep(FREEZE_SECONDS)
            victim.send_signal(signal.SIGCONT)
        sent += site.cluster.send(site.topic("raw"), rows)
        stop(first, second)
        site.finish(idle_seconds=14)
        return Outcome({"freezes": proof.scale, "rows": sent}, proof.verdict(site))


@row("finishing")
def finish_while_others_join(proof: Proof) -> Outcome:
    """Consumers that finish by themselves while others join, the newcomer killed right after."""
    with proof.ground.site("finishing") as site:
        sent = site.cluster.send(site.topic("raw"), interleaved(proof.source, STATIONS, 240))
        for _ in range(3 * proof.scale):
            finishing = site.consumer("--max-records", "300", "--timeout-seconds", "20", **SMALL)
            time.sleep(float(proof.rng.uniform(2.0, 5.0)))
            joining = site.consumer(**SMALL)
            finishing.wait(90)
            time.sleep(float(proof.rng.uniform(0.0, 2.0)))
            die(joining)
        site.finish(idle_seconds=14)
        return Outcome({"rounds": 3 * proof.scale, "rows": sent}, proof.verdict(site))


@row("broker", alone=True)
def broker_dies(proof: Proof) -> Outcome:
    """The broker killed, restarted and frozen under the consumer."""
    broker = proof.ground.broker
    with proof.ground.site("broker") as site:
        rows = interleaved(proof.source, STATIONS, 250)
        sent = site.cluster.send(site.topic("raw"), islice(rows, 1500))
        consumer = site.consumer(**SMALL)
        site.grown("pred", 20)
        broker.kill()
        broker.start()
        sent += site.cluster.send(site.topic("raw"), islice(rows, 200))
        jvm = broker.jvm()
        os.kill(jvm, signal.SIGSTOP)
        time.sleep(12.0)
        os.kill(jvm, signal.SIGCONT)
        sent += site.cluster.send(site.topic("raw"), rows)
        time.sleep(5.0)
        if consumer.poll() is None:
            stop(consumer)
        site.finish(idle_seconds=14)
        return Outcome({"rows": sent}, proof.verdict(site))
