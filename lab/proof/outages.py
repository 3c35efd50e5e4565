"""A prediction service that fails in every way a service can."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from urllib.parse import urlparse

from lab.child import Child
from lab.proof import service
from lab.proof.rows import SMALL, Outcome, Proof, row, stop
from lab.proof.traffic import HOURS, STATIONS, interleaved, stations
from lab.waiting import wait_until


@row("service")
def misbehaving_service(proof: Proof) -> Outcome:
    """A prediction service that is away, slow, hanging, trickling, or answers what is no answer."""
    outcomes = [_misbehaving(proof, many) for many in ((2, 3) if proof.whole else (1,))]
    lies, sent = len(_lies(proof)) * len(outcomes), sum(sent for sent, _ in outcomes)
    figures = {"times each": proof.scale * len(outcomes), "lies": lies, "rows": sent}
    return Outcome(figures, [fault for _, faults in outcomes for fault in faults])


def _lies(proof: Proof) -> list[service.Answer]:
    return service.LIES[:: 1 if proof.whole else 4]


#: Each with how long it lasts.
_MISBEHAVIOUR: tuple[tuple[service.Fault, float], ...] = (
    (service.away, 4.0),
    (service.slow(1.0), 4.0),
    (service.slow(60.0), 5.0),
    (service.trickling(60.0), 8.0),
)


def _misbehaving(proof: Proof, many: int) -> tuple[int, list[str]]:
    """Let the service misbehave under so many consumers; return how many rows there were, and the differences."""
    with breakable(proof.ground.environment["API_URL"]) as broken, proof.ground.site(f"service-{many}") as site:
        names = stations(16 * (3 if proof.whole else 1))
        limits = {"API_URL": broken.url, "API_TIMEOUT_SECONDS": "2", "MAX_POLL_INTERVAL_SECONDS": "6"}
        rows = interleaved(proof.source, names, HOURS)
        sent = site.cluster.send(site.topic("raw"), islice(rows, len(names) * 172))
        running = [site.consumer(**SMALL, **limits) for _ in range(many)]
        site.grown("pred", 30)
        for fault, seconds in _MISBEHAVIOUR * proof.scale:
            broken.fault = fault
            sent += site.cluster.send(site.topic("raw"), islice(rows, 16 * 2))
            time.sleep(seconds)
        lies = _lies(proof)
        told = broken.requests + len(lies)
        broken.fault = service.lying(lies)
        sent += site.cluster.send(site.topic("raw"), rows)
        wait_until(lambda: bool(_ended(running)) or broken.requests > told, "the lies are told", 400)
        crashed = [f"a consumer ended by itself with {code}" for code in _ended(running)]
        broken.fault = None
        stop(*running)
        site.finish(idle_seconds=8, **limits)
        return sent, crashed + [f"{many} consumers: {fault}" for fault in proof.verdict(site)]


def _ended(running: list[Child]) -> list[int]:
    return [code for process in running if (code := process.poll()) is not None]


@contextmanager
def breakable(address: str) -> Iterator[service.Service]:
    """Yield a service that stands before the real one at an address."""
    url = urlparse(address)
    with service.Service(str(url.hostname), int(url.port or 0)) as broken:
        yield broken


@row("outage", quick=False)
def service_comes_and_goes(proof: Proof) -> Outcome:
    """The service away, then 20 % of its answers 503, then 5 s late; what waits is done within twice the outage."""
    outage = 12.0 * proof.scale
    with breakable(proof.ground.environment["API_URL"]) as broken, proof.ground.site("outage") as site:
        limits = {"API_URL": broken.url}
        rows = interleaved(proof.source, STATIONS, HOURS)
        sent = site.cluster.send(site.topic("raw"), islice(rows, 16 * 172))
        consumer = site.consumer(**SMALL, **limits)
        site.grown("pred", 30)
        broken.fault = service.away
        sent += site.cluster.send(site.topic("raw"), islice(rows, 16 * 6))
        time.sleep(outage)
        broken.fault, back = None, time.monotonic()
        site.caught_up(seconds=4 * outage)
        drained = time.monotonic() - back
        for fault in (service.flaky(0.2, proof.rng), service.slow(5.0)):
            broken.fault = fault
            sent += site.cluster.send(site.topic("raw"), islice(rows, 16 * 2))
            site.caught_up(seconds=120)
        broken.fault = None
        sent += site.cluster.send(site.topic("raw"), rows)
        stop(consumer)
        site.finish(idle_seconds=8, **limits)
        late = [f"{drained:.0f} s to catch up after {outage:.0f} s away"] if drained > 2 * outage else []
        figures = {"s away": round(outage), "s to catch up": round(drained, 1), "rows": sent}
        return Outcome(figures, late + proof.verdict(site))
