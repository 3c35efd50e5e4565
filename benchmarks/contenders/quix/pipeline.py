"""The same pipeline in Quix Streams: 168 hours of state a station, the same features, the same model in process.

Runs in an environment of its own, with this project on its path: features and model are the product's code, so that only the
streaming differs. Exactly once; the state of a station is one value of raw bytes, which costs RocksDB the least.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from quixstreams import Application
from quixstreams.internal_producer import InternalProducer
from quixstreams.state.rocksdb import RocksDBOptions

from airquality.model import features
from airquality.model.model import Model
from airquality.records import HISTORY_HOURS, RAW_COLUMNS, TARGET, parse_hour

_ROW_BYTES = len(RAW_COLUMNS) * 8


def _dumps(value: Any) -> bytes:
    """Return bytes as they are: only keys are anything else."""
    return value if isinstance(value, bytes) else orjson.dumps(value)


def _application(task: dict[str, Any]) -> Application:
    return Application(
        broker_address=task["servers"],
        consumer_group=task["group"],
        processing_guarantee="exactly-once",
        auto_offset_reset="earliest",
        commit_every=task["batch"],
        commit_interval=3600.0,
        state_dir=task["state_dir"],
        rocksdb_options=RocksDBOptions(dumps=_dumps, loads=bytes),
        loglevel="WARNING",
    )


def main(task: dict[str, Any]) -> None:
    """Predict ``n_rows`` rows; the clock runs from the first that is predicted to the last commit."""
    logging.getLogger("quixstreams").setLevel(logging.WARNING)
    model = Model.load(Path(task["artifacts"]))
    moments: dict[str, float] = {}
    predicted = [0]
    original = InternalProducer.commit_transaction

    def committed(producer: Any, *args: Any, **options: Any) -> Any:
        result = original(producer, *args, **options)
        moments["end"], moments["cpu_end"], moments["rows"] = time.perf_counter(), time.process_time(), predicted[0]
        return result

    def predict(reading: dict[str, Any], state: Any) -> dict[str, Any] | None:
        row = np.array([reading[name] for name in RAW_COLUMNS], dtype=np.float64).tobytes()
        held: bytes = state.get("history", b"")
        state.set("history", (held + row)[-HISTORY_HOURS * _ROW_BYTES :])
        if len(held) < HISTORY_HOURS * _ROW_BYTES:
            return None
        if "began" not in moments:
            moments["began"], moments["cpu_began"] = time.perf_counter(), time.process_time()
        grid = np.frombuffer(held + row).reshape(-1, len(RAW_COLUMNS))
        hours = np.array([parse_hour(reading["DateTime"])])
        value = float(model.predict(features.rows(grid, hours, np.array([HISTORY_HOURS])))[0])
        predicted[0] += 1
        return {
            "station_id": reading["station_id"],
            "DateTime": reading["DateTime"],
            "prediction": value,
            "actual": reading[TARGET],
            "model_version": "1",
        }

    InternalProducer.commit_transaction = committed
    app = _application(task)
    raw = app.topic(task["raw_topic"], value_deserializer="bytes", key_deserializer="str")
    pred = app.topic(task["pred_topic"], value_serializer="bytes", key_serializer="str")
    stream = app.dataframe(raw).apply(orjson.loads).apply(predict, stateful=True)
    stream[stream.apply(lambda row: row is not None)].apply(orjson.dumps).to_topic(pred)
    app.run(count=task["n_rows"], timeout=60.0, collect=False)
    seconds, cpu = moments["end"] - moments["began"], moments["cpu_end"] - moments["cpu_began"]
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu, "rows": moments["rows"]}), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
