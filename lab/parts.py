"""The whole system once, part by part: what ``lab.demo`` starts, reads back and says."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import requests

from airquality.data import dataset
from airquality.data.dataset import STATION_IDS, DataSource
from airquality.ground.addresses import sqlite_uri
from airquality.ground.errors import ContractError
from airquality.ground.settings import Settings, read_settings
from airquality.network.current import NETWORK
from airquality.records import TARGET_UNIT, isoformat
from airquality.reports.lock import locked
from airquality.reports.summary import SUMMARY_NAME
from airquality.stream import kafka_io
from lab import embedded_kafka, faulty, ownership
from lab.broker import Broker
from lab.child import Child
from lab.faultlab.spec import Spec
from lab.faulty import Replayed
from lab.ports import free_port
from lab.prepare import PROJECT, SIMULATED_NOTICE, prepare, run_step
from lab.waiting import PATIENCE_SECONDS

#: The consumer's last word waits this long for another row: the producer has finished before it starts.
IDLE_EXIT_SECONDS = 3.0
_LOCK_SECONDS = 30.0
#: Under ``RUN_DIR``: what a run keeps for itself, emptied when the next one starts.
FOLDER_NAME = "make-run"
#: In that folder: the broker's records, where they are kept.
RECORDS_NAME = "kafka"
#: How a person starts this environment's Python, which need not be the one on their path.
_PYTHON = shlex.quote(sys.executable)


@dataclass(frozen=True)
class Committed:
    """What a read_committed reader finds of one station."""

    rows: int
    predictions: int
    measured: int
    dead_letters: int


def clean(settings: Settings) -> None:
    """Remove what earlier runs left in the folder of runs and among the reports, and say what is kept."""
    folder = settings.run_dir / FOLDER_NAME
    if ownership.remove_own_folder(folder):
        print(f"removed {folder}")
    if not ownership.remove_own_reports(settings.reports_dir):
        print(f"kept {settings.reports_dir}: it holds reports that make run did not make")


def run(settings: Settings, faults: Sequence[Spec], *, keep: bool, started: float) -> None:
    """Run every part in order, leaving reports, summary and logs; raises ``AirQualityError`` if a part fails.

    For each fault a further station sends the rows with it in them, and the last lines say what was noticed of it. With
    ``keep`` the records stay in a folder of the run, and it is said how to rebuild a prediction from them. ``started`` is
    when, in monotonic seconds.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(ownership.own_folder(settings.run_dir / FOLDER_NAME)).resolve()
        reports_dir = stack.enter_context(_reports_folder(settings.reports_dir, folder))
        records = folder / RECORDS_NAME if keep else None
        broker = stack.enter_context(embedded_kafka.start(data_dir=records, say=_detail))
        print(broker.description, flush=True)
        if reports_dir.is_relative_to(folder):
            print(f"{settings.reports_dir} holds reports that make run did not make; they stay. New ones: {reports_dir}")
        found = dataset.find(settings.dataset_dir, settings.air_quality_data_source)
        environment = _environment(settings, broker, found.source, folder, reports_dir)
        if found.source == "simulated":
            print(SIMULATED_NOTICE, flush=True)
        prepare(found.source, environment)
        stack.enter_context(_api(environment, folder / "api.log"))
        csv = Path(environment["DATASET_DIR"]) / dataset.STREAM_NAME
        stations = faulty.stations(_station_id(found.source, broker), csv, faults, folder)
        for station in stations:
            _replay(station, environment)
        run_step("consuming it", "consumer.py", "--idle-exit-seconds", str(IDLE_EXIT_SECONDS), env=environment)
        made = read_settings(**_overrides(environment))
        conclude(made, [station.station_id for station in stations], found.source, folder)
        if keep:
            print(_how_to_rebuild(made, broker, stations[0].station_id, folder))
        print(f"finished in {time.monotonic() - started:.0f} s")
        if faults:
            faulty.conclude(made, stations)


def _replay(station: Replayed, environment: Mapping[str, str]) -> None:
    arguments = ("--csv", str(station.csv), "--station-id", station.station_id)
    run_step(f"replaying the test period into Kafka as {station.station_id}", "producer.py", *arguments, env=environment)


@contextmanager
def _reports_folder(wanted: Path, folder: Path) -> Iterator[Path]:
    """Yield where this run's reports go: ``wanted``, or a folder of its own where that holds reports of somebody else.

    Raises:
        OSError: the folder cannot be made or written.
    """
    chosen = wanted.resolve() if ownership.remove_own_reports(wanted) else folder / "reports"
    with locked(chosen, _LOCK_SECONDS):
        pass  # a folder that cannot be written is said now, not after everything has run
    try:
        yield chosen
    finally:
        with contextlib.suppress(OSError):  # unsigned reports are only kept longer
            ownership.sign_reports(chosen)


def _environment(settings: Settings, broker: Broker, source: str, folder: Path, reports_dir: Path) -> dict[str, str]:
    """Return the environment of every program of this run. A simulated run keeps its data and model in its own folder."""
    simulated = source == "simulated"
    return {
        **os.environ,
        **broker.environment,
        "API_URL": f"http://127.0.0.1:{free_port()}",
        "CONSUMER_METRICS_PORT": "0",
        "MLFLOW_TRACKING_URI": _registry_uri(folder),
        "DATASET_DIR": str(folder / "simulated" / "dataset" if simulated else settings.dataset_dir.resolve()),
        "ARTIFACTS_DIR": str(folder / "simulated" / "artifacts" if simulated else settings.artifacts_dir.resolve()),
        "AIR_QUALITY_DATA_SOURCE": source,
        "REPORTS_DIR": str(reports_dir),
        "PYTHONUNBUFFERED": "1",
        "LOG_LEVEL": "WARNING",
    }


