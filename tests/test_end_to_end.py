"""The system as its users run it, on a real Apache Kafka, with crashes; judged by a reader that knows none of its code."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from airquality.data import dataset
from airquality.data.dataset import Frame
from airquality.ground.settings import Settings
from airquality.incoming import LateTruth, with_late_truths
from airquality.model import features, inputs
from airquality.model.inputs import LATE_HOURS
from airquality.model.model import Model
from airquality.records import HISTORY_HOURS, RAW_COLUMNS, TARGET, Prediction, Reading, hour_of, isoformat
from airquality.reports.summary import SUMMARY_NAME
from airquality.stream import kafka_io
from airquality.truth.performance import Performance
from benchmarks import replay
from benchmarks.ground import Ground
from benchmarks.lives import PAST_HOURS, name_of
from benchmarks.sections import Bench
from benchmarks.topics import Topics
from lab.broker import Broker
from lab.kafka_node import RealBroker
from lab.ports import free_port
from lab.proof.topics import Cluster
from lab.waiting import wait_until
from tests import real_data
from tests.system import PROJECT, System, kill, lines, system

pytestmark = [
    pytest.mark.broker,
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    # kafka-python leaves the socket of a connection whose handshake is slow to the garbage collector
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

#: Records that are sent before the prediction service is killed.
N_BEFORE_OUTAGE = 650
SMALL_BATCHES = {"MAX_POLL_RECORDS": "40", "SNAPSHOT_OFFSETS": "100", "SNAPSHOT_SECONDS": "2"}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Data, model, reference and a served registry, made by the programs a user types; the environment that finds them.

    The real data if the project has them, else simulated ones with a quick model of their own.
    """
    directory = tmp_path_factory.mktemp("prepared")
    data = directory / "dataset"
    data.mkdir()
    real = real_data.FILE
    if real:
        shutil.copy(real, data)
    base = {
        "DATASET_DIR": str(data),
        "ARTIFACTS_DIR": str(PROJECT / "artifacts" if real else directory / "artifacts"),
        "AIR_QUALITY_DATA_SOURCE": "uci" if real else "simulated",
        "MLFLOW_TRACKING_URI": f"sqlite:///{directory}/mlflow.db",
        "API_URL": f"http://127.0.0.1:{free_port()}",
    }
    made = System(directory, {**os.environ, **base})
    made.run("dataset/create_dataset.py")
    if not real:
        made.run("training/train.py", "--quick")
    made.run("generate_reference_dataset.py")
    made.run("-m", "airquality", "registry", "seed")
    return base


