"""The bench every fit is made on: several at once, each on one thread, and none twice.

A fit-and-predict is kept on disk under a hash of all it depends on: method, parameters, data, features, rows, and the code
and libraries that fit. An interrupted study therefore resumes where it stopped, by being run again.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import inspect
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import xgboost as xgb
from sklearn.utils.parallel import Parallel, delayed
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from airquality.model import inputs
from training import champion, methods
from training.protocol import Floats, Rows, Study

_LIBRARIES = ("numpy", "scikit-learn", "lightgbm", "catboost")


@dataclass(frozen=True)
class Task:
    """Fit ``method`` on ``fitted`` rows and predict ``scored`` rows, both of a study of the inputs named ``inputs``."""

    method: str
    parameters: Mapping[str, Any]
    inputs: str
    fitted: Rows
    scored: Rows


@dataclass
class Bench:
    """Fits tasks on ``workers`` processes and keeps their predictions in ``directory`` (row-derived: never committed)."""

    studies: Mapping[str, Study]
    directory: Path
    workers: int = 2
    _prefixes: dict[tuple[str, int], str] = field(default_factory=dict, init=False)

    def predict(self, tasks: Sequence[Task]) -> list[Floats]:
        """Return each task's predictions in mg/m3; raises ``ContractError`` if one scores rows its fit has seen."""
        paths = [self.directory / f"{self._key(task)}.npy" for task in tasks]
        absent = {path: task for task, path in zip(tasks, paths, strict=True) if not path.exists()}
        jobs = [(_fit_and_predict, (self.studies[task.inputs], task)) for task in absent.values()]
        for path, predicted in zip(absent, self._run(jobs), strict=True):
            _keep(path, predicted)
        return [np.load(path) for path in paths]

    def best_rounds(self, family: str, parameters: Mapping[str, Any]) -> int | None:
        """Return :func:`training.methods.best_rounds`, kept like a prediction."""
        study = self.studies[inputs.ALL.name]
        train = study.measured("train")
        path = self.directory / f"rounds-{self._key(Task(family, parameters, inputs.ALL.name, train, train))}.npy"
        if not path.exists():
            (found,) = self._run([(methods.best_rounds, (family, study, parameters))])
            _keep(path, np.array(-1 if found is None else found))
        rounds = int(np.load(path))
        return None if rounds < 0 else rounds

    def _run(self, jobs: Sequence[tuple[Any, tuple[Any, ...]]]) -> Iterator[Any]:
        """Yield the results in the order of the jobs, each as soon as it and those before it are there."""
        workers = min(self.workers, len(jobs))
        if workers <= 1:
            return (_on_one_thread(*job) for job in jobs)
        found: Iterator[Any] = Parallel(n_jobs=workers, return_as="generator")(delayed(_on_one_thread)(*job) for job in jobs)
        return found

    def _key(self, task: Task) -> str:
        known = {
            "method": task.method,
            "parameters": dict(task.parameters),
            "data": self._prefix(task.inputs, int(max(task.fitted.max(), task.scored.max())) + 1),
            "rows": [hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest() for rows in (task.fitted, task.scored)],
            "code": _code_hash(),
        }
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:40]

    def _prefix(self, name: str, n_rows: int) -> str:
        """Return the hash of the first rows of a study, raw and as features."""
        key = name, n_rows
        if key not in self._prefixes:
            study = self.studies[name]
            digest = hashlib.sha256(study.frame.rows(0, n_rows).sha256.encode())
            for matrix in (study.matrix[:n_rows], study.silent[:n_rows]):
                digest.update(np.where(np.isnan(matrix), np.nan, matrix).tobytes())
            self._prefixes[key] = digest.hexdigest()
        return self._prefixes[key]


def _fit_and_predict(study: Study, task: Task) -> Floats:
    return methods.fit(task.method, study, task.fitted, task.parameters).predict(study, task.scored)


def _on_one_thread(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    with threadpool_limits(1):
        return function(*arguments)


def _keep(path: Path, values: Floats) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        np.save(file, values)
    temporary.replace(path)


@cache
def _code_hash() -> str:
    modules = (champion, methods)
    text = "".join(inspect.getsource(module) for module in modules)
    versions = [importlib.metadata.version(name) for name in _LIBRARIES] + [xgb.__version__]
    return hashlib.sha256("\n".join([text, *versions]).encode()).hexdigest()
