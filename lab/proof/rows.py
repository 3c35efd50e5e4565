"""The rows of the proof: each injects one family of faults and returns what differs from the ruling (nothing: proven)."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from urllib.parse import urlparse

import numpy as np
from confluent_kafka import KafkaException

from lab.proof import judge, oracle, poison, service
from lab.proof.site import INJECT, ROLES, Ground, Process, Site, wait_until
from lab.proof.traffic import STATIONS, Source, disordered, interleaved

SMALL = {"MAX_POLL_RECORDS": "20", "SNAPSHOT_OFFSETS": "200", "SNAPSHOT_SECONDS": "2"}
#: The consumer's session is 10 s: a freeze of this length is beyond it.
FREEZE_SECONDS = 14.0


@dataclass
class Proof:
    """What a row of the proof is given: the ground, the data, random numbers, and how much of it to do."""

    ground: Ground
    source: Source
    rng: np.random.Generator
    scale: int  # 1 for QUICK=1

    def verdict(self, site: Site) -> list[str]:
        """Judge a site whose consumers have finished."""
        cluster = site.cluster
        ruling = oracle.rule(cluster.committed(site.topic("raw")), self.ground.artifacts)
        pred, dlq = cluster.committed(site.topic("pred")), cluster.committed(site.topic("dlq"))
        return judge.differences(ruling, pred, dlq, site.summary())


@dataclass
class Outcome:
    """How a row ended."""

    figures: dict[str, object] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


Row = Callable[[Proof], Outcome]
ROWS: dict[str, Row] = {}


def row(name: str) -> Callable[[Row], Row]:
    """Register a row of the proof under the name that ``ROW=`` takes."""

    def register(function: Row) -> Row:
        ROWS[name] = function
        return function

    return register


def _die(process: Process) -> None:
    if process.poll() is None:
        os.kill(process.pid, signal.SIGKILL)
    process.wait()


@row("kills")
def kill_at_random(proof: Proof) -> Outcome:
    """Kill -9 at random instants, also during a restore."""
    n_rows, kills = 260 * proof.scale, 6 * proof.scale
    with proof.ground.site("kills") as site:
        sent = site.cluster.send(site.topic("raw"), interleaved(proof.source, STATIONS, n_rows))
        for _ in range(kills):
            consumer = site.consumer(**SMALL, CONSUMER_INSTANCE_ID="one")
            time.sleep(float(proof.rng.uniform(0.5, 9.0)))
            _die(consumer)
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
            _die(consumer)
        site.finish(CONSUMER_INSTANCE_ID="one")
        missed = [f"{point} was never reached" for point, hit in zip(POINTS, reached, strict=False) if not hit]
        return Outcome({"kills": sum(reached), "rows": sent}, missed + proof.verdict(site))


def injected(**environment: str) -> dict[str, str]:
    """Return the environment of a process that is ended or misled from inside."""
    paths = [str(INJECT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(paths), **environment}


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
        _stop(first, second)
        site.finish(idle_seconds=14)
        return Outcome({"freezes": proof.scale, "rows": sent}, proof.verdict(site))


def _stop(*processes: Process) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait(60)


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
            _die(joining)
        site.finish(idle_seconds=14)
        return Outcome({"rounds": 3 * proof.scale, "rows": sent}, proof.verdict(site))


@row("service")
def misbehaving_service(proof: Proof) -> Outcome:
    """A prediction service that is away, slow, hanging, trickling, or answers what is no answer."""
    url = urlparse(proof.ground.environment["API_URL"])
    with service.Service(str(url.hostname), int(url.port or 0)) as broken, proof.ground.site("service") as site:
        limits = {"API_URL": broken.url, "API_TIMEOUT_SECONDS": "2"}
        rows = interleaved(proof.source, STATIONS[:3], 420)
        sent = site.cluster.send(site.topic("raw"), islice(rows, 3 * 180))
        consumer = site.consumer(**SMALL, **limits)
        site.grown("pred", 30)
        faults: list[tuple[service.Fault, float]] = [
            (service.away, 4.0),
            (service.slow(1.0), 4.0),
            (service.slow(60.0), 5.0),
            (service.trickling(60.0), 8.0),
        ]
        for fault, seconds in faults:
            broken.fault = fault
            sent += site.cluster.send(site.topic("raw"), islice(rows, 3 * 20))
            time.sleep(seconds)
        lies = service.LIES[:: 4 if proof.scale == 1 else 1]
        told = broken.requests + len(lies)
        broken.fault = service.lying(lies)
        sent += site.cluster.send(site.topic("raw"), rows)
        wait_until(lambda: consumer.poll() is not None or broken.requests > told, "the lies are told", 400)
        ended = consumer.poll()
        broken.fault = None
        _stop(consumer)
        site.finish(idle_seconds=14, **limits)
        crashed = [] if ended is None else [f"the consumer ended by itself with {ended}"]
        return Outcome({"lies": len(lies), "rows": sent}, crashed + proof.verdict(site))


@row("poison")
def poisoned_records(proof: Proof) -> Outcome:
    """Every kind of poison, in every codec, in the middle of sound rows."""
    with proof.ground.site("poison") as site:
        topic, station = site.topic("raw"), "proof-0"
        sent = site.cluster.send(topic, interleaved(proof.source, (station,), 200))
        kinds = poison.kinds(proof.source, station, 199)
        for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
            sent += site.cluster.send(topic, kinds.values(), **{"compression.type": codec, "message.max.bytes": 10_000_000})
        sent += site.cluster.send(topic, interleaved(proof.source, (station,), 40, start=200))
        site.finish()
        return Outcome({"kinds": len(kinds), "codecs": 5, "rows": sent}, proof.verdict(site))


@row("order")
def rows_out_of_order(proof: Proof) -> Outcome:
    """Late, repeated, contradicting rows and gaps of 3 h, 170 h and 30 days, with kills in between."""
    with proof.ground.site("order") as site:
        sent = sum(
            site.cluster.send(site.topic("raw"), disordered(proof.source, station, proof.rng)) for station in STATIONS[:2]
        )
        for _ in range(2 * proof.scale):
            consumer = site.consumer(**SMALL, CONSUMER_INSTANCE_ID="one")
            time.sleep(float(proof.rng.uniform(2.5, 5.0)))
            _die(consumer)
        site.finish(CONSUMER_INSTANCE_ID="one")
        return Outcome({"rows": sent}, proof.verdict(site))


@row("broker")
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
            _stop(consumer)
        site.finish(idle_seconds=14)
        return Outcome({"rows": sent}, proof.verdict(site))


@dataclass(frozen=True)
class Refusal:
    """A start that must be refused: which words its sentence holds."""

    words: Sequence[str]

    def faults(self, said: str, what: str) -> list[str]:
        """Return what is wrong with what was said."""
        if "Traceback" in said:
            return [f"{what}: a traceback: {said[-400:]}"]
        absent = [word for word in self.words if word not in said]
        return [f"{what}: {absent} not said in: {said[-400:]}"] if absent else []


@row("identity")
def identity_lost(proof: Proof) -> Outcome:
    """Offsets, topics and partition counts that no longer belong together: right, or one sentence; never silent."""
    faults = [
        *_expired_offset(proof),
        *_group_deleted(proof),
        *_raw_recreated(proof),
        *_partitions_raised(proof),
        *_offsets_moved(proof, "start"),
        *_offsets_moved(proof, "end"),
        *_topic_deleted(proof, "state"),
        *_topic_deleted(proof, "pred"),
    ]
    return Outcome({"cases": 8}, faults)


def _expired_offset(proof: Proof) -> list[str]:
    with proof.ground.site("expired", TOPIC_PARTITIONS="1") as site:
        rows = interleaved(proof.source, ("proof-0",), 700)
        site.cluster.send(site.topic("raw"), islice(rows, 300))
        site.finish()
        site.cluster.send(site.topic("raw"), rows)
        site.cluster.delete_records(site.topic("raw"), {0: 500})
        said = site.run("consumer.py", "--idle-exit-seconds", "4", code=1)
        faults = Refusal(("200", "--accept-loss")).faults(said, "expired offset")
        site.run("consumer.py", "--idle-exit-seconds", "4", "--accept-loss")
        if site.summary().get("rows_lost") != 200:
            faults.append(f"expired offset: the summary counts {site.summary().get('rows_lost')} lost rows, not 200")
        return faults


def _right_or_refused(proof: Proof, site: Site, what: str) -> list[str]:
    said = site.run("consumer.py", "--idle-exit-seconds", "4", code=None)
    if "Traceback" in said:
        return [f"{what}: a traceback: {said[-400:]}"]
    if "--accept-loss" in said or "repartition" in said:
        return []
    return [f"{what}: {fault}" for fault in proof.verdict(site)]


def _group_deleted(proof: Proof) -> list[str]:
    with proof.ground.site("forgotten", TOPIC_PARTITIONS="1") as site:
        site.cluster.send(site.topic("raw"), interleaved(proof.source, ("proof-0",), 300))
        consumer = site.consumer(SNAPSHOT_SECONDS="300")
        site.grown("pred", 130)
        _die(consumer)
        wait_until(lambda: _deleted(site), "the group can be deleted", 60)
        return _right_or_refused(proof, site, "group deleted")


def _deleted(site: Site) -> bool:
    try:
        site.cluster.delete_group(site.group)
    except KafkaException:  # its dead member is not forgotten yet
        return False
    return True


def _raw_recreated(proof: Proof) -> list[str]:
    with proof.ground.site("recreated", TOPIC_PARTITIONS="1") as site:
        rows = interleaved(proof.source, ("proof-0",), 460)
        site.cluster.send(site.topic("raw"), islice(rows, 300))
        site.finish()
        site.cluster.recreate(site.topic("raw"), 1)
        site.cluster.send(site.topic("raw"), rows)
        said = site.run("consumer.py", "--idle-exit-seconds", "4", code=1)
        return Refusal((site.topic("raw"),)).faults(said, "raw topic recreated")


def _partitions_raised(proof: Proof) -> list[str]:
    with proof.ground.site("raised") as site:
        rows = interleaved(proof.source, STATIONS, 230)
        site.cluster.send(site.topic("raw"), islice(rows, 8 * 200))
        site.finish()
        site.cluster.raise_partitions([site.topic(role) for role in ROLES], 5)
        said = site.run("consumer.py", "--idle-exit-seconds", "4", code=1)
        faults = Refusal(("repartition",)).faults(said, "partitions raised")
        site.run("-m", "airquality", "repartition")
        site.cluster.send(site.topic("raw"), rows)
        site.finish()
        return faults + [f"after repartition: {fault}" for fault in proof.verdict(site)]


def _offsets_moved(proof: Proof, where: str) -> list[str]:
    with proof.ground.site(f"moved-{where}", TOPIC_PARTITIONS="1") as site:
        rows = interleaved(proof.source, ("proof-0",), 360)
        site.cluster.send(site.topic("raw"), islice(rows, 300))
        site.finish()
        site.cluster.send(site.topic("raw"), rows)
        site.cluster.set_offsets(site.group, site.topic("raw"), {0: 0 if where == "start" else 360})
        return _right_or_refused(proof, site, f"offsets moved to the {where}")


def _topic_deleted(proof: Proof, role: str) -> list[str]:
    with proof.ground.site(f"no-{role}", TOPIC_PARTITIONS="1") as site:
        rows = interleaved(proof.source, ("proof-0",), 360)
        site.cluster.send(site.topic("raw"), islice(rows, 300))
        site.finish()
        site.cluster.recreate(site.topic(role), 1, {"cleanup.policy": "compact"} if role == "state" else None)
        site.cluster.send(site.topic("raw"), rows)
        said = site.run("consumer.py", "--idle-exit-seconds", "4", code=None)
        if "Traceback" in said:
            return [f"{role} topic recreated: a traceback: {said[-400:]}"]
        return [] if site.topic(role) in said else [f"{role} topic recreated: no word of it: {said[-300:]}"]


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
        site.cluster.send(site.topic("raw"), interleaved(proof.source, STATIONS, 220))
        for _ in range(6):
            consumer = site.consumer(**SMALL, **sabotage, CONSUMER_INSTANCE_ID="one")
            time.sleep(float(proof.rng.uniform(3.0, 6.0)))
            _die(consumer)
        said = site.run("consumer.py", "--idle-exit-seconds", "6", code=None, environment={"CONSUMER_INSTANCE_ID": "one"})
        return ["refused"] if "--accept-loss" in said else proof.verdict(site)


def _woken_without_fence(proof: Proof, sabotage: dict[str, str]) -> list[str]:
    with proof.ground.site("unfenced") as site:
        site.cluster.send(site.topic("raw"), interleaved(proof.source, STATIONS, 240))
        frozen = site.consumer(**SMALL, **sabotage)
        site.grown("pred", 60)
        frozen.send_signal(signal.SIGSTOP)
        other = site.consumer(**SMALL)
        time.sleep(FREEZE_SECONDS + 4)
        frozen.send_signal(signal.SIGCONT)
        time.sleep(4.0)
        _die(frozen)
        _stop(other)
        said = site.run("consumer.py", "--idle-exit-seconds", "14", code=None)
        return ["refused"] if "--accept-loss" in said else proof.verdict(site)
