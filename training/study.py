"""The whole study from data to registered challenger: explore, freeze, open the test, write."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from airquality.data.dataset import Frame
from airquality.ground.errors import ContractError
from airquality.ground.files import write_atomically
from airquality.ground.settings import Settings
from airquality.model import features, registry
from airquality.model.inputs import ALL, VARIANTS
from training import artifacts, figures, final, frozen, results, tracking
from training.bench import Bench
from training.explore import Explorer
from training.frozen import Frozen
from training.protocol import Study

MODEL_CARD = Path("docs") / "model-card.md"


@dataclass(frozen=True)
class Plan:
    """Where a study writes, how many fits it makes at a time, and how far its searches go (None: all the way)."""

    out: Path
    artifacts_dir: Path
    workers: int = 2
    candidates: int | None = None
    register: bool = True

    @property
    def frozen_path(self) -> Path:
        """The frozen file."""
        return self.out / frozen.FILE_NAME

    @property
    def cache(self) -> Path:
        """Where finished fits are kept; git-ignored."""
        return self.out / ".cache"


def run(frame: Frame, plan: Plan, settings: Settings, explore: bool = True) -> str:
    """Run the study, and the final step if its choices are the committed ones; return what to tell.

    Raises:
        ContractError: ``explore`` is False and the frozen file is not committed as it stands.
    """
    started = time.perf_counter()
    studies = {variant.name: Study.of(frame, variant) for variant in VARIANTS.values()}
    tags = _tags(studies[ALL.name])
    said = []
    if explore:
        choices = _explore(studies, plan, settings, tags)
        said += [_chosen(choices), f"explored in {(time.perf_counter() - started) / 60:.1f} minutes", ""]
        try:
            frozen.committed(plan.frozen_path)
        except ContractError as error:
            return "\n".join([*said, str(error)])
    said.append(_final(studies, plan, settings, tags))
    return "\n".join(said)


def _explore(studies: Mapping[str, Study], plan: Plan, settings: Settings, tags: Mapping[str, str]) -> Frozen:
    known = {name: study.before_test() for name, study in studies.items()}
    with tracking.tracking(settings, tags) as tracker:
        choices = Explorer(Bench(known, plan.cache, plan.workers), tracker, plan.candidates).explore()
    choices.write(plan.frozen_path)
    parent = {"frozen_sha256": frozen.sha256(plan.frozen_path), "run_id": tracker.parent_id}
    write_atomically(plan.cache / "parent.json", json.dumps(parent).encode())
    return choices


def _final(studies: Mapping[str, Study], plan: Plan, settings: Settings, tags: Mapping[str, str]) -> str:
    choices = frozen.read(plan.frozen_path)
    run_data, pictures = plan.out / "run_data", plan.out / "run_visualizations"
    with tracking.tracking(settings, tags, _parent(plan)) as tracker:
        found = final.open_test(plan.frozen_path, Bench(studies, plan.cache, plan.workers), tracker)
    tracking.write_csv(tracker.children(), run_data / "MLFlowRuns.csv")
    results.write_metrics(found, run_data / "metrics")
    final.write_opening(run_data, plan.frozen_path)
    model, twin = artifacts.fit(studies[ALL.name], choices.champion_parameters, with_test=True)
    artifacts.write(model, twin, plan.artifacts_dir)
    notice = "" if choices.data_source == "uci" else f" - {choices.data_source.upper()} DATA"
    figures.draw(found, choices.champion, pictures, notice)
    figures.draw_importance(figures.importance(twin, studies[ALL.name]), pictures, notice)
    if choices.data_source == "uci" and MODEL_CARD.exists():
        champion = choices.champion
        headline = results.headline(found["valid"][champion], found["test"][champion])
        results.fill(MODEL_CARD, headline=headline, runs=results.table(found))
    said = [results.table(found), f"tables in {run_data}/, pictures in {pictures}/, models in {plan.artifacts_dir}/"]
    if plan.register:
        version = registry.register(plan.artifacts_dir, settings, registry.CHALLENGER)
        said.append(f"{settings.model_name} version {version} is {registry.CHALLENGER}")
    return "\n".join(said)


def _parent(plan: Plan) -> str | None:
    """Return the MLflow run the frozen choices were logged under, if this machine explored them."""
    kept = plan.cache / "parent.json"
    if not kept.exists():
        return None
    parent = json.loads(kept.read_bytes())
    return str(parent["run_id"]) if parent["frozen_sha256"] == frozen.sha256(plan.frozen_path) else None


def _tags(study: Study) -> dict[str, str]:
    return {
        "data_source": study.frame.source,
        "data_hash": study.before_test().frame.sha256,
        "features_hash": str(features.manifest()["hash"]),
        "git_commit": frozen.head(Path(__file__).resolve().parent),
    }


def _chosen(choices: Frozen) -> str:
    rows = [f"{'run':<34}{'CV':>8}{'VALID':>8}   (RMSE, mg/m3)"]
    for name, valid in choices.valid_rmse.items():
        cv = f"{choices.cv_rmse[name]:8.4f}" if name in choices.cv_rmse else f"{'':8}"
        rows.append(f"{name:<34}{cv}{valid:8.4f}{'   champion' if name == choices.champion else ''}")
    return "\n".join(rows)
