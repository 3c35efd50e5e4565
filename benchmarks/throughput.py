"""How fast the pipeline is, beside its limits and the naive way, in one run on one machine; see ``--help``."""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import importlib.metadata
import os
import platform
import pstats
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import numpy as np
import orjson
import requests
from fastapi import FastAPI, Response
from prometheus_client import CollectorRegistry

from airquality.ground import command
from airquality.ground.errors import AirQualityError, ContractError
from airquality.ground.settings import Settings, read_settings
from airquality.metrics import ConsumerMetrics
from airquality.model import features, registry
from airquality.model.client import PredictionClient
from airquality.model.transport import Transport
from airquality.monitoring.drift import load_judge
from airquality.records import HISTORY_HOURS, Reading
from airquality.reports.process import Job, Write
from airquality.stream import kafka_io
from airquality.stream.console import Console
from airquality.stream.limits import Limits
from airquality.stream.reader import KafkaReader
from airquality.stream.transactions import Message, Ownership, Poll, Position, TransactionalStream
from airquality.stream.worker import Worker
from benchmarks.feature_rows import FIRST_HOUR, feature_rows, made_up_values
from benchmarks.measuring import Results, Spent
from lab import embedded_kafka
from lab.child import Child
from lab.ports import free_port
from lab.waiting import wait_until
from monitoring_service import MonitoringService

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results.md"
Floats = np.typing.NDArray[np.float64]


class TimedStream(TransactionalStream):
    """A stream that notes when its first records came and when ``n_rows`` of them were committed."""

    def __init__(self, settings: Settings, n_rows: int) -> None:
        super().__init__(settings)
        self.spent = Spent()
        self._n_rows = n_rows
        self._polled = 0
        self._began: tuple[float, float] | None = None

    def poll(self, timeout_seconds: float, max_records: int) -> Poll:
        polled = super().poll(timeout_seconds, max_records)
        if polled.records and self._began is None:
            self._began = time.perf_counter(), time.process_time()
        self._polled += sum(map(len, polled.records.values()))
        return polled

    def commit(self, messages: Iterable[Message], positions: Mapping[int, Position], ownership: Ownership) -> list[int]:
        offsets = super().commit(messages, positions, ownership)
        if self._began and self._polled >= self._n_rows and not self.spent.seconds:
            self.spent = Spent(time.perf_counter() - self._began[0], time.process_time() - self._began[1])
        return offsets


# --- what is measured on Kafka ---


def prepared(base: Settings, name: str, rows: Iterable[Reading]) -> Settings:
    """Return settings of topics of their own that hold ``rows``."""
    topics = {f"{role}_topic": f"bench.{name}.{role}" for role in ("raw", "pred", "state", "dlq", "events")}
    settings = base.model_copy(update={**topics, "consumer_group": f"bench-{name}"})
    kafka_io.ensure_topics(settings)
    with closing(kafka_io.idempotent_producer(settings)) as producer:
        for row in rows:
            producer.send(settings.raw_topic, value=row.to_bytes(), key=row.station_id.encode())
        producer.flush()
    return settings


def bare_loop(settings: Settings, n_rows: int) -> Spent:
    """Consume and produce in the same transactions as the pipeline, with no work between."""
    with closing(TimedStream(settings, n_rows)) as stream:
        while not stream.spent.seconds:
            polled = stream.poll(0.25, settings.max_poll_records)
            for partition in polled.gained:
                stream.start(partition, 0)
            batches = polled.records.items()
            if polled.records:
                stream.commit(
                    [Message(settings.pred_topic, p, r.key, r.value) for p, records in batches for r in records],
                    {p: Position(records[-1].offset + 1, "") for p, records in batches},
                    polled.ownership,
                )
    return stream.spent


