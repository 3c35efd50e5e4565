"""Offsets, topics and partition counts that no longer belong together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from confluent_kafka import KafkaException

from lab.proof.rows import Outcome, Proof, die, row
from lab.proof.site import ROLES, Site
from lab.proof.topics import Sent
from lab.proof.traffic import HOURS, STATIONS, interleaved
from lab.waiting import wait_until


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
        *_all_but_predictions_anew(proof),
        *_old_snapshot_copied(proof),
    ]
    return Outcome({"cases": 10}, faults)


def _expired_offset(proof: Proof) -> list[str]:
    with proof.ground.site("expired", TOPIC_PARTITIONS="1") as site:
        rows = interleaved(proof.source, ("proof-0",), 330)
        site.cluster.send(site.topic("raw"), islice(rows, 180))
        site.finish()
        site.cluster.send(site.topic("raw"), rows)
        site.cluster.delete_records(site.topic("raw"), {0: 250})
        said = site.run("consumer.py", "--idle-exit-seconds", "4", code=1)
        faults = Refusal(("70", "--accept-loss")).faults(said, "expired offset")
        site.run("consumer.py", "--idle-exit-seconds", "4", "--accept-loss")
        if site.summary().get("rows_lost") != 70:
            faults.append(f"expired offset: the summary counts {site.summary().get('rows_lost')} lost rows, not 70")
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
        site.cluster.send(site.topic("raw"), interleaved(proof.source, ("proof-0",), HOURS))
        consumer = site.consumer(SNAPSHOT_SECONDS="300")
        site.grown("pred", 15)
        die(consumer)
        wait_until(lambda: _deleted(site), "the group can be deleted")
        return _right_or_refused(proof, site, "group deleted")


def _deleted(site: Site) -> bool:
    try:
        site.cluster.delete_group(site.group)
    except KafkaException:  # its dead member is not forgotten yet
        return False
    return True


def _raw_recreated(proof: Proof) -> list[str]:
    with proof.ground.site("recreated", TOPIC_PARTITIONS="1") as site:
        rows = interleaved(proof.source, ("proof-0",), 230)
        site.cluster.send(site.topic("raw"), islice(rows, 180))
        site.finish()
        site.cluster.recreate(site.topic("raw"), 1)
        site.cluster.send(site.topic("raw"), rows)
        said = site.run("consumer.py", "--idle-exit-seconds", "4", code=1)
        return Refusal((site.topic("raw"),)).faults(said, "raw topic recreated")


def _partitions_raised(proof: Proof) -> list[str]:
    with proof.ground.site("raised") as site:
        rows = interleaved(proof.source, STATIONS, HOURS)
        site.cluster.send(site.topic("raw"), islice(rows, 16 * 180))
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
        rows = interleaved(proof.source, ("proof-0",), HOURS)
        site.cluster.send(site.topic("raw"), islice(rows, 180))
        site.finish()
        site.cluster.send(site.topic("raw"), rows)
        site.cluster.set_offsets(site.group, site.topic("raw"), {0: 0 if where == "start" else HOURS})
        return _right_or_refused(proof, site, f"offsets moved to the {where}")


def _topic_deleted(proof: Proof, role: str) -> list[str]:
    with proof.ground.site(f"no-{role}", TOPIC_PARTITIONS="1") as site:
        rows = interleaved(proof.source, ("proof-0",), HOURS)
        site.cluster.send(site.topic("raw"), islice(rows, 180))
        site.finish()
        site.cluster.recreate(site.topic(role), 1, {"cleanup.policy": "compact"} if role == "state" else None)
        site.cluster.send(site.topic("raw"), rows)
        said = site.run("consumer.py", "--idle-exit-seconds", "4", code=None)
        if "Traceback" in said:
            return [f"{role} topic recreated: a traceback: {said[-400:]}"]
        return [] if site.topic(role) in said else [f"{role} topic recreated: no word of it: {said[-300:]}"]


def _all_but_predictions_anew(proof: Proof) -> list[str]:
    """Raw and state topic made anew, with rows of another station: nothing but the predictions tells of the rows before."""
    with proof.ground.site("anew", TOPIC_PARTITIONS="1") as site:
        site.cluster.send(site.topic("raw"), interleaved(proof.source, ("proof-0",), 180))
        site.finish()
        site.cluster.recreate(site.topic("raw"), 1)
        site.cluster.recreate(site.topic("state"), 1, {"cleanup.policy": "compact"})
        site.cluster.send(site.topic("raw"), interleaved(proof.source, ("proof-1",), 230))
        said = site.run("consumer.py", "--idle-exit-seconds", "4", code=1)
        return Refusal(("proof-0", "proof-1", "not the one that was predicted")).faults(said, "raw and state recreated")


def _old_snapshot_copied(proof: Proof) -> list[str]:
    """A station's snapshot of an earlier time written again after its newest, as from a backup."""
    with proof.ground.site("copied", TOPIC_PARTITIONS="1") as site:
        rows = interleaved(proof.source, ("proof-0",), HOURS)
        site.cluster.send(site.topic("raw"), islice(rows, 172))
        site.finish()
        old = site.cluster.committed(site.topic("state"))[-1]
        site.cluster.send(site.topic("raw"), islice(rows, 8))
        site.finish()
        site.cluster.send(site.topic("state"), [Sent(old.key, old.value, headers=tuple(old.headers.items()))])
        site.cluster.send(site.topic("raw"), rows)
        return _right_or_refused(proof, site, "an old snapshot copied")
