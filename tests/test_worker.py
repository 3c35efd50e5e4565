"""The loop and the commit: one row in, one accounted outcome out, whatever is away meanwhile. Kafka is simulated here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest

from airquality.ground.errors import Refused, Unavailable
from airquality.records import isoformat
from airquality.stream import snapshots
from airquality.stream.account import Counts
from airquality.stream.kafka_io import Record
from airquality.stream.limits import Stopped
from airquality.stream.transactions import Poll, Position
from tests.simulated_kafka import reading
from tests.worker_rig import DLQ, PRED, RAW, START, STATE, Rig, kafka_away


def test_every_row_is_accounted_for_and_published_once(rig: Rig) -> None:
    rig.send(0, 200)
    rig.send(190, 10)
    rig.send(195, 1, variant=1)
    rig.kafka.append(RAW, 0, b"station_0", b"{")
    rig.worker.run()
    expected = Counts(rows_in=212, warmup=168, predictions=32, duplicates=10, dead_letters={"conflict": 1, "malformed": 1})
    assert rig.worker.counts == expected
    assert rig.note().counts == expected
    assert rig.kafka.positions[0].offset == 212
    assert [p.source_offset for p in rig.predictions()] == list(range(168, 200))
    assert [isoformat(START + 168), isoformat(START + 199)] == [isoformat(rig.predictions()[i].hour) for i in (0, -1)]
    assert rig.monitors.summaries[-1] == expected.summary()
    assert rig.metric("kafka_messages_consumed_total") == 212
    for outcome, reason, count in (
        ("warmup", "", 168),
        ("prediction", "", 32),
        ("duplicate", "", 10),
        ("dead_letter", "conflict", 1),
        ("dead_letter", "malformed", 1),
        ("dead_letter", "late", 0),
    ):
        assert rig.metric("air_quality_rows_total", outcome=outcome, reason=reason) == count


def test_observe_last_accepted_row_of_a_station_shows_when_kafka_took_it_in_and_its_hour(rig: Rig) -> None:
    rig.send(0, 3)
    last, seen = reading(0, START + 3), 1_790_000_000_000
    rig.kafka.append(RAW, 0, b"station_0", last.to_bytes(), seen)
    rig.kafka.append(RAW, 0, b"station_0", last.to_bytes(), seen + 60_000)  # sent again: no new row
    rig.worker.run()
    assert rig.metric("air_quality_station_last_row_timestamp_seconds", station="other") == seen / 1000
    assert rig.metric("air_quality_station_last_hour_timestamp_seconds", station="other") == 3600 * (START + 3)


def test_a_batch_is_one_transaction_and_one_request(rig: Rig) -> None:
    rig.send(0, 300)
    rig.worker.run()
    assert rig.service.asked == [32, 100]  # the third poll holds rows 200..299
    assert rig.kafka.transactions == 5  # where the group begins, three polls, and the snapshot at the end


def test_a_restart_goes_on_at_the_committed_offset(rig: Rig) -> None:
    rig.send(0, 180)
    rig.restart(max_records=171)
    rig.worker.run()
    assert rig.worker.counts.rows_in == 171
    rig.restart()
    rig.worker.run()
    assert rig.worker.counts == Counts(rows_in=180, warmup=168, predictions=12)
    assert len({p.source_offset for p in rig.predictions()}) == len(rig.predictions()) == 12


def test_a_run_that_finished_leaves_a_snapshot_and_nothing_to_replay(rig: Rig) -> None:
    rig.send(0, 200)
    rig.worker.run()
    assert not rig.monitors.waiting
    [snapshot] = rig.kafka.log(STATE)
    assert (snapshot.key, snapshots.decode(snapshot.value or b"")["offset"]) == (b"station_0", 199)
    assert rig.note().replay_offset is None


def test_stations_at_rest_are_snapshotted_while_the_consumer_idles(rig: Rig) -> None:
    rig.send(0, 10)
    rig.restart(idle_exit_seconds=35.0)
    seen: list[int] = []
    rig.clock.at = [(rig.clock() + at, lambda: seen.append(len(rig.kafka.log(STATE)))) for at in (29.0, 33.0)]
    rig.worker.run()
    assert seen == [0, 1]
    assert len(rig.kafka.log(STATE)) == 1


def test_rows_after_a_snapshot_find_their_predictions_again(rig: Rig) -> None:
    rig.send(0, 200)
    rig.restart(idle_exit_seconds=100.0)

    def go_out() -> None:
        rig.send(210, 1)
        rig.service.away = 10**6

    start = rig.clock()
    stop = (start + 60.0, lambda: setattr(rig.limits, "stopped", True))
    rig.clock.at = [(start + 40.0, lambda: rig.send(200, 10)), (start + 50.0, go_out), stop]
    with pytest.raises(Stopped):
        rig.worker.run()
    assert len(rig.kafka.log(STATE)) == 1
    assert rig.note().replay_offset == 200
    rig.service.away = 0
    rig.restart()
    rig.worker.run()
    assert rig.worker.counts == Counts(rows_in=211, warmup=168, predictions=43)


def test_partitions_come_and_go(rig: Rig) -> None:
    rig.send(0, 50)
    rig.send(0, 50, station=1, partition=1)
    rig.stream.polls = [Poll(gained={0}), Poll(gained={1}), Poll(lost={0}), Poll()]
    rig.worker.run()
    assert set(rig.monitors.stations) == {"station_1"}
    assert rig.worker.counts == Counts(rows_in=50, warmup=50)
    assert rig.kafka.positions[0].offset == rig.kafka.positions[1].offset == 50
    assert rig.metric("air_quality_consumer_lag_records", partition="1") == 0


def test_a_partition_lost_and_regained_between_two_polls_is_restored(rig: Rig) -> None:
    rig.send(0, 50)
    rig.stream.polls = [Poll(gained={0}), Poll(lost={0}, gained={0})]
    rig.worker.run()
    assert rig.worker.counts == Counts(rows_in=50, warmup=50)


def test_a_failed_commit_ends_the_worker_and_its_rows_come_again(rig: Rig) -> None:
    rig.send(0, 200)
    rig.stream.fails = [Unavailable("fenced")]
    with pytest.raises(Unavailable, match="fenced"):
        rig.worker.run()
    assert (rig.predictions(), rig.kafka.positions, rig.lines) == ([], {}, [])
    rig.restart()
    rig.worker.run()
    assert rig.worker.counts == Counts(rows_in=200, warmup=168, predictions=32)


def test_the_lag_grows_while_the_service_is_away_and_forgets_lost_partitions(rig: Rig) -> None:
    rig.send(0, 200)
    rig.service.away = 6
    lags: list[float | None] = []
    measure = lambda: lags.append(rig.metric("air_quality_consumer_lag_records", partition="0"))  # noqa: E731
    rig.clock.at = [(rig.clock() + 3.0, lambda: rig.send(200, 30)), (rig.clock() + 11.0, measure)]
    rig.worker.run()
    assert lags == [30.0]
    rig.stream.owned.clear()
    rig.clock.now += 60.0
    rig.worker._gauges.measure_lag()
    assert rig.metric("air_quality_consumer_lag_records", partition="0") is None


def test_measure_lag_kafka_away_for_a_moment_ends_no_worker(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.send(0, 10)
    lag = rig.stream.lag
    monkeypatch.setattr(rig.stream, "lag", kafka_away)
    rig.clock.at = [(rig.clock() + 2.0, lambda: setattr(rig.stream, "lag", lag))]
    rig.worker.run()
    assert rig.worker.counts.rows_in == 10


def test_restore_dead_letter_topic_created_anew_is_said_once(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.send(0, 20)
    rig.kafka.append(RAW, 0, b"station_0", b"{")
    rig.worker.run()
    rig.kafka.recreate(DLQ, "dlq")
    for first in (20, 30):
        rig.send(first, 5)
        rig.kafka.append(RAW, 0, b"station_0", b"{")
        rig.restart()
        rig.worker.run()
    said = [record.getMessage() for record in caplog.records if "created anew" in record.getMessage()]
    assert said == [
        f"{DLQ} was deleted and created anew: the 1 dead letters that partition 0 published are gone; rows go on"
    ]
    assert rig.note().dlq_floor == 0
    assert rig.worker.counts.dead_letters == {"malformed": 3}
    assert len(rig.kafka.log(DLQ)) == 2


def test_run_row_the_model_has_no_value_for_is_a_dead_letter_and_stays_one(rig: Rig) -> None:
    rig.send(0, 170)
    rig.service.refuses = 1
    rig.worker.run()
    expected = Counts(rows_in=170, warmup=168, predictions=1, dead_letters={"unpredictable": 1})
    assert rig.worker.counts == expected
    assert rig.metric("air_quality_rows_total", outcome="dead_letter", reason="unpredictable") == 1
    [letter] = rig.kafka.log(DLQ)
    assert rig.kafka.headers[DLQ, 0, letter.offset]["stage"] == "predict"
    rig.kafka.logs[STATE, 0].clear()  # as after a crash before the snapshot
    unsaved = replace(rig.note(), replay_offset=0, n_saved=0)
    rig.kafka.positions[0] = Position(rig.kafka.positions[0].offset, unsaved.encode())
    rig.restart()
    rig.worker.run()
    assert rig.worker.counts == expected
    assert len(rig.kafka.log(DLQ)) == len(rig.predictions()) == 1


def test_restore_prediction_gone_is_refused_and_goes_on_where_accepted(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.send(0, 200)
    monkeypatch.setattr(rig.worker, "_finish", lambda: None)
    rig.worker.run()
    rig.kafka.log(PRED).pop(0)
    rig.restart()
    with pytest.raises(Refused, match=r"raw offsets \[168\] .* --accept-loss"):
        rig.worker.run()
    rig.restart(accept_loss=True)
    rig.worker.run()
    assert rig.worker.counts == Counts(rows_in=200, warmup=168, predictions=32)


# --- what a start reads ---


def two_partitions(rig: Rig) -> None:
    """Let the worker run over a station on each of two partitions that it gains together."""
    rig.stream.polls = [Poll(gained={0, 1})]
    rig.worker.run()


def reads_of_a_restart(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """Return how many snapshots a restart reads, with what they hold, by partition."""
    rig.restart()
    read, found = rig.kafka.read, Counter[int]()

    def counted(topic: str, partition: int, start: int | None = None, stop: int | None = None) -> Iterator[Record]:
        for record in read(topic, partition, start, stop):
            found[partition] += topic == STATE and record.value is not None
            yield record

    monkeypatch.setattr(rig.kafka, "read", counted)
    two_partitions(rig)
    return found


def test_restart_reads_each_snapshot_once(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.send(0, 170)
    rig.send(0, 170, station=1, partition=1)
    two_partitions(rig)
    assert reads_of_a_restart(rig, monkeypatch) == {0: 1, 1: 1}
    rig.send(170, 3)
    rig.send(170, 3, station=1, partition=1)
    rig.restart()
    two_partitions(rig)
    assert [rig.predictions(partition)[-1].hour - START for partition in (0, 1)] == [172, 172]


def test_start_before_anything_was_predicted_reads_no_more_than_the_newest_snapshots(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    for station in range(20):
        rig.send(0, 1, station)
    two_partitions(rig)
    assert reads_of_a_restart(rig, monkeypatch)[0] <= 20 + 16
    assert not rig.monitors.goes_on
