"""What is committed as results agrees with itself: tables, model card, artifacts, and their order in history."""

from __future__ import annotations

import csv
import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from airquality.data import dataset
from airquality.model import features
from airquality.model.model import TRAIN_ONLY_DIR, Model
from airquality.model.registry import NOISE_RMSE
from training import champion, figures, frozen
from training.frozen import Frozen
from training.protocol import METRICS, Study
from training.results import TITLES, fill, read_metric

ROOT = Path(__file__).resolve().parent.parent
RUN_DATA = ROOT / "training" / "run_data"
PICTURES = ROOT / "training" / "run_visualizations"
CARD = ROOT / "docs" / "model-card.md"


@pytest.fixture(scope="module")
def choices() -> Frozen:
    return frozen.read()


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def block(name: str) -> list[list[str]]:
    found = re.search(rf"<!-- {name} -->\n(.*?)\n<!-- /{name} -->", CARD.read_text(), re.DOTALL)
    assert found, name
    return [cells(line) for line in found[1].splitlines()[2:]]


def test_the_model_cards_headline_is_what_the_tables_say(choices: Frozen) -> None:
    rows = {row[0]: row[1:] for row in block("headline")}
    for metric, title in TITLES.items():
        shown = rows[title]
        for prefix, (value, interval) in zip(("valid", "test"), (shown[:2], shown[2:]), strict=True):
            table = read_metric(RUN_DATA / "metrics", prefix, metric)[choices.champion]
            assert value == f"{float(table[metric]):.4f}"
            assert interval == f"{float(table['low']):.4f} - {float(table['high']):.4f}"


def test_the_model_cards_runs_are_those_of_the_tables() -> None:
    test, valid = (read_metric(RUN_DATA / "metrics", prefix, "rmse") for prefix in ("test", "valid"))
    rows = block("runs")
    assert [row[0] for row in rows] == list(test)
    for name, valid_rmse, test_rmse, *_ in rows:
        assert valid_rmse == f"{float(valid[name]['rmse']):.4f}"
        assert test_rmse == f"{float(test[name]['rmse']):.4f}"


def test_every_run_is_in_every_table_and_in_mlflows(choices: Frozen) -> None:
    names = [run.name for run in choices.runs]
    assert len(names) >= 19
    for prefix in ("valid", "test"):
        for metric in METRICS:
            assert list(read_metric(RUN_DATA / "metrics", prefix, metric)) == names
            assert (PICTURES / f"{prefix}_{metric}.png").stat().st_size > 10_000
    with (RUN_DATA / "MLFlowRuns.csv").open() as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert sorted(rows) == sorted(names)
    for name, row in rows.items():
        table = read_metric(RUN_DATA / "metrics", "test", "rmse")[name]
        assert float(row["metrics.test_rmse"]) == pytest.approx(float(table["rmse"]), abs=1e-6)
        assert row["features_hash"] == features.manifest()["hash"]
        assert row["data_hash"] == choices.data_hash


def test_validation_figures_are_those_the_choices_were_made_by(choices: Frozen) -> None:
    table = read_metric(RUN_DATA / "metrics", "valid", "rmse")
    for name, valid in choices.valid_rmse.items():
        assert float(table[name]["rmse"]) == pytest.approx(valid, abs=6e-5)


def test_the_bar_is_met_by_the_champion(choices: Frozen) -> None:
    valid, test = (read_metric(RUN_DATA / "metrics", prefix, "rmse")[choices.champion] for prefix in ("valid", "test"))
    assert float(valid["rmse"]) <= 0.31
    assert 0.226 - NOISE_RMSE < float(test["rmse"]) <= 0.250, "far below the best figure known, 0.226, would mean a leak"
    variant = read_metric(RUN_DATA / "metrics", "test", "rmse")
    assert float(variant["without current NOx and NO2"]["rmse"]) <= 0.33
    assert float(variant["CO 24 h late"]["rmse"]) <= 0.46
    assert float(read_metric(RUN_DATA / "metrics", "test", "mae")[choices.champion]["mae"]) <= 0.160
    assert float(read_metric(RUN_DATA / "metrics", "test", "r2")[choices.champion]["r2"]) >= 0.963
    assert int(test["n"]) == 1374
    assert int(valid["n"]) == 1234


def test_what_ships_is_what_was_scored(choices: Frozen) -> None:
    model, twin = (Model.load(folder) for folder in (ROOT / "artifacts", ROOT / "artifacts" / TRAIN_ONLY_DIR))
    assert dict(model.card.parameters).items() >= dict(choices.champion_parameters).items()
    for prefix, card_block, owner in (
        ("test", "test", model),
        ("valid", "validation", twin),
        ("valid", "validation", model),
    ):
        for metric in METRICS:
            table = read_metric(RUN_DATA / "metrics", prefix, metric)[choices.champion]
            assert owner.card.scores[card_block][metric] == pytest.approx(float(table[metric]), abs=1e-6)
    for folder in (ROOT / "artifacts", ROOT / "artifacts" / TRAIN_ONLY_DIR):
        assert (folder / "model.ubj").stat().st_size < 3_000_000


def test_the_manifests_that_ship_are_the_declarations() -> None:
    assert json.loads((ROOT / "artifacts" / "features.json").read_text()) == features.manifest()
    assert json.loads((ROOT / "artifacts" / "raw_columns.json").read_text()) == features.raw_manifest()


def test_the_results_belong_to_the_frozen_file_that_is_here() -> None:
    opened = json.loads((RUN_DATA / "opened.json").read_text())
    assert opened["frozen_sha256"] == frozen.sha256(frozen.PATH)


def test_history_shows_the_choices_before_the_test_metrics() -> None:
    def log(*arguments: str) -> list[str]:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()

    if not (ROOT / ".git").exists() or log("rev-parse", "--is-shallow-repository") == ["true"]:
        pytest.skip("needs the repository's history")
    froze = json.loads((RUN_DATA / "opened.json").read_text())["frozen_commit"]
    metrics = log("log", "-1", "--format=%H", "--", "training/run_data/metrics/test_rmse.csv")
    if not metrics:
        pytest.skip("the metrics are not committed yet")
    assert froze != metrics[0]
    assert froze in log("rev-list", f"{metrics[0]}^"), "the frozen file must be older than the metrics"


def test_no_prediction_of_a_single_hour_is_committed() -> None:
    for path in RUN_DATA.rglob("*"):
        if path.is_file():
            assert len(path.read_text().splitlines()) < 60, path


def test_the_notebook_was_executed_from_top_to_bottom_and_shows_nothing_of_the_machine() -> None:
    text = (ROOT / "training" / "model_training.ipynb").read_text()
    code = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    kinds = {output["output_type"] for cell in code for output in cell["outputs"]}
    assert "error" not in kinds
    assert not re.search(r"/(home|root|work|Users)/", text)


def test_filling_a_page_replaces_what_is_between_the_markers_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- a -->\nold\nolder\n<!-- /a -->\nafter <!-- b -->\n")
    fill(page, a="new")
    fill(page, a="newer")
    assert page.read_text() == "before\n<!-- a -->\nnewer\n<!-- /a -->\nafter <!-- b -->\n"


def test_group_importance_covers_every_family() -> None:
    study = Study.of(dataset.simulate().rows(0, 1000))
    twin = champion.fit(study, "train", {**champion.HAND_SET, "rounds": 5})
    found = figures.importance(twin, study, repeats=1)
    assert list(found) == [family.title for family in features.FAMILIES]
    assert found["base"] > 0.1
    assert np.isfinite(list(found.values())).all()
