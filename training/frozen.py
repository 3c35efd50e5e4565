"""The frozen file: every configuration, every weight and the champion, committed before the test rows are scored."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from airquality.ground.errors import ContractError
from airquality.ground.files import write_atomically
from airquality.model import features, inputs

Group = Literal["baseline", "family", "ensemble", "variant", "rows"]
Subset = Literal["all", "with sensors", "without sensors"]

BLEND = "blend"
FILE_NAME = "frozen.json"
PATH = Path(__file__).resolve().parent / FILE_NAME


@dataclass(frozen=True)
class Run:
    """One row of the tables.

    ``method`` is a name of :mod:`training.methods`, or ``blend``, whose parameters are ``members`` (names of runs) and, by
    block, ``intercept`` and ``weights``. ``refit_hours`` refits on everything known that often; None fits once a block.
    ``rows`` scores a part of the block only.
    """

    name: str
    group: Group
    method: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    inputs: str = inputs.ALL.name
    refit_hours: int | None = None
    rows: Subset = "all"

    def to_dict(self) -> dict[str, Any]:
        """Return the run as JSON holds it."""
        return asdict(self)


@dataclass(frozen=True)
class Frozen:
    """What was chosen, on what, and by what figures (mg/m3; ``cv`` pooled over the forward folds, where there is one).

    ``data_hash`` is that of the rows before the test block.
    """

    data_source: str
    data_hash: str
    features_hash: str
    champion: str
    runs: tuple[Run, ...]
    valid_rmse: Mapping[str, float]
    cv_rmse: Mapping[str, float]

    def named(self) -> dict[str, Run]:
        """Return the runs by name."""
        return {run.name: run for run in self.runs}

    @property
    def champion_parameters(self) -> Mapping[str, Any]:
        """The champion's parameters, ``rounds`` included."""
        return self.named()[self.champion].parameters

    def write(self, path: Path) -> None:
        """Write the file; the same choices give the same bytes."""
        body = {
            "about": "Chosen on forward folds and validation, and committed before training/final.py scored the test rows.",
            "data_source": self.data_source,
            "data_hash": self.data_hash,
            "features_hash": self.features_hash,
            "champion": self.champion,
            "valid_rmse": {name: round(value, 4) for name, value in self.valid_rmse.items()},
            "cv_rmse": {name: round(value, 4) for name, value in self.cv_rmse.items()},
            "runs": [run.to_dict() for run in self.runs],
        }
        write_atomically(path, (json.dumps(body, indent=1) + "\n").encode())


def read(path: Path = PATH) -> Frozen:
    """Read a frozen file; raises ``ContractError`` if there is none or it cannot be read."""
    try:
        body = json.loads(path.read_bytes())
        body["runs"] = tuple(Run(**run) for run in body["runs"])
        body.pop("about")
        return Frozen(**body)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ContractError(f"{path} holds no frozen study: run python training/train.py. ({error})") from error


def sha256(path: Path) -> str:
    """Return the hash of the file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def committed(path: Path) -> str:
    """Return the commit that froze the file in its present form.

    Raises:
        ContractError: it is not committed, or has changed since.
    """
    try:
        _git(path, "ls-files", "--error-unmatch", path.name)
        _git(path, "diff", "--quiet", "HEAD", "--", path.name)
        commit = _git(path, "log", "-1", "--format=%H", "--", path.name)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ContractError(
            f"{path} is not committed as it stands, and the test rows are opened for frozen choices only. "
            f"Commit it, then run python training/train.py --open-test."
        ) from error
    return commit


def require_fits(choices: Frozen, data_hash: str) -> None:
    """Raise ``ContractError`` unless the choices were made on these data and the declared features."""
    if choices.data_hash != data_hash:
        raise ContractError("the frozen choices were made on other data: run python training/train.py")
    if choices.features_hash != features.manifest()["hash"]:
        raise ContractError("the frozen choices were made for other features: run python training/train.py")


def head(directory: Path) -> str:
    """Return the commit the code is at, ``unknown`` outside a repository."""
    try:
        return _git(directory / "x", "rev-parse", "HEAD")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(path: Path, *arguments: str) -> str:
    command = ["git", "-C", str(path.parent), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