def pipeline(settings: Settings, n_rows: int, profile: cProfile.Profile | None = None) -> Spent:
    """Run the consumer's own worker; its report process writes nothing, so that Evidently does not share the cores."""
    metrics = ConsumerMetrics(CollectorRegistry())
    judge = load_judge(settings.dataset_dir)
    with (
        MonitoringService(settings, judge, metrics, _no_reports) as monitoring,
        closing(TimedStream(settings, n_rows)) as stream,
        closing(Transport(settings.api_url, settings.api_timeout_seconds, settings.api_key)) as transport,
    ):
        client, reader = PredictionClient(transport), KafkaReader(settings)
        opener, console, limits = monitoring.open_station, Console(lambda _: None), Limits(max_records=n_rows)
        worker = Worker(settings, stream, reader, client, monitoring, opener, metrics, console, limits)
        if profile:
            profile.runcall(worker.run)
        else:
            worker.run()
        counts = worker.counts
        worker.release()
    if counts.warmup + counts.predictions != n_rows:
        raise ContractError(f"the pipeline was to warm up and predict on {n_rows} rows, but: {counts}")
    return stream.spent


def _no_reports() -> Write:
    return _write_nothing


def _write_nothing(window: Job, _: int) -> Path:
    return Path(window.station_id)


def readings(n_stations: int, n_hours: int) -> Iterator[Reading]:
    """Yield hours of made-up stations in event-time order, some values missing."""
    rng = np.random.default_rng(1)
    for hour in range(FIRST_HOUR, FIRST_HOUR + n_hours):
        values = made_up_values(rng, n_stations)
        for station in range(n_stations):
            yield Reading(f"station_{station}", hour, tuple(values[station].tolist()))


# --- what is measured without Kafka ---


def empty_app() -> FastAPI:
    """Return a service that reads a body and answers nothing: what FastAPI and uvicorn cost by themselves."""
    app = FastAPI()

    @app.post("/predict")
    async def predict() -> Response:
        return Response(b"{}")

    return app


def serving(results: Results, url: str, seconds: float) -> None:
    body = orjson.dumps({"features": dict.fromkeys(features.NAMES, 0.1) | {features.BASE_FEATURE: 1.8}})
    with _server("benchmarks.throughput:empty_app", "--factory", path="/openapi.json") as empty:
        for n_connections in (1, 16):
            for what, target in (("our service", url), ("an empty FastAPI endpoint", empty)):
                found = asyncio.run(_load(target, body, n_connections, seconds))
                p50, p99 = (np.percentile(found, q) * 1e3 for q in (50, 99))
                plural = "s" if n_connections > 1 else ""
                results.add(
                    f"one-row requests, {n_connections} connection{plural}, {what}",
                    f"{len(found) / seconds:,.0f} requests/s",
                    f"P50 {p50:.1f} ms, P99 {p99:.1f} ms",
                )


async def _load(url: str, body: bytes, n_connections: int, seconds: float) -> list[float]:
    """Return the latency in seconds of every request that connections asking without pause got answered."""
    host, port = url.removeprefix("http://").split(":")
    asked = b"POST /predict HTTP/1.1\r\nHost: %b\r\nContent-Length: %d\r\n\r\n%b" % (host.encode(), len(body), body)
    found: list[float] = []
    until = time.perf_counter() + seconds

    async def connection() -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        while (began := time.perf_counter()) < until:
            writer.write(asked)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            if b" 200 " not in head:
                raise AirQualityError(head.decode())
            await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
            found.append(time.perf_counter() - began)
        writer.close()

    await asyncio.gather(*(connection() for _ in range(n_connections)))
    return found


@contextmanager
def _server(*application: str, path: str, **environment: str) -> Iterator[str]:
    """Run uvicorn in a process of its own, and yield its URL once ``path`` answers 200."""
    port = free_port()
    program = [sys.executable, "-m", "uvicorn", *application, "--port", str(port), "--no-access-log", "--log-level", "error"]
    url = f"http://127.0.0.1:{port}"
    session = requests.Session()
    session.trust_env = False  # a proxy in the environment cannot reach this machine's loopback

    def answers() -> bool:
        try:
            return session.get(url + path, timeout=2).status_code == 200
        except requests.RequestException:
            return False

    with session, Child(program, ROOT, {**os.environ, "LOG_LEVEL": "WARNING", **environment}):
        wait_until(answers, f"{application[0]} answers", 90)
        yield url


# --- the run ---


