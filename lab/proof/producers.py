"""The product's own producer: killed, started twice, and with a broker that dies under it."""

from __future__ import annotations

import time
from pathlib import Path

from airquality.data import dataset
from airquality.data.dataset import Frame
from lab.child import Child
from lab.proof.rows import SMALL, Outcome, Proof, die, row, stop
from lab.proof.site import Site
from lab.waiting import PATIENCE_SECONDS

#: Slow enough to be killed in the middle, fast enough to end.
_RATE = "100"


@row("producer", quick=False)
def producer_killed_and_doubled(proof: Proof) -> Outcome:
    """The producer killed and started again, and two producers of one file at a time: one prediction a station and hour."""
    with proof.ground.site("producer") as site:
        csv = _file(proof, site, 400)
        consumer = site.consumer(**SMALL)
        for _ in range(2 * proof.scale):
            killed = _produce(site, csv, "killed")
            time.sleep(float(proof.rng.uniform(2.0, 3.5)))
            die(killed)
        site.run("producer.py", "--csv", str(csv), "--station-id", "killed")
        for process in (_produce(site, csv, "doubled"), _produce(site, csv, "doubled")):
            process.wait(PATIENCE_SECONDS)
        site.caught_up()
        stop(consumer)
        site.finish(idle_seconds=14)
        figures = {"kills": 2 * proof.scale, "records": len(site.cluster.committed(site.topic("raw")))}
        return Outcome(figures, proof.verdict(site))


@row("dying", quick=False)
def broker_dies_under_the_producer(proof: Proof) -> Outcome:
    """The broker killed while the producer sends: every row is there once, or the producer says how many are not."""
    with (
        proof.ground.own_broker("dying") as broker,
        proof.ground.site("dying", KAFKA_BOOTSTRAP_SERVERS=broker.servers) as site,
    ):
        csv = _file(proof, site, 400)
        for _ in range(proof.scale):
            process = _produce(site, csv, "roof")
            time.sleep(float(proof.rng.uniform(2.5, 3.5)))
            broker.kill()
            broker.start()
            process.wait(PATIENCE_SECONDS)
        site.run("producer.py", "--csv", str(csv), "--station-id", "roof")
        site.finish()
        figures = {"kills": proof.scale, "records": len(site.cluster.committed(site.topic("raw")))}
        return Outcome(figures, proof.verdict(site))


def _file(proof: Proof, site: Site, n_rows: int) -> Path:
    frame = proof.source.frame
    path = site.directory / "rows.csv"
    dataset.write_stream_csv(Frame(frame.hours[:n_rows], frame.values[:n_rows], frame.source), path)
    return path


def _produce(site: Site, csv: Path, station: str) -> Child:
    return site.start("producer.py", "--csv", str(csv), "--station-id", station, "--rate", _RATE)
