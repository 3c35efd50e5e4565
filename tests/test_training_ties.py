"""Ties between models are broken in favour of the cheaper one, in the searches and in the choice of the champion."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from training import search
from training.bench import Bench
from training.explore import HAND_SET, TITLES, Explorer
from training.frozen import Run
from training.search import Candidate
from training.ties import TIE_RMSE, cheapest_of_best

if TYPE_CHECKING:
    from training.tracking import Tracker

LARGE: dict[str, Any] = {"rounds": 794, "max_depth": 5}
SMALL: dict[str, Any] = {"rounds": 350, "max_depth": 5}
SEARCHED = TITLES["xgboost"]


def explorer(valid: dict[str, float], cv: dict[str, float]) -> Explorer:
    runs = {SEARCHED: Run(SEARCHED, "family", "xgboost", LARGE), HAND_SET: Run(HAND_SET, "family", "xgboost", SMALL)}
    return Explorer(Bench({}, Path("none"), 1), cast("Tracker", None), runs=runs, valid_rmse=valid, cv_rmse=cv)


def test_choose_of_tied_models_takes_the_cheaper_one() -> None:
    made = explorer({SEARCHED: 0.2914, HAND_SET: 0.2898}, {SEARCHED: 0.2363, HAND_SET: 0.2380})
    assert made.choose().name == HAND_SET


def test_choose_of_models_that_do_not_tie_takes_the_better_one() -> None:
    better = 0.28 - 2 * TIE_RMSE
    made = explorer({SEARCHED: better, HAND_SET: 0.28}, {SEARCHED: better, HAND_SET: 0.28})
    assert made.choose().name == SEARCHED


def test_choose_of_equally_cheap_models_takes_the_better_one() -> None:
    errors = {"a": 0.2 + TIE_RMSE / 2, "b": 0.2}
    assert cheapest_of_best(errors, errors.__getitem__, lambda _: SMALL) == "b"


def test_search_of_tied_candidates_takes_the_cheapest() -> None:
    met = [Candidate(LARGE, 0.2380), Candidate(SMALL, 0.2380 + TIE_RMSE / 2), Candidate({"rounds": 10}, 0.2600)]
    assert search.best(met).parameters == SMALL
