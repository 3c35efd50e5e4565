"""Bayesian optimisation of a family's parameters on forward folds inside train and validation (scikit-optimize).

The search sees the folds' figures only. Rounds of boosted families are found by early stopping inside the training rows and
then kept, so what a candidate is judged with is what would be fitted in the end.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from skopt import Optimizer
from skopt.space import Integer, Real

from airquality.model import inputs
from training import champion
from training.bench import Bench, Task
from training.protocol import Study, forward_folds
from training.ties import cheapest_of_best


def _log(low: float, high: float) -> Real:
    return Real(low, high, prior="log-uniform")


@dataclass(frozen=True)
class Space:
    """Where to look: the parameters searched, where the search starts, and how many candidates it looks at."""

    dimensions: Mapping[str, Any]
    start: Mapping[str, Any]
    candidates: int


def _without_rounds(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if name != "rounds"}


#: By method. The order is that of the study.
SPACES = {
    "ridge": Space({"alpha": _log(1, 10_000)}, {"alpha": 300.0}, 8),
    "svr": Space(
        {"C": _log(0.03, 3), "gamma": _log(2e-4, 1e-2), "epsilon": _log(0.01, 0.1)},
        {"C": 0.3, "gamma": 1.5e-3, "epsilon": 0.03},
        10,
    ),
    "extra_trees": Space(
        {"n_estimators": Integer(80, 160), "max_features": Real(0.1, 0.7), "min_samples_leaf": Integer(1, 8)},
        {"n_estimators": 100, "max_features": 0.3, "min_samples_leaf": 3},
        8,
    ),
    "random_forest": Space(
        {"n_estimators": Integer(60, 120), "max_features": Real(0.05, 0.3), "min_samples_leaf": Integer(1, 8)},
        {"n_estimators": 80, "max_features": 0.15, "min_samples_leaf": 3},
        7,
    ),
    "hist_gradient_boosting": Space(
        {
            "learning_rate": _log(0.025, 0.12),
            "max_depth": Integer(3, 7),
            "min_samples_leaf": Integer(5, 40),
            "max_features": Real(0.1, 0.6),
            "l2_regularization": _log(0.1, 30),
        },
        {"learning_rate": 0.05, "max_depth": 5, "min_samples_leaf": 15, "max_features": 0.25, "l2_regularization": 1.0},
        10,
    ),
    "xgboost": Space(
        {
            "eta": _log(0.025, 0.12),
            "max_depth": Integer(3, 7),
            "min_child_weight": _log(2, 40),
            "subsample": Real(0.5, 0.95),
            "colsample_bytree": Real(0.1, 0.6),
            "reg_lambda": _log(0.3, 30),
        },
        _without_rounds(champion.HAND_SET),
        12,
    ),
    "lightgbm": Space(
        {
            "learning_rate": _log(0.025, 0.12),
            "num_leaves": Integer(7, 40),
            "min_child_samples": Integer(5, 40),
            "subsample": Real(0.5, 0.95),
            "colsample_bytree": Real(0.1, 0.6),
            "reg_lambda": _log(0.3, 30),
        },
        {
            "learning_rate": 0.05,
            "num_leaves": 20,
            "min_child_samples": 15,
            "subsample": 0.7,
            "colsample_bytree": 0.25,
            "reg_lambda": 5.0,
        },
        12,
    ),
    "catboost": Space(
        {"learning_rate": _log(0.06, 0.2), "depth": Integer(3, 6), "l2_leaf_reg": _log(1, 20), "rsm": Real(0.1, 0.4)},
        {"learning_rate": 0.1, "depth": 5, "l2_leaf_reg": 3.0, "rsm": 0.2},
        7,
    ),
}
_RANDOM_CANDIDATES = 3


@dataclass(frozen=True)
class Candidate:
    """Parameters, ``rounds`` included, and their RMSE (mg/m3) pooled over the forward folds."""

    parameters: Mapping[str, Any]
    rmse: float


def search(
    family: str, bench: Bench, candidates: int | None = None, tick: Callable[[], None] = lambda: None
) -> list[Candidate]:
    """Look at ``candidates`` configurations of ``family`` (default: its space's) and return them as they were met."""
    space = SPACES[family]
    optimizer = Optimizer(
        list(space.dimensions.values()), random_state=0, n_initial_points=_RANDOM_CANDIDATES, acq_func="EI", n_jobs=1
    )
    met: list[Candidate] = []
    for number in range(candidates or space.candidates):
        point = [space.start[name] for name in space.dimensions] if number == 0 else optimizer.ask()
        met.append(evaluate(family, dict(zip(space.dimensions, map(_plain, point), strict=True)), bench))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the Gaussian process on few points says so each time
            optimizer.tell(point, met[-1].rmse)
        tick()
    return met


def best(met: Sequence[Candidate]) -> Candidate:
    """Return the candidate with the smallest error; of those that tie with it the cheapest."""
    return cheapest_of_best(met, lambda candidate: candidate.rmse, lambda candidate: candidate.parameters)


def evaluate(family: str, parameters: Mapping[str, Any], bench: Bench) -> Candidate:
    """Find the rounds of ``parameters``, fit every forward fold with them, and return the candidate."""
    study = bench.studies[inputs.ALL.name]
    rounds = bench.best_rounds(family, parameters)
    own = dict(parameters) if rounds is None else {**parameters, "rounds": rounds}
    return Candidate(own, forward_rmse(study, family, own, bench))


def out_of_fold(study: Study, method: str, parameters: Mapping[str, Any], bench: Bench) -> tuple[Any, Any]:
    """Return the rows of the forward folds' scored parts inside train and validation, and their predictions."""
    folds = forward_folds(study.measured("train+validation"))
    tasks = [Task(method, parameters, inputs.ALL.name, fitted, scored) for fitted, scored in folds]
    return np.concatenate([task.scored for task in tasks]), np.concatenate(bench.predict(tasks))


def forward_rmse(study: Study, method: str, parameters: Mapping[str, Any], bench: Bench) -> float:
    """Return the RMSE pooled over the forward folds."""
    return study.score(*out_of_fold(study, method, parameters, bench))["rmse"]


def _plain(value: Any) -> Any:
    """Return a Python number that JSON writes and reads back unchanged, four digits of it."""
    return float(f"{float(value):.4g}") if isinstance(value, float | np.floating) else int(value)
