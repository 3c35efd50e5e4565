"""Run the whole system once, without containers: ``make run``.

Starts a broker (unless ``KAFKA_BOOTSTRAP_SERVERS`` names one), makes the data and the reference, seeds a model registry,
serves the model, replays the test period and consumes it, each by the program a user would type. Then reads back what was
committed, with nothing but a reader, and says where to look. Everything it starts, it stops.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import orjson
import requests

from airquality.data import dataset
from airquality.data.dataset import DataSource
from airquality.ground.errors import AirQualityError, ContractError, UsageError
from airquality.ground.settings import Settings, read_settings
from airquality.stream import kafka_io
from lab import embedded_kafka
from lab.embedded_kafka import Broker
from producer import STATION_IDS

PROJECT = Path(__file__).resolve().parent.parent
READY_SECONDS = 120.0
#: The consumer's last word waits this long for another row: the producer has finished before it starts.
IDLE_EXIT_SECONDS = 3.0

_SIMULATED = "*** SIMULATED DATA: the real data set could not be had; nothing below is a measurement. ***"


@dataclass(frozen=True)
class Committed:
    """What a read_committed reader finds of one station."""

    rows: int
    predictions: int
    measured: int
    dead_letters: int


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 0 done, 1 failure, 2 usage, 130 interrupted."""
    _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, _interrupt)
    started = time.monotonic()
    try:
        run(read_settings())
    except AirQualityError as error:
        print(f"demo.py: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        print("\ninterrupted; everything this run started has been stopped", file=sys.stderr)
        return 130
    print(f"finished in {time.monotonic() - started:.0f} s")
    return 0


def _parser() -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        description=__doc__,
        epilog="Environment: KAFKA_BOOTSTRAP_SERVERS uses a broker that runs already; AIR_QUALITY_BROKER=real|mock and "
        "AIR_QUALITY_DATA_SOURCE=uci|simulated force a choice.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def run(settings: Settings) -> None:
    """Run every part in order, leaving reports, summary and logs; raises ``AirQualityError`` if a part fails."""
    with ExitStack() as stack:
        broker = stack.enter_context(embedded_kafka.start(say=_detail))
        print(broker.description, flush=True)
        _clear(settings.run_dir)
        _clear_reports(settings.reports_dir)
        found = dataset.find(settings.dataset_dir, settings.air_quality_data_source)
        environment = _environment(settings, broker, found.source)
        if found.source == "simulated":
            print(_SIMULATED, flush=True)
        _prepare(found.source, environment)
        stack.enter_context(_api(environment, settings.run_dir / "api.log"))
        station_id = _station_id(found.source, broker)
        csv = Path(environment["DATASET_DIR"]) / dataset.STREAM_NAME
        _step(
            "replaying the test period into Kafka",
            "producer.py",
            "--csv",
            str(csv),
            "--station-id",
            station_id,
            env=environment,
        )
        _step("consuming it", "consumer.py", "--idle-exit-seconds", str(IDLE_EXIT_SECONDS), env=environment)
        conclude(read_settings(**_overrides(environment)), station_id, found.source)


def _environment(settings: Settings, broker: Broker, source: str) -> dict[str, str]:
    """Return the environment of every program of this run. A simulated run keeps its data and model in its own folder."""
    simulated = source == "simulated"
    environment = {
        **os.environ,
        "KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        "API_URL": f"http://127.0.0.1:{_free_port()}",
        "CONSUMER_METRICS_PORT": "0",
        "MLFLOW_TRACKING_URI": f"sqlite:///{settings.run_dir.resolve()}/mlflow.db",
        "DATASET_DIR": str((settings.run_dir / "simulated" / "dataset" if simulated else settings.dataset_dir).resolve()),
        "ARTIFACTS_DIR": str(
            (settings.run_dir / "simulated" / "artifacts" if simulated else settings.artifacts_dir).resolve()
        ),
        "AIR_QUALITY_DATA_SOURCE": source,
        "REPORTS_DIR": str(settings.reports_dir.resolve()),
        "PYTHONUNBUFFERED": "1",
        "LOG_LEVEL": "WARNING",
    }
    if broker.api_version:
        environment["KAFKA_API_VERSION"] = broker.api_version
    return environment


def _station_id(source: DataSource, broker: Broker) -> str:
    """Return the station to replay as: on a broker that others use, one of its own for each run."""
    usual = STATION_IDS[source]
    return f"{usual}-{time.strftime('%Y%m%d%H%M%S')}" if broker.kind == "external" else usual


def _prepare(source: str, environment: Mapping[str, str]) -> None:
    _step("making the stream's file", "dataset/create_dataset.py", env=environment)
    if source == "simulated":
        _step("training a quick model on the simulated history", "training/train.py", "--quick", env=environment)
    _step("predicting the earlier months out of sample", "-m", "training.calibration", env=environment)
    _step("scoring the reference, calibrating the monitoring", "generate_reference_dataset.py", env=environment)
    _step("registering the model", "-m", "airquality", "registry", "seed", env=environment)


def _step(title: str, *program: str, env: Mapping[str, str]) -> None:
    """Run one program to its end, its output on this terminal, in a session of its own: Ctrl-C reaches it through here."""
    print(f"\n=== {title}: python {' '.join(program)}", flush=True)
    with subprocess.Popen([sys.executable, *program], env=dict(env), cwd=PROJECT, start_new_session=True) as process:
        try:
            code = process.wait()
        except KeyboardInterrupt:
            _end(process)
            raise
    if code:
        raise ContractError(f"python {' '.join(program)} ended with exit code {code}; its message is above")


@contextmanager
def _api(environment: Mapping[str, str], log_path: Path) -> Iterator[None]:
    """Serve the model while entered; ready when it yields."""
    url = environment["API_URL"]
    print(f"\n=== serving the model: uvicorn api_service:app at {url} (log: {log_path})", flush=True)
    command = [sys.executable, "-m", "uvicorn", "api_service:app", "--host", "127.0.0.1", "--port", url.rpartition(":")[2]]
    with (
        log_path.open("wb") as log,
        subprocess.Popen(
            command,
            env={**environment, "LOG_LEVEL": "INFO"},
            cwd=PROJECT,
            start_new_session=True,
            stdout=log,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            _await_ready(url, process, log_path)
            yield
        finally:
            _end(process)


def _await_ready(url: str, process: subprocess.Popen[bytes], log_path: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if requests.get(f"{url}/ready", timeout=2).ok:
                return
        except requests.RequestException:
            pass
        time.sleep(0.1)
    raise ContractError(f"the prediction service did not become ready; see {log_path}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


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


def conclude(settings: Settings, station_id: str, source: str) -> None:
    """Compare the summary with what an independent reader finds, and print where to look."""
    summary = orjson.loads((settings.reports_dir / "monitoring_summary.json").read_bytes())
    found = committed(settings, station_id)
    figures, baseline = summary["performance"], summary["baseline"]
    reports = summary["reports_generated"]
    print(f"""
=== what a read_committed reader finds of station {station_id}{" (SIMULATED DATA)" if source == "simulated" else ""}
{found.rows} rows in, {found.predictions} predictions ({found.measured} with measured CO), {found.dead_letters} dead letters

=== what the consumer's summary says of all rows its group has seen
{summary["warmup"]} warm-up, {summary["duplicates"]} duplicates
{reports["daily"]} daily and {reports["weekly"]} weekly reports, {summary["reports_failed"]} failed
streamed error: RMSE {figures["rmse"]:.3f}, MAE {figures["mae"]:.3f} mg/m3, R2 {figures["r2"]:.3f} on n = {figures["n"]}
reference:      RMSE {baseline["rmse"]:.3f}, MAE {baseline["mae"]:.3f} mg/m3, R2 {baseline["r2"]:.3f} on n = {baseline["n"]}
windows with drift: {summary["drift_detected"]["daily"]} daily, {summary["drift_detected"]["weekly"]} weekly

=== where to look
reports     {(settings.reports_dir / "index.html").resolve()}
summary     {settings.reports_dir / "monitoring_summary.json"}
model       mlflow ui --backend-store-uri sqlite:///{settings.run_dir}/mlflow.db   (then http://localhost:5000)
logs        {settings.run_dir}/""")


def _overrides(environment: Mapping[str, str]) -> dict[str, str | None]:
    return {
        "kafka_bootstrap_servers": environment["KAFKA_BOOTSTRAP_SERVERS"],
        "kafka_api_version": environment.get("KAFKA_API_VERSION"),
    }


def _clear(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)


def _clear_reports(reports_dir: Path) -> None:
    """Remove the reports of an earlier run, so that the folder holds this run's and no other."""
    for kind in ("daily", "weekly"):
        shutil.rmtree(reports_dir / kind, ignore_errors=True)
    for name in ("index.html", "monitoring_summary.json"):
        (reports_dir / name).unlink(missing_ok=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _detail(line: str) -> None:
    print(f"  {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
