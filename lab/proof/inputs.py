"""Records that no consumer may trip over: poisoned, late, repeated, contradicting, out of order."""

from __future__ import annotations

import time

from lab.proof import poison
from lab.proof.rows import SMALL, Outcome, Proof, die, row
from lab.proof.traffic import STATIONS, disordered, interleaved


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
            die(consumer)
        site.finish(CONSUMER_INSTANCE_ID="one")
        return Outcome({"rows": sent}, proof.verdict(site))
