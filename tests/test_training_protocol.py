"""What makes the figures believable: nothing seen twice, nothing filled, nothing from the future."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import KFold

from airquality.data import dataset, uci_file
from airquality.data.dataset import Frame
from airquality.ground.errors import ContractError
from airquality.model import backtest, features, inputs
from airquality.model.inputs import VARIANTS, Inputs
from airquality.model.model import Model
from airquality.records import DEVICE_COLUMNS, RAW_COLUMNS, TARGET, TARGET_INDEX
from training import artifacts, champion, ensembles, methods, protocol
from training import backtest as forward
from training.bench import Bench
from training.champion import Examples
from training.frozen import Run
from training.protocol import Fit, Floats, Rows, Study, forward_folds
from training.runs import predict

pytestmark = pytest.mark.slow

SMALL = {**champion.HAND_SET, "rounds": 15}


@pytest.fixture(scope="module")
def frame() -> Frame:
    return dataset.simulate().rows(0, 1500)


@pytest.fixture(scope="module")
def study(frame: Frame) -> Study:
    return Study.of(frame)


# ---- what a feature row may know ----


def test_a_row_of_hidden_hours_is_what_the_features_make_of_a_file_without_them(frame: Frame) -> None:
    # CO of hour t is no input, so hiding it, through the block-wise path of the variants, must change not a bit
    assert np.array_equal(
        inputs.matrix(frame, Inputs("co now", {TARGET: 1})), features.batch(frame.hours, frame.values), equal_nan=True
    )


def row_with(part: Frame, row: int, column: int, newest: int, known: Inputs) -> Floats:
    """Return feature row ``row`` after the hours from ``newest`` before it on, itself included, were changed in a column."""
    values = part.values.copy()
    values[row + 1 - newest : row + 1, column] = 777.0
    changed: Floats = inputs.matrix(Frame(part.hours, values, "simulated"), known)[row]
    return changed


@pytest.mark.parametrize("known", VARIANTS.values(), ids=list(VARIANTS))
@pytest.mark.parametrize("name", RAW_COLUMNS)
def test_what_is_not_known_yet_changes_nothing(frame: Frame, known: Inputs, name: str) -> None:
    part, row, column = frame.rows(600, 800), 190, RAW_COLUMNS.index(name)
    before = inputs.matrix(part, known)[row]
    hidden = {TARGET: 1, **known.hidden_hours}.get(name, 0)
    assert np.array_equal(row_with(part, row, column, hidden, known), before, equal_nan=True)
    if hidden == 0 or name == TARGET:  # and one hour more does change it: the test can fail
        changed = not np.array_equal(row_with(part, row, column, hidden + 1, known), before, equal_nan=True)
        assert changed == (name in features.INPUT_COLUMNS)


@pytest.mark.parametrize("known", VARIANTS.values(), ids=list(VARIANTS))
def test_the_future_changes_no_row_before_it(frame: Frame, known: Inputs) -> None:
    part = frame.rows(600, 800)
    values = part.values.copy()
    values[150:] = 555.0
    values[150:, TARGET_INDEX] = np.nan
    later = inputs.matrix(Frame(part.hours, values, "simulated"), known)
    assert np.array_equal(later[:150], inputs.matrix(part, known)[:150], equal_nan=True)


# ---- what a fit is shown ----


@pytest.mark.parametrize("known", VARIANTS.values(), ids=list(VARIANTS))
def test_a_silent_row_is_what_the_features_make_of_an_hour_without_its_device(frame: Frame, known: Inputs) -> None:
    part, row = frame.rows(600, 800), 190
    values = part.values.copy()
    values[row, [RAW_COLUMNS.index(name) for name in DEVICE_COLUMNS]] = np.nan
    emptied = inputs.matrix(Frame(part.hours, values, "simulated"), known)[row]
    assert np.array_equal(Study.of(part, known).silent[row], emptied, equal_nan=True)


def test_a_fit_is_shown_its_rows_and_every_third_once_more_with_a_silent_device(study: Study) -> None:
    rows = study.measured("train")
    transform = champion.transform_of(study, rows)
    shown = champion.examples(study, rows, transform)
    again = rows[::3]
    expected = np.vstack([study.matrix[rows], study.silent[again]])
    assert np.array_equal(shown.matrix, expected.astype(np.float32), equal_nan=True)
    base = expected[:, features.NAMES.index(features.BASE_FEATURE)]
    taught = transform.to_target(shown.label, base)
    assert np.allclose(taught, study.target[np.concatenate([rows, again])])
    assert shown.weight[: len(rows)].tolist() == [1.0] * len(rows)
    assert shown.weight[len(rows) :].sum() / len(rows) == pytest.approx(0.1, abs=0.001)


@pytest.mark.parametrize("family", ["xgboost", *methods.FAMILIES])
def test_every_family_learns_from_the_silent_rows_by_their_weight(
    study: Study, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_families: dict[str, dict[str, Any]] = {
        "ridge": {"alpha": 10.0},
        "svr": {"C": 1.0, "gamma": 1e-3, "epsilon": 0.01},
        "catboost": {"rounds": 15, "learning_rate": 0.3, "depth": 3},
        "hist_gradient_boosting": {"rounds": 15, "max_bins": 16},  # to find 255 bins of weighted rows takes five seconds
        "random_forest": {"n_estimators": 5, "min_samples_leaf": 5},
        "extra_trees": {"n_estimators": 5, "min_samples_leaf": 5},
    }
    small = of_families.get(family, {"rounds": 15})
    train, row = study.measured("train"), study.measured("validation")
    without_device = replace(study, matrix=study.silent)

    def error() -> float:
        predicted = methods.fit(family, study, train, small).predict(without_device, row)
        return float(np.mean((np.sqrt(predicted) - np.sqrt(study.target[row])) ** 2))

    monkeypatch.setattr(champion, "SILENT_WEIGHT", 1e-9)
    unseen = error()
    monkeypatch.setattr(champion, "SILENT_WEIGHT", 1.0)
    assert error() < 0.98 * unseen


# ---- what may be scored ----


def test_a_fit_is_not_scored_on_a_row_it_may_have_seen(study: Study) -> None:
    train, validation = study.measured("train"), study.measured("validation")
    honest = methods.fit("climatology", study, train, {})
    honest.predict(study, validation)
    with pytest.raises(ContractError, match="has seen rows up to"):
        honest.predict(study, train[-1:])
    seen = methods.fit("climatology", study, study.measured("train+validation"), {})
    with pytest.raises(ContractError, match="has seen rows up to"):
        seen.predict(study, validation)


@pytest.mark.parametrize("refit_hours", [None, 50])
def test_every_fit_of_a_run_knows_only_rows_before_those_it_predicts(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refit_hours: int | None
) -> None:
    calls: list[tuple[Rows, Rows]] = []

    def spy(method: str, study: Study, rows: Rows, parameters: Mapping[str, Any]) -> Fit:
        def ones(study: Study, scored: Rows) -> Floats:
            calls.append((rows, scored))
            return np.ones(len(scored))

        return Fit(int(rows.max()), ones)

    monkeypatch.setattr(methods, "fit", spy)
    run = Run("spied", "variant", "xgboost", SMALL, refit_hours=refit_hours)
    found = predict(run, {}, Bench({"all": study}, tmp_path, workers=1), "validation")
    assert np.array_equal(np.concatenate([scored for _, scored in calls]), study.measured("validation"))
    assert np.array_equal(found.rows, study.measured("validation"))
    assert len(calls) == (1 if refit_hours is None else 5)
    for fitted, scored in calls:
        assert fitted.max() < scored.min()
        assert scored.max() - fitted.max() <= (refit_hours or 225) + 50


def test_early_stopping_looks_at_training_rows_only(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Examples] = []

    def seven(parameters: Mapping[str, Any], early: Examples, late: Examples) -> int:
        seen.extend([early, late])
        return 7

    monkeypatch.setitem(methods._EARLY_STOPPED, "xgboost", seven)
    assert methods.best_rounds("xgboost", study, SMALL) == 7
    train = study.measured("train")
    early, late = seen
    rows = len(train) - len(late.matrix)
    together = np.vstack([early.matrix[:rows], late.matrix])
    assert np.array_equal(together, study.matrix[train].astype(np.float32), equal_nan=True)
    again = train[: rows : champion.SILENT_EVERY]  # what follows are the early rows once more, with a silent device
    assert np.array_equal(early.matrix[rows:], study.silent[again].astype(np.float32), equal_nan=True)
    assert (late.weight == 1).all()


@pytest.mark.parametrize("family", ["xgboost", "lightgbm", "catboost", "hist_gradient_boosting"])
def test_early_stopping_finds_where_the_late_rows_are_predicted_best(
    study: Study, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(methods, "MAX_ROUNDS", 25)
    rounds = methods.best_rounds(family, study, {"max_bins": 16} if family == "hist_gradient_boosting" else {})
    assert rounds is not None
    assert 1 <= rounds <= 25


def test_only_measured_hours_are_scored(study: Study) -> None:
    rows = study.measured("validation")
    assert not np.isnan(study.frame.values[rows, TARGET_INDEX]).any()
    gaps = np.setdiff1d(np.arange(len(study.frame))[study.blocks["validation"]], rows)
    assert len(gaps) > 0
    with pytest.raises(ContractError, match="only measured hours"):
        study.score(gaps[:1], np.ones(1))
    with pytest.raises(ContractError, match="only measured hours"):
        study.score(rows, np.full(len(rows), np.nan))


def test_what_is_scored_is_what_the_file_says_was_measured(frame: Frame, study: Study, tmp_path: Path) -> None:
    path = tmp_path / "simulated" / uci_file.UCI_NAME
    dataset.write_uci_csv(frame, path)
    cells = [line.split(";") for line in path.read_text().splitlines()[1:] if line.strip(";")]
    measured = [number for number, row in enumerate(cells) if row[2] != "-200"]  # read by hand: no code of ours
    truth = [float(cells[number][2].replace(",", ".")) for number in measured]
    loaded = Study.of(dataset.load(path))
    rows = np.concatenate([loaded.measured(block) for block in ("train", "validation", "test")])
    assert rows.tolist() == measured
    assert loaded.target[rows].tolist() == truth
    for block in ("validation", "test"):
        part = loaded.measured(block)
        assert loaded.score(part, loaded.target[part])["n"] == len(part)


def test_rows_whose_sensors_are_missing_are_scored_too(frame: Frame) -> None:
    values = frame.values.copy()
    values[1100:1150, 1:] = np.nan
    study = Study.of(Frame(frame.hours, values, "simulated"))
    rows = study.measured("validation")
    assert not study.has_sensors(rows).all()
    model = champion.fit(study, "train", SMALL)
    assert study.score(rows, model.predict(study.matrix[rows]))["n"] == len(rows)


# ---- folds and ensembles ----


@given(st.integers(20, 200))
def test_each_fold_is_scored_on_later_rows_than_it_is_fitted_on(n_rows: int) -> None:
    rows = np.arange(0, 3 * n_rows, 3)
    folds = forward_folds(rows)
    assert all(fitted.max() < scored.min() for fitted, scored in folds)
    scored = np.concatenate([scored for _, scored in folds])
    assert len(np.unique(scored)) == len(scored)


def test_a_stack_on_plain_folds_is_refused(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench({"all": study.before_test()}, tmp_path, workers=1)
    members = [Run("climatology", "baseline", "climatology"), Run("base", "baseline", "base")]
    known = study.before_test()
    assert ensembles.blend("stack", members, known, bench, "stacked").method == "blend"
    monkeypatch.setattr("sklearn.model_selection.TimeSeriesSplit", lambda n: KFold(n))
    with pytest.raises(ContractError, match="has seen rows up to"):
        ensembles.blend("stack", members, known, bench, "stacked")


def test_the_weights_scored_on_validation_come_from_training_rows_alone(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned: list[Floats] = []

    def no_weights(members: Floats, target: Floats) -> dict[str, Any]:
        learned.append(target)
        return {}

    monkeypatch.setattr(ensembles, "weighted", no_weights)
    known = study.before_test()
    members = [Run("climatology", "baseline", "climatology")]
    ensembles.blend("blend", members, known, Bench({"all": known}, tmp_path, workers=1), "weighted")
    train = set(study.target[study.measured("train")].tolist())
    for_validation, for_test = learned
    assert len(for_validation) < len(for_test)
    scored = np.concatenate([scored for _, scored in forward_folds(study.measured("train+validation"))])
    inside = scored[scored < study.bounds[0]]
    assert np.array_equal(for_validation, study.target[inside])
    assert set(for_validation.tolist()) <= train


def test_a_stack_of_equals_is_their_mean() -> None:
    rng = np.random.default_rng(0)
    target = rng.gamma(2, 1, 400)
    noise = rng.normal(0, 0.3, (400, 3))
    weights = ensembles.stacked(target[:, None] + noise, target)
    assert weights["weights"] == pytest.approx([1 / 3] * 3, abs=0.05)
    assert sum(weights["weights"]) == pytest.approx(1, abs=1e-5)


# ---- figures ----


def test_metrics_are_those_of_the_textbook() -> None:
    from sklearn import metrics

    rng = np.random.default_rng(1)
    actual = rng.gamma(2, 1, 200) + 0.1
    predicted = actual + rng.normal(0, 0.2, 200)
    found = protocol.scores(actual, predicted, naive_mae=0.5)
    assert found["rmse"] == pytest.approx(metrics.root_mean_squared_error(actual, predicted))
    assert found["mae"] == pytest.approx(metrics.mean_absolute_error(actual, predicted))
    assert found["r2"] == pytest.approx(metrics.r2_score(actual, predicted))
    assert found["mape"] == pytest.approx(100 * metrics.mean_absolute_percentage_error(actual, predicted))
    assert found["smape"] == pytest.approx(np.mean(200 * np.abs(predicted - actual) / (np.abs(actual) + np.abs(predicted))))
    assert found["mase"] == pytest.approx(found["mae"] / 0.5)


def test_intervals_are_wider_when_errors_of_a_day_go_together() -> None:
    rng = np.random.default_rng(2)
    days = np.repeat(np.arange(60), 24)
    actual = rng.gamma(2, 1, len(days)) + 0.1
    alone = actual + rng.normal(0, 0.3, len(days))
    together = actual + np.repeat(rng.normal(0, 0.3, 60), 24)
    narrow, wide = (protocol.intervals(actual, p, days, 1.0)["rmse"] for p in (alone, together))
    assert narrow[0] < 0.3 < narrow[1]
    assert wide[1] - wide[0] > 2 * (narrow[1] - narrow[0])


def test_persistence_is_the_last_measured_value(study: Study) -> None:
    rows = study.measured("validation")
    predicted = methods.fit("persistence", study, study.measured("train"), {}).predict(study, rows)
    measured = np.flatnonzero(~np.isnan(study.target))
    for row, value in zip(rows, predicted, strict=True):
        assert value == study.target[measured[measured < row].max()]


# ---- the champion as it is scored, written and served ----


def test_the_studys_xgboost_predicts_what_the_served_model_predicts_bit_for_bit(study: Study, tmp_path: Path) -> None:
    rows = study.measured("validation")
    in_study = methods.fit("xgboost", study, study.measured("train"), SMALL).predict(study, rows)
    champion.fit(study, "train", SMALL).save(tmp_path)
    assert np.array_equal(Model.load(tmp_path).predict(study.matrix[rows]), in_study)


def test_the_twin_is_scored_on_what_the_champion_was_fitted_on(study: Study) -> None:
    model, twin = artifacts.fit(study, SMALL, with_test=False)
    assert twin.card.fitted_on == "train"
    assert model.card.fitted_on == "train+validation"
    assert twin.card.data_hash == dataset.split(study.frame).train.sha256
    assert model.card.scores == twin.card.scores
    assert set(model.card.scores) == {"validation"}


# ---- calibration ----


def test_backtest_predicts_every_hour_before_the_test_by_fits_that_do_not_know_it(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = []
    fit_rows = champion.fit_rows

    def spy(study: Study, rows: Rows, parameters: Mapping[str, Any], fitted_on: str, frame: Frame) -> Model:
        known.append(int(rows.max()))
        return fit_rows(study, rows, parameters, fitted_on, frame)

    monkeypatch.setattr(champion, "fit_rows", spy)
    predicted = forward.forward_chain(study, SMALL, refit_hours=200, first_fit_hours=400)
    assert len(predicted) == study.bounds[1]
    first = int(np.flatnonzero(~np.isnan(predicted))[0])
    assert first == study.bounds[0] - 600
    assert not np.isnan(predicted[first:]).any()
    starts = [first, first + 200, first + 400, study.bounds[0]]
    assert [last < start for last, start in zip(known, starts, strict=True)] == [True] * 4


def test_backtest_last_stretch_is_what_the_reference_holds(study: Study) -> None:
    predicted = forward.forward_chain(study, SMALL, refit_hours=500, first_fit_hours=400)
    block = study.blocks["validation"]
    twin = champion.fit(study, "train", SMALL)
    assert np.array_equal(predicted[block], twin.predict(study.matrix[block]))


def test_backtest_is_written_with_empty_cells_for_missing_truths(study: Study, tmp_path: Path) -> None:
    predicted = np.full(study.bounds[1], np.nan)
    predicted[-300:] = 1.25
    frame = study.before_test().frame
    origin = forward.origin_of(study.before_test(), SMALL)
    assert backtest.write(tmp_path / "backtest.csv", frame, predicted, origin) == 300
    lines = (tmp_path / "backtest.csv").read_text().splitlines()
    assert lines[0] == "DateTime,CO(GT),prediction"
    truths = [line.split(",")[1] for line in lines[1:]]
    assert truths.count("") == int(np.isnan(study.target[study.bounds[1] - 300 : study.bounds[1]]).sum()) > 0
