"""The programs on a real Apache Kafka, and without one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from airquality.data import dataset
from airquality.model import features
from airquality.records import HISTORY_HOURS, Prediction, isoformat
from benchmarks import replay
from benchmarks.ground import Ground
from benchmarks.lives import PAST_HOURS, name_of
from benchmarks.sections import Bench
from benchmarks.topics import Topics
from lab.broker import Broker
from lab.ports import free_port
from lab.proof.topics import Cluster
from tests.system import PROJECT, System, system
from tests.whole_system import MARKS, published, stream

pytestmark = MARKS


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
