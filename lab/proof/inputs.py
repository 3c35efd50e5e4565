"""Records that no consumer may trip over: poisoned, late, repeated, contradicting, out of order."""

from __future__ import annotations

import time
from itertools import islice

from lab.proof import poison
from lab.proof.rows import SMALL, Outcome, Proof, die, row
from lab.proof.traffic import HOURS, STATIONS, disordered, interleaved


@row("poison")
def poisoned_records(proof: Proof) -> Outcome:
    """Every kind of poison, in every codec, in the middle of sound rows."""
    with proof.ground.site("poison") as site:
        topic, station = site.topic("raw"), "proof-0"
        sent = site.cluster.send(topic, interleaved(proof.source, (station,), 180))
        kinds = poison.kinds(proof.source, station, 179)
        for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
            sent += site.cluster.send(topic, kinds.values(), **{"compression.type": codec, "message.max.bytes": 10_000_000})
        sent += site.cluster.send(topic, interleaved(proof.source, (station,), 10, start=180))
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
            die(consumer)
        site.finish(CONSUMER_INSTANCE_ID="one")
        with proof.ground.site("order-again", RAW_TOPIC=site.topic("raw")) as again:
            again.finish(MAX_POLL_RECORDS="137")
            repeated = [f"on another replay: {fault}" for fault in proof.verdict(again)]
        return Outcome({"rows": sent, "replays": 2}, proof.verdict(site) + repeated)


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
