"""Which of several models is chosen: the one with the smaller error, and among those that tie the cheaper one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

#: RMSE in mg/m3 by which a model may be worse than the best one and still tie with it: a tenth of what is called noise.
TIE_RMSE = 0.0005

T = TypeVar("T")


def cheapest_of_best(models: Iterable[T], rmse: Callable[[T], float], parameters: Callable[[T], Mapping[str, Any]]) -> T:
    """Return, of the models within :data:`TIE_RMSE` of the smallest error, the cheapest; of equally cheap ones the best.

    >>> parameters = {"large": {"rounds": 794, "max_depth": 5}, "small": {"rounds": 350, "max_depth": 5}}
    >>> errors = {"large": 0.26385, "small": 0.2639}
    >>> cheapest_of_best(errors, errors.__getitem__, parameters.__getitem__)
    'small'
    """
    listed = list(models)
    bound = min(map(rmse, listed)) + TIE_RMSE
    return min((model for model in listed if rmse(model) <= bound), key=lambda model: (cost(parameters(model)), rmse(model)))


def cost(parameters: Mapping[str, Any]) -> int:
    """Return how many splits a row passes: trees times depth, where the parameters bound one; 0 without trees.

    >>> [cost(p) for p in ({"rounds": 350, "max_depth": 5}, {"n_estimators": 100}, {"alpha": 300.0})]
    [1750, 100, 0]
    """
    trees = int(parameters.get("rounds", parameters.get("n_estimators", 0)))
    return trees * int(parameters.get("max_depth", parameters.get("depth", 1)))
