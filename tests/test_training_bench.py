from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from airquality.data import dataset
from airquality.ground.errors import ContractError
from training import methods
from training.bench import Bench, Task
from training.protocol import Fit, Rows, Study, forward_folds

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def study() -> Study:
    return Study.of(dataset.simulate().rows(0, 1200)).before_test()


@pytest.fixture
def tasks(study: Study) -> list[Task]:
    folds = forward_folds(study.measured("train+validation"))
    parameters = {"rounds": 8, "max_bins": 16}  # to find 255 bins of weighted rows takes five seconds a fit
    return [Task("hist_gradient_boosting", parameters, "all", fitted, scored) for fitted, scored in folds]


def counting_fits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the methods fitted from here on."""
    made: list[str] = []
    fit = methods.fit

    def counted(method: str, study: Study, rows: Rows, parameters: Mapping[str, Any]) -> Fit:
        made.append(method)
        return fit(method, study, rows, parameters)

    monkeypatch.setattr(methods, "fit", counted)
    return made


def test_predictions_do_not_depend_on_the_number_of_workers(study: Study, tasks: list[Task], tmp_path: Path) -> None:
    alone, together = (Bench({"all": study}, tmp_path / str(n), workers=n).predict(tasks) for n in (1, 2))
    for one, two in zip(alone, together, strict=True):
        assert np.array_equal(one, two)


def test_a_fit_is_made_once_and_again_where_anything_it_depends_on_differs(
    study: Study, tasks: list[Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = counting_fits(monkeypatch)
    bench = Bench({"all": study}, tmp_path, workers=1)
    task = tasks[0]
    bench.predict([task])
    Bench({"all": study}, tmp_path, workers=1).predict([task, task])
    assert len(made) == 1
    others = [
        Task("climatology", {}, "all", task.fitted, task.scored),
        Task(task.method, {**task.parameters, "rounds": 9}, "all", task.fitted, task.scored),
        Task(task.method, task.parameters, "all", task.fitted[1:], task.scored),
        Task(task.method, task.parameters, "all", task.fitted, task.scored[1:]),
    ]
    bench.predict(others)
    assert len(made) == 5
    changed = replace(study, matrix=study.matrix + 1e-9)
    Bench({"all": changed}, tmp_path, workers=1).predict([task])
    assert len(made) == 6


def test_the_same_task_asked_for_twice_at_once_is_fitted_once(
    study: Study, tasks: list[Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = counting_fits(monkeypatch)
    first, again = Bench({"all": study}, tmp_path, workers=1).predict([tasks[0], tasks[0]])
    assert len(made) == 1
    assert np.array_equal(first, again)


def test_what_was_fitted_before_a_failure_is_kept(study: Study, tasks: list[Task], tmp_path: Path) -> None:
    refused = Task("climatology", {}, "all", tasks[1].fitted, tasks[0].scored)  # scores what it has seen: raises
    with pytest.raises(ContractError):
        Bench({"all": study}, tmp_path, workers=1).predict([tasks[0], refused])
    assert len(list(tmp_path.glob("*.npy"))) == 1


def test_rows_after_those_a_task_needs_do_not_matter(
    study: Study, tasks: list[Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Bench({"all": study}, tmp_path, workers=1).predict(tasks[:1])
    shorter = replace(study, frame=study.frame.rows(0, 900), matrix=study.matrix[:900], silent=study.silent[:900])
    monkeypatch.setattr(methods, "fit", lambda *a: pytest.fail("fitted again"))
    Bench({"all": shorter}, tmp_path, workers=1).predict(tasks[:1])


def test_a_task_that_scores_what_it_has_seen_is_refused_and_leaves_nothing(
    study: Study, tasks: list[Task], tmp_path: Path
) -> None:
    task = Task("climatology", {}, "all", tasks[1].fitted, tasks[0].scored)
    with pytest.raises(ContractError, match="has seen rows up to"):
        Bench({"all": study}, tmp_path, workers=1).predict([task])
    assert not list(tmp_path.iterdir())
