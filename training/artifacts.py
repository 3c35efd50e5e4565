"""The folder that seeds an empty registry: the champion, its train-only twin, and the feature manifests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from airquality.ground.files import write_atomically
from airquality.model import features
from airquality.model.model import TRAIN_ONLY_DIR, Model
from training import champion
from training.protocol import Study


def fit(study: Study, parameters: Mapping[str, Any], with_test: bool) -> tuple[Model, Model]:
    """Return the champion and its train-only twin with their figures in their cards, the test's only if asked for."""
    twin = champion.fit(study, "train", parameters)
    validation = _score(twin, study, "validation")
    twin = replace(twin, card=replace(twin.card, scores={"validation": validation}))
    model = champion.fit(study, "train+validation", parameters)
    figures = {"validation": validation}
    if with_test:
        figures["test"] = _score(model, study, "test")
    return replace(model, card=replace(model.card, scores=figures)), twin


def _score(model: Model, study: Study, block: str) -> dict[str, float]:
    rows = study.measured(block)
    return study.score(rows, model.predict(study.matrix[rows]))


def write(model: Model, twin: Model, artifacts_dir: Path) -> None:
    """Write both fits, and the feature manifests from the declarations."""
    twin.save(artifacts_dir / TRAIN_ONLY_DIR)
    model.save(artifacts_dir)
    for name, content in (("features.json", features.manifest()), ("raw_columns.json", features.raw_manifest())):
        write_atomically(artifacts_dir / name, (json.dumps(content, indent=1) + "\n").encode())
