"""A prediction service that fails in every way a service can."""

from __future__ import annotations

import time
from itertools import islice
from urllib.parse import urlparse

from lab.proof import service
from lab.proof.rows import SMALL, Outcome, Proof, row, stop
from lab.proof.site import wait_until
from lab.proof.traffic import STATIONS, interleaved


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
        stop(consumer)
        site.finish(idle_seconds=14, **limits)
        crashed = [] if ended is None else [f"the consumer ended by itself with {ended}"]
        return Outcome({"lies": len(lies), "rows": sent}, crashed + proof.verdict(site))
