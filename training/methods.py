"""Every way of predicting CO that the study compares: how each is fitted, and nothing about how it is judged.

A method is a function ``(study, rows, parameters) -> predictor``; a predictor maps a study and rows to mg/m3. Families of
regressors all learn what the champion learns, ``sqrt(CO) - sqrt(base)``, from the same feature rows. One thread each.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from catboost import CatBoostRegressor
from lightgbm import LGBMRegressor, early_stopping
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import ExtraTreesRegressor, HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR
from xgboost import XGBRegressor

from airquality.model import features
from training import champion
from training.champion import Examples
from training.protocol import Fit, Floats, Rows, Study

Parameters = Mapping[str, Any]
Predictor = Callable[[Study, Rows], Floats]

MAX_ROUNDS = 800
_PATIENCE = 50
_BASE_INDEX = features.NAMES.index(features.BASE_FEATURE)
_SEED = 0


def fit(method: str, study: Study, rows: Rows, parameters: Parameters) -> Fit:
    """Fit ``method``, a key of :data:`METHODS` or :data:`FAMILIES`, on measured ``rows``."""
    own = METHODS[method] if method in METHODS else _family_method(method)
    return Fit(int(rows.max()), own(study, rows, parameters))


def best_rounds(family: str, study: Study, parameters: Parameters) -> int | None:
    """Return the rounds early stopping finds on the last forward fold inside the training rows; None if the family has none.

    The validation rows, which the fit will be scored on, are not looked at.
    """
    if family not in _EARLY_STOPPED:
        return None
    rows = study.measured("train")
    cut = len(rows) * 4 // 5
    transform = champion.transform_of(study, rows[:cut])
    early = champion.examples(study, rows[:cut], transform)
    late = champion.as_measured(study, rows[cut:], transform)
    return _EARLY_STOPPED[family](parameters, early, late)


# ---- baselines ----


def _persistence(study: Study, rows: Rows, parameters: Parameters) -> Predictor:
    """Predict the last CO that was measured, however long ago."""

    def predict(study: Study, rows: Rows) -> Floats:
        measured = np.flatnonzero(~np.isnan(study.target))
        return study.target[measured[np.searchsorted(measured, rows) - 1]]

    return predict


def _climatology(study: Study, rows: Rows, parameters: Parameters) -> Predictor:
    """Predict the mean of the fitted rows by hour of day, workdays and weekends apart."""
    sums, counts = np.zeros(48), np.zeros(48)
    np.add.at(sums, _slots(study, rows), study.target[rows])
    np.add.at(counts, _slots(study, rows), 1)
    means = np.where(counts > 0, sums / np.maximum(counts, 1), study.target[rows].mean())
    return lambda study, rows: means[_slots(study, rows)]


def _slots(study: Study, rows: Rows) -> Rows:
    hours = study.frame.hours[rows]
    weekend = (hours // 24 + 3) % 7 >= 5  # 1970-01-01 was a Thursday
    return np.asarray(hours % 24 + 24 * weekend, dtype=np.intp)


def _base_alone(study: Study, rows: Rows, parameters: Parameters) -> Predictor:
    transform = champion.transform_of(study, rows)
    return lambda study, rows: transform.base(study.matrix[rows, _BASE_INDEX])


def _seed_style(study: Study, rows: Rows, parameters: Parameters) -> Predictor:
    """Fit log(1 + CO) directly, through scikit-learn's own wrapper, as the original of this system does."""
    booster = XGBRegressor(**parameters, objective="reg:squarederror", tree_method="hist", random_state=_SEED, n_jobs=1)
    model = TransformedTargetRegressor(booster, func=np.log1p, inverse_func=np.expm1)
    model.fit(_x(study, rows), study.target[rows])
    return lambda study, rows: np.asarray(model.predict(_x(study, rows)), dtype=np.float64)


def _xgboost(study: Study, rows: Rows, parameters: Parameters) -> Predictor:
    """Fit and predict by the code that fits and serves the champion, so that both give the same bits."""
    model = champion.fit_rows(study, rows, parameters, "rows of a study", study.frame)
    return lambda study, rows: model.predict(study.matrix[rows])


METHODS: dict[str, Callable[[Study, Rows, Parameters], Predictor]] = {
    "persistence": _persistence,
    "climatology": _climatology,
    "base": _base_alone,
    "seed_style": _seed_style,
    "xgboost": _xgboost,
}

# ---- families ----


def _x(study: Study, rows: Rows) -> Any:
    return study.matrix[rows].astype(np.float32)


