from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airquality.data.digests import EXACT_HOURS, REMEMBERED_HOURS, digest_of, short
from airquality.ground.errors import InvalidRecord
from airquality.ground.typed import plain
from airquality.incoming import LateTruth, TruthOutcome
from airquality.model import features
from airquality.records import HISTORY_HOURS, RAW_COLUMNS, Outcome, Reading, isoformat
from airquality.stream import feature_rows
from airquality.stream.feature_rows import take_features
from feature_buffer import FeatureBuffer

MISSING = (math.nan,) * len(RAW_COLUMNS)
START = 307_668


def reading(hour: int, variant: int = 0) -> Reading:
    """A reading whose values tell its hour and variant; the variant 2 measured nothing."""
    truth = math.nan if hour % 2 else float(variant)
    values = MISSING if variant == 2 else (truth, float(hour % 10_007), float(variant), *MISSING[3:])
    return Reading("station_1", hour, values)


def outcome(buffer: FeatureBuffer, pushed: Reading) -> str:
    try:
        return buffer.push(pushed).value
    except InvalidRecord as error:
        return error.reason


def feed(buffer: FeatureBuffer, hours: range) -> list[str]:
    outcomes = [outcome(buffer, reading(hour)) for hour in hours]
    buffer.take()
    return outcomes


def warm_buffer(accepted_hours: int = HISTORY_HOURS) -> FeatureBuffer:
    """A buffer whose newest hour is ``START - 1``."""
    buffer = FeatureBuffer()
    feed(buffer, range(START - accepted_hours, START))
    return buffer


class NaiveBuffer:
    """What the buffer's docstrings say, with all of history in one dictionary."""

    def __init__(self) -> None:
        self.accepted: dict[int, Reading] = {}
        self.seen: dict[int, tuple[float, ...]] = {}  # with the truths that came later
        self.newest: int | None = None
        self.warmed = 0

    def push(self, pushed: Reading) -> str:
        if self.newest is not None and pushed.hour <= self.newest:
            known = self.accepted.get(pushed.hour)
            if known is None or self.newest - pushed.hour >= REMEMBERED_HOURS:
                return "late"
            same = repr(known.values) == repr(pushed.values)
            if self.newest - pushed.hour >= EXACT_HOURS:  # eight bits are left of its checksum
                same = short(digest_of(known.packed())) == short(digest_of(pushed.packed()))
            return "duplicate" if same else "conflict"
        if self.newest is not None and pushed.hour - self.newest > HISTORY_HOURS:
            self.warmed = 0
        self.accepted[pushed.hour], self.newest = pushed, pushed.hour
        self.seen[pushed.hour] = pushed.values
        if self.warmed < HISTORY_HOURS:
            self.warmed += 1
            return "warmup"
        return "ready"

    def fill(self, truth: LateTruth) -> str:
        if self.newest is None or truth.hour > self.newest:
            return "never_streamed"
        if self.newest - truth.hour >= HISTORY_HOURS:
            return "too_old"
        known = self.seen.get(truth.hour)
        if known is None:
            return "never_streamed"
        if not math.isnan(known[0]):
            return "repeated" if known[0] == truth.value else "contradicting"
        self.seen[truth.hour] = (truth.value, *known[1:])
        return "filled"

    def window(self, hour: int) -> bytes:
        """The bytes of the 169 hours that end with ``hour``."""
        hours = range(hour - HISTORY_HOURS, hour + 1)
        return np.array([self.seen.get(h, MISSING) for h in hours]).tobytes()


# A run of readings: how far its first hour is from the newest one, how many follow hour by hour, which values, and what
# is done after it.
near_a_border = [n + d for n in (0, HISTORY_HOURS, REMEMBERED_HOURS, -REMEMBERED_HOURS) for d in (-1, 0, 1, 2)]
runs = st.lists(
    st.tuples(
        st.sampled_from([1, 1, 1, *near_a_border]) | st.integers(-300, 300),
        st.sampled_from([1, 2, 5, 168]) | st.integers(1, 200),
        st.integers(0, 2),
        st.sampled_from(["go on", "take", "restore", "truths", "truths"]),
    ),
    min_size=1,
    max_size=12,
)


