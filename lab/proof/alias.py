"""A champion alias that is moved under a running consumer, while the registry cannot be asked at times."""

from __future__ import annotations

import json
import sqlite3
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from airquality.ground.settings import Settings, read_settings
from lab.ports import free_port
from lab.proof.outages import breakable
from lab.proof.rows import SMALL, Outcome, Proof, row, stop
from lab.proof.service import Service
from lab.proof.site import PROJECT, Site, is_ready
from lab.proof.topics import Sent
from lab.proof.traffic import HOURS, STATIONS, interleaved
from lab.waiting import wait_until

#: A model with other values: the one that has seen the training rows only.
_OTHER_MODEL = PROJECT / "artifacts" / "train_only"
_LOCKED_SECONDS = 12.0
#: How often the row's service asks where the alias is; and within how many seconds of a move, or of the end of a lock, it
#: must have followed: it may just have begun to wait for the lock (5 s), and loading a version takes a moment.
_ASKED_SECONDS, _FOLLOWED_SECONDS = 1.0, 30.0


@row("alias", alone=True, quick=False)
def alias_moves(proof: Proof) -> Outcome:
    """The champion alias moved between two models, the registry locked at times: no request fails, no value is mixed up."""
    settings = read_settings(
        mlflow_tracking_uri=proof.ground.environment["MLFLOW_TRACKING_URI"], artifacts_dir=proof.ground.artifacts
    )
    models = _registered(settings)
    with proof.ground.site("alias") as site, _following(site, models) as served, breakable(served.url) as watched:
        limits = {"API_URL": watched.url}
        rows = interleaved(proof.source, STATIONS, HOURS)
        sent = site.cluster.send(site.topic("raw"), islice(rows, 16 * 172))
        consumer = site.consumer(**SMALL, **limits)
        site.grown("pred", 20)
        waits = []
        for move in range(4 * proof.scale):
            more, seconds = _moved(site, settings, served, list(models)[(move + 1) % 2], rows, locked=move % 3 == 2)
            sent += more
            waits.append(seconds)
        sent += site.cluster.send(site.topic("raw"), rows)
        stop(consumer)
        site.finish(idle_seconds=8, **limits)
        figures: dict[str, object] = {"moves": len(waits), "of them under a lock": len(waits) // 3}
        figures |= {"s at most until a move was followed": round(max(waits), 1), "rows": sent}
        counts, faults = _answered(site, watched, models)
        return Outcome(figures | counts, faults + proof.verdict(site, models=models))


def _registered(settings: Settings) -> dict[str, Path]:
    """Return the folder of each version: the champion, and another model that is registered here."""
    from airquality.model import registry  # MLflow takes two seconds to import, which no --help should

    registry.configure()
    first = str(registry.champion_version(settings))
    models = {first: settings.artifacts_dir, registry.register(_OTHER_MODEL, settings, settings.model_alias): _OTHER_MODEL}
    registry.promote(settings, first, "the proof begins with it")
    return models


def _moved(
    site: Site, settings: Settings, served: _Served, version: str, rows: Iterator[Sent], locked: bool
) -> tuple[int, float]:
    """Move the alias while rows come; return how many came, and after how many seconds the move was followed."""
    from airquality.model import registry

    registry.promote(settings, version, "the proof moves it")
    with _locked_registry(settings.mlflow_tracking_uri) if locked else nullcontext():
        sent = site.cluster.send(site.topic("raw"), islice(rows, 6))
        site.caught_up(seconds=60)
    seconds = served.seconds_until(version)
    sent += site.cluster.send(site.topic("raw"), islice(rows, 6))
    site.caught_up(seconds=60)
    return sent, seconds


def _answered(site: Site, watched: Service, models: Mapping[str, Path]) -> tuple[dict[str, object], list[str]]:
    """Return how many predictions each version made, and what is wrong with the answers."""
    failed = {status: count for status, count in watched.answers.items() if status != 200}
    faults = [f"requests that failed, by status: {failed}"] if failed else []
    published = site.cluster.committed(site.topic("pred"))
    named = Counter(json.loads(record.value or b"")["model_version"] for record in published)
    if set(named) != set(models):
        faults.append(f"versions that predicted: {dict(named)}, not both of {list(models)}")
    counts: dict[str, object] = {f"by version {version}": count for version, count in sorted(named.items())}
    return {"requests": watched.answers.total(), **counts}, faults


@dataclass(frozen=True)
class _Served:
    """A service of a row's own."""

    url: str

    @property
    def version(self) -> str:
        """The version that answers now."""
        with urllib.request.urlopen(f"{self.url}/version", timeout=5) as answer:
            return str(json.load(answer)["model_version"])

    def seconds_until(self, version: str) -> float:
        """Wait until a version answers, and return how long that took."""
        began = time.monotonic()
        wait_until(lambda: self.version == version, f"version {version} is served", _FOLLOWED_SECONDS)
        return time.monotonic() - began


@contextmanager
def _following(site: Site, models: Mapping[str, Path]) -> Iterator[_Served]:
    """Yield a service that asks for the alias every second, once it serves one of the models."""
    port = free_port()
    served = _Served(f"http://127.0.0.1:{port}")
    words = ("-m", "uvicorn", "api_service:app", "--host", "127.0.0.1", "--port", str(port))
    site.start(*words, MODEL_POLL_SECONDS=str(_ASKED_SECONDS))
    wait_until(lambda: is_ready(served.url), "the row's own service is ready")
    served.seconds_until(next(iter(models)))
    yield served


@contextmanager
def _locked_registry(uri: str) -> Iterator[None]:
    """Let nobody read or write the registry's database for a while: whoever asks it waits, and is told that it is locked."""
    with closing(sqlite3.connect(uri.removeprefix("sqlite:///"), timeout=30.0, isolation_level=None)) as database:
        database.execute("BEGIN EXCLUSIVE")
        time.sleep(_LOCKED_SECONDS)
        yield
        database.execute("ROLLBACK")
