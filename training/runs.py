"""The predictions of a run: of a block, by fits that know only what came before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from training.bench import Bench, Task
from training.frozen import BLEND, Run, Subset
from training.protocol import Floats, Rows, Study


@dataclass(frozen=True)
class Predictions:
    """Predictions ``(n,)`` in mg/m3 of the rows ``(n,)`` of a study, made without having seen them."""

    study: Study
    rows: Rows
    predicted: Floats


def predict(run: Run, runs: Mapping[str, Run], bench: Bench, block: str) -> Predictions:
    """Return ``run``'s predictions of the measured rows of ``block`` (``validation`` or ``test``).

    ``runs`` are those a blend's members are found in. A fit for hour t knows measured rows before the block, or before the
    last refit, and none after.
    """
    study = bench.studies[run.inputs]
    rows = study.measured(block)
    if run.method == BLEND:
        members = [predict(runs[name], runs, bench, block).predicted for name in run.parameters["members"]]
        predicted = combine(run.parameters[block], members)
    else:
        predicted = np.concatenate(bench.predict(tasks(run, study, block)))
    kept = _kept(run.rows, study, rows)
    return Predictions(study, rows[kept], predicted[kept])


def combine(weights: Mapping[str, Any], members: Sequence[Floats]) -> Floats:
    """Return ``intercept + sum of weight * member``, at least 0.

    >>> combine({"intercept": 0.1, "weights": [0.5, 0.5]}, [np.array([1.0]), np.array([2.0])])
    array([1.6])
    """
    total = np.full(len(members[0]), float(weights["intercept"]))
    for weight, member in zip(weights["weights"], members, strict=True):
        total = total + weight * member
    return np.asarray(np.maximum(total, 0.0))


def tasks(run: Run, study: Study, block: str) -> list[Task]:
    """Return the fits that predict the measured rows of ``block``, in their order; a blend has none of its own."""
    if run.method == BLEND:
        return []
    rows = study.blocks[block]
    starts = range(rows.start, rows.stop, run.refit_hours or rows.stop - rows.start)
    stops = [*starts[1:], rows.stop]
    measured = np.flatnonzero(~np.isnan(study.target))
    parts = [measured[(measured >= start) & (measured < stop)] for start, stop in zip(starts, stops, strict=True)]
    return [
        Task(run.method, run.parameters, run.inputs, study.measured_before(start), part)
        for start, part in zip(starts, parts, strict=True)
        if len(part)
    ]


def _kept(subset: Subset, study: Study, rows: Rows) -> Any:
    if subset == "all":
        return np.ones(len(rows), dtype=bool)
    return study.has_sensors(rows) == (subset == "with sensors")
