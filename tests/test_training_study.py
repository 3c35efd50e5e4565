"""The whole study, small: explored on made-up data, frozen, refused, committed, opened."""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skopt.space import Integer

from airquality.data import dataset
from airquality.data.dataset import Frame
from airquality.ground.errors import ContractError
from airquality.ground.settings import Settings
from airquality.model import registry
from airquality.model.model import TRAIN_ONLY_DIR, Model
from airquality.records import DEVICE_COLUMNS, RAW_COLUMNS
from training import bench, champion, explore, final, frozen, methods, search, study
from training.frozen import Frozen
from training.protocol import METRICS, Study

pytestmark = pytest.mark.slow

N_ROWS = 1500

World = tuple[Path, Frame, study.Plan, Settings, str, set[str]]
Opened = tuple[Path, study.Plan, Settings, str]


def history(seed: int = 360) -> Frame:
    """Nine weeks of made-up readings; now and then the device is silent while the analysers are not."""
    frame = dataset.simulate(seed).rows(0, N_ROWS)
    values = frame.values.copy()
    silent = np.arange(N_ROWS) % 7 == 0
    values[np.ix_(silent, [RAW_COLUMNS.index(name) for name in DEVICE_COLUMNS])] = np.nan
    return Frame(frame.hours, values, "simulated")


