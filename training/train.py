"""Train: the whole study under MLflow, or with ``--quick`` the frozen champion alone.

The study chooses on forward folds and validation and writes ``frozen.json``. If that is what is committed, the final step
follows: it opens the test rows, writes tables, pictures and ``artifacts/``, and registers the champion as challenger.
If the choices are new, commit them and run again with ``--open-test``.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from pathlib import Path

if __name__ == "__main__":  # typed as `python training/train.py`, from any folder
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from airquality.data import dataset
from airquality.data.dataset import Frame
from airquality.ground import command, log
from airquality.ground.errors import ContractError, UsageError
from airquality.ground.settings import Settings, read_settings
from airquality.model.model import CARD_FILE, Model
from training import artifacts, frozen
from training.protocol import Study

#: Where a study of simulated data leaves its files: never among the committed results.
SIMULATED_OUT = Path("run") / "training-simulated"

_EXAMPLES = """\
examples:
  python training/train.py --quick       the frozen champion alone, in seconds
  python training/train.py               the whole study, under MLflow
  python training/train.py --open-test   the final step for choices that are committed

exit status: 0 done, 1 failure, 2 wrong usage
"""

logger = logging.getLogger("training")


def train_quick(frame: Frame, artifacts_dir: Path) -> Model:
    """Fit twin and champion with the frozen parameters; write both, and the feature manifests.

    Returns:
        The champion; its card holds ``validation`` (the twin's figures) and, unless the frozen file has been changed
        since it was committed, ``test``.
    """
    study = Study.of(frame)
    model, twin = artifacts.fit(study, frozen.read().champion_parameters, _may_score_test(study.frame))
    artifacts.write(model, twin, artifacts_dir)
    return model


def _may_score_test(frame: Frame) -> bool:
    """Say whether nothing can be chosen by the test any more: the choices are committed, or the data are made up."""
    if frame.source != "uci":
        return True
    try:
        frozen.committed(frozen.PATH)
    except ContractError as error:
        logger.warning("the test rows are not scored: %s", error)
        return False
    return True


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
    p = command.parser("python training/train.py", __doc__ or "", _EXAMPLES)
    mode = p.add_mutually_exclusive_group()
    mode.add_argument("--quick", action="store_true", help="fit the frozen champion only, without a search (seconds)")
    mode.add_argument(
        "--open-test", action="store_true", help="skip the search: run the final step for the committed choices"
    )
    p.add_argument("--csv", type=Path, help="a file in the data set's format (default: found, fetched or simulated)")
    p.add_argument(
        "--artifacts-dir",
        type=Path,
        help="where the fits go (ARTIFACTS_DIR; default artifacts, or run/training-simulated/artifacts for simulated data)",
    )
    p.add_argument("--out", type=Path, help="where frozen.json and the results go (training/; run/ for simulated data)")
    p.add_argument("--candidates", type=int, help="look at no more than this many configurations of each family")
    p.add_argument("--workers", type=int, default=2, help="fits at a time, one thread each (%(default)s)")
    p.add_argument("--no-register", action="store_true", help="do not register the champion as challenger")
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 0 done, 1 failure, 2 usage."""
    args = parser().parse_args(argv)
    return command.run("training/train.py", lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    settings = read_settings(artifacts_dir=args.artifacts_dir)
    log.configure(settings.log_level, settings.log_format)
    source = args.csv or dataset.find(settings.dataset_dir, settings.air_quality_data_source).path
    frame = dataset.load(source)
    out = args.out or (frozen.PATH.parent if frame.source == "uci" else SIMULATED_OUT)
    artifacts_dir = artifacts_folder(settings, frame, out)
    print(_quick(frame, artifacts_dir) if args.quick else _study(args, settings, frame, out, artifacts_dir))


def artifacts_folder(settings: Settings, frame: Frame, out: Path) -> Path:
    """Return where the fits go: never made-up data's where the committed model is, unless that folder was named.

    Raises:
        UsageError: the folder holds a model of other data, which may be the only copy.
    """
    named = "artifacts_dir" in settings.model_fields_set or frame.source == "uci"
    folder = settings.artifacts_dir if named else out / "artifacts"
    if frame.source == "simulated" and _holds_other_data(folder / CARD_FILE):
        raise UsageError(
            f"{folder} holds a model that was not fitted on simulated data, and these are simulated: pass another "
            "--artifacts-dir."
        )
    return folder


def _holds_other_data(card: Path) -> bool:
    """Whether a model's card is there that does not say ``simulated``; one that cannot be read does not."""
    try:
        return bool(json.loads(card.read_bytes())["data_source"] != "simulated")
    except (ValueError, KeyError, TypeError):
        return True
    except OSError:
        return False


def _quick(frame: Frame, artifacts_dir: Path) -> str:
    started = time.perf_counter()
    model = train_quick(frame, artifacts_dir)
    return report(model, artifacts_dir, time.perf_counter() - started)


def _study(args: argparse.Namespace, settings: Settings, frame: Frame, out: Path, artifacts_dir: Path) -> str:
    from airquality.model import registry  # these take seconds to import, and --quick needs none of them
    from training import study

    registry.configure()
    plan = study.Plan(out, artifacts_dir, args.workers, args.candidates, register=not args.no_register)
    return study.run(frame, plan, settings, explore=not args.open_test)


if __name__ == "__main__":
    sys.exit(main())
