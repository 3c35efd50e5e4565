"""The rows a predictor is given: their features, and which station, hour and record each is of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from airquality.records import RowAnswer

#: Waits for what was asked: for each row its prediction in mg/m3 and the model version that made it, or why there is none.
Answers = Callable[[], Sequence[RowAnswer]]


@dataclass(frozen=True, slots=True, eq=False)
class FeatureRows:
    """Rows of one partition that are to be predicted.

    Attributes:
        matrix: Shape ``(n_rows, len(features.NAMES))``, in the order of the features.
        station_ids: Each row's station.
        hours: Each row's hour.
        offsets: Each row's offset in the raw topic's partition.
        partition: The raw topic's partition.
    """

    matrix: NDArray[np.float64]
    station_ids: Sequence[str]
    hours: Sequence[int]
    offsets: Sequence[int]
    partition: int

    def __len__(self) -> int:
        return len(self.offsets)