def _family_method(family: str) -> Callable[[Study, Rows, Parameters], Predictor]:
    def fit_family(study: Study, rows: Rows, parameters: Parameters) -> Predictor:
        transform = champion.transform_of(study, rows)
        model = FAMILIES[family](parameters)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="X does not have valid feature names")  # LightGBM invents names
            shown = champion.examples(study, rows, transform)
            model.fit(shown.matrix, shown.label, **{_weight_name(model): shown.weight})

        def predict(study: Study, rows: Rows) -> Floats:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="X does not have valid feature names")
                raw = np.asarray(model.predict(_x(study, rows)), dtype=np.float64)
            return np.asarray(transform.to_target(raw, study.matrix[rows, _BASE_INDEX]))

        return predict

    return fit_family


def _weight_name(model: Any) -> str:
    """Return the name under which ``fit`` takes weights: a pipeline wants its last step's name before it."""
    return f"{model.steps[-1][0]}__sample_weight" if isinstance(model, Pipeline) else "sample_weight"


def _filled(model: Any) -> Any:
    """Give a model that cannot take NaN the fitted rows' medians in place of missing features, never of the target."""
    return make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler(), model)


def _lightgbm(parameters: Parameters) -> Any:
    own = {**parameters, "n_estimators": parameters.get("rounds", MAX_ROUNDS)}
    own.pop("rounds", None)
    return LGBMRegressor(
        **own, subsample_freq=1, deterministic=True, force_row_wise=True, n_jobs=1, random_state=_SEED, verbose=-1
    )


def _catboost(parameters: Parameters) -> Any:
    own = {**parameters, "iterations": parameters.get("rounds", MAX_ROUNDS)}
    own.pop("rounds", None)
    return CatBoostRegressor(**own, thread_count=1, random_seed=_SEED, verbose=False, allow_writing_files=False)


def _hist_gradient_boosting(parameters: Parameters) -> Any:
    own = {**parameters, "max_iter": parameters.get("rounds", MAX_ROUNDS)}
    own.pop("rounds", None)
    return HistGradientBoostingRegressor(**{"early_stopping": False, **own}, random_state=_SEED)


#: An unfitted regressor by family and parameters. XGBoost is a method of its own: it is fitted as it is served.
FAMILIES: dict[str, Callable[[Parameters], Any]] = {
    "ridge": lambda p: _filled(Ridge(**p)),
    "svr": lambda p: _filled(SVR(**p)),
    "random_forest": lambda p: RandomForestRegressor(**p, n_jobs=1, random_state=_SEED),
    "extra_trees": lambda p: ExtraTreesRegressor(**p, n_jobs=1, random_state=_SEED),
    "hist_gradient_boosting": _hist_gradient_boosting,
    "lightgbm": _lightgbm,
    "catboost": _catboost,
}


def _rounds_of_xgboost(parameters: Parameters, early: Examples, late: Examples) -> int:
    return champion.boost_until(parameters, early, late, MAX_ROUNDS, _PATIENCE)


def _rounds_of_lightgbm(parameters: Parameters, early: Examples, late: Examples) -> int:
    stop = early_stopping(_PATIENCE, verbose=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # eval_set: its successor is not in LightGBM 4.6
        model = _lightgbm(parameters).fit(
            early.matrix, early.label, early.weight, eval_set=[(late.matrix, late.label)], callbacks=[stop]
        )
    return int(model.best_iteration_)


def _rounds_of_catboost(parameters: Parameters, early: Examples, late: Examples) -> int:
    model = _catboost(parameters).fit(
        early.matrix,
        early.label,
        sample_weight=early.weight,
        eval_set=(late.matrix, late.label),
        early_stopping_rounds=_PATIENCE,
    )
    return int(model.get_best_iteration()) + 1


def _rounds_of_hist_gradient_boosting(parameters: Parameters, early: Examples, late: Examples) -> int:
    own = {**parameters, "early_stopping": True, "n_iter_no_change": _PATIENCE, "scoring": "loss", "tol": 0.0}
    model = _hist_gradient_boosting(own).fit(early.matrix, early.label, early.weight, X_val=late.matrix, y_val=late.label)
    return max(1, int(np.argmax(model.validation_score_)))  # entry 0 is the score before the first round


_EARLY_STOPPED: dict[str, Callable[[Parameters, Examples, Examples], int]] = {
    "xgboost": _rounds_of_xgboost,
    "lightgbm": _rounds_of_lightgbm,
    "catboost": _rounds_of_catboost,
    "hist_gradient_boosting": _rounds_of_hist_gradient_boosting,
}
