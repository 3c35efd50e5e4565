"""Consumers and brokers that crash, freeze and come back."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np

from lab.child import Child
from lab.proof.rows import FREEZE_SECONDS, SMALL, Outcome, Proof, Supervised, die, injected, row, stop
from lab.proof.site import Broker, Site
from lab.proof.traffic import HOURS, STATIONS, interleaved, stations
from lab.waiting import PATIENCE_SECONDS, wait_until

#: How soon a consumer with an instance id must work again.
_AGAIN_SECONDS = 10.0
#: How soon at most, where its predecessor died on its way into the group: a start on a busy machine, and a session (10 s).
_TAKEN_OVER_SECONDS = 40.0


@row("kills", seeds=3)
def kill_at_random(proof: Proof) -> Outcome:
    """Kill -9 at random instants, also during a restore; work again within 10 s (p95, instance ids)."""
    many, kills = (stations(107), 50) if proof.whole else (stations(24), 6)
    rows, n_rows = interleaved(proof.source, many, HOURS), len(many) * HOURS
    again: list[float] = []
    with proof.ground.site("kills") as site:
        sent = 0
        for number in range(kills):
            sent += site.cluster.send(site.topic("raw"), islice(rows, n_rows // kills))
            consumer = site.consumer(**SMALL, CONSUMER_INSTANCE_ID="one")
            if number % 2:  # whatever it does once it has begun: it joins, restores, works or idles
                wait_until(partial(_has_begun, site, number + 1), f"{site.name}: consumer {number + 1} begins")
                time.sleep(float(proof.rng.uniform(0.0, 5.0)))
            else:  # soon after its first commit
                again.append(_seconds_to_work(site))
                time.sleep(float(proof.rng.uniform(0.0, 2.0)))
            die(consumer)
        sent += site.cluster.send(site.topic("raw"), rows)
        site.finish(CONSUMER_INSTANCE_ID="one")
        slowest = round(_p95(again), 1)
        late = [f"{slowest} s from start to the first commit (p95)"] if proof.whole and slowest > _AGAIN_SECONDS else []
        figures = {"kills": kills, "rows": sent, "s from start to the first commit (p95)": slowest}
        return Outcome(figures, late + proof.verdict(site))


def _has_begun(site: Site, many: int) -> bool:
    return site.said().count("metrics on") >= many


def _p95(seconds: list[float]) -> float:
    return float(np.quantile(seconds, 0.95))


def _seconds_to_work(site: Site) -> float:
    """Wait until the group commits; return after how many seconds."""
    began, before = time.monotonic(), site.cluster.committed_offsets(site.group, site.topic("raw"))
    wait_until(lambda: site.cluster.committed_offsets(site.group, site.topic("raw")) != before, f"{site.name}: a commit")
    return time.monotonic() - began


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
    sent, missed = 0, []
    with proof.ground.site("points") as site:
        for names in np.array_split(stations(8 * proof.scale), proof.scale):  # new stations each time: there is always work
            rows = interleaved(proof.source, tuple(map(str, names)), 196)  # a day of predictions: a report each
            sent += site.cluster.send(site.topic("raw"), rows)
            missed += [f"{point} was never reached" for point in POINTS if not _killed_at(site, point)]
        site.finish(CONSUMER_INSTANCE_ID="one")
        kills = len(POINTS) * proof.scale - len(missed)
        return Outcome({"kills": kills, "rows": sent}, missed + proof.verdict(site))


def _killed_at(site: Site, point: str) -> bool:
    """Run a consumer that is killed at a point; return whether it came there."""
    consumer = site.consumer(**SMALL, **injected(PROOF_KILL_AT=point), CONSUMER_INSTANCE_ID="one")
    wait_until(lambda: consumer.poll() is not None or _idle(site), f"{point} is reached", 240)
    reached = consumer.poll() == -signal.SIGKILL
    die(consumer)
    return reached


def _idle(site: Site) -> bool:
    """Say whether the log has stood still for 20 seconds: the point will not be reached any more."""
    path = site.directory / "log.txt"
    return path.exists() and time.time() - path.stat().st_mtime > 20


#: Where a member dies whose successor has its instance id and not its member id: joined, not joined to its knowledge, or
#: joined with partitions that it has not been told of.
JOINS = ("before_join_answer", "before_sync", "before_sync_answer")


@row("joining", quick=False)
def kill_while_it_joins(proof: Proof) -> Outcome:
    """Kill -9 around JoinGroup and SyncGroup, alone and beside another consumer; its successor with its id takes over."""
    outcomes = [_killed_while_joining(proof, beside) for beside in (False, True)]
    slowest = max(seconds for _, _, seconds in outcomes)
    figures = {"kills": 4 * proof.scale, "rows": sum(sent for sent, _, _ in outcomes), "s at most to take over": slowest}
    return Outcome(figures, [fault for _, faults, _ in outcomes for fault in faults])


def _killed_while_joining(proof: Proof, beside: bool) -> tuple[int, list[str], float]:
    """Return how many rows there were, the differences, and how long a successor took at most to have read all rows."""
    taken: list[float] = []
    with proof.ground.site("joining") as site:
        others = [site.consumer(**SMALL, CONSUMER_INSTANCE_ID="two")] * beside
        rows = interleaved(proof.source, STATIONS, HOURS)
        sent = site.cluster.send(site.topic("raw"), islice(rows, 16 * 168))
        for number in range(2 * proof.scale):
            point = JOINS[number % len(JOINS)]
            killed = site.consumer(**SMALL, **injected(PROOF_KILL_AT=f"{point}:1"), CONSUMER_INSTANCE_ID="one")
            wait_until(partial(_has_ended, killed), f"{site.name}: {point} is reached")
            sent += site.cluster.send(site.topic("raw"), islice(rows, 16))
            began, successor = time.monotonic(), site.consumer(**SMALL, CONSUMER_INSTANCE_ID="one")
            site.caught_up()
            taken.append(round(time.monotonic() - began, 1))
            die(successor)
        stop(*others)
        sent += site.cluster.send(site.topic("raw"), rows)
        site.finish(idle_seconds=14, CONSUMER_INSTANCE_ID="one")
        slow = [f"{max(taken)} s until a successor had taken over"] if max(taken) > _TAKEN_OVER_SECONDS else []
        return sent, slow + proof.verdict(site), max(taken)


def _has_ended(process: Child) -> bool:
    return process.poll() is not None


@row("freeze")
def freeze_beyond_the_session(proof: Proof) -> Outcome:
    """Freeze one of two, then of three, consumers for longer than session and max.poll, then let it go on."""
    outcomes = [_frozen(proof, many) for many in ((2, 3) if proof.whole else (2,))]
    figures = {"freezes": proof.scale * len(outcomes), "rows": sum(sent for sent, _ in outcomes)}
    return Outcome(figures, [fault for _, faults in outcomes for fault in faults])


def _frozen(proof: Proof, many: int) -> tuple[int, list[str]]:
    """Freeze one of ``many`` consumers now and then; return how many rows there were, and the differences."""
    with proof.ground.site(f"freeze-{many}") as site:
        rows = interleaved(proof.source, stations(16 * proof.scale), HOURS)
        sent = 0
        running = [site.consumer(**SMALL, MAX_POLL_INTERVAL_SECONDS="8") for _ in range(many)]
        for _ in range(proof.scale):
            sent += site.cluster.send(site.topic("raw"), islice(rows, 2400))
            time.sleep(float(proof.rng.uniform(0.5, 3.0)))
            victim = running[int(proof.rng.integers(many))]
            victim.send_signal(signal.SIGSTOP)
            time.sleep(FREEZE_SECONDS)
            victim.send_signal(signal.SIGCONT)
        sent += site.cluster.send(site.topic("raw"), rows)
        stop(*running)
        site.finish(idle_seconds=14)
        return sent, [f"{many} consumers: {fault}" for fault in proof.verdict(site)]


#: Where a thread that hangs is worst: with rows in its hands, in a transaction, with nothing but the commit to do.
STALLS = ("after_poll", "after_begin", "between_sends", "after_send_offsets", "before_commit")


#: Seconds of a hang by how many consumers there are: beyond max.poll, and beyond the transaction's timeout (20 s), too.
_HANGS = {2: 12, 3: 25}


@row("stall", quick=False)
def hang_while_heartbeats_go_on(proof: Proof) -> Outcome:
    """One of two, then of three, consumers hangs at named points for longer than max.poll while its heartbeats go on."""
    outcomes = [_stalled(proof, many, point) for many in ((2, 3) if proof.whole else (2,)) for point in STALLS]
    figures = {"hangs": len(outcomes), "rows": sum(sent for sent, _ in outcomes)}
    return Outcome(figures, [fault for _, faults in outcomes for fault in faults])


def _stalled(proof: Proof, many: int, point: str) -> tuple[int, list[str]]:
    with proof.ground.site(f"stall-{point.replace('_', '-')}-{many}") as site:
        rows = interleaved(proof.source, STATIONS, HOURS)
        sent = site.cluster.send(site.topic("raw"), islice(rows, 16 * 172))
        short = {**SMALL, "MAX_POLL_INTERVAL_SECONDS": "6"}
        others = [site.consumer(**short) for _ in range(many - 1)]
        site.grown("pred", 20)
        victim = site.consumer(**short, **injected(PROOF_STALL_AT=f"{point}:1:{_HANGS[many]}"))
        wait_until(partial(_shared, site, many), f"{site.name}: each of {many} has a partition")
        sent += site.cluster.send(site.topic("raw"), islice(rows, 16 * 6))
        wait_until(lambda: "the proof lets it go on" in site.said() or victim.poll() is not None, f"{point} is left")
        never = [] if victim.poll() is None else [f"{point}: the consumer ended with {victim.poll()}"]
        sent += site.cluster.send(site.topic("raw"), rows)
        site.caught_up()
        stop(victim, *others)
        site.finish(idle_seconds=14)
        return sent, never + [f"{point}, {many} consumers: {fault}" for fault in proof.verdict(site)]


def _shared(site: Site, many: int) -> bool:
    held = site.cluster.assigned(site.group)
    return len(held) == many and all(held)


@row("finishing")
def finish_while_others_join(proof: Proof) -> Outcome:
    """Consumers that finish by themselves while one or two others join, the newcomers killed right after."""
    rounds = (5 if proof.whole else 3) * (2 if proof.whole else 1)
    with proof.ground.site("finishing") as site:
        sent = site.cluster.send(site.topic("raw"), interleaved(proof.source, stations(16 * proof.scale), HOURS))
        for number in range(rounds):
            finishing = site.consumer("--max-records", "300", "--timeout-seconds", "20", **SMALL)
            time.sleep(float(proof.rng.uniform(2.0, 5.0)))
            joining = [site.consumer(**SMALL) for _ in range(1 + (number % 2 if proof.whole else 0))]
            finishing.wait(PATIENCE_SECONDS)
            time.sleep(float(proof.rng.uniform(0.0, 2.0)))
            for process in joining:
                die(process)
        site.finish(idle_seconds=14)
        return Outcome({"rounds": rounds, "rows": sent}, proof.verdict(site))


@dataclass(frozen=True)
class _Outages:
    """How often the broker is restarted and killed, and each of its freezes in seconds."""

    restarts: int
    kills: int
    freezes: tuple[float, ...]


@row("broker")
def broker_dies(proof: Proof) -> Outcome:
    """The broker restarted, killed and frozen under the consumer; a supervisor restarts what the watchdog ends."""
    outages = _Outages(5, 3, (90.0, 90.0)) if proof.whole else _Outages(0, 1, (12.0,))
    with (
        proof.ground.own_broker("broker") as broker,
        proof.ground.site("broker", KAFKA_BOOTSTRAP_SERVERS=broker.servers) as site,
    ):
        rows = interleaved(proof.source, stations(16 * proof.scale), HOURS)
        sent = site.cluster.send(site.topic("raw"), islice(rows, 2750 * proof.scale))
        # The client may wait for a lost broker for ever; the watchdog ends it, as a supervisor expects.
        consumer = Supervised(site, {**SMALL, "WATCHDOG_SECONDS": "20"})
        site.grown("pred", 20)
        for end in [broker.stop] * outages.restarts + [broker.kill] * outages.kills:
            end()
            broker.start()
            sent += site.cluster.send(site.topic("raw"), islice(rows, 100))
            if proof.whole:
                consumer.catch_up()
        for seconds in outages.freezes:
            sent += site.cluster.send(site.topic("raw"), islice(rows, 100))
            _freeze(broker, seconds)
            if proof.whole:
                consumer.catch_up()
        sent += site.cluster.send(site.topic("raw"), rows)
        consumer.catch_up()
        stop(consumer.process)
        site.finish(idle_seconds=14)
        figures = {
            "restarts": outages.restarts,
            "kills": outages.kills,
            "freezes": len(outages.freezes),
            "s frozen": sum(outages.freezes),
            "restarts of the consumer": consumer.restarts,
            "rows": sent,
        }
        return Outcome(figures, proof.verdict(site))


def _freeze(broker: Broker, seconds: float) -> None:
    jvm = broker.jvm()
    os.kill(jvm, signal.SIGSTOP)
    time.sleep(seconds)
    os.kill(jvm, signal.SIGCONT)
