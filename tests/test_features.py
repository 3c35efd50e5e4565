"""Features against an oracle written from their names, and the laws that keep training and stream the same."""

from __future__ import annotations

import hashlib
import json
import math
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airquality.model import features
from airquality.model.features import FAMILIES, NAMES, Family
from airquality.model.history import History
from airquality.records import HISTORY_HOURS, RAW_COLUMNS, TARGET, datetime_of
from tests.feature_definitions import (
    CO,
    COLUMN,
    EXACT,
    LEVELS,
    NMHC,
    START,
    STD,
    Oracle,
    T,
    batch,
    columns,
    dense_values,
    few,
    patchy_values,
    row_at,
    seeds,
)

# --- the oracle ---


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


# --- what a row may know ---


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
