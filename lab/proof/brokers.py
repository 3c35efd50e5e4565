"""Three brokers of which one is lost, and topics that change under a running consumer."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

from lab.child import Child
from lab.proof import service
from lab.proof.identity import Refusal
from lab.proof.outages import breakable
from lab.proof.rows import SMALL, Outcome, Proof, Supervised, die, row, stop
from lab.proof.site import PROJECT, ROLES, Site
from lab.proof.topics import Found
from lab.proof.traffic import HOURS, STATIONS, interleaved
from lab.waiting import Failed, wait_until


@dataclass
class Three:
    """Three brokers behind ``python -m airquality broker``, and where they answer."""

    process: Child
    servers: str

    def kill_one(self, which: int) -> None:
        """End one of the three JVMs as a crash would."""
        listed = subprocess.run(
            ["ps", "-o", "pid=,comm=", "--ppid", str(self.process.pid)], capture_output=True, text=True, check=True
        )
        jvms = sorted(int(line.split()[0]) for line in listed.stdout.splitlines() if line.split()[1] == "java")
        os.kill(jvms[which], signal.SIGKILL)


@contextmanager
def three_brokers(directory: Path) -> Iterator[Three]:
    """Yield three brokers that replicate each other."""
    directory.mkdir(parents=True)
    log = directory / "brokers.log"
    environment = {name: value for name, value in os.environ.items() if name != "KAFKA_BOOTSTRAP_SERVERS"}
    command = [sys.executable, "-m", "airquality", "broker", "--broker", "three", "--data-dir", str(directory / "kafka")]
    with log.open("ab") as output:
        process = Child(command, PROJECT, environment, output)
    try:
        wait_until(lambda: process.poll() is not None or "Ctrl-C ends it" in log.read_text(), "three brokers answer")
        found = re.search(r"export KAFKA_BOOTSTRAP_SERVERS=(\S+)", log.read_text())
        if found is None:
            raise Failed(f"three brokers cannot be had: {log.read_text()[-600:]}")
        yield Three(process, found[1])
    finally:
        process.end(60)


@row("brokers3", quick=False)
def one_broker_of_three_lost(proof: Proof) -> Outcome:
    """One broker of three killed while rows come; replication 3. A supervisor restarts what the watchdog ends."""
    # The client may wait for the lost broker for ever; WATCHDOG_SECONDS is short here.
    faults: list[str] = []
    kills, sent, restarts = (3 if proof.scale > 1 else 1), 0, 0
    for kill in range(kills):
        directory = proof.ground.directory / f"brokers3-{kill}"
        with (
            three_brokers(directory) as three,
            proof.ground.site(f"three-{kill}", KAFKA_BOOTSTRAP_SERVERS=three.servers) as site,
        ):
            site.run("-m", "airquality", "topics", "--check")  # three replicas, two in sync: as needed, or it exits 3
            rows = interleaved(proof.source, STATIONS, HOURS)
            sent += site.cluster.send(site.topic("raw"), islice(rows, 16 * 172))
            consumer = Supervised(site, {**SMALL, "WATCHDOG_SECONDS": "20"})
            site.grown("pred", 30)
            three.kill_one(kill)
            sent += site.cluster.send(site.topic("raw"), rows)
            consumer.catch_up()
            stop(consumer.process)
            restarts += consumer.restarts
            site.finish(idle_seconds=14)
            faults += proof.verdict(site)
    return Outcome({"brokers": 3, "killed": kills, "restarts": restarts, "rows": sent}, faults)


@row("meanwhile", quick=False)
def topics_change_while_running(proof: Proof) -> Outcome:
    """Under a running consumer: partitions raised, state topic recreated, rows deleted. Right, or one sentence."""
    faults = [
        *_partitions_raised(proof),
        *_partitions_raised_over_waiting_rows(proof),
        *_state_recreated(proof),
        *_deleted_once_fetched(proof, stop),
        *_deleted_once_fetched(proof, die),
        *_deleted_unread(proof),
    ]
    return Outcome({"cases": 6}, faults)


def _await_words(site: Site, consumer: Child, words: str) -> None:
    """Wait until a running consumer says these words."""
    wait_until(lambda: consumer.poll() is not None or words in site.said(), f"{site.name}: {words}")


def _partitions_raised(proof: Proof) -> list[str]:
    """Raise the partitions once all rows are read, as the help of repartition says, but under the consumer."""
    with proof.ground.site("raised-meanwhile") as site:
        rows = interleaved(proof.source, STATIONS, HOURS)
        site.cluster.send(site.topic("raw"), islice(rows, 16 * 176))
        consumer = site.consumer(**SMALL)
        site.caught_up()
        faults = _raised_and_repartitioned(site, consumer)
        site.cluster.send(site.topic("raw"), rows)
        site.finish(idle_seconds=14)
        return faults + [f"after repartition: {fault}" for fault in proof.verdict(site)]


def _partitions_raised_over_waiting_rows(proof: Proof) -> list[str]:
    """Raise them while rows wait on the old partitions: what came elsewhere is refused, moved and sent again."""
    with proof.ground.site("raised-over-rows") as site:
        rows = interleaved(proof.source, STATIONS, HOURS)
        site.cluster.send(site.topic("raw"), islice(rows, 16 * 176))
        consumer = site.consumer(**SMALL)
        site.grown("pred", 30)
        faults = _raised_and_repartitioned(site, consumer)
        site.cluster.send(site.topic("raw"), rows)
        site.finish(idle_seconds=14)
        letters = site.cluster.committed(site.topic("dlq"))
        untold = [letter for letter in letters if b"airquality repartition" not in letter.headers["error_message"]]
        if untold:
            faults.append(f"{len(untold)} dead letters that do not say what to do, such as {untold[0].headers}")
        site.run("-m", "airquality", "repartition")
        site.run("-m", "airquality", "dlq", "replay", "--reason", "moved")
        site.finish(idle_seconds=14)
        return faults + [f"raised over waiting rows: {fault}" for fault in proof.verdict(site, list(_refused_first(site)))]


def _refused_first(site: Site) -> Iterator[Found]:
    """Yield the raw records; those that were refused as moved must be dead letters, and the copies sent again sound rows."""
    letters = [letter.headers for letter in site.cluster.committed(site.topic("dlq"))]
    moved = {(int(h["source_partition"]), int(h["source_offset"])) for h in letters if h["reason"] == b"moved"}
    for record in site.cluster.committed(site.topic("raw")):
        refused = (record.partition, record.offset) in moved
        yield replace(record, headers={**record.headers, "expect": b"moved"}) if refused else record


def _raised_and_repartitioned(site: Site, consumer: Child) -> list[str]:
    """Raise the partitions and do what the consumer says then; return what was wrong with the words."""
    site.cluster.raise_partitions([site.topic(role) for role in ROLES], 5)
    _await_words(site, consumer, "repartition")
    stop(consumer)
    faults = Refusal(("repartition", "5 partitions")).faults(site.said(), "partitions raised while running")
    told: list[str] = []

    def done() -> bool:
        told.append(site.run("-m", "airquality", "repartition", code=None))
        if "start a consumer once" in told[-1]:
            site.run("consumer.py", "--idle-exit-seconds", "14", code=None)
        return told[-1].startswith("moved")

    try:
        wait_until(done, f"{site.name}: repartition")
    except Failed:
        faults.append(f"repartition never moved the stations: {told[-1][-400:]}")
    return faults


def _state_recreated(proof: Proof) -> list[str]:
    with proof.ground.site("state-meanwhile", TOPIC_PARTITIONS="1") as site:
        rows = interleaved(proof.source, ("proof-0",), HOURS)
        site.cluster.send(site.topic("raw"), islice(rows, 180))
        consumer = site.consumer(**SMALL)
        site.grown("pred", 10)
        site.cluster.recreate(site.topic("state"), 1, {"cleanup.policy": "compact"})
        site.cluster.send(site.topic("raw"), rows)
        site.caught_up(seconds=120)
        die(consumer)
        site.finish(idle_seconds=14)
        return [f"state topic recreated while running: {fault}" for fault in proof.verdict(site)]


def _deleted_once_fetched(proof: Proof, end: Callable[[Child], None]) -> list[str]:
    """Delete rows that the consumer has fetched and not predicted, since the service is away; end it once it has."""
    with (
        breakable(proof.ground.environment["API_URL"]) as broken,
        proof.ground.site(f"deleted-fetched-{end.__name__}", TOPIC_PARTITIONS="1") as site,
    ):
        limits = {"API_URL": broken.url, "API_TIMEOUT_SECONDS": "2", "MAX_POLL_RECORDS": "20"}
        rows = interleaved(proof.source, ("proof-0",), 330)
        site.cluster.send(site.topic("raw"), islice(rows, 180))
        consumer = site.consumer(**limits)
        site.caught_up(seconds=120)
        broken.fault = service.away
        site.cluster.send(site.topic("raw"), rows)
        _await_words(site, consumer, "no row is lost, trying again")
        tapped = _deleted(site, before=300)
        broken.fault = None
        return _right_or_counted(proof, site, partial(end, consumer), tapped, limits)


def _deleted_unread(proof: Proof) -> list[str]:
    """Delete rows that came and went while the consumer stood still."""
    with proof.ground.site("deleted-unread", TOPIC_PARTITIONS="1") as site:
        rows = interleaved(proof.source, ("proof-0",), 330)
        site.cluster.send(site.topic("raw"), islice(rows, 180))
        consumer = site.consumer(**SMALL)
        site.caught_up(seconds=120)
        consumer.send_signal(signal.SIGSTOP)
        site.cluster.send(site.topic("raw"), rows)
        tapped = _deleted(site, before=300)
        consumer.send_signal(signal.SIGCONT)
        return _right_or_counted(proof, site, partial(die, consumer), tapped, SMALL)


def _deleted(site: Site, before: int) -> list[Found]:
    """Delete the raw records of partition 0 before an offset, as retention would; return all there were before."""
    tapped = site.cluster.committed(site.topic("raw"))
    site.cluster.delete_records(site.topic("raw"), {0: before})
    return tapped


def _right_or_counted(
    proof: Proof, site: Site, end: Callable[[], None], tapped: Sequence[Found], limits: Mapping[str, str]
) -> list[str]:
    """Wait until the consumer has read all rows, or says which are lost; end it, go on, and judge by what was tapped."""
    raw = site.topic("raw")
    ends = site.cluster.end_offsets(raw)

    def read_or_refused() -> bool:
        return site.cluster.committed_offsets(site.group, raw) == ends or "--accept-loss" in site.said()

    wait_until(read_or_refused, f"{site.name}: refused, or all rows were fetched before")
    end()
    said = site.said() + site.run("consumer.py", "--idle-exit-seconds", "14", code=None, environment=limits)
    if "--accept-loss" not in said:
        return [f"{site.name}: {fault}" for fault in proof.verdict(site, tapped)]
    faults = Refusal(("are gone", "--accept-loss")).faults(said, site.name)
    first_lost, first_kept = site.cluster.committed_offsets(site.group, raw)[0], site.cluster.begin_offsets(raw)[0]
    kept = [record for record in tapped if not first_lost <= record.offset < first_kept]
    named = dict(reversed(found) for found in re.findall(r"(\d+) rows that (were never read|must be read again)", said))
    if int(named.get("were never read", 0)) != len(tapped) - len(kept):
        faults.append(f"{site.name}: {named} are said to be gone, but {len(tapped) - len(kept)} were never read")
    site.run("consumer.py", "--idle-exit-seconds", "14", "--accept-loss", environment=limits)
    lost = site.summary().get("rows_lost")
    if lost != sum(map(int, named.values())):
        faults.append(f"{site.name}: {lost} rows are counted as lost, but {named} were said to be")
    return faults + [f"{site.name}, after the loss: {fault}" for fault in proof.verdict(site, kept)]
