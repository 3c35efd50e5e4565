"""Features against an oracle written from their names, and the laws that keep training and stream the same."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from airquality.ground.errors import InvalidRecord
from airquality.model import calendar, features
from airquality.model.features import FAMILIES, NAMES, Family
from airquality.model.history import History
from airquality.records import HISTORY_HOURS, RAW_COLUMNS, TARGET, Outcome, Reading, datetime_of
from airquality.stream.feature_rows import take_features
from feature_buffer import FeatureBuffer
from tests import feature_oracle

Floats = NDArray[np.float64]

START = 307_668
CO, NMHC = RAW_COLUMNS.index(TARGET), RAW_COLUMNS.index("NMHC(GT)")
#: Typical values in the order of RAW_COLUMNS.
LEVELS = np.array([2.0, 1100.0, 200.0, 10.0, 940.0, 240.0, 830.0, 113.0, 1450.0, 1020.0, 18.0, 49.0, 1.0])

seeds = st.integers(0, 2**32 - 1)
# what takes long is tried less often, and not shrunk: no seed is simpler than another
few = settings(max_examples=settings().max_examples // 5, phases=[Phase.explicit, Phase.reuse, Phase.generate])


def dense_values(n_hours: int, seed: int = 0) -> Floats:
    return LEVELS * np.random.default_rng(seed).lognormal(0.0, 0.7, (n_hours, len(RAW_COLUMNS)))


def patchy_values(n_hours: int, seed: int) -> Floats:
    """Values with everything that happens to them: cells, hours, days and whole columns missing; zeros; frost; stuck."""
    rng = np.random.default_rng(seed)
    values = dense_values(n_hours, seed)
    shape = values.shape
    values[:, RAW_COLUMNS.index("T")] -= 15.0
    values[:, CO] *= rng.random(n_hours) > 0.05
    values[:, rng.integers(shape[1])] = 3.0
    values[rng.random(shape) < rng.choice([0.0, 0.05, 0.3, 0.9], shape[1])] = np.nan
    for _ in range(3):
        first, columns = rng.integers(n_hours), rng.random(shape[1]) < rng.choice([0.1, 1.0])
        values[first : first + rng.choice([1, 5, 30, 200]), columns] = np.nan
    return values


def hours_of(values: Floats) -> NDArray[np.int64]:
    return np.arange(START, START + len(values))


def batch(values: Floats) -> Floats:
    return features.batch(hours_of(values), values)


def row_at(values: Floats, position: int) -> Floats:
    """The one row of the grid index ``position``, computed alone."""
    row: Floats = features.rows(values, np.array([START + position]), np.array([position]))[0]
    return row


def columns(*patterns: str) -> list[int]:
    return [i for i, name in enumerate(NAMES) if any(re.fullmatch(pattern, name) for pattern in patterns)]


# --- the oracle ---

FLOORS = {
    "co": 0.05, "s1": 1.0, "c6h6": 0.05, "s2": 1.0, "nox": 0.5, "s3": 1.0, "no2": 0.5, "s4": 1.0, "s5": 1.0, "ah": 0.01,
}  # fmt: skip
COLUMN = {
    "co": "CO(GT)", "s1": "PT08.S1(CO)", "c6h6": "C6H6(GT)", "s2": "PT08.S2(NMHC)", "nox": "NOx(GT)", "s3": "PT08.S3(NOx)",
    "no2": "NO2(GT)", "s4": "PT08.S4(NO2)", "s5": "PT08.S5(O3)", "t": "T", "rh": "RH", "ah": "AH",
}  # fmt: skip
EXPONENT = {"c6h6": 1, "nox": 1, "s1": 3}
#: What involves no more than one sum of two terms is the same to the last bit; the rest to rounding.
EXACT = columns(r".*_log", r".*diff.*h", r"co_count.*", "temperature.*", ".*humidity")
STD = columns(r"co_std_.*")


class Oracle:
    """The meaning of every feature name, from a table of what was received in which times are looked up."""

    def __init__(self, received: pd.DataFrame, times: pd.DatetimeIndex) -> None:
        raw = pd.DataFrame({short: received[name] for short, name in COLUMN.items()})
        logs = pd.DataFrame({f"log_{x}": np.log(raw[x].clip(lower=floor)) for x, floor in FLOORS.items()})
        ratios = pd.DataFrame({f"ratio_{x}": logs["log_co"] - k * logs[f"log_{x}"] for x, k in EXPONENT.items()})
        table = pd.concat([raw[["t", "rh", "ah"]], logs, ratios], axis=1)
        self._times = times
        self._ago = {n: table.reindex(times - pd.Timedelta(hours=n)).set_axis(times) for n in range(169)}
        windows = {w: self._over(range(1, w + 1)) for w in (3, 6, 12, 24, 72, 168)}
        self._co_windows = {w: window["log_co"] for w, window in windows.items()}
        self._means = {w: window.mean() for w, window in windows.items()}
        self._last = windows[168].first()  # the first that is known, the newest hour coming first
        self._same_hour = self._over(range(24, 169, 24)).mean()
        self._base = self._base_of_now()

    def features(self) -> pd.DataFrame:
        columns = dict(self._calendar()) | dict(self._co()) | dict(self._sensors()) | dict(self._weather())
        assert set(columns) == set(NAMES)
        return pd.DataFrame(columns)[list(NAMES)]

    def _over(self, hours_ago: range) -> Any:
        return pd.concat({n: self._ago[n] for n in hours_ago}).groupby(level=1)

    def _log(self, x: str, hours_ago: int = 0) -> pd.Series:
        return self._ago[hours_ago][f"log_{x}"]

    def _estimate(self, x: str, ratio: pd.Series) -> pd.Series:
        return EXPONENT[x] * self._log(x) + ratio

    def _base_of_now(self) -> pd.Series:
        estimates = pd.DataFrame({x: self._estimate(x, self._last[f"ratio_{x}"]) for x in ("c6h6", "nox", "s1")})
        past = pd.DataFrame({"last": self._last["log_co"], "same hour": self._same_hour["log_co"]})
        return estimates.mean(axis=1).where(estimates.notna().any(axis=1), past.mean(axis=1))

    def _calendar(self) -> Iterator[tuple[str, pd.Series]]:
        phases = {"hour": self._times.hour / 24, "weekday": self._times.weekday / 7, "month": (self._times.month - 1) / 12}
        for name, phase in phases.items():
            yield f"{name}_sin", pd.Series(np.sin(2 * np.pi * phase), self._times)
            yield f"{name}_cos", pd.Series(np.cos(2 * np.pi * phase), self._times)

    def _co(self) -> Iterator[tuple[str, pd.Series]]:
        yield from {"co_base": np.exp(self._base), "log_co_base": self._base}.items()
        for x in EXPONENT:
            ratio = f"ratio_{x}"
            kinds = {"last": self._last[ratio], "same_hour": self._same_hour[ratio]}
            kinds |= {f"{w}h": self._means[w][ratio] for w in (6, 24, 72, 168)}
            yield from ((f"co_from_{x}_{kind}_rel", self._estimate(x, value) - self._base) for kind, value in kinds.items())
            step = EXPONENT[x] * (self._log(x) - self._log(x, 1))
            yield f"co_step_{x}_rel", self._log("co", 1) + step - self._base
        yield from ((f"co_lag_{n}h_rel", self._log("co", n) - self._base) for n in (1, 2, 3, 6, 12, 24, 48, 72, 168))
        yield from ((f"co_count_{w}h", self._co_windows[w].count()) for w in (24, 168))
        for w, window in self._co_windows.items():
            yield f"co_mean_{w}h_rel", window.mean() - self._base
            yield f"co_std_{w}h", window.std(ddof=0).where(window.count() > 1)
            yield f"co_min_{w}h_rel", window.min() - self._base
            yield f"co_max_{w}h_rel", window.max() - self._base
        yield "co_same_hour_rel", self._same_hour["log_co"] - self._base
        one, two, three = (self._log("co", n) for n in (1, 2, 3))
        yield from {"co_diff_1h": one - two, "co_acceleration": (one - two) - (two - three)}.items()
        yield "co_diff_24h", one - self._log("co", 25)

    def _sensors(self) -> Iterator[tuple[str, pd.Series]]:
        for x in ("s1", "c6h6", "s2", "nox", "s3", "no2", "s4", "s5"):
            now, one, two, day = (self._log(x, n) for n in (0, 1, 2, 24))
            yield from {f"{x}_log": now, f"{x}_rel": now - self._base}.items()
            yield from ((f"{x}_over_mean_{w}h", now - self._means[w][f"log_{x}"]) for w in (24, 168))
            yield from {f"{x}_diff_1h": now - one, f"{x}_acceleration": (now - one) - (one - two)}.items()
            yield f"{x}_diff_24h", now - day
        for pair in ("nox no2", "c6h6 nox", "s1 s2", "s3 s5", "s2 s4", "c6h6 no2"):
            a, b = pair.split()
            usual = self._means[168][f"log_{a}"] - self._means[168][f"log_{b}"]
            yield f"{a}_{b}_ratio", (self._log(a) - self._log(b)) - usual
            yield f"{a}_{b}_product_rel", (self._log(a) + self._log(b)) / 2 - self._base

    def _weather(self) -> Iterator[tuple[str, pd.Series]]:
        now, usual = self._ago[0], self._means[24]
        yield from {"temperature": now["t"], "humidity": now["rh"], "absolute_humidity": now["ah"]}.items()
        yield "temperature_x_humidity", now["t"] * now["rh"]
        yield from ((f"{x}_over_mean_24h", now[x] - usual[x]) for x in ("t", "rh"))
        yield "ah_over_mean_24h", now["log_ah"] - usual["log_ah"]


@few
@given(seeds)
def test_every_row_is_what_its_names_say(seed: int) -> None:
    values = patchy_values(400, seed)
    times = pd.date_range(datetime_of(START), periods=len(values), freq="h")
    # hours in which nothing was measured are not in the oracle's table at all: its lags are hours, not rows
    received = pd.DataFrame(values, index=times, columns=list(RAW_COLUMNS)).dropna(how="all")
    computed, expected = batch(values), Oracle(received, times).features().to_numpy()
    rest = sorted(set(range(len(NAMES))) - set(EXACT) - set(STD))
    np.testing.assert_array_equal(computed[:, EXACT], expected[:, EXACT])
    np.testing.assert_allclose(computed[:, rest], expected[:, rest], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(computed[:, STD], expected[:, STD], rtol=0, atol=1e-6)


# --- the stream ---


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


# --- what a row may know ---

T = 300


@given(seed=seeds, hidden=st.sampled_from([math.nan, 0.0, 400.0]))
def test_the_truth_of_an_hour_never_enters_its_own_features(seed: int, hidden: float) -> None:
    values = patchy_values(T + 2, seed)
    values[T] = LEVELS
    changed = values.copy()
    changed[T, CO] = hidden
    assert row_at(changed, T).tobytes() == row_at(values, T).tobytes()
    assert row_at(changed, T + 1).tobytes() != row_at(values, T + 1).tobytes()


def test_asking_for_the_truth_of_an_hour_is_an_error() -> None:
    history = History()
    for channel in ("log_co", "log_co_squared", "ratio_s1"):
        with pytest.raises(ValueError, match="what is to be predicted"):
            history.now(channel)


@given(seed=seeds)
def test_nothing_looks_ahead(seed: int) -> None:
    values, changed = patchy_values(T + 100, seed), patchy_values(T + 100, seed)
    changed[T + 1 :] = dense_values(99, seed + 1)
    assert batch(changed)[: T + 1].tobytes() == batch(values)[: T + 1].tobytes()
    assert batch(changed)[T + 1 :].tobytes() != batch(values)[T + 1 :].tobytes()


@given(seed=seeds, older=st.integers(1, 300))
def test_nothing_looks_further_back_than_168_hours(seed: int, older: int) -> None:
    values = patchy_values(T + 1, seed)
    changed = np.vstack([patchy_values(older, seed + 1), values[T - HISTORY_HOURS :]])
    assert (
        row_at(values, T).tobytes() == features.rows(changed, np.array([START + T]), np.array([len(changed) - 1])).tobytes()
    )


def test_nmhc_changes_nothing() -> None:
    values, changed = dense_values(T), dense_values(T)
    changed[:, NMHC] = np.nan
    assert batch(changed).tobytes() == batch(values).tobytes()


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.title)
def test_a_family_reads_the_hours_it_declares_and_no_older_ones(family: Family) -> None:
    oldest = T - family.history_hours
    own = columns(*map(re.escape, family.names))
    # how far back the base looks, and with it all that is relative to it, depends on when a pair was last complete
    silent = dense_values(T + 1)
    silent[oldest + 1 : T, RAW_COLUMNS.index("NOx(GT)")] = np.nan
    reads_the_oldest = False
    for values in (dense_values(T + 1), patchy_values(T + 1, 3), silent):
        older, last = values.copy(), values.copy()
        older[:oldest] = dense_values(oldest, 1)
        last[oldest] = np.nan
        assert row_at(older, T)[own].tobytes() == row_at(values, T)[own].tobytes()
        reads_the_oldest |= row_at(last, T)[own].tobytes() != row_at(values, T)[own].tobytes()
    assert reads_the_oldest or family.title == "calendar"


# --- what is missing, and what is odd ---


@pytest.mark.parametrize("sensor", ["s1", "c6h6", "s2", "nox", "s3", "no2", "s4", "s5"])
def test_a_silent_sensor_is_nan_in_its_own_features_and_in_no_other(sensor: str) -> None:
    values = dense_values(T)
    values[:, RAW_COLUMNS.index(COLUMN[sensor])] = np.nan
    computed = batch(values)[HISTORY_HOURS:]
    own = columns(rf"(.*_)?{sensor}_.*")
    others = sorted(set(range(len(NAMES))) - set(own))
    assert len(own) >= 8
    assert np.isnan(computed[:, own]).all()
    assert not np.isnan(computed[:, others]).any()


@pytest.mark.parametrize(("column", "pattern"), [("T", "temperature.*|t_.*"), ("RH", ".*humidity|rh_.*"), ("AH", "a.*h.*")])
def test_silent_weather_is_nan(column: str, pattern: str) -> None:
    values = dense_values(T)
    values[:, RAW_COLUMNS.index(column)] = np.nan
    own = [i for i in columns(pattern) if column != "RH" or NAMES[i] != "absolute_humidity"]
    assert len(own) >= 2
    assert np.isnan(batch(values)[HISTORY_HOURS:, own]).all()


def test_where_nothing_was_measured_only_clock_and_counts_are_known() -> None:
    computed = batch(np.full((T, len(RAW_COLUMNS)), np.nan))
    known = columns("(hour|weekday|month)_(sin|cos)", "co_count_.*")
    assert len(known) == 8
    assert np.isnan(np.delete(computed, known, axis=1)).all()
    assert not np.isnan(computed[:, known]).any()
    assert (computed[:, columns("co_count_.*")] == 0).all()


def test_without_any_co_there_is_no_base() -> None:
    values = dense_values(T)
    values[:, CO] = np.nan
    assert np.isnan(batch(values)[:, columns("(log_)?co_base", ".*_rel")]).all()


def test_without_sensors_the_base_is_what_co_was() -> None:
    values = dense_values(T + 1)
    values[T, 1:] = np.nan
    same_hour = np.log(values[T - 24 * np.arange(1, 8), CO]).mean()
    expected = math.exp((math.log(values[T - 1, CO]) + same_hour) / 2)
    assert row_at(values, T)[NAMES.index("co_base")] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("changed", [[CO], range(len(RAW_COLUMNS))], ids=["CO", "everything"])
def test_zeros_have_finite_logs(changed: list[int] | range) -> None:
    values = dense_values(T)
    values[:, list(changed)] = 0.0
    assert np.isfinite(batch(values)[HISTORY_HOURS:]).all()


@given(
    st.lists(
        st.tuples(
            st.integers(0, HISTORY_HOURS),
            st.integers(0, len(RAW_COLUMNS) - 1),
            st.sampled_from([math.inf, -math.inf, math.nan, 0.0, -0.0, -1.0, 5e-324, 1.7e308]),
        ),
        max_size=30,
    )
)
def test_odd_values_do_not_warn(cells: list[tuple[int, int, float]]) -> None:
    values = dense_values(HISTORY_HOURS + 1)
    for hour, column, odd in cells:
        values[hour, column] = odd
    assert row_at(values, HISTORY_HOURS).shape == (len(NAMES),)  # warnings are errors


# --- the declarations ---


def test_names_are_unique_and_many() -> None:
    assert len(set(NAMES)) == len(NAMES) >= 100
    assert [name for family in FAMILIES for name in family.names] == list(NAMES)
    assert max(family.history_hours for family in FAMILIES) == HISTORY_HOURS


def test_every_family_the_user_asked_for_is_there() -> None:
    assert {f"co_lag_{hours}h_rel" for hours in (1, 2, 3, 6, 12, 24, 48, 72)} <= set(NAMES)
    for statistic in ("mean", "std", "min", "max"):
        assert len(columns(rf"co_{statistic}_\d+h(_rel)?")) >= 3
    for kind in ("co_diff_.*", "co_acceleration", ".*_diff_1h", ".*_acceleration", ".*_product_rel", ".*_x_.*", ".*_ratio"):
        assert columns(kind), kind
    assert {f"{cycle}_{wave}" for cycle in ("hour", "month") for wave in ("sin", "cos")} <= set(NAMES)
    assert columns("(week)?day_sin")
    assert columns("(week)?day_cos")


def test_the_hash_covers_names_in_their_order_and_nothing_that_changes_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = features.manifest()
    body = {"features": list(NAMES), "history_hours": 168, "target": "CO(GT)"}
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    assert manifest == {**body, "hash": hashlib.sha256(text.encode()).hexdigest()}
    assert features.manifest() == manifest
    monkeypatch.setattr(features, "NAMES", (*NAMES[1::-1], *NAMES[2:]))
    assert features.manifest()["hash"] != manifest["hash"]


def test_the_raw_manifest_lists_what_features_read() -> None:
    raw = features.raw_manifest()
    assert raw == {"raw_features": [name for name in RAW_COLUMNS if name != "NMHC(GT)"], "target": TARGET}
