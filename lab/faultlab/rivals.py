"""What others would use on the same stream, column by column, with their own defaults.

A rival is a function of a column's reference, its rows before an onset and those after it; it returns at which of the latter
it flags the column. One of your own plugs in the same way: ``python -m lab.faultlab --rival module:function``.
"""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from airquality.ground import places
from airquality.ground.errors import UsageError
from airquality.records import RAW_COLUMNS
from lab.faultlab.faults import COLUMNS, NEXT, SOURCES, Fault, Healthy
from lab.faultlab.scoring import WITHIN_HOURS, Name, Outcome, judge

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Rival = Callable[[Floats, Floats, Floats], list[int]]

_DAY = 24


def _daily(flagged: Callable[[Floats, Floats], bool]) -> Rival:
    """Return a rival that compares each day, from the stream's first row on, with the reference."""

    def rival(reference: Floats, before: Floats, after: Floats) -> list[int]:
        found = []
        series, n_before = np.concatenate([before, after]), len(before)
        known = reference[~np.isnan(reference)]
        for start in range(n_before // _DAY * _DAY, len(series) - _DAY + 1, _DAY):
            window = series[start : start + _DAY]
            window = window[~np.isnan(window)]
            if len(window) >= _DAY // 2 and flagged(known, window):
                found.append(start + _DAY - 1 - n_before)
        return [at for at in found if at >= 0]

    return rival


def evidently_distance(reference: Floats, window: Floats) -> float:
    """Return Evidently's default drift score of a numeric column: the Wasserstein distance over the reference's sd."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from evidently.legacy.calculations.stattests import wasserstein_stat_test
        from evidently.legacy.core import ColumnType
        from pandas import Series
    result = wasserstein_stat_test.func(Series(reference), Series(window), ColumnType.Numerical, 0.1)
    return float(result[0])


def _evidently(reference: Floats, window: Floats) -> bool:
    return evidently_distance(reference, window) >= 0.1


def _ks(reference: Floats, window: Floats) -> bool:
    from scipy.stats import ks_2samp

    return bool(ks_2samp(reference, window).pvalue < 0.05)


def _adwin(reference: Floats, before: Floats, after: Floats) -> list[int]:
    from river.drift import ADWIN

    return _sequential(ADWIN(), before, after)


def _page_hinkley(reference: Floats, before: Floats, after: Floats) -> list[int]:
    from river.drift import PageHinkley

    return _sequential(PageHinkley(), before, after)


def _sequential(detector: object, before: Floats, after: Floats) -> list[int]:
    found = []
    for at, value in enumerate([*before.tolist(), *after.tolist()]):
        if not math.isnan(value):
            detector.update(value)  # type: ignore[attr-defined]
            if detector.drift_detected and at >= len(before):  # type: ignore[attr-defined]
                found.append(at - len(before))
    return found


RIVALS: dict[str, Rival] = {
    "Evidently default, daily": _daily(_evidently),
    "KS p < 0.05, daily": _daily(_ks),
    "ADWIN (river)": _adwin,
    "Page-Hinkley (river)": _page_hinkley,
}


def own(place: str) -> tuple[str, Rival]:
    """Return the rival at ``module:function``; raises ``UsageError`` if there is none."""
    try:
        found: Rival = places.load(place)
    except UsageError as error:
        raise UsageError(f"--rival {place}: {error.__cause__}; expected module:function") from error
    return place, found


def clean_names(rival: Rival, reference: Floats, hours: Ints, values: Floats) -> list[Name]:
    """Return what a rival names in the stream without a fault, in the order of the hours."""
    nothing = np.empty(0)
    found = []
    for column in COLUMNS:
        index = RAW_COLUMNS.index(column)
        found += [Name(column, int(hours[at])) for at in rival(reference[:, index], nothing, values[:, index])]
    return sorted(found, key=lambda name: name.at)


def outcomes(
    rival: Rival, reference: Floats, hours: Ints, healthy: Healthy, faults: Sequence[Fault], inputs: Sequence[Floats]
) -> list[Outcome]:
    """Return what a rival makes of each fault; ``inputs`` are the faulty streams. Only changed columns are judged again."""
    usual = clean_names(rival, reference, hours, healthy.values)
    by_column: dict[str, list[Name]] = defaultdict(list)
    for name in usual:
        by_column[name.column].append(name)
    found = []
    for fault, values in zip(faults, inputs, strict=True):
        names = [name for column in set(COLUMNS) - _touched(fault) for name in by_column[column]]
        for column in _touched(fault):
            index, stop = RAW_COLUMNS.index(column), fault.onset + WITHIN_HOURS
            after = values[fault.onset : stop, index]
            flagged = rival(reference[:, index], healthy.values[: fault.onset, index], after)
            names += [Name(column, int(hours[fault.onset + at])) for at in flagged]
        found.append(judge(fault, int(hours[fault.onset]), names, usual))
    return found


def _touched(fault: Fault) -> set[str]:
    columns = {fault.column, NEXT[fault.column]} if fault.kind == "swap" else {fault.column}
    return columns | ({SOURCES[column] for column in columns if column in SOURCES} if fault.follows else set())


def report_distance(reference: Floats, window: Floats) -> float:
    """Return the drift score that Evidently's Report shows of a window."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from evidently import DataDefinition, Dataset, Report
        from evidently.metrics import ValueDrift
        from pandas import DataFrame

        definition = DataDefinition(numerical_columns=["x"])
        current, past = (
            Dataset.from_pandas(DataFrame({"x": values}), data_definition=definition) for values in (window, reference)
        )
        snapshot = Report([ValueDrift(column="x")]).run(current_data=current, reference_data=past)
        return float(snapshot.dict()["metrics"][0]["value"])
