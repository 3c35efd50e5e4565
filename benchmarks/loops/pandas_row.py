"""The usual way: a DataFrame a station, rolling columns recomputed for every row, a call of the model, a flush and a commit.

Its features are about as many as the champion's and cost what pandas makes them cost; they are not the champion's, so what
it predicts means nothing.
"""

from __future__ import annotations

import json
import sys
import time
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from airquality.ground.settings import read_settings
from airquality.model.model import Model
from airquality.records import HISTORY_HOURS, RAW_COLUMNS
from airquality.stream import kafka_io
from benchmarks.feature_rows import by_pandas


def main(task: dict[str, Any]) -> None:
    """Predict ``n_rows`` rows after the ``n_warm`` that only fill the frames."""
    settings, group = read_settings(), f"pandas-{uuid.uuid4()}"
    booster = Model.load(Path(task["artifacts"])).booster
    width = booster.num_features()
    frames: dict[str, pd.DataFrame] = {}
    began = cpu_began = 0.0
    n_warm, left = task["n_warm"], task["n_rows"]
    consumer = kafka_io.open_consumer(settings, group_id=group, auto_offset_reset="earliest")
    producer = kafka_io.open_producer(settings)
    with closing(consumer), closing(producer):
        consumer.subscribe([settings.raw_topic])
        for record in consumer:
            reading = json.loads(record.value)
            row = pd.DataFrame([{name: reading[name] for name in RAW_COLUMNS}], index=[pd.Timestamp(reading["DateTime"])])
            held = frames.get(reading["station_id"])
            frame = row if held is None else pd.concat([held, row]).tail(HISTORY_HOURS + 1)
            frames[reading["station_id"]] = frame.astype(float)
            if n_warm:
                n_warm -= 1
                continue
            if not began:
                began, cpu_began = time.perf_counter(), time.process_time()
            features = np.resize(np.array(by_pandas(frames[reading["station_id"]])), (1, width))
            value = float(booster.inplace_predict(features)[0])
            answer = {"station_id": reading["station_id"], "DateTime": reading["DateTime"], "prediction": value}
            producer.send(settings.pred_topic, key=record.key, value=json.dumps(answer).encode())
            producer.flush()
            consumer.commit()
            left -= 1
            if not left:
                break
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu_began
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu, "rows": task["n_rows"]}), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
