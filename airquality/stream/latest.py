"""What the metrics of a station show: its latest row, prediction, windows and final errors. Part of its snapshot.

So that a process that goes on from a snapshot shows at once what the one before it showed, not with the next row or window.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from airquality.monitoring.drift import Window
from airquality.truth.performance import MIN_TRUTHS
from airquality.truth.window_truth import WindowTruth


@dataclass(frozen=True, slots=True)
class LatestWindow:
    """The latest closed window of a kind; errors in the target's unit, NaN where too few truths are known to say.

    Attributes:
        end_hour: Its last hour, in hours since 1970.
        rmse: The error of the predictions whose truth was in by its end.
        estimated_rmse: The error that was expected of it before its truth.
        n_learning: Columns whose level could not be judged yet.
    """

    end_hour: int
    rmse: float
    estimated_rmse: float
    n_learning: int

    @classmethod
    def of(cls, window: Window) -> Self:
        """Return what is shown of a window."""
        performance = window.verdict.performance
        rmse = performance.rmse if performance.n >= MIN_TRUTHS else math.nan
        return cls(window.end_hour, rmse, window.estimated_rmse, len(window.learning))

    def after(self, before: LatestWindow | None) -> LatestWindow:
        """Return these figures; one that is not known is that of the window ``before``, as the metrics go on to show it."""
        if before is None:
            return self
        rmse, estimated_rmse = _known(self.rmse, before.rmse), _known(self.estimated_rmse, before.estimated_rmse)
        return replace(self, rmse=rmse, estimated_rmse=estimated_rmse)


@dataclass(frozen=True, slots=True)
class LatestFinal:
    """The latest window of a kind whose truth is final; NaN where there is nothing to say.

    Attributes:
        rmse: Its error, in the target's unit.
        delay_hours: How late its truths came on average.
        estimate_error: How far estimated errors were from final ones so far, as a share of them.
        coverage: By group, the share of its truths inside their intervals.
    """

    rmse: float
    delay_hours: float
    estimate_error: float
    coverage: Mapping[str, float]

    @classmethod
    def of(cls, truth: WindowTruth, estimate_error: float) -> Self:
        """Return what is shown of a final window."""
        rmse = truth.final.rmse if truth.final.n >= MIN_TRUTHS else math.nan
        return cls(rmse, truth.delay_hours, estimate_error, {group: held.share for group, held in truth.coverage.items()})

    def after(self, before: LatestFinal | None) -> LatestFinal:
        """Return these figures; one that is not known is that of the window ``before``, as the metrics go on to show it."""
        if before is None:
            return self
        coverage = {group: _known(share, before.coverage.get(group, math.nan)) for group, share in self.coverage.items()}
        return replace(self, rmse=_known(self.rmse, before.rmse), coverage=coverage)


@dataclass(frozen=True, slots=True)
class Latest:
    """The latest figures of a station; ``windows`` and ``finals`` by window kind.

    ``arrived_ms`` is when Kafka took in its latest accepted row, in milliseconds since 1970, negative where Kafka does not
    say; ``prediction`` and the ends of its interval in the target's unit, empty before the first one.
    """

    arrived_ms: int = -1
    prediction: tuple[float, ...] = ()
    windows: Mapping[str, LatestWindow] = field(default_factory=dict)
    finals: Mapping[str, LatestFinal] = field(default_factory=dict)


def _known(value: float, before: float) -> float:
    return before if math.isnan(value) else value
