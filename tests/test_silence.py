"""Silence and late rows as events: of one station's own order, of a partition's, and the same after any crash."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airquality.events import AlarmEvent, Finding, finding_of
from airquality.incoming import Operation
from airquality.monitoring.alarms import Event
from airquality.monitoring.component import Refusal, Row
from airquality.monitoring.maintenance import Maintenance, hours_outside
from airquality.monitoring.silence import LATE_ROWS, SILENCE_HOURS, Lateness, Silence, silences
from airquality.records import Reading
from tests.partition_life import Life, committed
from tests.simulated_kafka import SimulatedKafka, reading

START = 307_668


def said(events: Sequence[Event]) -> list[tuple[str, int, int, float]]:
    return [(event.kind, event.at - START, event.since - START, event.size) for event in events]


def test_silence_of_six_hours_is_an_event_with_its_length() -> None:
    hours = [*range(START, START + 20), *range(START + 26, START + 30)]
    assert said(silences(hours)) == [("opened", 25, 20, 6.0), ("closed", 26, 20, 6.0)]


def test_silence_of_five_hours_is_none() -> None:
    assert silences([START, START + SILENCE_HOURS]) == []


def test_silence_while_somebody_works_on_the_station_is_none() -> None:
    silence = Silence()
    silence.update(row(START))
    silence.operate(Operation("roof", "maintenance", None, START + 1, START + 10))
    assert silence.update(row(START + 12)) == []
    assert said(silence.update(row(START + 30))) == [("opened", 18, 13, 6.0), ("closed", 30, 13, 17.0)]


def row(hour: int) -> Row:
    return Row(Reading("roof", hour, ()))


def test_late_rows_in_a_row_are_an_event_until_one_is_accepted() -> None:
    late, found = Lateness(), list[Event]()
    found += late.update(row(START))
    for _ in range(LATE_ROWS - 1):
        found += late.take_refusal(Refusal(row(START - 5).reading, "late"))
    assert found == []
    for reason in ("conflict", "late", "late"):
        found += late.take_refusal(Refusal(row(START - 5).reading, reason))
    found += late.update(row(START + 1))
    assert said(found) == [("opened", 0, 0, 6.0), ("closed", 1, 0, 7.0)]


# ---- on a partition ----


def stream(*rows: tuple[int, int]) -> SimulatedKafka:
    """Rows in this order, each a station and an hour after the start."""
    kafka = SimulatedKafka()
    for station, hour in rows:
        sent = reading(station, START + hour)
        kafka.append("raw", 0, sent.station_id.encode(), sent.to_bytes())
    return kafka


def events(kafka: SimulatedKafka) -> list[tuple[str, str, str, int]]:
    found: list[Finding] = [finding_of(record.value) for record in kafka.log("events")]
    return [(f.station_id, f.event.detector, f.event.kind, f.event.at - START) for f in found if isinstance(f, AlarmEvent)]


def test_silence_shows_while_others_of_the_partition_go_on() -> None:
    kafka = stream((0, 0), (1, 0), *((0, hour) for hour in range(1, 10)), (1, 10), (0, 10))
    Life(kafka, 10**9, 100).finish()
    assert events(kafka) == [("station_1", "silence", "opened", 6), ("station_1", "silence", "closed", 10)]


def test_silence_of_a_station_that_is_hours_behind_is_none() -> None:
    kafka = stream(*itertools.chain.from_iterable([(0, hour + 14), (1, hour)] for hour in range(30)))
    Life(kafka, 10**9, 100).finish()
    assert events(kafka) == []


def test_silence_of_stations_whose_files_come_one_after_another_is_none() -> None:
    kafka = stream(*((station, hour) for station in range(3) for hour in range(40)))
    Life(kafka, 10**9, 100).finish()
    assert events(kafka) == []


@pytest.mark.parametrize("snapshot_offsets", [1, 7, 10**9])
@pytest.mark.parametrize("size", [1, 3, 11])
def test_silence_and_lateness_are_the_same_after_a_crash_anywhere(snapshot_offsets: int, size: int) -> None:
    late = [(2, 3)] * LATE_ROWS
    rows = [(0, 0), (1, 0), (2, 4), *((0, hour) for hour in range(1, 9)), *late, (2, 5), (0, 9), (1, 12), (0, 20), (0, 21)]
    unharmed, crashed = stream(*rows), stream(*rows)
    expected = Life(unharmed, 10**9, 100).finish()
    life = Life(crashed, snapshot_offsets, 100)
    for dies in itertools.islice(itertools.cycle(["", "after", "before", "after"]), 12):
        life.step(size, dies)
    assert life.finish() == expected
    assert committed(crashed, "events") == committed(unharmed, "events")
    kinds = {(station, detector) for station, detector, _, _ in events(unharmed)}
    assert kinds == {("station_1", "silence"), ("station_2", "silence"), ("station_2", "late"), ("station_0", "silence")}


SPANS = st.lists(st.builds(Maintenance, st.sampled_from(["", "T"]), st.integers(-3, 30), st.integers(-3, 30)), max_size=6)


@given(SPANS, st.integers(0, 25), st.integers(-2, 25))
def test_hours_outside_spans_are_those_that_are_counted_one_by_one(spans: list[Maintenance], first: int, n: int) -> None:
    inside = {hour for span in spans if not span.column for hour in range(span.first, span.last + 1)}
    assert hours_outside(spans, first, first + n - 1) == len(set(range(first, first + n)) - inside)


def test_pass_time_after_decades_of_silence_makes_no_table_of_their_hours() -> None:
    silence = Silence()
    silence.update(Row(reading(0, START)))
    silence.note_newest(START)
    tracemalloc.start()
    try:
        assert [event.kind for event in silence.pass_time(START + 300_000)] == ["opened"]
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
