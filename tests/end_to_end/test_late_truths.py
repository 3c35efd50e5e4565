"""Truth that comes a day late gives the figures of truth that was there, through kills."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from airquality.data.dataset import Frame
from airquality.incoming import LateTruth, with_late_truths
from airquality.model import inputs
from airquality.model.inputs import LATE_HOURS
from airquality.model.model import Model
from airquality.records import HISTORY_HOURS, TARGET_INDEX, Reading, hour_of_isoformat, isoformat
from airquality.stream import kafka_io
from airquality.truth.performance import Performance
from lab.waiting import wait_until
from tests.system import System, kill
from tests.whole_system import MARKS, SMALL_BATCHES, n_offsets, published, send, settings_of, stream, taken_in

pytestmark = MARKS


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
    before, consumer = n_offsets(settings, settings.pred_topic), running.start("consumer", "consumer.py", **SMALL_BATCHES)
    wait_until(lambda: n_offsets(settings, settings.pred_topic) > before, "predictions with that truth are made", 240)
    kill(consumer)
    running.run("consumer.py", "--idle-exit-seconds", "5", **SMALL_BATCHES)

    found = running.judge("raw", "pred", "dlq", "events")
    assert (len(found["raw"]), found["dlq"]) == (len(records), [])
    offline = inputs.late_predictions(Model.load(Path(prepared["ARTIFACTS_DIR"])), frame, HISTORY_HOURS)
    made = published(found["pred"], "roof")
    hours = zip(frame.hours.tolist(), offline.tolist(), strict=True)
    assert made == {isoformat(hour): value for hour, value in hours if not math.isnan(value)}
    check_late_truths(running, frame, offline, [json.loads(record["value"]) for record in found["events"]])


def check_late_truths(running: System, frame: Frame, offline: np.ndarray, events: list[dict[str, Any]]) -> None:
    """Compare each truth's count, and the errors that are final, with the offline ones to the digit."""
    truths, summary = frame.values[:, TARGET_INDEX], running.summary()
    assert summary["truths"] == {**summary["truths"], "filled": int(np.count_nonzero(~np.isnan(truths)))}
    assert sum(summary["truths"].values()) == summary["truths"]["filled"]
    assert summary["performance"] == asdict(Performance.of(offline[HISTORY_HOURS:], truths[HISTORY_HOURS:]))
    documents = {document["end"]: document for document in daily_documents(running)}
    settled = [event for event in events if event["type"] == "truth"]
    assert len({event["end"] for event in settled}) == len(settled) > 0
    for event in settled:
        end = frame.hours.tolist().index(hour_of_isoformat(event["end"])) + 1
        final = asdict(Performance.of(offline[end - 24 : end], truths[end - 24 : end]))
        assert (event["kind"], event["final"], event["known_then"]["n"]) == ("daily", final, 0)
        assert documents[event["end"]]["settled"]["final"] == final


def daily_documents(running: System) -> Iterator[dict[str, Any]]:
    for path in (running.directory / "reports" / "daily").glob("*.json"):
        yield json.loads(path.read_text())
