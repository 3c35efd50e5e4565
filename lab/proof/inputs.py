"""Records that no consumer may trip over: poisoned, late, repeated, contradicting, out of order."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from itertools import cycle, islice
from pathlib import Path

from lab.child import Child
from lab.proof import poison
from lab.proof.rows import SMALL, Outcome, Proof, die, row
from lab.proof.site import Site
from lab.proof.topics import Sent
from lab.proof.traffic import HOURS, STATIONS, disordered, interleaved, stations
from lab.waiting import PATIENCE_SECONDS, wait_until

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


@row("poison")
def poisoned_records(proof: Proof) -> Outcome:
    """Every kind of poison, in every codec, in the middle of sound rows; 1 % of many rows costs at most 10 %."""
    with proof.ground.site("poison") as site:
        topic, station = site.topic("raw"), "proof-0"
        sent = site.cluster.send(topic, interleaved(proof.source, (station,), 180))
        kinds = poison.kinds(proof.source, station, 179)
        for codec in CODECS:
            large = {} if codec == "none" else poison.compressible()
            sent += _send_in(codec, site, [*kinds.values(), *large.values()])
        sent += site.cluster.send(topic, interleaved(proof.source, (station,), 10, start=180))
        site.finish()
        figures: dict[str, object] = {"kinds": len(kinds) + len(poison.compressible()), "codecs": len(CODECS), "rows": sent}
        faults = proof.verdict(site)
    if proof.whole:
        diluted, more = _diluted(proof)
        figures, faults = {**figures, **diluted}, faults + more
    return Outcome(figures, faults)


def _send_in(codec: str, site: Site, records: Iterable[Sent]) -> int:
    return site.cluster.send(site.topic("raw"), records, **{"compression.type": codec, "message.max.bytes": 10_000_000})


#: One row in so many is poisoned, of so many rows; and the share of the speed that it may cost.
_ONE_IN, _MANY, _MAX_LOSS = 100, 50_000, 0.10


def _diluted(proof: Proof) -> tuple[dict[str, object], list[str]]:
    """Return what a poisoned row in a hundred costs, in the consumer's own seconds; sound and poisoned are read in turns."""
    names = stations(_MANY // HOURS + 1)
    seconds: dict[str, list[float]] = {"sound": [], "poisoned": []}
    with proof.ground.site("sound") as sound, proof.ground.site("poisoned") as poisoned:
        n_rows = sound.cluster.send(sound.topic("raw"), interleaved(proof.source, names, HOURS))
        poison_sent = _send_poisoned(proof, poisoned, names)
        faults: list[str] = []
        for _ in range(2):
            for name, origin in (("sound", sound), ("poisoned", poisoned)):
                with proof.ground.site(f"{name}-read", RAW_TOPIC=origin.topic("raw")) as reading:
                    seconds[name].append(_cpu_seconds(reading))
                    faults += [f"{name}: {fault}" for fault in proof.verdict(reading)]
    loss = 1 - min(seconds["sound"]) / n_rows / (min(seconds["poisoned"]) / (n_rows + poison_sent))
    if loss > _MAX_LOSS:
        faults.append(f"1 % of poison costs {loss:.0%} of the speed")
    return {"sound rows": n_rows, "poisoned among them": poison_sent, "% slower": round(100 * loss, 1)}, faults


def _send_poisoned(proof: Proof, site: Site, names: tuple[str, ...]) -> int:
    """Send the sound rows with poison in between, a codec for each stretch; return how many were poisoned."""
    made = poison.kinds(proof.source, names[0], HOURS - 1).values()
    kinds = cycle([record for record in made if record.expect != "duplicate"])  # it would be the first of its hour here
    rows, count = interleaved(proof.source, names, HOURS), 0
    for codec in cycle(CODECS):
        stretch = list(islice(rows, 5_000))
        if not stretch:
            return count
        mixed = [record for start in range(0, len(stretch), _ONE_IN) for record in (next(kinds), *stretch[start:][:_ONE_IN])]
        count += _send_in(codec, site, mixed) - len(stretch)
    raise AssertionError("cycle ends")


def _cpu_seconds(site: Site) -> float:
    """Return the processor's seconds a consumer needs from its first commit to its last."""
    process = site.consumer("--idle-exit-seconds", "6")
    wait_until(lambda: any(site.cluster.committed_offsets(site.group, site.topic("raw")).values()), f"{site.name}: a commit")
    before = _used(process)
    site.caught_up(seconds=400)
    used = _used(process) - before
    process.wait(PATIENCE_SECONDS)
    return used


def _used(process: Child) -> float:
    fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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
            die(consumer)
        site.finish(CONSUMER_INSTANCE_ID="one")
        with proof.ground.site("order-again", RAW_TOPIC=site.topic("raw")) as again:
            again.finish(MAX_POLL_RECORDS="137")
            repeated = [f"on another replay: {fault}" for fault in proof.verdict(again)]
        return Outcome({"rows": sent, "replays": 2}, proof.verdict(site) + repeated)


@row("aborted", quick=False)
def raw_rows_in_transactions(proof: Proof) -> Outcome:
    """Raw rows in transactions, every third of them aborted, some open for seconds, while the consumer is killed."""
    with proof.ground.site("aborted") as site:
        raw, rows = site.topic("raw"), interleaved(proof.source, STATIONS, HOURS)
        sent, undone = site.cluster.send(raw, islice(rows, 16 * 165)), 0
        for _ in range(3 * proof.scale):
            consumer = site.consumer(**SMALL, CONSUMER_INSTANCE_ID="one")
            stretch = list(islice(rows, 20))
            undone += site.cluster.send_in_transaction(raw, stretch, commit=False, open_seconds=1.0)
            for part in (stretch[:10], stretch[10:]):
                sent += site.cluster.send_in_transaction(raw, part, commit=True, open_seconds=float(proof.rng.uniform(0, 2)))
            time.sleep(float(proof.rng.uniform(0.0, 4.0)))
            die(consumer)
        sent += site.cluster.send(raw, rows)
        site.finish(CONSUMER_INSTANCE_ID="one")
        return Outcome({"rows": sent, "aborted": undone}, proof.verdict(site))


@row("silence", quick=False)
def station_silent_for_long(proof: Proof) -> Outcome:
    """A station that is silent while other stations fill its partition: its history and its state are still there."""
    others = tuple(f"warming-{number}" for number in range(40 * proof.scale**2))
    with proof.ground.site("silence", TOPIC_PARTITIONS="1") as site:
        rows = interleaved(proof.source, STATIONS[:1], HOURS)
        sent = site.cluster.send(site.topic("raw"), islice(rows, 180))
        between = site.cluster.send(site.topic("raw"), interleaved(proof.source, others, 100))
        consumer = site.consumer(MAX_POLL_RECORDS="2000", SNAPSHOT_OFFSETS="1000", SNAPSHOT_SECONDS="2")
        site.caught_up(seconds=300)
        die(consumer)
        sent += site.cluster.send(site.topic("raw"), rows)
        site.finish()
        return Outcome({"rows of others between": between, "rows": sent + between}, proof.verdict(site))
