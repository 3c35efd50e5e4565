"""Choose everything: baselines, tuned families, champion, ensembles, variants. The test rows are not in the room."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm

from airquality.model import features, inputs
from airquality.model.registry import NOISE_RMSE
from airquality.records import WEEKLY_HOURS
from training import champion, search
from training.bench import Bench
from training.ensembles import blend
from training.frozen import Frozen, Group, Run
from training.runs import predict
from training.ties import cheapest_of_best
from training.tracking import Tracker

TITLES = {
    "ridge": "ridge",
    "svr": "SVR",
    "extra_trees": "ExtraTrees",
    "random_forest": "RandomForest",
    "hist_gradient_boosting": "HistGradientBoosting",
    "xgboost": "XGBoost",
    "lightgbm": "LightGBM",
    "catboost": "CatBoost",
}
HAND_SET = "XGBoost, set by hand"
#: Of the boosted and bagged trees the ensembles are made; ridge is a baseline and SVR a partner.
_ENSEMBLED = ("random_forest", "extra_trees", "hist_gradient_boosting", "xgboost", "lightgbm", "catboost")
_SEED_STYLE = {"n_estimators": 500, "max_depth": 6, "learning_rate": 0.05, "subsample": 0.8, "colsample_bytree": 0.8}
_BASELINES = (
    Run("persistence", "baseline", "persistence"),
    Run("climatology", "baseline", "climatology"),
    Run("base alone", "baseline", "base"),
    Run("XGBoost on log CO, seed style", "baseline", "seed_style", _SEED_STYLE),
    Run(HAND_SET, "family", "xgboost", champion.HAND_SET),
)

logger = logging.getLogger("training")


@dataclass
class Progress:
    """How far the study is: a bar on a terminal, a line a run in a log, both with the time left."""

    total: int
    done: int = 0
    _started: float = field(default_factory=time.monotonic)
    _bar: Any = None

    def tick(self) -> None:
        """Count one candidate or run."""
        if self._bar is None:
            self._bar = tqdm(total=self.total, desc="study", unit="fit", disable=None, initial=self.done)
        self.done += 1
        self._bar.update()

    @property
    def left(self) -> str:
        """The time left in words, at the pace so far."""
        spent = time.monotonic() - self._started
        seconds = spent / max(self.done, 1) * max(self.total - self.done, 0)
        return f"about {seconds / 60:.0f} min left" if seconds >= 90 else f"about {seconds:.0f} s left"

    def close(self) -> None:
        """Clear the bar."""
        if self._bar is not None:
            self._bar.close()


@dataclass
class Explorer:
    """Adds runs one by one, each scored on validation by a fit that has seen only the rows before it.

    ``candidates`` caps each search (None: as many as its space says).
    """

    bench: Bench
    tracker: Tracker
    candidates: int | None = None
    runs: dict[str, Run] = field(default_factory=dict)
    valid_rmse: dict[str, float] = field(default_factory=dict)
    cv_rmse: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        searches = sum(min(self.candidates or s.candidates, s.candidates) for s in search.SPACES.values())
        self.progress = Progress(searches + len(search.SPACES) + len(_BASELINES) + 14)

    def explore(self) -> Frozen:
        """Return every choice, ready to be committed."""
        for run in _BASELINES:
            self.add(run)
        for family in search.SPACES:
            self.tune(family)
        best = self.choose()
        self.ensemble(best)
        self.vary(best)
        self.progress.close()
        study = self.bench.studies[inputs.ALL.name]
        return Frozen(
            data_source=study.frame.source,
            data_hash=study.frame.sha256,
            features_hash=str(features.manifest()["hash"]),
            champion=best.name,
            runs=tuple(self.runs.values()),
            valid_rmse=self.valid_rmse,
            cv_rmse=self.cv_rmse,
        )

    def add(self, run: Run) -> None:
        """Score a run on validation, and on the forward folds where it has any, and log it."""
        with self.tracker.run(run.name) as run_id:
            self._log(run_id, run)

    def tune(self, family: str) -> None:
        """Search a family and add the run of its best candidate on the forward folds."""
        with self.tracker.run(TITLES[family]) as run_id:
            met = search.search(family, self.bench, self.candidates, self.progress.tick)
            best = search.best(met)
            self.tracker.log_steps(run_id, "cv_rmse_of_candidate", [candidate.rmse for candidate in met])
            group: Group = "baseline" if family == "ridge" else "family"
            self._log(run_id, Run(TITLES[family], group, family, best.parameters))

    def choose(self) -> Run:
        """Return the champion: the XGBoost better on the mean of forward folds and validation, of two that tie the cheaper.

        Logs a warning where another family is better beyond noise: then the served family has to change.
        """
        parameters = {name: run.parameters for name, run in self.runs.items()}
        own = cheapest_of_best((HAND_SET, TITLES["xgboost"]), self._selection, parameters.__getitem__)
        for name in (n for n, run in self.runs.items() if run.group == "family"):
            if self._selection(name) < self._selection(own) - NOISE_RMSE:
                logger.warning("%s beats %s by more than noise: the served family should change", name, own)
        return self.runs[own]

    def ensemble(self, best: Run) -> None:
        """Add the weighted and the stacked ensemble, and XGBoost with a smooth partner."""
        study = self.bench.studies[inputs.ALL.name]
        trees = [self.runs[TITLES[family]] for family in _ENSEMBLED]
        pair = [best, self.runs[TITLES["svr"]]]
        self.add(blend("weighted ensemble", trees, study, self.bench, "weighted"))
        self.add(blend("stacked ensemble", trees, study, self.bench, "stacked"))
        self.add(blend("XGBoost + SVR", pair, study, self.bench, "weighted"))

    def vary(self, best: Run) -> None:
        """Add the champion under other conditions: what it knows, how often it is refitted, which rows are scored."""
        smooth = self.runs[TITLES["svr"]]  # where less is known there is less for trees to find
        for name in inputs.VARIANTS:
            if name != inputs.ALL.name:
                self.add(Run(name, "variant", best.method, best.parameters, inputs=name))
                self.add(Run(f"{name}, SVR", "variant", smooth.method, smooth.parameters, inputs=name))
        self.add(Run("weekly refit", "variant", best.method, best.parameters, refit_hours=WEEKLY_HOURS))
        self.add(Run("champion, rows with all sensors", "rows", best.method, best.parameters, rows="with sensors"))
        self.add(Run("champion, rows without", "rows", best.method, best.parameters, rows="without sensors"))

    def _log(self, run_id: str, run: Run) -> None:
        found = predict(run, self.runs, self.bench, "validation")
        figures = found.study.score(found.rows, found.predicted)
        self.runs[run.name] = run
        self.valid_rmse[run.name] = figures["rmse"]
        metrics = {f"valid_{name}": value for name, value in figures.items()}
        if run.group in ("baseline", "family"):
            study = self.bench.studies[inputs.ALL.name]
            self.cv_rmse[run.name] = search.forward_rmse(study, run.method, run.parameters, self.bench)
            metrics["cv_rmse"] = self.cv_rmse[run.name]
        self.tracker.log(run_id, metrics, described(run))
        self.progress.tick()
        logger.info("%-32s VALID %.4f   %s", run.name, figures["rmse"], self.progress.left)

    def _selection(self, name: str) -> float:
        return (self.valid_rmse[name] + self.cv_rmse[name]) / 2


def described(run: Run) -> Mapping[str, Any]:
    """Return what MLflow keeps of a run as parameters."""
    known = {
        "group": run.group,
        "method": run.method,
        "inputs": run.inputs,
        "refit_hours": run.refit_hours,
        "rows": run.rows,
    }
    return {**{name: value for name, value in known.items() if value is not None}, **run.parameters}