def readings_of(run: tuple[int, int, int, str], newest: int | None) -> Iterator[Reading]:
    step, length, variant, _ = run
    first = (START if newest is None else newest) + step
    return (reading(hour, variant) for hour in range(first, first + length))


def truths_after(pushed: Reading, run: tuple[int, int, int, str]) -> list[LateTruth]:
    """Truths that come right after a reading: of hours that lack one, have one, are too old, or were never streamed."""
    if run[-1] != "truths":
        return []
    backs = {0: (0, 1), 1: (3, -1), 2: (24, 167), 3: (168, 2)}[pushed.hour % 4]
    return [LateTruth(pushed.station_id, pushed.hour - back, float(pushed.hour % 3)) for back in backs]


@given(runs)
def test_it_does_what_a_dictionary_of_all_history_does(stream: list[tuple[int, int, int, str]]) -> None:
    naive, buffer = NaiveBuffer(), FeatureBuffer()
    windows: list[bytes] = []
    for run in stream:
        for pushed in readings_of(run, naive.newest):
            expected = naive.push(pushed)
            assert outcome(buffer, pushed) == expected
            if expected == "ready":
                windows.append(naive.window(pushed.hour))
            for truth in truths_after(pushed, run):
                assert buffer.fill(truth).value == naive.fill(truth)
        if run[-1] in ("go on", "truths"):
            continue
        assert taken_windows(buffer) == windows
        windows = []
        if run[-1] == "restore":
            buffer = FeatureBuffer.from_state(buffer.state())
    assert buffer.newest_hour == naive.newest
    assert taken_windows(buffer) == windows


def taken_windows(buffer: FeatureBuffer) -> list[bytes]:
    grid, ready = buffer.take()
    return [grid[index - HISTORY_HOURS : index + 1].tobytes() for index, _ in ready]


@given(runs)
def test_rows_in_is_the_sum_of_what_became_of_them(stream: list[tuple[int, int, int, str]]) -> None:
    buffer, counts = FeatureBuffer(), dict.fromkeys(("warmup", "ready", "duplicate", "conflict", "late"), 0)
    pushed_rows = taken_rows = 0
    for run in stream:
        for pushed in readings_of(run, buffer.newest_hour):
            counts[outcome(buffer, pushed)] += 1  # a KeyError here is an outcome outside the law
            pushed_rows += 1
        if run[-1] not in ("go on", "truths"):
            taken_rows += len(buffer.take()[1])
    assert sum(counts.values()) == pushed_rows
    assert taken_rows + len(buffer.take()[1]) == counts["ready"]


# --- warm-up and gaps ---


def test_the_first_168_accepted_hours_only_fill_the_buffer() -> None:
    assert feed(FeatureBuffer(), range(START, START + 171)) == ["warmup"] * 168 + ["ready"] * 3


def test_warm_up_counts_accepted_readings_not_hours() -> None:
    buffer = FeatureBuffer()
    assert set(feed(buffer, range(START, START + 167 * 24, 24))) == {"warmup"}
    assert outcome(buffer, reading(buffer.newest_hour or 0)) == "duplicate"
    assert buffer.warmed_hours == 167


@pytest.mark.parametrize(("silent_until", "expected"), [(166, "ready"), (167, "ready"), (168, "warmup"), (50_000, "warmup")])
def test_it_warms_up_again_only_after_more_than_168_hours(silent_until: int, expected: str) -> None:
    # START + 167 is 168 hours after the newest one: its lag of 168 hours is still known
    buffer = warm_buffer()
    assert outcome(buffer, reading(START + silent_until)) == expected
    again = feed(buffer, range(START + silent_until + 1, START + silent_until + 170))
    assert again.count("warmup") == (167 if expected == "warmup" else 0)


