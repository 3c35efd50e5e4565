"""Consumers and brokers that crash, freeze and come back."""

from __future__ import annotations

import os
import signal
import time
from itertools import islice

import numpy as np

from lab.proof.rows import FREEZE_SECONDS, SMALL, Outcome, Proof, die, injected, row, stop
from lab.proof.site import Site
from lab.proof.traffic import HOURS, STATIONS, interleaved, stations
from lab.waiting import wait_until


@row("kills")
def kill_at_random(proof: Proof) -> Outcome:
    """Kill -9 at random instants, also during a restore."""
    many, kills = stations(107 if proof.scale > 1 else 24), 10 * proof.scale if proof.scale > 1 else 6
    rows, n_rows = interleaved(proof.source, many, HOURS), len(many) * HOURS
    again: list[float] = []
    with proof.ground.site("kills") as site:
        sent = 0
        for _ in range(kills):
            sent += site.cluster.send(site.topic("raw"), islice(rows, n_rows // kills))
            consumer = site.consumer(**SMALL, CONSUMER_INSTANCE_ID="one")
            again += _seconds_to_work(site, float(proof.rng.uniform(0.5, 9.0)))
            die(consumer)
        sent += site.cluster.send(site.topic("raw"), rows)
        site.finish(CONSUMER_INSTANCE_ID="one")
        figures = {"kills": kills, "rows": sent, "s from start to the first commit (p95)": _p95(again)}
        return Outcome(figures, proof.verdict(site))


def _seconds_to_work(site: Site, until: float) -> list[float]:
    """Wait ``until`` so many seconds from now; return when the raw topic's first commit came, nothing if it did not."""
    began, before = time.monotonic(), site.cluster.committed_offsets(site.group, site.topic("raw"))
    seen: list[float] = []
    while (past := time.monotonic() - began) < until:
        if not seen and site.cluster.committed_offsets(site.group, site.topic("raw")) != before:
            seen = [past]
        time.sleep(0.1)
    return seen


def _p95(seconds: list[float]) -> object:
    return round(float(np.quantile(seconds, 0.95)), 1) if seconds else "none seen"


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
        sent = site.cluster.send(site.topic("raw"), interleaved(proof.source, STATIONS[:4], 200 + 20 * proof.scale))
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
        rows = interleaved(proof.source, stations(16 * proof.scale), HOURS)
        sent = 0
        first = site.consumer(**SMALL)
        second = site.consumer(**SMALL)
        for _ in range(proof.scale):
            sent += site.cluster.send(site.topic("raw"), islice(rows, 2400))
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
        sent = site.cluster.send(site.topic("raw"), interleaved(proof.source, stations(16 * proof.scale), HOURS))
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
        rows = interleaved(proof.source, STATIONS, HOURS)
        sent = site.cluster.send(site.topic("raw"), islice(rows, 2750))
        # The client may wait for a lost broker for ever; the watchdog ends it, as a supervisor expects.
        consumer = site.consumer(**SMALL, WATCHDOG_SECONDS="20")
        site.grown("pred", 20)
        broker.kill()
        broker.start()
        sent += site.cluster.send(site.topic("raw"), islice(rows, 100))
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
