"""90 % intervals around predictions: scores calibrated on history, kept right as truths come in.

A score is the error over a scale: the square root of the predicted level, and more where the device is silent. Its
quantiles, by predicted level, come from out-of-sample predictions of history. Two memories adapt them to a station:
``typical``, what its scores are like lately, and by level the share of hours to leave outside (adaptive conformal inference,
Gibbs and Candes 2021), which rises while too many truths lie inside and falls while too many lie outside. Two cases are kept
apart, because the model's error differs: the newest truth is at most :data:`LATE_AFTER_HOURS` old, or it is older, and so
are the model's own inputs.

A third, slower memory, the ratio of squared scores to those of history, says what error is to be expected before a truth is
known.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Self

#: How much of the truth an interval is to hold.
COVERAGE = 0.9
#: The scale of a score is ``sqrt(offset + prediction)``, times ``SILENT_FACTOR`` where the device is silent; the offset is
#: this share of history's median prediction.
OFFSET_SHARE = 0.16
SILENT_FACTOR = 1.4
LEVELS = ("low", "middle", "high")
#: Which shares of history's predictions lie below the edges between the levels.
EDGE_SHARES = (0.4, 0.75)
#: How far the share outside moves with one truth, and its bounds: those of the quantiles that are known.
STEP = 0.01
SHARE_BOUNDS = (0.005, 0.5)
#: The quantiles of the scores that a calibration holds: from the half to all but :data:`SHARE_BOUNDS`, evenly spaced.
N_QUANTILES = 100
#: After how many truths the memory of a station's scores is half forgotten, and how strongly it widens intervals by case.
MEMORY_TRUTHS = 24.0
MEMORY_POWER: Mapping[Case, float] = {"prompt": 0.8, "late": 0.3}
#: The newest truth may be this old for a prediction that counts as made with prompt truth.
LATE_AFTER_HOURS = 12
#: After how many truths the memory of how large squared scores are is half forgotten.
RATIO_TRUTHS = 336.0

Case = Literal["prompt", "late"]
CASES: tuple[Case, ...] = ("prompt", "late")

_FORGET: float = 1.0 - 0.5 ** (1.0 / MEMORY_TRUTHS)
_FORGET_RATIO: float = 1.0 - 0.5 ** (1.0 / RATIO_TRUTHS)


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """The scores of one case on history.

    Attributes:
        offset: What is added to a prediction before the root is taken, in the target's unit.
        edges: Where one level of predictions ends and the next begins, in the target's unit.
        typical: Their mean; what a station's memory begins with and is compared with.
        square: The mean of their squares.
        quantiles: By level, the quantiles of the scores relative to the memory, ``N_QUANTILES`` each.
        n: By level, how many scores they are of.
    """

    offset: float
    edges: tuple[float, ...]
    typical: float
    square: float
    quantiles: tuple[tuple[float, ...], ...]
    n: tuple[int, ...]

    def level(self, prediction: float) -> int:
        """Return the index of a prediction's level."""
        return bisect_right(self.edges, prediction)

    def scale(self, prediction: float, *, silent: bool) -> float:
        """Return what an error is divided by to become a score."""
        return scale_of(self.offset, prediction, silent=silent)

    def quantile(self, level: int, share: float) -> float:
        """Return what a share ``1 - share`` of the level's scores does not exceed, between the known quantiles linearly."""
        known = self.quantiles[level]
        at = (0.5 - share) * (N_QUANTILES - 1) / (0.5 - SHARE_BOUNDS[0])
        below = min(int(at), N_QUANTILES - 2)
        return known[below] + (known[below + 1] - known[below]) * (at - below)


class Interval(NamedTuple):
    """Where the truth of a prediction is expected, in the target's unit, and how it was found; made once a row.

    ``expected_square`` is the squared error that is to be expected. All three are NaN where nothing is calibrated.
    ``level`` is an index of :data:`LEVELS`.
    """

    lower: float
    upper: float
    expected_square: float
    case: Case
    level: int
    silent: bool

    def holds(self, truth: float) -> bool:
        """Whether the truth lies inside; only where it is known."""
        return self.lower <= truth <= self.upper


@dataclass(frozen=True, slots=True)
class Adapted:
    """What one case has learnt at a station.

    ``typical`` is what its scores are like lately, ``shares`` by level how much to leave outside, ``ratio`` how many times
    the squared scores of history its own are.
    """

    typical: float
    shares: tuple[float, ...] = (1.0 - COVERAGE,) * len(LEVELS)
    ratio: float = 1.0


