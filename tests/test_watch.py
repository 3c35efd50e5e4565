"""Stations under watch: events do not depend on cuts, neighbours or restarts, and alarms live as they should."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from airquality.ground.errors import ContractError
from airquality.monitoring.alarms import Alarm, Event
from airquality.monitoring.maintenance import Maintenance
from airquality.monitoring.network import NODE_COLUMNS, RULE_COLUMNS
from airquality.monitoring.watch import Watch
from airquality.records import DEVICE_COLUMNS
from airquality.stream import snapshots
from tests import watched

Floats = NDArray[np.float64]

S1, S4, S5 = "PT08.S1(CO)", "PT08.S4(NO2)", "PT08.S5(O3)"


def seeded(*station_ids: str) -> Watch[str]:
    calibration = watched.calibration()
    watch = calibration.watch()
    for station_id in station_ids:
        watch.restore_memory(station_id, calibration.seed, calibration.first_hour)
    return watch


def faulty(*faults: tuple[str, int, int, float]) -> Floats:
    """Return the stream with columns multiplied by a factor from one row to another."""
    values = watched.stream().values.copy()
    for name, start, stop, factor in faults:
        values[start:stop, watched.column(name)] *= factor
    return values


def events_of(values: Floats, rows: slice = slice(None)) -> list[Event]:
    hours = watched.stream().hours
    return seeded("a").observe({"a": (hours[rows], values[rows])}).get("a", [])


def said(events: list[Event]) -> list[tuple[str, str, str]]:
    return [(event.kind, event.detector, event.column) for event in events]


TWO = faulty((S1, 100, 400, 1.5), (S5, 220, 900, 2.0))


def test_observe_clean_stream_says_nothing() -> None:
    assert events_of(watched.stream().values) == []


def test_observe_step_names_the_column_its_size_and_direction_soon() -> None:
    opened = events_of(faulty((S1, 100, 900, 1.5)))[0]
    assert (opened.kind, opened.column) == ("opened", S1)
    hours = watched.stream().hours
    assert hours[100] <= opened.at <= hours[124]
    assert hours[90] <= opened.since <= opened.at
    assert opened.size > 100.0
    assert opened.unit == "ohm"


def test_observe_fault_that_lasts_stays_open_without_being_absorbed_by_the_baseline() -> None:
    values = faulty((S1, 0, 900, 1.5))
    events = events_of(values)
    assert [event.kind for event in events if event.column == S1 and event.kind != "changed"] == ["opened"]


def test_observe_repaired_sensor_closes_by_itself_and_stays_closed() -> None:
    events = [event for event in events_of(faulty((S1, 100, 400, 1.5))) if event.kind != "changed"]
    assert [event.kind for event in events] == ["opened", "closed"]
    hours = watched.stream().hours
    assert hours[400] < events[1].at <= hours[400 + 96]


def test_observe_second_fault_beside_an_open_one_is_named_and_nothing_else() -> None:
    opened = [event.column for event in events_of(TWO) if event.kind == "opened"]
    assert opened == [S1, S5]


def test_observe_all_sensors_frozen_are_all_named_within_six_hours() -> None:
    values = watched.stream().values.copy()
    limits = zip(RULE_COLUMNS, watched.calibration().suite.limits.stuck, strict=True)
    frozen = [watched.column(name) for name, limit in limits if np.isfinite(limit) and name in DEVICE_COLUMNS]
    start = next(row for row in range(100, 900) if not np.isnan(values[row, frozen]).any())
    values[start:, frozen] = values[start, frozen]
    opened = [event for event in events_of(values) if event.kind == "opened"]
    named = {event.column for event in opened if event.at - watched.stream().hours[start] <= 6}
    assert len(named) == len(frozen) >= 6


def test_observe_identity_break_names_the_group_in_its_second_hour() -> None:
    values = watched.stream().values.copy()
    start = 150
    assert not np.isnan(values[start : start + 2]).all(axis=1).any()
    values[start:, watched.column("C6H6(GT)")] *= 1.3
    opened = events_of(values)[0]
    assert (opened.detector, opened.column) == ("identity", "PT08.S2(NMHC)/C6H6(GT)")
    assert opened.at == watched.stream().hours[start + 1]


def test_observe_group_whose_column_becomes_known_closes_and_the_column_opens_in_the_same_hour() -> None:
    values = watched.stream().values.copy()
    values[150:300, watched.column("C6H6(GT)")] = 30.0
    events = events_of(values)
    group, own = "PT08.S2(NMHC)/C6H6(GT)", "C6H6(GT)"
    changes = [(event.kind, event.column) for event in events if event.kind != "changed"]
    assert changes[:3] == [("opened", group), ("closed", group), ("opened", own)]
    assert events[1].at == events[2].at
    assert events[2].since == events[0].since
    assert changes[-1] == ("closed", own)
    opened, closed = ([column for kind, column in changes if kind == wanted] for wanted in ("opened", "closed"))
    assert sorted(opened) == sorted(closed), "whatever opens closes under its own name"


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_observe_any_cuts_neighbours_and_restarts_give_the_same_events(seed: int) -> None:
    rng, hours = np.random.default_rng(seed), watched.stream().hours
    tables = {"two": TWO, "clean": watched.stream().values, "stuck": faulty((S4, 300, 900, 0.0))}
    expected = {name: events_of(values) for name, values in tables.items()}
    watch, at = seeded(*tables), dict.fromkeys(tables, 0)
    found: defaultdict[str, list[Event]] = defaultdict(list)
    while min(at.values()) < len(hours):
        arrived = {}
        for name, values in tables.items():
            stop = min(at[name] + int(rng.integers(0, 50)), len(hours))
            arrived[name] = (hours[at[name] : stop], values[at[name] : stop])
            at[name] = stop
        for name, events in watch.observe(arrived).items():
            found[name] += events
        moved = list(tables)[int(rng.integers(len(tables)))]
        state = stored(watch.state(moved))
        watch.forget(moved)
        watch.restore(moved, state)
    assert {name: found[name] for name in tables} == expected


@pytest.mark.parametrize("n_rows", [1, 7, 60])
def test_observe_any_cuts_and_restarts_give_the_same_memory(n_rows: int) -> None:
    hours, values = watched.stream().hours, faulty((S1, 100, 217, 1.5), (S5, 220, 431, 2.0), (S4, 520, 590, 0.0))
    whole, cut = seeded("a"), seeded("a")
    for start in range(0, len(hours), 180):  # while alarms are open, after they closed, and when those days are baseline
        stop = min(start + 180, len(hours))
        whole.observe({"a": (hours[start:stop], values[start:stop])})
        for first in range(start, stop, n_rows):
            last = min(first + n_rows, stop)
            cut.observe({"a": (hours[first:last], values[first:last])})
        np.testing.assert_equal(cut.state("a"), whole.state("a"))
        state = stored(cut.state("a"))
        cut.forget("a")
        cut.restore("a", state)


#: Sums of what a station remembers after the stream TWO, by table.
REMEMBERED = {
    "rows": 13941.972,
    "bad": 24,
    "stuck.recent": 7067.8354,
    "clipped.recent": 82014.51390,
    "coarse.recent": 379749.6406,
    "identity.recent_counts": 2256,
    "missing.recent_counts": 2484,
    "level.recent": 547056157204,
    "level.recent_counts": 68928,
    "noise.recent": 59772954,
    "noise.recent_counts": 13524,
    "level.days": 64951026895,
    "level.counts": 6440,
    "level.baseline": 434115984.556,
    "level.carried": 434115984.556,
    "noise.days": 175387796,
    "noise.counts": 39396,
    "noise.baseline": 220945.746693,
    "noise.carried": 220945.746693,
    "spike.recent": 3687141,
    "clock.days": 1976057390,
    "clock.counts": 25242,
    "ratio.days": 110688729,
    "ratio.counts": 7466,
    "ratio.baseline": 174090.636444,
    "ratio.carried": 174090.636444,
}


def test_memory_means_what_it_meant_in_the_last_release() -> None:
    watch = seeded("a")
    watch.observe({"a": (watched.stream().hours, TWO)})
    tables = {name: part for name, part in watch.state("a").items() if name in REMEMBERED}
    sums = {name: float(np.nansum(np.abs(np.asarray(part, dtype=np.float64)))) for name, part in tables.items()}
    assert sums == pytest.approx(REMEMBERED, rel=1e-4), "raise bank.MEMORY_VERSION, and write down the new sums"


def stored(state: dict[str, Any]) -> dict[str, Any]:
    """Return a state as it comes back from the state topic."""
    return snapshots.decode(snapshots.encode(state))


def test_observe_gap_of_missing_rows_equals_rows_without_values() -> None:
    hours, values = watched.stream().hours, TWO.copy()
    keep = np.ones(len(hours), dtype=bool)
    keep[[50, 51, 150, 151, 152]] = False
    values[~keep] = np.nan
    assert seeded("a").observe({"a": (hours[keep], values[keep])}) == seeded("a").observe({"a": (hours, values)})


def test_observe_silence_beyond_all_memory_starts_anew() -> None:
    hours, values = watched.stream().hours, watched.stream().values
    watch = seeded("a")
    watch.observe({"a": (hours[:100], TWO[:100])})
    watch.observe({"a": (hours[:100] + 2000, values[:100])})
    assert set(watch.learning("a")) == set(NODE_COLUMNS)
    assert watch.open_alarms("a") == []


def test_observe_rows_not_later_than_the_last_raise() -> None:
    hours, values = watched.stream().hours, watched.stream().values
    watch = seeded("a")
    watch.observe({"a": (hours[:10], values[:10])})
    with pytest.raises(ContractError, match="must be later"):
        watch.observe({"a": (hours[9:12], values[9:12])})


def test_learning_cold_station_says_from_when_levels_are_judged() -> None:
    calibration = watched.calibration()
    watch, hours = calibration.watch(), watched.stream().hours
    watch.observe({"a": (hours[:24], watched.stream().values[:24])})
    assert watch.learning("a") == dict.fromkeys(NODE_COLUMNS, (hours[0] // 24 + 17) * 24)
    watch.observe({"a": (hours[24:900], watched.stream().values[24:900])})
    assert watch.learning("a") == {}


def test_learning_cold_station_whose_column_stays_away_goes_on_for_it_alone() -> None:
    watch, hours, values = watched.calibration().watch(), watched.stream().hours, watched.stream().values.copy()
    values[:, watched.column("CO(GT)")] = np.nan
    watch.observe({"a": (hours[:600], values[:600])})
    assert watch.learning("a") == {"CO(GT)": (hours[599] // 24 + 1) * 24}


@pytest.mark.slow
def test_learning_as_of_an_hour_does_not_depend_on_what_came_later() -> None:
    hours, values = watched.stream().hours, watched.stream().values
    whole, piecewise = watched.calibration().watch(), watched.calibration().watch()
    whole.observe({"a": (hours, values)})
    found = {}
    for row in range(len(hours)):
        piecewise.observe({"a": (hours[row : row + 1], values[row : row + 1])})
        found[int(hours[row])] = piecewise.learning("a")
        if row == 300:
            piecewise.restore("a", stored(piecewise.state("a")))
    assert {hour: whole.learning("a", hour) for hour in found} == found
    assert len({tuple(learning) for learning in found.values()}) >= 3


def test_reset_after_a_repair_that_changed_the_level_closes_and_learns_anew() -> None:
    hours, values = watched.stream().hours, faulty((S1, 100, 900, 1.5))
    watch = seeded("a")
    watch.observe({"a": (hours[:300], values[:300])})
    assert [alarm.column for alarm in watch.open_alarms("a")] == [S1]
    assert [(event.kind, event.by) for event in watch.reset("a", [S1], "ann")] == [("closed", "ann")]
    assert watch.learning("a", hours[299]) == {}
    assert watch.learning("a", hours[300]) == {S1: (hours[300] // 24 + 17) * 24}
    later = watch.observe({"a": (hours[300:], values[300:])}).get("a", [])
    assert [event for event in later if event.column == S1] == []
    assert watch.learning("a") == {}


def test_reset_of_one_column_closes_the_groups_alarm_and_a_break_that_stays_is_named_again() -> None:
    hours, values = watched.stream().hours, watched.stream().values.copy()
    values[150:, watched.column("C6H6(GT)")] *= 1.3
    watch = seeded("a")
    watch.observe({"a": (hours[:160], values[:160])})
    assert [event.column for event in watch.reset("a", ["PT08.S2(NMHC)"], "ann")] == ["PT08.S2(NMHC)/C6H6(GT)"]
    again = watch.observe({"a": (hours[160:180], values[160:180])})["a"]
    assert (again[0].kind, again[0].detector, again[0].by) == ("opened", "identity", "")


def test_acknowledge_keeps_the_alarm_open_and_marks_what_is_said_of_it_later() -> None:
    hours, values = watched.stream().hours, faulty((S1, 100, 400, 1.5))
    watch = seeded("a")
    watch.observe({"a": (hours[:300], values[:300])})
    marked = watch.acknowledge("a", [S1], "ann")
    assert [(event.kind, event.by, event.at) for event in marked] == [("changed", "ann", hours[299])]
    assert watch.acknowledge("a", [S4], "ann") == []
    last = watch.observe({"a": (hours[300:], values[300:])})["a"][-1]
    assert (last.kind, last.column, last.by) == ("closed", S1, "ann")


def worked_on(column: str, first: int, last: int) -> Maintenance:
    hours = watched.stream().hours
    return Maintenance(column, int(hours[first]), int(hours[last]))


def test_maintain_column_silences_it_in_the_span_alone() -> None:
    hours, values = watched.stream().hours, watched.stream().values.copy()
    values[100:130, watched.column(S1)] = np.nan
    values[140:150, watched.column(S1)] = 5000.0
    assert events_of(values), "without maintenance it is an alarm"
    watch = seeded("a")
    assert watch.maintain("a", worked_on(S1, 100, 149), "ann") == []
    assert watch.observe({"a": (hours, values)}) == {}
    values[150:170, watched.column(S1)] = np.nan
    watch = seeded("a")
    watch.maintain("a", worked_on(S1, 100, 149), "ann")
    opened = watch.observe({"a": (hours, values)})["a"][0]
    assert (opened.detector, opened.column) == ("missing", S1)
    assert opened.at >= hours[150]


def test_maintain_whole_station_silences_all_columns() -> None:
    hours, values = watched.stream().hours, watched.stream().values.copy()
    values[100:110] *= 1.9
    keep = np.r_[0:110, 130:900]
    assert seeded("a").observe({"a": (hours[keep], values[keep])})
    watch = seeded("a")
    watch.maintain("a", worked_on("", 100, 129), "ann")
    assert watch.observe({"a": (hours[keep], values[keep])}) == {}


def test_maintain_hours_already_judged_closes_what_opened_in_them() -> None:
    hours, values = watched.stream().hours, faulty((S1, 100, 140, 1.8))
    watch = seeded("a")
    watch.observe({"a": (hours[:150], values[:150])})
    assert [alarm.column for alarm in watch.open_alarms("a")] == [S1]
    assert said(watch.maintain("a", worked_on(S1, 96, 143), "ann")) == [("closed", "level", S1)]
    assert watch.observe({"a": (hours[150:600], values[150:600])}) == {}


def test_maintain_declared_after_the_work_keeps_its_days_out_of_the_baseline_as_before_it() -> None:
    hours, values = watched.stream().hours, faulty((S1, 100, 140, 1.02))
    midnight = int(-hours[0] % 24) + 96
    before, after, never = seeded("a"), seeded("a"), seeded("a")
    before.maintain("a", worked_on(S1, midnight, midnight + 47), "ann")
    for rows in (slice(0, 180), slice(180, 600)):
        for watch in (before, after, never):
            watch.observe({"a": (hours[rows], values[rows])})
        if rows.start == 0:
            after.maintain("a", worked_on(S1, midnight, midnight + 47), "ann")
    node = NODE_COLUMNS.index(S1)
    own = [watch.state("a")["level.baseline"][node, node] for watch in (before, after, never)]
    assert own[0] == own[1] != own[2]


def test_operations_any_cuts_and_restarts_give_the_same_events_and_memory() -> None:
    hours = watched.stream().hours

    def done(watch: Watch[str]) -> list[Event]:
        return [*watch.acknowledge("a", [S1], "ann"), *watch.maintain("a", worked_on(S5, 250, 300), "ann")]

    def run(rng: np.random.Generator) -> tuple[list[Event], dict[str, Any]]:
        watch, events, at = seeded("a"), [], 0
        for stop, operate in ((200, done), (500, lambda watch: watch.reset("a", [S5], "bob")), (900, None)):
            while at < stop:
                end = min(at + int(rng.integers(1, 90)), stop)
                events += watch.observe({"a": (hours[at:end], TWO[at:end])}).get("a", [])
                at, state = end, stored(watch.state("a"))
                watch.forget("a")
                watch.restore("a", state)
            events += operate(watch) if operate else []
        return events, watch.state("a")

    expected, memory = run(np.random.default_rng(0))
    assert {event.by for event in expected} == {"", "ann", "bob"}
    for seed in (1, 2, 3):
        events, other = run(np.random.default_rng(seed))
        assert events == expected
        np.testing.assert_equal(other, memory)


def test_state_of_a_station_with_alarms_is_json_and_arrays_within_64_kib() -> None:
    watch = seeded("a")
    watch.observe({"a": (watched.stream().hours[:390], TWO[:390])})
    state = watch.state("a")
    arrays = sum(part.nbytes for part in state.values() if isinstance(part, np.ndarray))
    rest = {name: part for name, part in state.items() if not isinstance(part, np.ndarray)}
    assert arrays + len(json.dumps(rest)) <= 64 * 1024
    assert len(state["alarms"]) == 2


def test_alarm_without_a_size_survives_a_snapshot() -> None:
    alarm = Alarm("T", "stuck", 3, opened=10, since=8, size=math.nan, peaks={3: 1.5})
    back = Alarm.from_state(snapshots.decode(snapshots.encode({"alarm": alarm.state()}))["alarm"])
    assert math.isnan(back.size)
    assert (back.column, back.peaks) == ("T", {3: 1.5})