def _registry_uri(folder: Path) -> str:
    """Return the address of this run's registry; relative, so that no odd sign in the checkout's path gets into it."""
    return sqlite_uri(Path(os.path.relpath(folder, PROJECT)) / "mlflow.db")


def _station_id(source: DataSource, broker: Broker) -> str:
    """Return the station to replay as: on a broker that others use, one of its own for each run."""
    usual = STATION_IDS[source]
    return f"{usual}-{time.strftime('%Y%m%d%H%M%S')}" if broker.kind == "external" else usual


@contextmanager
def _api(environment: Mapping[str, str], log_path: Path) -> Iterator[None]:
    """Serve the model while entered; ready when it yields."""
    url = environment["API_URL"]
    print(f"\n=== serving the model: uvicorn api_service:app at {url} (log: {log_path})", flush=True)
    program = [sys.executable, "-m", "uvicorn", "api_service:app", "--host", "127.0.0.1", "--port", url.rpartition(":")[2]]
    with log_path.open("wb") as log, Child(program, PROJECT, {**environment, "LOG_LEVEL": "INFO"}, log) as process:
        _await_ready(url, process, log_path)
        yield


def _await_ready(url: str, process: Child, log_path: Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    with requests.Session() as session:
        session.trust_env = False  # a proxy in the environment cannot reach this machine's loopback
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if session.get(f"{url}/ready", timeout=2).ok:
                    return
            except requests.RequestException:
                pass
            time.sleep(0.1)
    raise ContractError(f"the prediction service did not become ready; see {log_path}")


def committed(settings: Settings, station_id: str) -> Committed:
    """Return what the topics hold of a station, read with isolation ``read_committed``."""
    key = station_id.encode()
    names = (settings.raw_topic, settings.pred_topic, settings.dlq_topic)
    raw, pred, dlq = (
        [
            record.value
            for partition in kafka_io.partitions(settings, name)
            for record in kafka_io.read(settings, name, partition)
            if record.key == key
        ]
        for name in names
    )
    measured = sum(orjson.loads(value)["actual"] is not None for value in pred if value)
    return Committed(len(raw), len(pred), measured, len(dlq))


def _accounted(found: Committed) -> str:
    measured = f"{found.measured} with measured {NETWORK.target.spoken}"
    return f"{found.rows} rows in, {found.predictions} predictions ({measured}), {found.dead_letters} dead letters"


def _error(figures: Mapping[str, float]) -> str:
    error = f"RMSE {figures['rmse']:.3f}, MAE {figures['mae']:.3f} {TARGET_UNIT}"
    return f"{error}, R2 {figures['r2']:.3f} on n = {figures['n']}"


def conclude(settings: Settings, station_ids: Sequence[str], source: str, folder: Path) -> None:
    """Compare the summary with what an independent reader finds, and print where to look."""
    for station_id in station_ids:
        found, label = committed(settings, station_id), " (SIMULATED DATA)" if source == "simulated" else ""
        print(f"\n=== what a read_committed reader finds of station {station_id}{label}")
        print(_accounted(found))
    summary = _summary(settings.reports_dir / SUMMARY_NAME)
    figures, baseline = summary["performance"], summary["baseline"]
    reports = summary["reports_generated"]
    print(f"""
=== what the consumer's summary says of all rows its group has seen
{summary["warmup"]} warm-up, {summary["duplicates"]} duplicates
{reports["daily"]} daily and {reports["weekly"]} weekly reports, {summary["reports_failed"]} failed
streamed error: {_error(figures)}
reference:      {_error(baseline)}
windows with drift: {summary["drift_detected"]["daily"]} daily, {summary["drift_detected"]["weekly"]} weekly

=== where to look
reports     {(settings.reports_dir / "index.html").resolve()}
summary     {settings.reports_dir / SUMMARY_NAME}
model       {_PYTHON} -m mlflow ui --backend-store-uri {shlex.quote(_registry_uri(folder))}   # then http://localhost:5000
logs        {folder}/""")


def _summary(path: Path) -> dict[str, Any]:
    try:
        summary: dict[str, Any] = orjson.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ContractError(f"the consumer left no summary ({error}); its messages above say why") from error
    return summary


def _how_to_rebuild(settings: Settings, broker: Broker, station_id: str, folder: Path) -> str:
    """Return the commands that rebuild the newest prediction from the records that are kept."""
    if broker.kind == "mock":
        return "nothing is kept: the mock cluster holds its records in memory"
    newest = max(faulty.errors(settings, station_id))
    lines = ["\nrebuild predictions from the records that are kept:"]
    servers = settings.kafka_bootstrap_servers
    if broker.kind == "real":
        servers = "localhost:9092"
        kept = shlex.quote(str(folder / RECORDS_NAME))
        lines.append(f"  {_PYTHON} -m airquality broker --data-dir {kept}   # in a terminal of its own")
    lines += [
        f"  export KAFKA_BOOTSTRAP_SERVERS={servers} MLFLOW_TRACKING_URI={shlex.quote(_registry_uri(folder))}",
        f"  {_PYTHON} -m airquality replay --station {shlex.quote(station_id)} --hour {isoformat(newest)}",
        f"  {_PYTHON} -m airquality replay --station {shlex.quote(station_id)}   # all of them",
    ]
    return "\n".join(lines)


def _overrides(environment: Mapping[str, str]) -> dict[str, str | None]:
    names = [name for name in Settings.model_fields if name.startswith("kafka_")] + ["reports_dir"]
    return {name: environment.get(name.upper()) for name in names}


def _detail(line: str) -> None:
    print(f"  {line}", file=sys.stderr, flush=True)
