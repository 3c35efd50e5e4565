"""Train the champion and its train-only twin, and write both to ``artifacts/``.

The twin has seen the training rows only and makes the out-of-sample reference; the champion is refitted on training and
validation rows. The test rows are scored once, at the end, and decide nothing.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from dataclasses import replace
from pathlib import Path

if __name__ == "__main__":  # typed as `python training/train.py`, from any folder
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from airquality import dataset, features, log
from airquality.errors import AirQualityError, UsageError
from airquality.model import TRAIN_ONLY_DIR, Model
from airquality.settings import read_settings
from training import champion
from training.protocol import Study

logger = logging.getLogger("training")


def train_quick(data: Path, artifacts_dir: Path) -> Model:
    """Fit twin and champion with the parameters in ``training.champion``; write both, and the feature manifests.

    Returns:
        The champion; its card holds ``validation`` (the twin's figures) and ``test``.
    """
    study = Study.of(dataset.load(data))
    twin = champion.fit(study, "train")
    validation = champion.score(twin, study, "validation")
    twin = replace(twin, card=replace(twin.card, scores={"validation": validation}))
    model = champion.fit(study, "train+validation")
    figures = {"validation": validation, "test": champion.score(model, study, "test")}
    model = replace(model, card=replace(model.card, scores=figures))
    twin.save(artifacts_dir / TRAIN_ONLY_DIR)
    model.save(artifacts_dir)
    write_manifests(artifacts_dir)
    return model


def write_manifests(artifacts_dir: Path) -> None:
    """Write ``features.json`` and ``raw_columns.json`` from the declarations."""
    for name, content in (("features.json", features.manifest()), ("raw_columns.json", features.raw_manifest())):
        (artifacts_dir / name).write_text(json.dumps(content, indent=1) + "\n")


def report(model: Model, artifacts_dir: Path, seconds: float) -> str:
    """Return the closing lines: the figures of both fits and where the files are."""
    rows = [f"{'block':<12}{'RMSE':>8}{'MAE':>8}{'R2':>8}{'n':>7}   (CO in mg/m3, measured hours only)"]
    for block, s in model.card.scores.items():
        rows.append(f"{block:<12}{s['rmse']:8.4f}{s['mae']:8.4f}{s['r2']:8.4f}{s['n']:7.0f}")
    source = "" if model.card.data_source == "uci" else f"  {model.card.data_source.upper()} DATA"
    rows.append(f"champion and train-only twin written to {artifacts_dir}/ in {seconds:.1f} s{source}")
    return "\n".join(rows)


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    settings = read_settings()
    p = argparse.ArgumentParser(prog="python training/train.py", description=__doc__, allow_abbrev=False)
    p.add_argument("--quick", action="store_true", help="fit the frozen configuration only, without a search (seconds)")
    p.add_argument("--csv", type=Path, help="a file in the data set's format (default: found, fetched or simulated)")
    p.add_argument("--artifacts-dir", type=Path, default=settings.artifacts_dir, help="where the fits go (%(default)s)")
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 0 done, 1 failure, 2 usage."""
    settings = read_settings()
    log.configure(settings.log_level, settings.log_format)
    args = parser().parse_args(argv)
    try:
        source = dataset.DataFile(args.csv, "uci") if args.csv else dataset.find(settings.dataset_dir)
        started = time.perf_counter()
        model = train_quick(source.path, args.artifacts_dir)
    except AirQualityError as error:
        logger.error("%s", error)
        return 2 if isinstance(error, UsageError) else 1
    print(report(model, args.artifacts_dir, time.perf_counter() - started))
    return 0


if __name__ == "__main__":
    sys.exit(main())