@given(st.lists(st.integers(1, HISTORY_HOURS), min_size=1, max_size=5))
def test_a_missing_hour_is_a_row_of_nan(steps: list[int]) -> None:
    buffer = warm_buffer()
    hours = [START - 1 + int(total) for total in np.cumsum(steps)]
    assert [outcome(buffer, reading(hour)) for hour in hours] == ["ready"] * len(hours)
    grid, ready = buffer.take()
    assert [hour for _, hour in ready] == hours
    for index, hour in ready:
        assert grid[index, 1] == hour % 10_007
    measured = ~np.isnan(grid[HISTORY_HOURS:, 1])
    assert measured.sum() == len(hours)
    assert len(measured) == hours[-1] - START + 1


# --- repeats ---


def test_a_replay_of_remembered_hours_is_duplicates() -> None:
    buffer = warm_buffer(REMEMBERED_HOURS + 100)
    oldest = START - REMEMBERED_HOURS
    assert set(feed(buffer, range(oldest, START))) == {"duplicate"}
    assert outcome(buffer, reading(oldest - 1)) == "late"


@pytest.mark.parametrize("jumps", [[REMEMBERED_HOURS], [6_000, REMEMBERED_HOURS - 6_000], [3 * REMEMBERED_HOURS]])
def test_a_skipped_hour_is_late_whatever_its_place_held_before(jumps: list[int]) -> None:
    buffer = warm_buffer()
    for newest in START - 1 + np.cumsum(jumps):
        assert buffer.push(reading(int(newest))) is Outcome.WARMUP
    for before in range(START - 100, START - 1):
        skipped = Reading("station_1", before + sum(jumps), reading(before).values)
        assert outcome(buffer, skipped) == "late"


def test_a_conflict_and_a_late_row_have_different_reasons() -> None:
    buffer = warm_buffer()
    feed(buffer, range(START + 1, START + 2))
    newest, skipped, before_the_first = START + 1, START, START - HISTORY_HOURS - 1
    assert [outcome(buffer, reading(hour, 1)) for hour in (newest, skipped, before_the_first)] == [
        "conflict",
        "late",
        "late",
    ]
    with pytest.raises(InvalidRecord, match=f"station_1 {isoformat(newest)} was accepted before with other values"):
        buffer.push(reading(newest, 1))
    with pytest.raises(InvalidRecord, match=f"{isoformat(skipped)} is older than the newest hour, {isoformat(newest)}"):
        buffer.push(reading(skipped))


def test_an_hour_in_which_nothing_was_measured_is_remembered_too() -> None:
    buffer = warm_buffer()
    assert [outcome(buffer, reading(START, variant)) for variant in (2, 2, 0)] == ["ready", "duplicate", "conflict"]


@pytest.mark.parametrize("repeated", [reading(START - 1), reading(START - 5, 1), reading(START - 9_000)])
def test_a_repeat_changes_nothing(repeated: Reading) -> None:
    buffer, untouched = warm_buffer(), warm_buffer()
    outcome(buffer, repeated)
    assert frozen(buffer) == frozen(untouched)


# --- state ---


def frozen(buffer: FeatureBuffer) -> dict[str, object]:
    return {name: value.tobytes() if isinstance(value, np.ndarray) else value for name, value in held(buffer).items()}


def held(buffer: FeatureBuffer) -> dict[str, object]:
    state = plain(buffer.state())
    digests = state.pop("digests")
    return {**state, **digests}


@pytest.mark.parametrize("fed", [0, 1, 167, 168, 169, 400])
def test_a_restored_buffer_goes_on_exactly(fed: int) -> None:
    buffer = warm_buffer(fed)
    restored = FeatureBuffer.from_state(buffer.state())
    assert frozen(restored) == frozen(buffer)
    ahead = [reading(hour) for hour in (*range(START - 3, START + 200), START + 300, START + 299, START + 900)]
    assert [outcome(restored, r) for r in ahead] == [outcome(buffer, r) for r in ahead]
    assert take_features([restored]).tobytes() == take_features([buffer]).tobytes()
    assert frozen(restored) == frozen(buffer)


