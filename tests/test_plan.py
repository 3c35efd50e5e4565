"""How features are computed: the stream, the batch and any cut of either have the same bits."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airquality.ground.errors import InvalidRecord
from airquality.model import calendar, features
from airquality.model.features import NAMES
from airquality.records import HISTORY_HOURS, RAW_COLUMNS, Outcome, Reading, datetime_of
from airquality.stream.feature_rows import take_features
from feature_buffer import FeatureBuffer
from tests import feature_oracle
from tests.feature_definitions import START, T, batch, dense_values, few, hours_of, patchy_values, row_at, seeds


def random_stream(n_events: int, seed: int, station_id: str) -> Iterator[Reading]:
    """Readings as they come: mostly the next hour, with gaps short and long, duplicates, conflicts and late rows."""
    rng = np.random.default_rng(seed)
    kinds = rng.choice(["next", "gap", "again", "conflict", "late"], n_events, p=[0.8, 0.08, 0.04, 0.04, 0.04])
    # after the first rows, and early enough for rows after the warm-up that most of these lengths bring
    kinds[rng.integers(220, 300)] = "outage"
    steps = {"next": 1, "gap": int(rng.integers(2, 40)), "outage": int(rng.choice([167, 168, 169, 170, 400]))}
    hour, sent = START + int(rng.integers(100)), list[Reading]()
    for kind, row in zip(kinds, patchy_values(n_events, seed), strict=True):
        earlier = sent[rng.integers(len(sent))] if sent else None
        if kind in steps or earlier is None:
            hour += steps.get(kind, 1)
            sent.append(Reading(station_id, hour, tuple(row)))
            yield sent[-1]
        else:
            repeated = {"again": earlier.hour, "conflict": earlier.hour, "late": earlier.hour - 1}[kind]
            yield earlier if kind == "again" else Reading(station_id, repeated, tuple(row))


class Station:
    """One station's buffer, what it accepted, and the bytes of every row taken from it, by hour."""

    def __init__(self) -> None:
        self.buffer = FeatureBuffer()
        self.accepted: list[Reading] = []
        self.waiting: list[int] = []
        self.taken: dict[int, bytes] = {}

    def push(self, reading: Reading) -> None:
        try:
            outcome = self.buffer.push(reading)
        except InvalidRecord:
            return
        if outcome is not Outcome.DUPLICATE:
            self.accepted.append(reading)
        if outcome is Outcome.READY:
            self.waiting.append(reading.hour)

    def batch_rows(self) -> dict[int, bytes]:
        """The batch form's rows of a file that holds what was accepted, hour by hour."""
        first, last = self.accepted[0].hour, self.accepted[-1].hour
        values = np.full((last - first + 1, len(RAW_COLUMNS)), np.nan)
        for reading in self.accepted:
            values[reading.hour - first] = reading.values
        rows = features.batch(np.arange(first, last + 1), values)
        return {hour: rows[hour - first].tobytes() for hour in self.taken}


def take(stations: list[Station]) -> None:
    rows = iter(take_features([station.buffer for station in stations]))
    for station in stations:
        station.taken |= {hour: next(rows).tobytes() for hour in station.waiting}
        station.waiting = []
    assert next(rows, None) is None


@few
@given(seeds)
def test_the_stream_row_by_row_gives_the_bits_of_the_batch(seed: int) -> None:
    station = Station()
    for reading in random_stream(480, seed, "station_1"):
        station.push(reading)
        take([station])
    assert station.taken
    assert station.taken == station.batch_rows()


@few
@given(seed=seeds, mean_batch=st.sampled_from([5, 50, 500]), n_stations=st.integers(1, 4))
def test_no_cut_grouping_or_restart_changes_a_bit(seed: int, mean_batch: int, n_stations: int) -> None:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(301, 500, n_stations)
    streams = [random_stream(int(n), seed + i, f"station_{i}") for i, n in enumerate(lengths)]
    stations = [Station() for _ in streams]
    for i in rng.permutation(np.repeat(np.arange(n_stations), lengths)):
        stations[i].push(next(streams[i]))
        if rng.random() < 1 / mean_batch:
            take([stations[k] for k in rng.permutation(n_stations)])
            restarted = stations[rng.integers(n_stations)]
            restarted.buffer = FeatureBuffer.from_state(restarted.buffer.state())
    take(stations)
    for station in stations:
        assert station.taken == station.batch_rows()


