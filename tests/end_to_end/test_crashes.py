"""Every row is accounted for once, through crashes, stops and takeovers; judged by a reader that knows none of the code."""

from __future__ import annotations

import json
import math
import re
import signal
from pathlib import Path

import numpy as np

from airquality.data import dataset
from airquality.data.dataset import Frame
from airquality.records import HISTORY_HOURS, Reading, isoformat
from airquality.reports.summary import SUMMARY_NAME
from airquality.stream import kafka_io
from lab.broker import Broker
from lab.kafka_node import RealBroker
from lab.waiting import PATIENCE_SECONDS, wait_until
from tests.system import System, kill, lines
from tests.whole_system import MARKS, SMALL_BATCHES, expected, n_offsets, published, send, settings_of, stream, taken_in

pytestmark = MARKS

#: Records that are sent before the prediction service is killed.
N_BEFORE_OUTAGE = 650


def test_every_row_is_accounted_for_once_through_crashes(running: System, prepared: dict[str, str], broker: Broker) -> None:
    frame, settings = stream(prepared).rows(0, 1000), settings_of(running)
    kafka_io.ensure_topics(settings)
    records = with_faults(frame, "roof")
    send(settings, records[:N_BEFORE_OUTAGE])

    def grown(offsets: int) -> None:
        what = f"more than {offsets} offsets in the prediction topic"
        wait_until(lambda: n_offsets(settings, settings.pred_topic) > offsets, what, 300)

    consumer = running.start("consumer", "consumer.py", **SMALL_BATCHES)
    grown(150)
    kill(consumer)
    consumer = running.start("consumer", "consumer.py", **SMALL_BATCHES)
    wait_until(lambda: taken_in(settings) == N_BEFORE_OUTAGE, "the rows before the outage are taken in", 300)
    kill(running.processes[0])  # the prediction service
    send(settings, records[N_BEFORE_OUTAGE:])  # of which none can be predicted without it
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
        return n_offsets(settings, settings.pred_topic) > 700

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


def test_two_consumers_that_share_a_folder_and_lose_one_leave_the_summary_of_one_that_never_stopped(
    running: System, prepared: dict[str, str]
) -> None:
    frame, settings = stream(prepared).rows(0, 220), settings_of(running)
    stations = [f"station-{number}" for number in range(3)]  # by their keys, each on a partition of its own
    hours = zip(frame.hours.tolist(), frame.values.tolist(), strict=True)
    rows = [Reading(station, hour, tuple(values)) for hour, values in hours for station in stations]
    kafka_io.ensure_topics(settings)
    every = set(range(len(kafka_io.partitions(settings, settings.raw_topic))))
    limits = {"MAX_POLL_RECORDS": "10", "SNAPSHOT_SECONDS": "1"}
    first = running.start("first", "consumer.py", **limits)
    second = running.start("second", "consumer.py", **limits)

    def both_own_partitions() -> bool:
        return all(restored(running, name) for name in ("first", "second"))

    wait_until(both_own_partitions, "both own partitions")
    send(settings, rows[:300])
    wait_until(lambda: rows_summed(running) == 300, "the summary has the rows of both", 240)
    send(settings, rows[300:])
    wait_until(lambda: bool(lines(running.log("first"), ["Warmup complete!"])), "the first one predicts", 240)
    wait_until(lambda: n_offsets(settings, settings.pred_topic) > 50, "predictions come", 240)
    kill(first)
    wait_until(lambda: restored(running, "second") == every, "the second one takes over")
    wait_until(lambda: taken_in(settings) == len(rows), "it takes in all rows", 240)
    second.send_signal(signal.SIGTERM)
    assert second.wait(PATIENCE_SECONDS) == 0
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
    wait_until(lambda: n_offsets(settings, settings.pred_topic) > 20, "predictions come", 240)
    consumer.send_signal(signal.SIGTERM)
    assert consumer.wait(PATIENCE_SECONDS) == 0
    assert "rows in = " in running.log("consumer")
    running.run("consumer.py", "--idle-exit-seconds", "4")
    assert published(running.judge("pred")["pred"], "roof") == expected(stream(prepared).rows(0, 300), prepared)
