from __future__ import annotations

import numpy as np
import pytest

from airquality.ground.errors import UsageError
from airquality.records import RAW_COLUMNS, isoformat
from lab.faultlab import faults, spec
from tests import watched


@pytest.mark.parametrize(
    ("text", "column", "hour"),
    [
        ("gain:S1:1.3:2005-02-20", "PT08.S1(CO)", "2005-02-20T00:00:00"),
        ("gain:S1:2005-02-20", "PT08.S1(CO)", "2005-02-20T00:00:00"),
        ("stuck:RH:2005-03-01T06", "RH", "2005-03-01T06:00:00"),
        ("step:PT08.S5(O3):-2:2005-03-01T06:00", "PT08.S5(O3)", "2005-03-01T06:00:00"),
        ("clock:S2:6:2005-03-01T06:00:00", "PT08.S2(NMHC)", "2005-03-01T06:00:00"),
    ],
)
def test_parse_kind_column_size_and_date(text: str, column: str, hour: str) -> None:
    found = spec.parse(text)
    assert (found.column, isoformat(found.hour)) == (column, hour)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no fault is called"),
        ("gain", "no fault is called"),
        ("gain:S9:1.3:2005-02-20", "no fault is called"),
        ("melt:S1:2005-02-20", "no fault is called"),
        ("gain:S1", "when does"),
        ("gain:S1:1.3", "when does"),
        ("stuck:S1:noon", "when does"),
        ("gain:S1:x:2005-02-20", "a factor reached within 7 days, from 0.01 to 100"),
        ("gain:S1:0:2005-02-20", "a factor reached within 7 days"),
        ("gain:S1:inf:2005-02-20", "a factor reached within 7 days"),
        ("clock:S1:0:2005-02-20", "whole hours late, from 1 to 72"),
        ("stuck:S1:3:2005-02-20", "'stuck' takes no size"),
        ("gain:S1:1.3:2005-02-20T06:30", "not on the hour"),
    ],
)
def test_parse_what_is_no_fault_says_what_can_be_said(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        spec.parse(text)


@pytest.mark.parametrize("kind", [*faults.KINDS, "gain", "step", "clock"])
def test_parse_every_kind_of_the_lab_can_be_put_into_rows(kind: str) -> None:
    frame, relations = watched.stream(), watched.calibration().suite.relations
    found = spec.parse(f"{kind.replace(' ', '-')}:S4:{isoformat(int(frame.hours[300]))}")
    faulty = found.put_into(frame, watched.history(), relations)
    changed = ~np.isclose(frame.values, faulty.values, equal_nan=True)
    assert changed[300:].any()
    assert not changed[:300].any()
    assert "PT08.S4(NO2)" in found.culprits


def test_put_into_changes_the_column_from_the_hour_on() -> None:
    frame, relations = watched.stream(), watched.calibration().suite.relations
    start = isoformat(int(frame.hours[300]))
    faulty = spec.parse(f"gain:S1:2:{start}").put_into(frame, watched.history(), relations)
    index = RAW_COLUMNS.index("PT08.S1(CO)")
    changed = ~np.isclose(frame.values, faulty.values, equal_nan=True)
    assert not changed[:300].any()
    assert set(np.flatnonzero(changed.any(axis=0))) == {index}
    ratio = faulty.values[-50:, index] / frame.values[-50:, index]
    assert np.nanmax(np.abs(ratio - 2)) < 0.01


def test_put_into_rows_that_end_before_is_refused() -> None:
    frame, relations = watched.stream(), watched.calibration().suite.relations
    with pytest.raises(UsageError, match="begins outside the rows"):
        spec.parse("stuck:T:1999-01-01").put_into(frame, watched.history(), relations)