ODD = [math.inf, -math.inf, 0.0, -0.0, -1.0, 5e-324, 1.7e308]


@few
@given(seed=seeds, odd_share=st.sampled_from([0.0, 0.001, 0.1]))
def test_rows_have_the_bits_of_the_declarations_over_the_whole_grid(seed: int, odd_share: float) -> None:
    rng = np.random.default_rng(seed)
    values = patchy_values(600, seed)
    odd = rng.random(values.shape) < odd_share
    values[odd] = rng.choice(ODD, odd.sum())
    positions = rng.permutation(np.arange(HISTORY_HOURS, 600))[: rng.choice([1, 2, 300, 432])]
    expected = feature_oracle.rows(values, START + positions, positions)
    assert features.rows(values, START + positions, positions).tobytes() == expected.tobytes()


def test_sums_of_negative_zeros_are_those_of_the_oracle() -> None:
    values = -0.0 * dense_values(T + 1)
    values[:, RAW_COLUMNS.index("T")] = [*[-0.0] * T, 0.0]
    expected = feature_oracle.rows(values, np.array([START + T]), np.array([T]))[0]
    assert row_at(values, T).tobytes() == expected.tobytes()
    assert not np.signbit(expected[NAMES.index("t_over_mean_24h")])


@given(st.lists(st.integers(0, 2_016_000), min_size=1, max_size=5))
def test_waves_of_any_hour_until_2199_are_those_of_its_date(hours: list[int]) -> None:
    of_dates = [
        wave(2 * math.pi * phase)
        for moment in map(datetime_of, hours)
        for phase in (moment.hour / 24, moment.weekday() / 7, (moment.month - 1) / 12)
        for wave in (math.sin, math.cos)
    ]
    np.testing.assert_allclose(calendar.waves(np.array(hours)).ravel(), of_dates, rtol=0, atol=1e-12)


def test_logarithms_have_the_same_bits_in_any_row() -> None:
    values = np.random.default_rng(4).lognormal(0.0, 3.0, 999)
    alone = b"".join(np.log(values[i : i + 1]).tobytes() for i in range(len(values)))
    for before in range(9):
        shifted = np.concatenate([np.ones(before), values])
        assert np.log(shifted)[before:].tobytes() == alone
    assert np.log(values.reshape(-1, 3)).tobytes() == alone


def test_a_long_file_is_computed_in_parts_with_the_same_bits() -> None:
    values = patchy_values(1_300, 1)
    whole = features.rows(
        np.vstack([np.full((HISTORY_HOURS, len(RAW_COLUMNS)), np.nan), values]),
        hours_of(values),
        np.arange(HISTORY_HOURS, HISTORY_HOURS + len(values)),
    )
    assert batch(values).tobytes() == whole.tobytes()


def test_rows_may_be_asked_for_in_any_order_and_number() -> None:
    values = patchy_values(400, 2)
    positions = np.array([399, 168, 200, 200, 399])
    asked = features.rows(values, START + positions, positions)
    assert asked.tobytes() == b"".join(row_at(values, p).tobytes() for p in positions)
    assert features.rows(values, positions[:0], positions[:0]).shape == batch(values[:0]).shape == (0, len(NAMES))


def test_a_row_needs_168_hours_of_grid_before_it() -> None:
    with pytest.raises(ValueError, match="position 167 has fewer than 168 hours"):
        row_at(dense_values(300), 167)


def test_a_file_with_a_hole_is_refused() -> None:
    with pytest.raises(ValueError, match="consecutive"):
        features.batch(np.array([1, 2, 4]), dense_values(3))