def test_a_state_does_not_change_when_its_buffer_goes_on() -> None:
    buffer = warm_buffer()
    state = buffer.state()
    restored = FeatureBuffer.from_state(state)
    before = frozen(restored)
    for going_on in (buffer, restored):
        feed(going_on, range(START, START + 400))
    assert frozen(FeatureBuffer.from_state(state)) == before


@pytest.mark.parametrize("silent", [168, 400])
def test_a_state_after_an_outage_holds_no_hour_from_before_it(silent: int) -> None:
    buffer = warm_buffer()
    assert outcome(buffer, reading(START + silent)) == "warmup"
    history = buffer.state().history
    assert np.isnan(history[:-1]).all()
    assert history[-1, 1] == (START + silent) % 10_007


def test_a_state_with_ready_rows_is_refused() -> None:
    buffer = warm_buffer()
    buffer.push(reading(START))
    with pytest.raises(RuntimeError, match="1 ready rows were not taken"):
        buffer.state()


def test_a_state_is_bounded() -> None:
    buffer = FeatureBuffer()
    sizes = set()
    for start in range(START, START + 20_000, 4_000):
        feed(buffer, range(start, start + 2_000))
        sizes.add(sum(value.nbytes for value in held(buffer).values() if isinstance(value, np.ndarray)))
    assert len(sizes) == 1
    assert sizes.pop() < 64 * 1024


# --- many stations ---


def test_rows_are_taken_by_buffer_in_the_order_of_their_readings() -> None:
    buffers = [warm_buffer(), FeatureBuffer(), warm_buffer(), warm_buffer()]
    pushes: list[tuple[int, int]] = [(0, START), (3, START + 1), (1, START), (0, START + 5), (3, START + 2)]
    kinds = [buffers[station].push(reading(hour)) for station, hour in pushes]
    assert [kind is Outcome.READY for kind in kinds] == [True, True, False, True, True]
    rows = take_features(buffers)
    s1 = features.NAMES.index("s1_log")
    assert rows[:, s1].tolist() == [np.log(hour % 10_007) for hour in (START, START + 5, START + 1, START + 2)]
    assert take_features(buffers).shape == take_features([]).shape == (0, len(features.NAMES))


# --- late truths ---


def test_fill_is_seen_by_the_rows_after_it_and_by_none_before() -> None:
    buffer = warm_buffer()
    buffer.push(reading(START + 1))
    buffer.push(reading(START + 2))
    assert buffer.fill(LateTruth("station_1", START + 1, 7.0)) is TruthOutcome.FILLED
    buffer.push(reading(START + 3))
    grid, ready = buffer.take()
    assert [hour for _, hour in ready] == [START + 1, START + 2, START + 3]
    assert math.isnan(grid[ready[1][0] - 1, 0])
    assert grid[ready[2][0] - 2, 0] == 7.0


def test_state_of_a_filled_buffer_is_not_shared_with_it() -> None:
    buffer = warm_buffer()
    before = buffer.state()
    copy = before.history.copy()
    hour = START - 1 if math.isnan(copy[-1, 0]) else START - 2
    assert buffer.fill(LateTruth("station_1", hour, 7.0)) is TruthOutcome.FILLED
    assert before.history.tobytes() == copy.tobytes()


def test_take_features_of_many_truths_gives_the_bits_of_one_row_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_rows, "MAX_GRID_HOURS", 400)
    together, one_by_one = warm_buffer(), warm_buffer()
    expected = []
    for hour in range(START, START + 40):
        for buffer in (together, one_by_one):
            buffer.push(reading(hour))
            buffer.fill(LateTruth("station_1", hour - 24, 1.5))
        expected.append(take_features([one_by_one]))
    assert take_features([together]).tobytes() == np.concatenate(expected).tobytes()