def run(args: argparse.Namespace) -> None:
    results, load_before, began = Results(), os.getloadavg()[0], time.monotonic()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        broker = stack.enter_context(embedded_kafka.start("real"))
        print(broker.description, flush=True)
        base = read_settings(
            kafka_bootstrap_servers=broker.bootstrap_servers,
            kafka_api_version=broker.api_version,
            topic_partitions=1,
            mlflow_tracking_uri=f"sqlite:///{folder}/mlflow.db",
            reports_dir=Path(folder),
        )
        registry.seed(base)
        url = stack.enter_context(_server("api_service:app", path="/ready", MLFLOW_TRACKING_URI=base.mlflow_tracking_uri))
        base = base.model_copy(update={"api_url": url})
        on_kafka(results, base, args)
        feature_rows(results)
        serving(results, url, args.seconds)
        write(results, broker.description, load_before, args, time.monotonic() - began)


def on_kafka(results: Results, base: Settings, args: argparse.Namespace) -> None:
    n_rows, n_many = args.rows, args.stations * args.hours
    one = prepared(base, "one", readings(1, n_rows))
    results.rate(
        "bare loop: consume, produce, commit, no work",
        n_rows,
        bare_loop(prepared(base, "bare", readings(1, n_rows)), n_rows),
    )
    profile = cProfile.Profile() if args.profile else None
    results.rate(f"the pipeline, 1 station x {n_rows:,} rows", n_rows, pipeline(one, n_rows, profile), "batches of 500")
    many = prepared(base, "many", readings(args.stations, args.hours))
    results.rate(
        f"the pipeline, {args.stations} stations x {args.hours} rows", n_many, pipeline(many, n_many), "warm-up included"
    )
    n_single = HISTORY_HOURS + args.single_rows
    single = prepared(base.model_copy(update={"max_poll_records": 1}), "single", readings(1, n_single))
    results.rate(
        "naive: POST, flush and commit for every single row", n_single, pipeline(single, n_single), "warm-up included"
    )
    if profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(35)


def write(results: Results, broker: str, load_before: float, args: argparse.Namespace, seconds: float) -> None:
    names = ("kafka-python", "fastapi", "uvicorn", "xgboost-cpu", "numpy", "pandas", "orjson")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    text = f"""\
# Throughput and latency

Made by `python -m benchmarks.throughput`, {seconds:.0f} s, at commit {commit or "unknown"}.
Machine: {_cpu()}, {os.cpu_count()} cores, {platform.platform(terse=True)}, Python {platform.python_version()}; load average
{load_before:.1f} before, {os.getloadavg()[0]:.1f} after. {args.note}
{broker}.
Versions: {versions}.

Everything runs on the same cores: broker, API, consumer and load generator. Compare lines with each other, and trust CPU
times further than rates.

| what | figure | remark |
|---|---|---|
{chr(10).join(results.lines)}
"""
    args.out.write_text(text)
    print(f"written to {args.out}")


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(": ")[1] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


_EPILOG = """\
What each line is for: the bare loop is what kafka-python allows at best, the naive line what one row at a time costs, the
empty endpoint what FastAPI costs by itself. A real Apache Kafka is started for the run (Java 17 and Maven, or
KAFKA_BOOTSTRAP_SERVERS), and the reference must have been made (generate_reference_dataset.py).

examples:
  python -m benchmarks.throughput                          everything, 2 to 4 minutes
  python -m benchmarks.throughput --profile                and where the pipeline's time goes
  python -m benchmarks.throughput --rows 20000 --note "Nothing else ran."
"""


def _parser() -> argparse.ArgumentParser:
    p = command.parser("python -m benchmarks.throughput", __doc__ or "", _EPILOG)
    p.add_argument("--rows", type=int, default=6_000, metavar="N", help="rows of the one station (%(default)s)")
    p.add_argument("--stations", type=int, default=200, metavar="N", help="stations of the run with many (%(default)s)")
    p.add_argument("--hours", type=int, default=200, metavar="N", help="rows of each of them (%(default)s)")
    p.add_argument("--single-rows", type=int, default=400, metavar="N", help="rows taken one at a time (%(default)s)")
    p.add_argument("--seconds", type=float, default=5.0, metavar="S", help="length of each load on the API (%(default)s)")
    p.add_argument("--profile", action="store_true", help="profile the one-station run, which slows it down")
    p.add_argument("--note", default="", metavar="TEXT", help="what else ran on the machine; goes into the results")
    p.add_argument("--out", type=Path, default=RESULTS, metavar="FILE", help="where the results go (%(default)s)")
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 0 done, 1 failure, 2 usage."""
    args = _parser().parse_args(argv)
    return command.run("benchmarks.throughput", lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
