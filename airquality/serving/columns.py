"""What a model reads, and how its feature rows are picked out of what a caller sends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airquality.model.rows import MAX_ROWS
from airquality.serving import bodies
from airquality.serving.problems import invalid, named


class Columns:
    """The features a model reads, in its order, and how they are picked out of what a caller sends.

    Args:
        names: The features.
        max_rows: How many rows a caller may send at a time.
    """

    def __init__(self, names: Sequence[str], max_rows: int = MAX_ROWS) -> None:
        self._names, self._max_rows = list(names), max_rows
        self._colons = bodies.colons_in(names)
        self._values: Callable[[dict[str, Any]], tuple[Any, ...]] = itemgetter(*names)

    def row(self, body: bytes, request: dict[str, Any], row: dict[str, Any]) -> NDArray[np.float64]:
        """Return the feature row in a request's body, shape ``(1, n_features)``; its names may stand in any order."""
        try:
            values = self._values(row)
        except KeyError:
            values = ()
        known = len(values) == len(row)
        bodies.refuse_repeated_names(body, len(request) + len(row), self._colons if known else bodies.colons_in(row))
        if not known:
            self._refuse(list(row))
        return bodies.matrix([values], len(self._names), self._max_rows)

    def ordered(self, names: list[str], rows: list[list[float | None]] | NDArray[np.float64]) -> NDArray[np.float64]:
        """Return rows with their values in the order of ``names`` as a matrix in that of the model."""
        if names != self._names:
            self._refuse(names)
        found = rows if isinstance(rows, np.ndarray) else bodies.matrix(rows, len(names), self._max_rows)
        return found if names == self._names else found[:, [names.index(name) for name in self._names]]

    def _refuse(self, names: list[str]) -> None:
        """Refuse absent, unknown and repeated names, all of them at once."""
        given, known = Counter(map(str, names)), set(self._names)
        faults = {
            "absent": [name for name in self._names if name not in given],
            "unknown": [name for name in given if name not in known],
            "repeated": sorted(name for name, count in given.items() if count > 1),
        }
        if any(faults.values()):
            counts = ", ".join(f"{len(listed)} {fault}" for fault, listed in faults.items() if listed)
            raise invalid(
                f"the features are not the model's: {counts}",
                **{fault: named(listed) for fault, listed in faults.items() if listed},
            )