@dataclass(slots=True)
class _Adapting:
    """The same while it is written, once a truth."""

    typical: float
    shares: list[float]
    ratio: float

    @classmethod
    def of(cls, adapted: Adapted) -> _Adapting:
        return cls(adapted.typical, list(adapted.shares), adapted.ratio)

    def adapted(self) -> Adapted:
        return Adapted(self.typical, tuple(self.shares), self.ratio)


@dataclass(frozen=True, slots=True)
class IntervalsState:
    """Everything :class:`Intervals` remembers; ``basis`` is the calibration it was learnt with."""

    basis: str
    newest_truth: int | None
    adapted: Mapping[Case, Adapted] = field(default_factory=dict)


def scale_of(offset: float, prediction: float, *, silent: bool) -> float:
    """Return what an error is divided by to become a score.

    >>> scale_of(0.25, 2.0, silent=False)
    1.5
    """
    return math.sqrt(offset + max(prediction, 0.0)) * (SILENT_FACTOR if silent else 1.0)


def remembered(typical: float, score: float) -> float:
    """Return the memory of what scores are like, after one more."""
    return typical + _FORGET * (score - typical)


def memory_factor(case: Case, typical: float, table_typical: float) -> float:
    """Return how much wider than in history intervals are, given what the scores are like lately."""
    return math.pow(typical / table_typical, MEMORY_POWER[case])


class Intervals:
    """The intervals of one station, in the order of its rows and truths.

    Args:
        tables: The calibration by case; a case that is absent has no intervals.
        basis: What identifies the calibration.
    """

    def __init__(self, tables: Mapping[Case, ScoreTable], basis: str) -> None:
        self._tables = tables
        self._basis = basis
        self._newest_truth: int | None = None
        self._adapted = {case: _Adapting.of(Adapted(table.typical)) for case, table in tables.items()}

    def around(self, hour: int, prediction: float, *, silent: bool) -> Interval:
        """Return the interval of an hour's prediction, from what is known before its truth is."""
        late = self._newest_truth is None or hour - self._newest_truth > LATE_AFTER_HOURS
        case: Case = "late" if late else "prompt"
        table = self._tables.get(case)
        if table is None:
            return Interval(math.nan, math.nan, math.nan, case, 0, silent)
        level, adapted, scale = table.level(prediction), self._adapted[case], table.scale(prediction, silent=silent)
        width = table.quantile(level, adapted.shares[level]) * memory_factor(case, adapted.typical, table.typical) * scale
        expected = table.square * adapted.ratio * scale * scale
        return Interval(max(0.0, prediction - width), prediction + width, expected, case, level, silent)

    def learn(self, hour: int, prediction: float, interval: Interval, truth: float) -> None:
        """Learn from the truth of an hour that was predicted."""
        self.know(hour)
        table = self._tables.get(interval.case)
        if table is None or math.isnan(interval.lower):
            return
        adapted = self._adapted[interval.case]
        score = abs(truth - prediction) / table.scale(prediction, silent=interval.silent)
        moved = adapted.shares[interval.level] + STEP * (1.0 - COVERAGE - (not interval.holds(truth)))
        adapted.shares[interval.level] = min(max(moved, SHARE_BOUNDS[0]), SHARE_BOUNDS[1])
        adapted.typical = remembered(adapted.typical, score)
        adapted.ratio += _FORGET_RATIO * (score * score / table.square - adapted.ratio)

    def know(self, hour: int) -> None:
        """Note that the truth of an hour is known, whether or not it was predicted."""
        self._newest_truth = hour if self._newest_truth is None else max(hour, self._newest_truth)

    def state(self) -> IntervalsState:
        """Return everything :meth:`from_state` needs."""
        adapted = {case: adapting.adapted() for case, adapting in self._adapted.items()}
        return IntervalsState(self._basis, self._newest_truth, adapted)

    @classmethod
    def from_state(cls, state: IntervalsState, tables: Mapping[Case, ScoreTable], basis: str) -> Self:
        """Return the intervals whose :meth:`state` this is; what was learnt with another calibration is begun anew."""
        intervals = cls(tables, basis)
        intervals._newest_truth = state.newest_truth
        if state.basis == basis:
            intervals._adapted = {case: _Adapting.of(adapted) for case, adapted in state.adapted.items()}
        return intervals
