"""A prediction service that fails in every way a service can."""

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from itertools import islice
from urllib.parse import urlparse

from airquality.ground.settings import read_settings
from lab.proof import service
from lab.proof.rows import SMALL, Outcome, Proof, row, stop
from lab.proof.site import PROJECT, Process
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
    with breakable(proof) as broken, proof.ground.site(f"service-{many}") as site:
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


def _ended(running: list[Process]) -> list[int]:
    return [process.returncode for process in running if process.poll() is not None]


@contextmanager
def breakable(proof: Proof) -> Iterator[service.Service]:
    """Yield a service that stands before the real one."""
    url = urlparse(proof.ground.environment["API_URL"])
    with service.Service(str(url.hostname), int(url.port or 0)) as broken:
        yield broken


@row("outage", quick=False)
def service_comes_and_goes(proof: Proof) -> Outcome:
    """The service away, then 20 % of its answers 503, then 5 s late; what waits is done within twice the outage."""
    outage = 12.0 * proof.scale
    with breakable(proof) as broken, proof.ground.site("outage") as site:
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


@row("alias", alone=True, quick=False)
def alias_moves(proof: Proof) -> Outcome:
    """The champion alias moved between two models, the registry locked at times: no request fails, no value is mixed up."""
    from airquality.model import registry  # MLflow takes two seconds to import, which no --help should

    settings = read_settings(
        mlflow_tracking_uri=proof.ground.environment["MLFLOW_TRACKING_URI"], artifacts_dir=proof.ground.artifacts
    )
    registry.configure()
    first = str(registry.champion_version(settings))
    models = {first: proof.ground.artifacts, registry.register(_OTHER_MODEL, settings, settings.model_alias): _OTHER_MODEL}
    registry.promote(settings, first, "the proof begins with it")
    with breakable(proof) as watched, proof.ground.site("alias") as site:
        limits = {"API_URL": watched.url}
        rows = interleaved(proof.source, STATIONS, HOURS)
        sent = site.cluster.send(site.topic("raw"), islice(rows, 16 * 172))
        consumer = site.consumer(**SMALL, **limits)
        site.grown("pred", 20)
        moves = 4 * proof.scale
        for move in range(moves):
            registry.promote(settings, list(models)[(move + 1) % 2], "the proof moves it")
            with _locked_registry(settings.mlflow_tracking_uri) if move % 4 == 3 else nullcontext():
                sent += site.cluster.send(site.topic("raw"), islice(rows, 12))
                site.caught_up(seconds=60)
        sent += site.cluster.send(site.topic("raw"), rows)
        stop(consumer)
        site.finish(idle_seconds=8, **limits)
        failed = {status: count for status, count in watched.answers.items() if status != 200}
        faults = [f"requests that failed, by status: {failed}"] if failed else []
        published = site.cluster.committed(site.topic("pred"))
        named = Counter(json.loads(record.value or b"")["model_version"] for record in published)
        if set(named) != set(models):
            faults.append(f"versions that predicted: {dict(named)}, not both of {list(models)}")
        figures = {"moves": moves, "requests": watched.answers.total(), "rows": sent}
        figures |= {f"by version {version}": count for version, count in sorted(named.items())}
        return Outcome(figures, faults + proof.verdict(site, models=models))


#: A model with other values: the one that has seen the training rows only.
_OTHER_MODEL = PROJECT / "artifacts" / "train_only"
_LOCKED_SECONDS = 12.0


@contextmanager
def _locked_registry(uri: str) -> Iterator[None]:
    """Let nobody read or write the registry's database for a while: whoever asks it waits, and is told that it is locked."""
    with closing(sqlite3.connect(uri.removeprefix("sqlite:///"), timeout=30.0, isolation_level=None)) as database:
        database.execute("BEGIN EXCLUSIVE")
        time.sleep(_LOCKED_SECONDS)
        yield
        database.execute("ROLLBACK")
