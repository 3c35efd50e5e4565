"""Thirteen kinds of fault, put into one column of healthy rows from an onset on."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from airquality.monitoring import twins
from airquality.monitoring.relations import Relations
from airquality.network.current import NETWORK
from airquality.records import COLUMN_INDEX, DEVICE_COLUMNS, HARD_LIMITS, TARGET

Floats = NDArray[np.float64]

#: Columns that faults are put into.
COLUMNS = (*DEVICE_COLUMNS, TARGET)
#: Columns from which another one is computed; where the fault enters before that, the computed column follows it.
SOURCES = {source: twin.column for twin in NETWORK.twins for source in twin.sources}
#: Which column each is swapped with.
NEXT = {
    "PT08.S1(CO)": "PT08.S2(NMHC)",
    "PT08.S2(NMHC)": "PT08.S3(NOx)",
    "PT08.S3(NOx)": "PT08.S4(NO2)",
    "PT08.S4(NO2)": "PT08.S5(O3)",
    "PT08.S5(O3)": "PT08.S1(CO)",
    "C6H6(GT)": "T",
    "T": "RH",
    "RH": "T",
    "AH": "C6H6(GT)",
    TARGET: "C6H6(GT)",
}


def _decimals(name: str) -> int:
    recorded = NETWORK[name].recorded
    return 1 if recorded is None else recorded.decimals


_PLACES = {name: _decimals(name) for name in COLUMNS}
_MONTH_HOURS = 28 * 24


@dataclass(frozen=True, slots=True, eq=False)
class Healthy:
    """Healthy rows ``(n, 13)``, and what faults in them are measured by: each column's sd, and that of its hourly change."""

    values: Floats
    sd: Floats
    hourly_sd: Floats

    @classmethod
    def of(cls, values: Floats, history: Floats) -> Healthy:
        """Measure by ``history``."""
        return cls(values, _sd(history), _sd(np.diff(history, axis=0)))


def _sd(table: Floats) -> Floats:
    """Return each column's sd, NaN where it has no value."""
    known = ~np.isnan(table)
    return np.array([column[there].std() if there.any() else np.nan for column, there in zip(table.T, known.T, strict=True)])


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault: its kind, the column, whether computed columns follow it, and the row it begins at."""

    kind: str
    column: str
    follows: bool
    onset: int

    @property
    def culprits(self) -> frozenset[str]:
        """The columns that may rightly be named."""
        followers = {SOURCES[self.column]} if self.follows and self.column in SOURCES else set()
        swapped = {NEXT[self.column]} if self.kind == "swap" else set()
        return frozenset({self.column} | followers | swapped)


Change = Callable[[Floats, Floats, "Draw"], Floats]


@dataclass(frozen=True, slots=True, eq=False)
class Draw:
    """What a change may use beside the column: chance, the column's sd and hourly sd, its month before, its successor."""

    rng: np.random.Generator
    sd: float
    hourly_sd: float
    before: Floats
    neighbour: Floats


def _ramp(n: int, hours: int) -> Floats:
    return np.minimum(np.arange(1, n + 1) / hours, 1.0)


def gain(factor: float) -> Change:
    """Return a gain that grows to ``factor`` within a week."""
    return lambda values, _, draw: values * (1.0 + (factor - 1.0) * _ramp(len(values), 168))


def shift(sds: float, hours: int = 1) -> Change:
    """Return a shift by so many sd, reached within ``hours``."""
    return lambda values, _, draw: values + sds * draw.sd * _ramp(len(values), hours)


def _stuck(values: Floats, _: Floats, draw: Draw) -> Floats:
    known = values[~np.isnan(values)]
    return np.where(np.isnan(values), np.nan, known[0] if len(known) else np.nan)


def _noise(values: Floats, _: Floats, draw: Draw) -> Floats:
    return values + draw.rng.normal(0.0, 2.0 * draw.hourly_sd, len(values))  # hourly changes become three times as large


def _missing(values: Floats, _: Floats, draw: Draw) -> Floats:
    return np.where(draw.rng.random(len(values)) < 0.5, np.nan, values)


def _spikes(values: Floats, _: Floats, draw: Draw) -> Floats:
    at = draw.rng.random(len(values)) < 0.04
    return values + np.where(at, 3.0 * draw.sd * draw.rng.choice([-1.0, 1.0], len(values)), 0.0)


def _swap(values: Floats, _: Floats, draw: Draw) -> Floats:
    return draw.neighbour


def late(hours: int) -> Change:
    """Return a clock that is so many hours late."""
    return lambda values, before, draw: np.concatenate([before[-hours:], values])[: len(values)]


def _clip(values: Floats, before: Floats, draw: Draw) -> Floats:
    return np.minimum(values, np.nanquantile(draw.before, 0.9))


#: The change each kind makes to a column's values from the onset on.
KINDS: dict[str, Change] = {
    "gain up": gain(1.3),
    "gain down": gain(0.75),
    "step up": shift(2.0),
    "step down": shift(-2.0),
    "slow": shift(1.5, 336),
    "stuck": _stuck,
    "noise": _noise,
    "missing": _missing,
    "spikes": _spikes,
    "swap": _swap,
    "clock 3 h": late(3),
    "clock 6 h": late(6),
    "clip": _clip,
}


def inject(healthy: Healthy, fault: Fault, relations: Relations, change: Change | None = None) -> Floats:
    """Return a copy of the healthy rows with the fault in them; the same fault is the same every time.

    ``change`` replaces that of the fault's kind where its size is another.
    """
    values = healthy.values.copy()
    index, rows = COLUMN_INDEX[fault.column], slice(fault.onset, None)
    seed = zlib.crc32(f"{fault.kind}:{fault.column}:{fault.onset}".encode())
    before = values[max(fault.onset - _MONTH_HOURS, 0) : fault.onset, index]
    neighbour = COLUMN_INDEX[NEXT[fault.column]]
    draw = Draw(
        np.random.default_rng(seed), healthy.sd[index], healthy.hourly_sd[index], before, values[rows, neighbour].copy()
    )
    own = values[rows, index].copy()
    values[rows, index] = _as_reported((change or KINDS[fault.kind])(own, before, draw), fault.column)
    if fault.kind == "swap":
        values[rows, neighbour] = _as_reported(own, NEXT[fault.column])
    if fault.follows:
        _recompute(values[rows], fault, relations)
    return values


def _as_reported(column: Floats, name: str) -> Floats:
    low, high = HARD_LIMITS[name]
    least = low if NETWORK[name].role == "weather" else 10.0 ** -_PLACES[name]  # a gas is never reported as 0
    most = 100.0 if NETWORK[name].unit == "%" else high
    return np.asarray(np.round(np.clip(column, least, most), _PLACES[name]), dtype=np.float64)


def _recompute(values: Floats, fault: Fault, relations: Relations) -> None:
    touched = {fault.column, NEXT[fault.column]} if fault.kind == "swap" else {fault.column}
    computed, _ = twins.expected(relations.twins, relations.twin_ranges, values)
    for twin, column in zip(NETWORK.twins, computed.T, strict=True):
        if touched & set(twin.sources):
            values[:, COLUMN_INDEX[twin.column]] = _as_reported(column, twin.column)


def cases(onsets: list[int], kinds: tuple[str, ...] = tuple(KINDS)) -> list[Fault]:
    """Return every kind in every column at every onset; a column others are computed from, with and without them."""
    return [
        Fault(kind, column, follows, onset)
        for kind in kinds
        for column in COLUMNS
        for follows in ((False, True) if column in SOURCES else (False,))
        for onset in onsets
    ]