def git(directory: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    subprocess.run(["git", "-C", str(directory), *identity, *arguments], check=True, capture_output=True)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A repository with a study that has been explored once, before anything was committed."""
    with pytest.MonkeyPatch.context() as patch:
        small = {**champion.HAND_SET, "rounds": 20}
        patch.setattr(methods, "MAX_ROUNDS", 15)
        runs = tuple(replace(r, parameters=small) if r.name == explore.HAND_SET else r for r in explore._BASELINES)
        runs = tuple(replace(r, parameters={"n_estimators": 20}) if r.method == "seed_style" else r for r in runs)
        patch.setattr(explore, "_BASELINES", runs)
        forests = {"n_estimators": 10, "max_features": 0.1, "min_samples_leaf": 3}
        for family in ("random_forest", "extra_trees"):
            sizes = {**search.SPACES[family].dimensions, "n_estimators": Integer(5, 20)}
            patch.setitem(search.SPACES, family, replace(search.SPACES[family], dimensions=sizes, start=forests))
        boosted = methods._hist_gradient_boosting

        def coarse(parameters: Mapping[str, Any]) -> Any:
            return boosted({**parameters, "max_bins": 16})  # to find 255 bins of weighted rows takes five seconds a fit

        patch.setattr(methods, "_hist_gradient_boosting", coarse)
        patch.setitem(methods.FAMILIES, "hist_gradient_boosting", coarse)
        root = tmp_path_factory.mktemp("study")
        git(root, "init", "-q")
        (root / ".gitignore").write_text(".cache/\n*.db\nmlartifacts/\n")
        frame = history()
        plan = study.Plan(root / "training", root / "artifacts", workers=1, candidates=1)
        settings = Settings(mlflow_tracking_uri=f"sqlite:///{root}/mlflow.db", artifacts_dir=plan.artifacts_dir)
        said = study.run(frame, plan, settings)
        untracked = subprocess.run(
            ["git", "-C", str(root), "ls-files", "--others", "--exclude-standard"], capture_output=True, text=True
        )
        yield root, frame, plan, settings, said, set(untracked.stdout.split())


@pytest.fixture(scope="module")
def opened(world: World) -> Opened:
    """The same study after its choices were committed and the test rows opened."""
    root, frame, plan, settings, *_ = world
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "freeze")
    said = study.run(frame, plan, settings, explore=False)
    return root, plan, settings, said


def test_nothing_of_the_test_rows_is_written_before_the_choices_are_committed(world: World) -> None:
    _, _, plan, _, said, written = world
    assert "is not committed" in said
    assert "champion" in plan.frozen_path.read_text()
    assert written == {".gitignore", "training/frozen.json"}


def test_the_final_step_writes_every_table_and_picture(opened: Opened) -> None:
    _, plan, _, said = opened
    for prefix in ("valid", "test"):
        for metric in METRICS:
            with (plan.out / "run_data" / "metrics" / f"{prefix}_{metric}.csv").open() as file:
                rows = list(csv.DictReader(file))
            assert len(rows) >= 19
            assert all(float(r["low"]) <= float(r["high"]) and int(r["n"]) > 0 for r in rows)
            assert (plan.out / "run_visualizations" / f"{prefix}_{metric}.png").stat().st_size > 5000
    for name in ("prediction_vs_actual", "error_by_week", "importance_by_feature_group"):
        assert (plan.out / "run_visualizations" / f"{name}.png").stat().st_size > 5000
    assert "persistence" in said


def test_the_runs_are_in_mlflow_with_times_parameters_and_metrics_of_both_blocks(opened: Opened) -> None:
    _, plan, _, _ = opened
    with (plan.out / "run_data" / "MLFlowRuns.csv").open() as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert len(rows) >= 19
    for row in rows.values():
        assert row["status"] == "FINISHED"
        assert row["start_time"] <= row["end_time"]
        assert row["data_hash"]
        assert row["features_hash"]
        assert row["git_commit"]
        assert all(row[f"metrics.{prefix}_{m}"] for prefix in ("valid", "test") for m in METRICS)
    assert set(explore.TITLES.values()) < set(rows)
    assert rows["XGBoost"]["params.max_depth"]
    assert rows["XGBoost"]["params.rounds"]


def test_the_commit_that_froze_the_choices_is_in_the_results(opened: Opened) -> None:
    root, plan, _, _ = opened
    head = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    assert json.loads((plan.out / "run_data" / "opened.json").read_text())["frozen_commit"] == head


def test_the_challenger_is_the_champion_of_the_study_and_its_card_says_what_the_tables_say(opened: Opened) -> None:
    _, plan, settings, _ = opened
    with registry.registry(settings) as client:
        version = client.get_model_version_by_alias(settings.model_name, "challenger").version
    served = registry.load(settings, version).model
    assert served.hash == Model.load(plan.artifacts_dir).hash
    choices = frozen.read(plan.frozen_path)
    twin = Model.load(plan.artifacts_dir / TRAIN_ONLY_DIR)
    assert twin.card.scores["validation"]["rmse"] == pytest.approx(choices.valid_rmse[choices.champion], abs=6e-5)


def test_a_changed_frozen_file_opens_nothing(opened: Opened, world: World) -> None:
    _, plan, settings, _ = opened
    _, frame, *_ = world
    before = plan.frozen_path.read_bytes()
    plan.frozen_path.write_bytes(before.replace(b'"champion"', b'"champion" '))
    try:
        with pytest.raises(ContractError, match="not committed as it stands"):
            study.run(frame, plan, settings, explore=False)
    finally:
        plan.frozen_path.write_bytes(before)


def test_choices_made_on_other_data_open_nothing(opened: Opened, world: World) -> None:
    _, plan, settings, _ = opened
    _, frame, *_ = world
    other = history(seed=1)
    assert other.sha256 != frame.sha256
    with pytest.raises(ContractError, match="other data"):
        study.run(other, plan, settings, explore=False)


def test_the_same_study_makes_the_same_choices_from_what_it_kept(
    opened: Opened, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, frame, plan, settings, *_ = world
    before = plan.frozen_path.read_bytes()
    monkeypatch.setattr(bench, "_fit_and_predict", lambda *a: pytest.fail("fitted again"))
    monkeypatch.setattr(methods, "best_rounds", lambda *a: pytest.fail("fitted again"))
    monkeypatch.setattr(study, "_final", lambda *a: "")
    study.run(frame, plan, settings)
    assert plan.frozen_path.read_bytes() == before


def test_the_search_never_holds_the_test_rows(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    _, frame, plan, settings, *_ = world
    seen: list[Study] = []

    class Spy(explore.Explorer):
        def explore(self) -> Frozen:
            seen.extend(self.bench.studies.values())
            raise KeyboardInterrupt

    monkeypatch.setattr(study, "Explorer", Spy)
    with pytest.raises(KeyboardInterrupt):
        study.run(frame, plan, settings)
    assert seen
    for known in seen:
        assert len(known.frame) == len(known.matrix) == known.bounds[1] < len(frame)
        with pytest.raises(ContractError, match="not part of this study"):
            known.score(known.measured("test"), np.empty(0))


def test_open_test_scores_nothing_for_a_file_outside_any_commit(tmp_path: Path, world: World) -> None:
    _, _, plan, *_ = world
    copy = tmp_path / "frozen.json"
    copy.write_bytes(plan.frozen_path.read_bytes())
    nothing: Any = None  # refused before bench or tracker is used
    with pytest.raises(ContractError, match="not committed"):
        final.open_test(copy, nothing, nothing)
