"""The rows a predictor is given: their features, and which station, hour and record each is of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


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
