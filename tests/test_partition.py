"""One partition's state: every cutting of the stream and every crash gives the same bytes; every row is accounted for."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given

from airquality.data.digests import REMEMBERED_HOURS
from airquality.ground.errors import InvalidRecord
from airquality.incoming import TRUTH_OUTCOMES, Operation
from airquality.model.predictor import FeatureRows
from airquality.records import HISTORY_HOURS, Reading, RowAnswer
from airquality.stream import snapshots
from airquality.stream.account import Counts
from airquality.stream.partition import STATIONS_AS_SET
from airquality.stream.station import Station
from tests import watched
from tests.partition_life import (
    FORBIDDEN,
    KINDS,
    PREDICTED,
    START,
    STATIONS,
    Stream,
    cuts,
    dealt,
    fresh,
    outcomes,
    segments,
    station_with_a_gain,
    stream_of,
    watching,
)
from tests.simulated_kafka import Monitors, Predicts, SimulatedKafka, predicted, reading

# --- cutting ---


@given(segments, cuts)
def test_any_cutting_of_the_stream_gives_the_same_bytes(
    described: list[tuple[str, int, int, int]], sizes: list[int]
) -> None:
    records = stream_of(described).records
    expected, expected_snapshots = outcomes(records, [len(records)])
    found, found_snapshots = outcomes(records, sizes)
    assert found == expected
    assert found_snapshots == expected_snapshots
    assert found.counts.rows_in == len(records)
    found.counts.check()


def test_the_streams_of_these_tests_hold_every_outcome() -> None:
    described = [(kind, 0, step, 30) for step in (1, 30, 169) for kind in KINDS]
    counts = outcomes(stream_of(described).records, [50])[0].counts
    assert min(counts.warmup, counts.predictions, counts.duplicates) > 0
    refused = {"malformed", "out_of_range", "unknown_type", "conflict", "late", "future", "unpredictable"}
    assert set(counts.dead_letters) == refused
    assert set(counts.truths) == set(TRUTH_OUTCOMES)
    assert counts.operations == {"reset": 3}


def test_ready_rows_of_all_stations_are_predicted_in_one_call() -> None:
    stream, calls = Stream(), []

    def counting(rows: FeatureRows) -> list[RowAnswer]:
        calls.append(len(rows))
        assert [f"station_{station}" for station in STATIONS for _ in range(8)] == rows.station_ids
        assert list(rows.hours) == [START + 168 + hour for _ in STATIONS for hour in range(1, 9)]
        return predicted(rows)

    for station in STATIONS:
        stream.hours(station, 1, 10)
    state = fresh()
    batch = state.apply(stream.records, Predicts(counting))
    assert calls == [len(batch.predictions)] == [24]
    assert [p.source_offset for p in batch.predictions] == sorted(p.source_offset for p in batch.predictions)


def test_detectors_judge_rows_before_their_predictions_are_waited_for() -> None:
    stream, order = Stream(), list[str]()
    stream.hours(0, 1, 3)
    monitors = Monitors()
    judge = monitors.judge

    def judged(arrived: Sequence[tuple[Station, Sequence[Reading | Operation]]]) -> None:
        order.append("judged")
        judge(arrived)

    def answered(rows: FeatureRows) -> list[RowAnswer]:
        order.append("answered")
        return predicted(rows)

    monitors.judge = judged  # type: ignore[method-assign]
    assert len(fresh(monitors=monitors).apply(stream.records, Predicts(answered)).predictions) == 1
    assert order == ["judged", "answered"]


def test_a_batch_without_ready_rows_asks_for_no_prediction() -> None:
    batch = fresh().apply(Stream(warm=[0]).records, FORBIDDEN)
    assert batch.counts == Counts(rows_in=166, warmup=166)
    assert batch.warming is not None
    assert batch.warming.to_bytes() == reading(0, START + 166).to_bytes()


# --- operations ---


def test_operation_on_the_hour_a_window_closes_leaves_the_window_as_its_rows_say() -> None:
    def windows(sizes: list[int]) -> list[tuple[str, ...]]:
        monitors = Monitors(watching())
        state, found = fresh(monitors=monitors), []
        for records in dealt(kafka.log("raw"), sizes):
            batch = state.apply(records, PREDICTED)
            found += [tuple(event.column for event in window.alarms) for window in batch.windows]
            monitors.submit(batch.windows, state.stations)
        return found

    kafka = station_with_a_gain()
    last_of_a_day = 168 + 24 * 4 - 1
    reset = Operation("roof", "reset", "PT08.S1(CO)", who="ann")
    rows = kafka.log("raw")[: last_of_a_day + 30]
    kafka = SimulatedKafka()
    for row, record in enumerate(rows):
        kafka.append("raw", 0, record.key, record.value)
        if row == last_of_a_day:
            kafka.append("raw", 0, b"roof", reset.to_bytes(), headers=(*reset.headers,))
    assert windows([1000]) == windows([last_of_a_day + 1]) == windows([1])
    assert windows([1])[-2:] == [("PT08.S1(CO)",), ()]


def test_windows_say_what_is_learned_and_what_operators_did_however_the_stream_is_cut() -> None:
    def shown(sizes: list[int]) -> list[tuple[str, int, tuple[tuple[str, int], ...], tuple[tuple[int, str], ...]]]:
        monitors = Monitors(watching())
        state, found = fresh(monitors=monitors), []
        for records in dealt(kafka.log("raw"), sizes):
            batch = state.apply(records, PREDICTED)
            found += [(w.kind.name, w.end_hour, w.learning, w.operations) for w in batch.windows]
            monitors.submit(batch.windows, state.stations)
        return found

    kafka, frame = SimulatedKafka(), watched.stream()
    hours = (frame.hours[:700] + 1).tolist()  # not the calibrated station's next hour: it starts cold
    reset = Operation("roof", "reset", "T", who="ann", note="new sensor")
    for row, (hour, cells) in enumerate(zip(hours, frame.values[:700].tolist(), strict=True)):
        kafka.append("raw", 0, b"roof", Reading("roof", hour, tuple(cells)).to_bytes())
        if row == 600:
            kafka.append("raw", 0, b"roof", reset.to_bytes(), headers=(*reset.headers,))
    found = shown([1000])
    assert found == shown([1]) == shown([7, 90])
    assert dict(found[0][2]).keys() >= {"PT08.S1(CO)", "T"}
    assert {until for kind, end, learning, _ in found for _, until in learning if until <= end} == set()
    assert [dict(learning).get("T", 0) > 0 for kind, _, learning, _ in found if kind == "daily"][-5:] == [False] + [True] * 4
    done = [(kind, operations) for kind, _, _, operations in found if operations]
    assert done[0] == ("daily", ((hours[600], "Reset of T by ann: new sensor"),))
    assert [kind for kind, _ in done] in (["daily"], ["daily", "weekly"])


def test_operation_for_a_station_without_rows_is_counted_and_leaves_nothing_behind() -> None:
    kafka, ack = SimulatedKafka(), Operation("roof", "ack", "T", who="ann")
    kafka.append("raw", 0, b"roof", ack.to_bytes(), headers=(*ack.headers,))
    state = fresh(monitors=Monitors(watching()))
    batch = state.apply(kafka.log("raw"), FORBIDDEN)
    assert batch.counts.operations == {"ack": 1}
    assert (batch.findings, state.stations) == ([], {})


# --- what is due, and how large ---


def test_a_snapshot_is_due_by_offsets_or_by_age_and_only_where_rows_are_unsaved() -> None:
    stream = Stream(warm=[0, 1])
    state = fresh()
    state.apply(stream.records, FORBIDDEN)
    assert state.checkpoint(10_000, 1e9).snapshots == ()
    point = state.checkpoint(200, 1e9)
    [snapshot] = point.snapshots
    assert snapshot.key == b"station_0"  # the rows of station_1 are the last 166
    assert point.note.replay_offset == 166
    state.take_commit(point)
    point = state.checkpoint(10_000, 1.0)
    assert [snapshot.key for snapshot in point.snapshots] == [b"station_1"]
    assert point.note.replay_offset is None
    state.take_commit(point)
    assert state.checkpoint(0, 0.0).snapshots == ()


def test_snapshots_of_many_stations_are_due_further_back_so_that_rows_cost_more_than_they() -> None:
    kafka, state = SimulatedKafka(), fresh()
    for row in range(4 * STATIONS_AS_SET + 50):  # of three sets of stations
        hour, station = divmod(row, 3 * STATIONS_AS_SET)
        kafka.append("raw", 0, b"station_%d" % station, reading(station, START + hour).to_bytes())
    records = kafka.log("raw")
    state.apply(records[:-1], FORBIDDEN)
    assert state.checkpoint(150, 1e9).snapshots == ()
    state.apply(records[-1:], FORBIDDEN)
    [snapshot] = state.checkpoint(150, 1e9).snapshots
    assert snapshot.key == b"station_0"


def test_checkpoint_of_stations_without_news_looks_at_none_of_them() -> None:
    kafka, state = SimulatedKafka(), fresh()
    for station in range(3):
        kafka.append("raw", 0, b"station_%d" % station, reading(station, START).to_bytes())
    state.apply(kafka.log("raw"), FORBIDDEN)
    state.take_commit(state.checkpoint(0, 0.0))
    kafka.append("raw", 0, b"station_1", reading(1, START + 1).to_bytes())
    state.apply(kafka.log("raw")[3:], FORBIDDEN)
    point = state.checkpoint(0, 0.0)
    assert (point.station_ids, point.note.n_saved) == (("station_1",), 3)


def test_checkpoint_changes_nothing() -> None:
    stream = Stream(warm=[0, 1])
    stream.hours(0, 1, 30)
    state = fresh()
    state.apply(stream.records, PREDICTED)
    for station in state.stations.values():
        station.reports.outstanding = 0
    first, second = (state.checkpoint(0, 0.0) for _ in range(2))
    assert first == second
    assert len(first.snapshots) == 2


def test_a_snapshot_after_10_000_hours_fits_its_limit() -> None:
    monitors, stream = Monitors(), Stream(warm=[])
    state = fresh(monitors=monitors)
    n_weeks = REMEMBERED_HOURS // HISTORY_HOURS + 2
    stream.hours(0, 1, n_weeks * HISTORY_HOURS - 1)  # the open week is full but for its last hour
    for batch in dealt(stream.records, [510]):
        applied = state.apply(batch, PREDICTED)
        monitors.submit([*applied.windows, *applied.settled], state.stations)
        monitors.poll()
    kept = monitors.stations["station_0"].windows.state()
    assert len(kept.hours) == HISTORY_HOURS - 1
    [snapshot] = state.checkpoint(0, 0.0).snapshots
    assert 20_000 < len(snapshot.value) <= snapshots.MAX_BYTES


def test_a_released_partition_lets_go_of_its_stations() -> None:
    monitors = Monitors()
    state = fresh(monitors=monitors)
    state.apply(Stream().records, FORBIDDEN)
    assert set(monitors.stations) == {"station_0", "station_1", "station_2"}
    state.release()
    assert monitors.stations == {}


# --- rows without a prediction ---


def test_apply_unpredictable_row_is_a_dead_letter_and_stays_in_the_history() -> None:
    stream = Stream(warm=[0])
    stream.hours(0, 1, 4)
    third = len(stream.records) - 1
    refusal = InvalidRecord("unpredictable", "no value")
    made = fresh().apply(
        stream.records,
        Predicts(lambda r: [refusal if o == third - 1 else a for o, a in zip(r.offsets, predicted(r), strict=True)]),
    )
    assert made.counts == Counts(rows_in=170, warmup=168, predictions=1, dead_letters={"unpredictable": 1})
    assert [letter.record.offset for letter in made.dead_letters] == [third - 1]
    unharmed = fresh().apply(stream.records, PREDICTED)
    values = [prediction.prediction for prediction in unharmed.predictions[1:]]
    assert [p.prediction for p in made.predictions] == values  # the last row's features hold the refused row's hour


def test_apply_row_of_2099_does_not_make_later_rows_late() -> None:
    stream = Stream(warm=[])
    now_ms = (START + 5) * 3_600_000
    for hour in (START + 1, START + 800_000, START + 2):
        stream.kafka.append("raw", 0, b"station_0", reading(0, hour).to_bytes(), now_ms)
    batch = fresh().apply(stream.records, FORBIDDEN)
    assert batch.counts == Counts(rows_in=3, warmup=2, dead_letters={"future": 1})


def test_apply_refused_rows_open_no_station() -> None:
    stream = Stream(warm=[])
    stream.kafka.append("raw", 0, b"station_0", reading(0, START + 800_000).to_bytes(), START * 3_600_000)
    monitors = Monitors()
    state = fresh(monitors=monitors)
    state.apply(stream.records, FORBIDDEN)
    assert state.stations == monitors.stations == {}
