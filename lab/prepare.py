"""Make what the services read, one program after the other: data, backtest, reference with its calibration, registry.

``make prepare`` does it in the checkout, ``make run`` in folders of its own. Each step is the program a user would type.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from airquality.data import dataset
from airquality.ground import command, log
from airquality.ground.errors import ContractError
from airquality.ground.settings import Settings, read_settings
from lab.child import Child
from lab.interruption import Interruption

PROJECT = Path(__file__).resolve().parent.parent
SIMULATED_NOTICE = "*** SIMULATED DATA: the real data set could not be had; nothing below is a measurement. ***"
#: Where a model of made-up data goes: never over the one in ``artifacts/``.
SIMULATED_ARTIFACTS = Path("run") / "training-simulated" / "artifacts"

_EXAMPLES = """\
examples:
  make prepare                                       the usual way to start it
  AIR_QUALITY_DATA_SOURCE=simulated make prepare     made-up data; uci: the real data or an error
  MLFLOW_TRACKING_URI=http://localhost:5000 make prepare   register the model in the stack's registry

exit status: 0 done, 1 a part failed, 2 wrong usage, 130 Ctrl-C, 143 SIGTERM, 129 its terminal was closed
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    command.parser("python -m lab.prepare", __doc__ or "", _EXAMPLES).parse_args(argv)
    return command.run("make prepare", _run)


def _run() -> None:
    settings = read_settings()
    log.configure(settings.log_level, settings.log_format)
    Interruption()
    found = dataset.find(settings.dataset_dir, settings.air_quality_data_source)
    named = "artifacts_dir" in settings.model_fields_set or found.source != "simulated"
    artifacts_dir = settings.artifacts_dir if named else SIMULATED_ARTIFACTS
    print("\n".join(_plan(settings, found.source, artifacts_dir)), flush=True)
    own = {
        "AIR_QUALITY_DATA_SOURCE": found.source,
        "ARTIFACTS_DIR": str(artifacts_dir.resolve()),
        "DATASET_DIR": str(settings.dataset_dir.resolve()),
        "PYTHONUNBUFFERED": "1",
    }
    prepare(found.source, {**os.environ, **own})
    print("\nprepared. Next: make broker, make topics, make api, make produce, make consume, each in a terminal of its own")


def _plan(settings: Settings, source: str, artifacts_dir: Path) -> Iterator[str]:
    if source == "simulated":
        yield SIMULATED_NOTICE
    yield f"data       {settings.dataset_dir.resolve()} ({source}; DATASET_DIR, AIR_QUALITY_DATA_SOURCE)"
    yield f"model      {artifacts_dir} (ARTIFACTS_DIR)"
    yield f"registry   {settings.mlflow_tracking_uri} (MLFLOW_TRACKING_URI)"
    yield "It takes a minute or two; Ctrl-C stops it, and what is finished stays."


def prepare(source: str, environment: Mapping[str, str]) -> None:
    """Run the steps with ``environment``; raises ``ContractError`` at the first that fails."""
    run_step("making the stream's file", "dataset/create_dataset.py", env=environment)
    if source == "simulated":
        run_step("training a quick model on the simulated history", "training/train.py", "--quick", env=environment)
    run_step("predicting the earlier months out of sample", "-m", "training.backtest", env=environment)
    run_step("scoring the reference, calibrating the monitoring", "generate_reference_dataset.py", env=environment)
    run_step("registering the model", "-m", "airquality", "registry", "seed", env=environment)


def run_step(title: str, *program: str, env: Mapping[str, str]) -> None:
    """Run one program to its end, its output on this terminal; raises ``ContractError`` if it fails."""
    print(f"\n=== {title}: python {' '.join(program)}", flush=True)
    with Child([sys.executable, *program], PROJECT, env) as process:
        code = process.wait()
    if code == command.OUTPUT_CLOSED:
        raise BrokenPipeError
    if code:
        raise ContractError(f"python {' '.join(program)} ended with exit code {code}; its message is above")


if __name__ == "__main__":
    sys.exit(main())
