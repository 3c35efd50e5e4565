"""A partition that is brought back: a crash at any point changes nothing, and what Kafka no longer holds is said."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airquality.events import AlarmEvent, OperationTaken, finding_of
from airquality.ground.errors import ContractError
from airquality.monitoring.detectors import Detectors, DetectorsState
from airquality.records import HISTORY_HOURS, Prediction
from airquality.truth.performance import ErrorSums, Performance
from monitoring_service import HOURLY
from tests import watched
from tests.partition_life import (
    FORBIDDEN,
    PICKY,
    START,
    Life,
    Stream,
    attended_station,
    committed,
    note_of,
    segments,
    settled,
    station_with_a_gain,
    stream_of,
    truth_a_day_late,
    two_stations_one_saved,
    watching,
)
from tests.simulated_kafka import reading

deaths = st.lists(
    st.tuples(st.sampled_from([0, 1, 3, 20, 90, 300]), st.sampled_from(["", "", "before", "after"])), min_size=1, max_size=10
)


#: A replay that begins long before the snapshot of another station, and in it a silence that had been said.
SILENT_IN_THE_REPLAY = [("truth late", 2, 1, 30), ("hours", 1, 170, 5), ("conflict", 0, 1, 80), ("truth late", 1, 2, 30)]


@example(SILENT_IN_THE_REPLAY, [(300, "after"), (3, ""), (300, ""), (20, "after")], 1, 1)
@given(segments, deaths, st.sampled_from([1, 60, 200, 10**9]), st.sampled_from([0, 1, 100]))
def test_a_crash_at_any_point_changes_nothing_that_is_committed(
    described: list[tuple[str, int, int, int]], steps: list[tuple[int, str]], snapshot_offsets: int, reports_a_commit: int
) -> None:
    unharmed, crashed = stream_of(described).kafka, stream_of(described).kafka
    expected = Life(unharmed, 10**9, 100, PICKY).finish()
    life = Life(crashed, snapshot_offsets, reports_a_commit, PICKY)
    for size, dies in steps:
        life.step(size, dies)
    found = life.finish()
    assert committed(crashed, "pred") == committed(unharmed, "pred")
    assert committed(crashed, "dlq") == committed(unharmed, "dlq")
    assert committed(crashed, "events") == committed(unharmed, "events")
    assert crashed.positions == unharmed.positions
    assert found == expected
    assert life.state.counts.rows_in == len(crashed.log("raw"))


@pytest.mark.parametrize("snapshot_offsets", [1, 100, 10**9])
def test_final_performance_of_late_truth_is_the_offline_figure_whatever_crashed(snapshot_offsets: int) -> None:
    kafka = truth_a_day_late(HISTORY_HOURS + 24 * 9)
    life = Life(kafka, snapshot_offsets, 1)
    for size, dies in [(170, ""), (1, "before"), (1, "after"), (2, "before"), (90, "after"), (7, ""), (61, "before")]:
        life.step(size, dies)
    life.finish()
    predictions = [Prediction.from_bytes(record.value or b"") for record in kafka.log("pred")]
    assert all(math.isnan(prediction.actual) for prediction in predictions)
    found = settled(kafka)
    assert [each.truth.kind for each in found].count(
        "daily"
    ) == 6  # the last three days still wait for what was never measured
    for each in found:
        inside = [p for p in predictions if 0 <= each.end_hour - p.hour < each.kind.hours]
        truths = np.array([reading(0, p.hour).actual for p in inside])
        assert each.truth.final == Performance.of(np.array([p.prediction for p in inside]), truths)
        assert each.truth.known.n <= each.truth.final.n == sum(~np.isnan(truths))
    truths = np.array([reading(0, p.hour).actual for p in predictions])
    whole = Performance.of(np.array([p.prediction for p in predictions]), truths)
    figures = life.monitors.stations["station_0"].figures()
    assert figures.errors.performance() == whole
    assert life.state.counts.truths == {"filled": sum(not math.isnan(reading(0, START + h).actual) for h in range(384))}


def test_a_kill_between_a_truth_and_its_prediction_counts_each_once() -> None:
    kafka, unharmed = truth_a_day_late(HISTORY_HOURS + 60), truth_a_day_late(HISTORY_HOURS + 60)
    whole = Life(unharmed, 10**9, 100)
    expected = whole.finish()
    life = Life(kafka, 10**9, 100)
    life.step(350)
    for dies in ("before", "after", "") * 4:
        life.step(1, dies)
    assert life.finish() == expected
    for topic in ("pred", "events"):
        assert committed(kafka, topic) == committed(unharmed, topic)
    assert life.state.counts == whole.state.counts


@pytest.mark.parametrize("snapshot_offsets", [1, 60, 10**9])
def test_operations_in_the_stream_a_crash_at_any_point_changes_no_finding(snapshot_offsets: int) -> None:
    unharmed, crashed = attended_station(), attended_station()
    expected = Life(unharmed, 10**9, 100, detect=watching).finish()
    life = Life(crashed, snapshot_offsets, 1, detect=watching)
    for size, dies in [
        (191, ""),
        (1, "after"),
        (1, ""),
        (1, "before"),
        (170, "after"),
        (118, ""),
        (1, "after"),
        (3, "before"),
    ]:
        life.step(size, dies)
    assert life.finish() == expected
    found = [finding_of(record.value) for record in unharmed.log("events")]
    assert [finding.operation.kind for finding in found if isinstance(finding, OperationTaken)] == [
        "ack",
        "maintenance",
        "reset",
    ]
    events = [finding.event for finding in found if isinstance(finding, AlarmEvent) and not finding.event.alarm[0]]
    assert {event.column for event in events} == {"PT08.S1(CO)"}
    assert [(event.kind, event.by) for event in events if event.kind != "changed"] == [("opened", ""), ("closed", "bob")]
    assert ("changed", "ann") in [(event.kind, event.by) for event in events]
    assert committed(crashed, "events") == committed(unharmed, "events")
    assert [event.alarm for event in life.monitors.stations["roof"].alarms.state() if not event.alarm[0]] == []


@pytest.mark.parametrize("snapshot_offsets", [1, 60, 10**9])
def test_a_crash_at_any_point_changes_no_finding(snapshot_offsets: int) -> None:
    unharmed, crashed = station_with_a_gain(), station_with_a_gain()
    expected = Life(unharmed, 10**9, 100, detect=watching).finish()
    life = Life(crashed, snapshot_offsets, 1, detect=watching)
    for size, dies in [(60, ""), (45, "before"), (3, "after"), (1, "before"), (100, "after"), (7, ""), (50, "before")]:
        life.step(size, dies)
    assert life.finish() == expected
    found = [finding_of(record.value) for record in unharmed.log("events")]
    opened = [finding.event for finding in found if isinstance(finding, AlarmEvent) and not finding.event.alarm[0]]
    assert (opened[0].kind, opened[0].column) == ("opened", "PT08.S1(CO)")
    assert committed(crashed, "events") == committed(unharmed, "events")


def test_restore_another_calibration_begins_cold_keeps_the_alarms_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    kafka = station_with_a_gain()
    Life(kafka, 10**9, 100, detect=watching).finish()
    another = replace(watched.calibration(), data_hash="of other data")
    other = Life(kafka, 10**9, 100, detect=lambda: Detectors(another))
    assert "of another calibration and is dropped" in caplog.text
    roof = other.monitors.stations["roof"]
    remembered = roof.detectors[HOURLY].state()
    assert isinstance(remembered, DetectorsState)
    assert (remembered.basis, remembered.memory) == ("", {})
    assert ("", "PT08.S1(CO)") in roof.alarms


def test_restore_another_budget_keeps_what_the_detectors_remember(caplog: pytest.LogCaptureFixture) -> None:
    kafka = station_with_a_gain()
    before = Life(kafka, 10**9, 100, detect=watching)
    before.finish()
    other = Life(kafka, 10**9, 100, detect=lambda: Detectors(watched.calibration(), budget=2.0))
    remembered, kept = (life.monitors.stations["roof"].detectors[HOURLY].state() for life in (before, other))
    assert isinstance(remembered, DetectorsState)
    assert isinstance(kept, DetectorsState)
    np.testing.assert_equal(kept.memory, remembered.memory)
    assert caplog.text == ""


def test_restart_goes_on_at_the_committed_offset() -> None:
    life = two_stations_one_saved()
    committed, counts = life.state.next_offset, life.state.counts
    life.restart()
    assert life.state.next_offset == committed
    life.finish()
    life.restart()
    assert life.state.next_offset == committed
    assert life.state.counts == counts


def test_a_second_crash_before_any_snapshot_finds_the_predictions_of_before_the_first() -> None:
    stream = Stream(warm=[0])
    stream.hours(0, 1, 30)
    life = Life(stream.kafka, 10**9, 0)
    life.step(180)
    life.step(3, "after")
    life.step(3, "after")
    life.restart()
    assert life.state.counts.predictions == 18


def test_replay_begins_with_the_predictions_of_the_station_that_is_furthest_back() -> None:
    stream = Stream(warm=[0])
    stream.hours(0, 1, 10)
    stream.hours(1, 1, 1)
    life = Life(stream.kafka, 10**9, 100)
    life.step(176)
    life.step(1)
    assert note_of(life).pred_offset == 0
    life.restart()
    assert life.state.counts.predictions == 8


def errors_of(life: Life) -> ErrorSums:
    return life.monitors.stations["station_0"].windows.errors


def test_a_restart_publishes_and_predicts_nothing_anew() -> None:
    life = two_stations_one_saved()
    transactions = life.kafka.transactions
    life.predictions = FORBIDDEN
    life.restart()
    assert life.kafka.transactions == transactions
    assert errors_of(life) == errors_of(two_stations_one_saved())


def test_a_committed_prediction_that_cannot_be_read_back_stops_the_start() -> None:
    life = two_stations_one_saved()
    lost = life.kafka.log("pred").pop(0)
    with pytest.raises(ContractError, match=r"raw offsets \[\d+\] were committed but cannot be read back"):
        life.restart()
    assert lost.value is not None


def test_a_snapshot_that_cannot_be_read_stops_the_start() -> None:
    life = two_stations_one_saved()
    headers = life.kafka.log("state")[0].headers
    life.kafka.append("state", 0, b"station_1", b"garbage", headers=headers)
    with pytest.raises(ContractError, match=r"the snapshot of 'station_1' at offset 2 .* cannot be read"):
        life.restart()


def test_windows_that_had_no_report_yet_are_seen_again() -> None:
    stream = Stream(warm=[0])
    stream.hours(0, 1, 2 + 48)
    life = Life(stream.kafka, 1, reports_a_commit=0)
    life.step(10**6)
    assert [w.end_hour for w in life.monitors.waiting] == [START + 168 + 24, START + 168 + 48]
    assert life.kafka.log("state") == []  # outstanding windows block the snapshot
    life.restart()
    assert [w.end_hour for w in life.monitors.waiting] == [START + 168 + 24, START + 168 + 48]
    life.finish()
    assert len(life.kafka.log("state")) == 1
    life.restart()
    assert not life.monitors.waiting
    assert life.monitors.stations["station_0"].reports.generated == {"daily": 2, "weekly": 0}