@pytest.fixture
def running(prepared: dict[str, str], broker: Broker, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[System]:
    """A system with topics of its own and its prediction service up."""
    base = {**prepared, "API_URL": f"http://127.0.0.1:{free_port()}"}
    with system(tmp_path, base, broker.bootstrap_servers, request.node.name.replace("_", "-")) as made:
        made.start_api()
        yield made


def stream(prepared: dict[str, str]) -> Frame:
    return dataset.read_stream_csv(Path(prepared["DATASET_DIR"]) / dataset.STREAM_NAME)


def expected(frame: Frame, prepared: dict[str, str]) -> dict[str, float]:
    """Return what must be published: the model's offline prediction of every hour after the warm-up."""
    model = Model.load(Path(prepared["ARTIFACTS_DIR"]))
    predictions = model.predict(features.batch(frame.hours, frame.values))
    return {
        isoformat(int(h)): p for h, p in zip(frame.hours[HISTORY_HOURS:], predictions[HISTORY_HOURS:].tolist(), strict=True)
    }


def published(found: list[dict[str, Any]], station_id: str) -> dict[str, float]:
    """Return the station's predictions by hour; fail if an hour or a source was published twice."""
    records = [json.loads(record["value"]) for record in found if record["key"] == station_id]
    hours = [record["DateTime"] for record in records]
    sources = {(record["source_partition"], record["source_offset"]) for record in records}
    assert len(set(hours)) == len(hours) == len(sources), "an hour was published twice"
    assert {record["model_version"] for record in records} <= {"1"}
    return {record["DateTime"]: record["prediction"] for record in records}


def watch(settings: Settings, topic: str) -> int:
    """Return how far the topic's partitions have grown, in offsets."""
    return sum(kafka_io.end_offset(settings, topic, partition) for partition in kafka_io.partitions(settings, topic))


def settings_of(made: System) -> Settings:
    given: dict[str, Any] = {
        name.lower(): value for name, value in made.environment.items() if name.lower() in Settings.model_fields
    }
    return Settings(**given)


def test_every_row_is_accounted_for_once_through_crashes(running: System, prepared: dict[str, str], broker: Broker) -> None:
    frame, settings = stream(prepared).rows(0, 1000), settings_of(running)
    kafka_io.ensure_topics(settings)
    records = with_faults(frame, "roof")
    send_records(settings, records[:N_BEFORE_OUTAGE])

    def grown(offsets: int) -> None:
        what = f"more than {offsets} offsets in the prediction topic"
        wait_until(lambda: watch(settings, settings.pred_topic) > offsets, what, 300)

    consumer = running.start("consumer", "consumer.py", **SMALL_BATCHES)
    grown(150)
    kill(consumer)
    consumer = running.start("consumer", "consumer.py", **SMALL_BATCHES)
    wait_until(lambda: taken_in(settings) == N_BEFORE_OUTAGE, "the rows before the outage are taken in", 300)
    kill(running.processes[0])  # the prediction service
    send_records(settings, records[N_BEFORE_OUTAGE:])  # of which none can be predicted without it
    wait_until(lambda: "no row is lost" in running.log("consumer"), "the consumer waits for the prediction service", 240)
    running.start_api()
    grown(600)
    if isinstance(broker, RealBroker):
        broker.kill()
        broker.start()

    def grown_or_started_again() -> bool:
        nonlocal consumer
        if consumer.poll() is not None:  # its watchdog ended it: the client may wait for a lost broker for ever
            consumer = running.start("consumer", "consumer.py", **SMALL_BATCHES)
        return watch(settings, settings.pred_topic) > 700

    wait_until(grown_or_started_again, "more than 700 offsets in the prediction topic", 300)
    kill(consumer)
    running.run("consumer.py", "--idle-exit-seconds", "5", **SMALL_BATCHES)

    found = running.judge("raw", "pred", "dlq")
    assert published(found["pred"], "roof") == expected(frame, prepared)
    reasons = sorted(record["headers"]["reason"] for record in found["dlq"])
    assert reasons == ["conflict", "late", "malformed", "malformed", "not_finite", "out_of_range"]
    by_place = {(record["partition"], record["offset"]): record for record in found["raw"]}
    for letter in found["dlq"]:
        place = int(letter["headers"]["source_partition"]), int(letter["headers"]["source_offset"])
        assert (by_place[place]["key"], by_place[place]["value"]) == (letter["key"], letter["value"])
    summary = running.summary()
    n_predictions = len(frame) - HISTORY_HOURS
    assert summary["rows_in"] == len(found["raw"]) == len(frame) + 7
    assert (summary["warmup"], summary["predictions_total"], summary["duplicates"]) == (HISTORY_HOURS, n_predictions, 1)
    assert sum(summary["dead_letters"].values()) == 6
    check_reports(running, frame, n_predictions)


def with_faults(frame: Frame, station_id: str) -> list[tuple[bytes, bytes]]:
    """Return the frame's rows as one station's, with seven records among them that must not become predictions."""
    rows = [Reading(station_id, int(h), tuple(v)) for h, v in zip(frame.hours, frame.values.tolist(), strict=True)]
    key = station_id.encode()
    sent = [(key, row.to_bytes()) for row in rows]
    sound = json.loads(rows[500].to_bytes())
    faults = {
        300: b"{broken",
        450: rows[440].to_bytes(),  # the same hour with the same values: a duplicate
        500: json.dumps({**sound, "T": 1e9}).encode(),
        600: json.dumps({**sound, "T": math.inf}).encode(),
        700: json.dumps({**json.loads(rows[690].to_bytes()), "RH": 1.25}).encode(),  # the same hour, other values
        800: Reading(station_id, rows[0].hour - 1, rows[0].values).to_bytes(),  # older than all
        900: b"\xff\xfe",
    }
    for index in sorted(faults, reverse=True):
        sent.insert(index, (key, faults[index]))
    return sent


def send_records(settings: Settings, records: Sequence[tuple[bytes, bytes]]) -> None:
    with kafka_io.idempotent_producer(settings) as producer:
        for key, value in records:
            producer.send(settings.raw_topic, key=key, value=value)
        producer.flush()


def check_reports(running: System, frame: Frame, n_predictions: int) -> None:
    summary, reports = running.summary(), running.directory / "reports"
    assert summary["reports_generated"] == {"daily": n_predictions // 24, "weekly": n_predictions // 168}
    assert summary["reports_failed"] == 0
    first = int(frame.hours[HISTORY_HOURS])
    for kind, hours in (("daily", 24), ("weekly", 168)):
        ends = [first + (index + 1) * hours - 1 for index in range(n_predictions // hours)]
        names = {f"{kind}_{isoformat(end).replace('-', '').replace('T', '_').replace(':', '')}.html" for end in ends}
        assert {path.name for path in (reports / kind).glob("*.html")} == names
        assert all((reports / "evidently" / kind / name).stat().st_size > 50_000 for name in names)
    page = (reports / "index.html").read_text()
    assert page.count(".html") >= len(summary["reports_generated"])
    measured = int(np.count_nonzero(~np.isnan(frame.values[HISTORY_HOURS:, 0])))
    assert summary["performance"]["n"] == measured
    assert summary["performance"]["rmse"] < 0.26 or frame.source == "simulated"


def test_truth_a_day_late_gives_the_offline_figures_through_kills(running: System, prepared: dict[str, str]) -> None:
    frame, settings = stream(prepared).rows(0, 220), settings_of(running)
    running.environment["TRUTH_DEADLINE_HOURS"] = "26"  # an hour of the day may have no truth at all
    rows = [Reading("roof", int(h), tuple(v)) for h, v in zip(frame.hours, frame.values.tolist(), strict=True)]
    records = list(with_late_truths(rows, LATE_HOURS))
    kafka_io.ensure_topics(settings)
    after_a_truth = next(  # and before the row that is predicted with it
        index + 1
        for index, record in enumerate(records)
        if isinstance(record, LateTruth) and record.hour >= rows[185 - LATE_HOURS].hour
    )
    send(settings, records[:after_a_truth])
    consumer = running.start("consumer", "consumer.py", **SMALL_BATCHES)
    wait_until(lambda: taken_in(settings) == after_a_truth, "all rows up to a truth are taken in", 240)
    kill(consumer)
    send(settings, records[after_a_truth:])
    before, consumer = watch(settings, settings.pred_topic), running.start("consumer", "consumer.py", **SMALL_BATCHES)
    wait_until(lambda: watch(settings, settings.pred_topic) > before, "predictions with that truth are made", 240)
    kill(consumer)
    running.run("consumer.py", "--idle-exit-seconds", "5", **SMALL_BATCHES)

    found = running.judge("raw", "pred", "dlq", "events")
    assert (len(found["raw"]), found["dlq"]) == (len(records), [])
    offline = inputs.late_predictions(Model.load(Path(prepared["ARTIFACTS_DIR"])), frame, HISTORY_HOURS)
    made = published(found["pred"], "roof")
    hours = zip(frame.hours.tolist(), offline.tolist(), strict=True)
    assert made == {isoformat(hour): value for hour, value in hours if not math.isnan(value)}
    check_late_truths(running, frame, offline, [json.loads(record["value"]) for record in found["events"]])


def send(settings: Settings, records: Sequence[Reading | LateTruth]) -> None:
    with kafka_io.idempotent_producer(settings) as producer:
        for record in records:
            headers = record.headers if isinstance(record, LateTruth) else []
            producer.send(settings.raw_topic, key=record.station_id.encode(), value=record.to_bytes(), headers=headers)
        producer.flush()


def taken_in(settings: Settings) -> int:
    """Return how many raw records the group has committed."""
    n_partitions = len(kafka_io.partitions(settings, settings.raw_topic))
    return sum(offset for offset, _ in kafka_io.group_positions(settings, n_partitions).values())


def check_late_truths(running: System, frame: Frame, offline: np.ndarray, events: list[dict[str, Any]]) -> None:
    """Compare each truth's count, and the errors that are final, with the offline ones to the digit."""
    truths, summary = frame.values[:, RAW_COLUMNS.index(TARGET)], running.summary()
    assert summary["truths"] == {**summary["truths"], "filled": int(np.count_nonzero(~np.isnan(truths)))}
    assert sum(summary["truths"].values()) == summary["truths"]["filled"]
    assert summary["performance"] == asdict(Performance.of(offline[HISTORY_HOURS:], truths[HISTORY_HOURS:]))
    documents = {document["end"]: document for document in daily_documents(running)}
    settled = [event for event in events if event["type"] == "truth"]
    assert len({event["end"] for event in settled}) == len(settled) > 0
    for event in settled:
        end = frame.hours.tolist().index(hour_of(datetime.fromisoformat(event["end"]))) + 1
        final = asdict(Performance.of(offline[end - 24 : end], truths[end - 24 : end]))
        assert (event["kind"], event["final"], event["known_then"]["n"]) == ("daily", final, 0)
        assert documents[event["end"]]["settled"]["final"] == final


def daily_documents(running: System) -> Iterator[dict[str, Any]]:
    for path in (running.directory / "reports" / "daily").glob("*.json"):
        yield json.loads(path.read_text())


def test_the_real_test_period_gives_the_figures_of_the_design(prepared: dict[str, str]) -> None:
    frame = stream(prepared)
    if frame.source != "uci":
        pytest.skip("the real data set is not at hand")
    assert len(frame) == 1404
    ends = [isoformat(int(frame.hours[HISTORY_HOURS]) + 24 - 1), isoformat(int(frame.hours[HISTORY_HOURS]) + 168 - 1)]
    assert ends == ["2005-02-13T02:00:00", "2005-02-19T02:00:00"]
    assert np.count_nonzero(~np.isnan(frame.values[HISTORY_HOURS:, 0])) == 1208


def test_a_second_replay_of_the_same_hours_is_reported_and_publishes_nothing(
    running: System, prepared: dict[str, str]
) -> None:
    csv = str(Path(prepared["DATASET_DIR"]) / dataset.STREAM_NAME)
    for _ in range(2):
        running.run("producer.py", "--csv", csv, "--station-id", "roof", "--max-records", "200")
        output = running.run("consumer.py", "--idle-exit-seconds", "4")
    assert "roof: already predicted up to " in output
    found = running.judge("raw", "pred", "state")
    assert len(found["raw"]) == 400
    assert len(published(found["pred"], "roof")) == 200 - HISTORY_HOURS
    summary = running.summary()
    assert (summary["rows_in"], summary["duplicates"], summary["predictions_total"]) == (400, 200, 200 - HISTORY_HOURS)
    assert {record["key"] for record in found["state"]} == {"roof"}


def test_two_consumers_that_share_a_folder_and_lose_one_leave_the_summary_of_one_that_never_stopped(
    running: System, prepared: dict[str, str]
) -> None:
    frame, settings = stream(prepared).rows(0, 220), settings_of(running)
    stations = [f"station-{number}" for number in range(5)]
    hours = zip(frame.hours.tolist(), frame.values.tolist(), strict=True)
    rows = [Reading(station, hour, tuple(values)) for hour, values in hours for station in stations]
    kafka_io.ensure_topics(settings)
    every = set(range(len(kafka_io.partitions(settings, settings.raw_topic))))
    limits = {"MAX_POLL_RECORDS": "20", "SNAPSHOT_SECONDS": "1"}
    first = running.start("first", "consumer.py", **limits)
    second = running.start("second", "consumer.py", **limits)

    def both_own_partitions() -> bool:
        return all(restored(running, name) for name in ("first", "second"))

    wait_until(both_own_partitions, "both own partitions", 120)
    send(settings, rows[:500])
    wait_until(lambda: rows_summed(running) == 500, "the summary has the rows of both", 240)
    send(settings, rows[500:])
    wait_until(lambda: bool(lines(running.log("first"), ["Warmup complete!"])), "the first one predicts", 240)
    wait_until(lambda: watch(settings, settings.pred_topic) > 50, "predictions come", 240)
    kill(first)
    wait_until(lambda: restored(running, "second") == every, "the second one takes over", 120)
    wait_until(lambda: taken_in(settings) == len(rows), "it takes in all rows", 240)
    second.send_signal(signal.SIGTERM)
    assert second.wait(60) == 0
    running.run("consumer.py", "--idle-exit-seconds", "5")  # the reports that the stop left
    alone = {f"{role.upper()}_TOPIC": f"alone.{role}" for role in ("pred", "state", "dlq", "events")}
    reports = running.directory / "alone"
    running.run("consumer.py", "--idle-exit-seconds", "5", CONSUMER_GROUP="alone", REPORTS_DIR=str(reports), **alone)

    found = running.judge("pred")["pred"]
    for station in stations:
        assert published(found, station) == expected(frame, prepared)
    shared = running.directory / "reports"
    assert (shared / SUMMARY_NAME).read_text() == (reports / SUMMARY_NAME).read_text()
    assert index_of(shared) == index_of(reports)
    summary = running.summary()
    assert (summary["rows_in"], summary["reports_generated"]["daily"]) == (len(rows), 2 * len(stations))


def rows_summed(running: System) -> int:
    """Return how many rows the summary counts so far, 0 before it is there."""
    try:
        return int(running.summary()["rows_in"])
    except FileNotFoundError:
        return 0


def index_of(reports: Path) -> list[str]:
    """Return what the index page holds, sorted, without the moment at which it was written and without stations' folders.

    The station whose page is made first has no folder, whichever that is, and reports of one hour are in the order of
    their files: no file ever moves.
    """
    page = re.sub(r"[0-9-]{10} [0-9:]{8} UTC|(?<=/)station-[0-9]/", "", (reports / "index.html").read_text())
    return sorted(re.split(r"(?=<)|\n", page))


def restored(running: System, name: str) -> set[int]:
    """Return the partitions that a consumer has brought back so far, by its log."""
    return {int(number) for number in re.findall(r"partition (\d+): restored", running.log(name))}


def test_sigterm_finishes_the_batch_and_the_next_start_goes_on(running: System, prepared: dict[str, str]) -> None:
    csv = str(Path(prepared["DATASET_DIR"]) / dataset.STREAM_NAME)
    running.run("producer.py", "--csv", csv, "--station-id", "roof", "--max-records", "300")
    settings = settings_of(running)
    kafka_io.ensure_topics(settings)
    consumer = running.start("consumer", "consumer.py", MAX_POLL_RECORDS="20")
    wait_until(lambda: watch(settings, settings.pred_topic) > 20, "predictions come", 240)
    consumer.send_signal(signal.SIGTERM)
    assert consumer.wait(60) == 0
    assert "rows in = " in running.log("consumer")
    running.run("consumer.py", "--idle-exit-seconds", "4")
    assert published(running.judge("pred")["pred"], "roof") == expected(stream(prepared).rows(0, 300), prepared)


def test_without_a_broker_the_programs_say_so_and_exit_1(prepared: dict[str, str], tmp_path: Path) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    with system(tmp_path, prepared, nowhere, "nowhere") as made:
        for program in (["consumer.py"], ["producer.py", "--csv", str(Path(prepared["DATASET_DIR"]) / dataset.STREAM_NAME)]):
            done = subprocess.run(
                [sys.executable, *program],
                cwd=PROJECT,
                env=made.environment,
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
            assert done.returncode == 1, done.stderr
            assert nowhere in done.stderr


def test_bench_stations_begin_warm_and_are_predicted_as_offline(
    prepared: dict[str, str], broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_stations, n_hours = 25, 2
    for name, value in {**prepared, "KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers}.items():
        monkeypatch.setenv(name, value)
    with Ground(tmp_path) as ground:
        topics, bench = Topics(ground), Bench(ground, quick=True)
        settings = topics.around(topics.raw(n_stations, n_hours, 2), 2, n_stations)
        found = replay.product(bench, settings, n_stations * n_hours, n_stations)
        echoed = replay.bare(bench, topics.around(settings.raw_topic, 2), n_stations * n_hours)
        published = Cluster(broker.bootstrap_servers).committed(settings.pred_topic)
        known = ground.frame.rows(0, PAST_HOURS + n_hours)
        offline = ground.model.predict(features.batch(known.hours, known.values))[PAST_HOURS:]
    read = [Prediction.from_bytes(record.value or b"") for record in published]
    made = {(prediction.station_id, prediction.hour): prediction.prediction for prediction in read}
    assert len(made) == n_stations * n_hours
    for number in (0, 24):  # the last lives the life of the first
        assert [made[name_of(number), hour] for hour in known.hours[PAST_HOURS:].tolist()] == offline.tolist()
    for run in (found, echoed):
        assert min(replay.rates(run, n_stations * n_hours).values()) > 0
