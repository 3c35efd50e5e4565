"""Weights of ensembles, from out-of-fold predictions of forward folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.optimize import nnls
from sklearn.linear_model import Ridge

from training.bench import Bench
from training.frozen import BLEND, Run
from training.protocol import Floats, Study
from training.search import out_of_fold

#: Fixed beforehand: choosing it by scikit-learn's own cross-validation would shuffle time.
_STACK_ALPHA = 10.0


def blend(name: str, members: Sequence[Run], study: Study, bench: Bench, how: str) -> Run:
    """Return the run that combines ``members``, ``weighted`` or ``stacked``.

    Its weights for validation come from out-of-fold rows inside train, those for test from all before the test.
    """
    found = [out_of_fold(study, run.method, run.parameters, bench) for run in members]
    rows = found[0][0]
    matrix = np.stack([predicted for _, predicted in found], axis=1)
    learn = {"weighted": weighted, "stacked": stacked}[how]
    parameters: dict[str, Any] = {"members": [run.name for run in members]}
    for block in ("validation", "test"):
        known = rows < study.blocks["validation"].start if block == "validation" else np.ones(len(rows), dtype=bool)
        parameters[block] = learn(matrix[known], study.target[rows[known]])
    return Run(name, "ensemble", BLEND, parameters)


def weighted(members: Floats, target: Floats) -> Mapping[str, Any]:
    """Return the weights, none negative, their sum 1, of least squared error; ``members`` is ``(n, n_members)``.

    >>> found = weighted(np.array([[1.0, 3.0], [2.0, 2.0], [4.0, 1.0]]), np.array([1.5, 2.0, 3.25]))
    >>> found["weights"]
    [0.75, 0.25]
    """
    heavy = 1e4  # a row this heavy makes the sum 1
    weights, _ = nnls(np.vstack([members, np.full(members.shape[1], heavy)]), np.append(target, heavy))
    return _frozen(0.0, weights / weights.sum())


def stacked(members: Floats, target: Floats) -> Mapping[str, Any]:
    """Return intercept and weights of a ridge regression that is drawn towards the members' mean."""
    mean = members.mean(axis=1)
    model = Ridge(alpha=_STACK_ALPHA).fit(members - mean[:, np.newaxis], target - mean)
    return _frozen(float(model.intercept_), 1 / members.shape[1] + model.coef_ - model.coef_.mean())


def _frozen(intercept: float, weights: Floats) -> Mapping[str, Any]:
    return {"intercept": round(intercept, 6), "weights": np.round(weights, 6).tolist()}
