"""Carry a small stream of the network that ``AIR_QUALITY_NETWORK`` names from raw rows to a page; print what came of it.

Everything is the product's own but the model, which predicts the base, and the report process. Run by
``tests/test_other_network.py`` in a process of its own: a process works for one network.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, generate_latest

from airquality.data import dataset
from airquality.data.dataset import Frame
from airquality.events import AlarmEvent, WindowJudged
from airquality.ground.errors import InvalidRecord
from airquality.ground.settings import Settings
from airquality.metrics import ApiMetrics, ConsumerMetrics
from airquality.model import features
from airquality.model.predictor import Answers, FeatureRows
from airquality.monitoring import calibration
from airquality.monitoring.detectors import Detectors
from airquality.monitoring.drift import Judge, Window
from airquality.monitoring.reference import Reference
from airquality.monitoring.thresholds import Calibration
from airquality.monitoring.window_calibration import History, calibrate_history
from airquality.network.current import NETWORK
from airquality.records import Reading, parse_reading
from airquality.reports import pages
from airquality.reports.document import Describer
from airquality.reports.summary import SUMMARY_NAME
from airquality.serving import documents
from airquality.stream.account import Note
from airquality.stream.batch import Batch
from airquality.stream.homes import Homes
from airquality.stream.kafka_io import Record
from airquality.stream.partition import PartitionState
from airquality.truth.kinds import KINDS
from airquality.truth.performance import Performance
from grafana import panels
from lab.waiting import wait_until
from monitoring_service import MonitoringService
from tests import report_writers

Floats = NDArray[np.float64]

STATION = "roadside-1"
HISTORY_ROWS, STREAM_ROWS, REFERENCE_ROWS = 7953, 168 + 10 * 24, 1404
#: From this row of the stream on, the faulty column repeats itself.
FAULT_ROW, FAULTY_COLUMN = 168 + 100, "counter"


def base_of(matrix: Floats) -> Floats:
    return matrix[:, features.NAMES.index(features.BASE_FEATURE)]


class Base:
    """A model of one line: each row's base."""

    def begin(self, asked: FeatureRows) -> Answers:
        unpredictable = InvalidRecord("unpredictable", "no base")
        values = base_of(asked.matrix).tolist()
        return lambda: [unpredictable if np.isnan(value) else (value, "base") for value in values]


def judge_of(history: Frame) -> Judge:
    """Calibrate the judge of windows on a history that the base predicts."""
    predictions = base_of(features.batch(history.hours, history.values))
    rows = slice(len(history) - REFERENCE_ROWS, len(history))
    reference = Reference(history.hours[rows], history.values[rows], predictions[rows])
    past = History(history.hours, history.values, predictions, REFERENCE_ROWS)
    return Judge(
        reference,
        Calibration(
            kinds={kind.name: calibrate_history(past, kind) for kind in KINDS},
            baseline=Performance.of(reference.predictions, history.truths[rows]),
            data_source="simulated",
            data_hash="data",
            model_hash="base",
            reference_hash=reference.digest(),
        ),
    )


def streamed(frame: Frame) -> list[Record]:
    """Return the rows as raw records, through the CSV a producer replays, with a fault in them."""
    values = frame.values.copy()
    values[FAULT_ROW:, NETWORK.index(FAULTY_COLUMN)] = values[FAULT_ROW - 1, NETWORK.index(FAULTY_COLUMN)]
    readings = (Reading(STATION, hour, tuple(row)) for hour, row in zip(frame.hours.tolist(), values.tolist(), strict=True))
    return [
        Record(0, offset, STATION.encode(), reading.to_bytes(), reading.hour * 3_600_000)
        for offset, reading in enumerate(readings)
    ]


def carry(records: list[Record], service: MonitoringService) -> tuple[PartitionState, list[Batch]]:
    """Take the records through a partition, 97 at a time."""
    state = PartitionState(0, Note(), service.open_station, service, lambda: 0.0, Homes())
    batches = []
    for start in range(0, len(records), 97):
        batches.append(state.apply(records[start : start + 97], Base()))
        service.submit(batches[-1].windows, state.stations)
        service.poll()
    return state, batches


def _has_reported(service: MonitoringService) -> bool:
    service.poll()
    return not service.backlog


def page_of(window: Window, judge: Judge) -> str:
    return pages.report(Describer(judge).sidecar(window, "simulated", "digest"), None)


def main(folder: Path) -> None:
    whole = dataset.simulate(7)
    history, rest = whole.rows(0, HISTORY_ROWS), whole.rows(HISTORY_ROWS, HISTORY_ROWS + STREAM_ROWS)
    dataset.write_stream_csv(rest, folder / "rows.csv")
    fitted = calibration.calibrate(history.hours, history.values, history.source, history.sha256)
    calibration.write(fitted, folder)
    judge, registry = judge_of(history), CollectorRegistry()
    service = MonitoringService(
        Settings(reports_dir=folder / "reports"),
        judge,
        ConsumerMetrics(registry),
        report_writers.plain(folder),
        detectors=Detectors(calibration.load(folder)),
    )
    with service:
        records = streamed(dataset.read_stream_csv(folder / "rows.csv"))
        state, batches = carry(records, service)
        wait_until(partial(_has_reported, service), "every report is made")
        service.write_summary({0: state.figures()})
    ApiMetrics(registry)
    predictions = [prediction for batch in batches for prediction in batch.predictions]
    findings = [finding for batch in batches for finding in batch.findings]
    windows = [window for batch in batches for window in batch.windows]
    print(
        json.dumps(
            {
                "first_row": json.loads(records[-1].value or b""),
                "unreadable": _refusal(records[-1]),
                "features": features.NAMES,
                "predictions": [[made.hour, made.prediction, made.actual] for made in predictions],
                "truths": whole.truths[HISTORY_ROWS + 168 : HISTORY_ROWS + STREAM_ROWS].tolist(),
                "alarms": [finding.event.to_json() for finding in findings if isinstance(finding, AlarmEvent)],
                "windows": [finding.kind for finding in findings if isinstance(finding, WindowJudged)],
                "summary": json.loads((folder / "reports" / SUMMARY_NAME).read_bytes()),
                "page": page_of(windows[-1], judge),
                "metrics": generate_latest(registry).decode(),
                "schemas": json.dumps(documents.schemas()),
                "panels": [panel.build() for panel in (*panels.asked_for(), *panels.quality())],
            },
            cls=JSONEncoder,
        )
    )


def _refusal(record: Record) -> str:
    """Return why a row of the real network's target is refused."""
    body = {**json.loads(record.value or b""), NETWORK.target.name: NETWORK.target.limits[1] + 1.0}
    try:
        parse_reading(None, json.dumps(body).encode())
    except InvalidRecord as error:
        return str(error)
    return ""


if __name__ == "__main__":
    main(Path(sys.argv[1]))
