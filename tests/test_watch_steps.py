"""How much the detectors judge again on a stream whose wrong columns change often; what they find is another file's."""

from __future__ import annotations

import numpy as np
import pytest

from airquality.monitoring.bank import Bank, Step
from airquality.monitoring.level import Level
from airquality.monitoring.rows import Floats
from airquality.records import DEVICE_COLUMNS, TARGET
from tests import watched


def frozen_in_turn() -> np.ndarray:
    """Return rows whose columns freeze for 20 hours in turn: every few hours an alarm opens or closes."""
    values = watched.stream().values[:600].copy()
    for index, name in enumerate((*DEVICE_COLUMNS, TARGET)):
        for start in range(20 + 7 * index, len(values), 60):
            values[start : start + 20, watched.column(name)] = values[start, watched.column(name)]
    return values


def test_observe_columns_that_freeze_in_turn_judges_few_rows_again(monkeypatch: pytest.MonkeyPatch) -> None:
    judged, look = 0, Bank.look

    def counted(self: Bank, slots: list[int], first: int, rows: Floats, wrong: frozenset[str] = frozenset()) -> Step:
        nonlocal judged
        judged += rows.shape[1]
        return look(self, slots, first, rows, wrong)

    watch, values = watched.calibration().watch(), frozen_in_turn()
    monkeypatch.setattr(Bank, "look", counted)
    events = watch.observe({"a": (watched.stream().hours[: len(values)], values)})["a"]
    assert len(events) > 50
    assert judged < 7 * len(values)


def test_level_columns_that_no_view_uses_share_the_views_without_them() -> None:
    level = next(d for d in watched.calibration().suite.detectors if isinstance(d, Level))
    assert level._views_without(frozenset({TARGET})) is level._views_without(frozenset())
    assert level._views_without(frozenset({"T", TARGET})) is level._views_without(frozenset({"T"}))
    assert level._views_without(frozenset({"T"})) is not level._views_without(frozenset())
