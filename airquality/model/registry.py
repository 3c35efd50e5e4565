"""The MLflow Model Registry: what is served, under which version. Outside ``training/`` only this module imports mlflow.

A version holds the model's own two files, the booster and its card, inside an MLflow model: any MLflow tool can load the
booster, and this system can check everything it carries. Aliases say what serves (``champion``) and what would like to
(``challenger``); every move of the champion is a finished run of its own, so who served when is never overwritten.
"""

from __future__ import annotations

import getpass
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote

from airquality.ground.addresses import sqlite_path
from airquality.ground.database_drivers import require_driver
from airquality.ground.errors import ContractError, Unavailable, UsageError
from airquality.ground.home import some_home
from airquality.ground.proxies import proxy_hint
from airquality.ground.settings import Settings
from airquality.ground.shown import shown
from airquality.model.model import CARD_FILE, MODEL_FILE, Model

with some_home():  # mlflow asks for one while it is imported, and ends where there is none
    import mlflow
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

CHALLENGER = "challenger"
#: RMSE in mg/m3 by which two models may differ and still be called equal (the day-block bootstrap says +-0.025).
NOISE_RMSE = 0.005
#: Where MLflow keeps files given as ``extra_files``.
_EXTRA_DIR = "extra_files"
_REPLACE = (
    "To serve artifacts/ instead: python -m airquality registry seed --replace; the version before: "
    "python -m airquality registry rollback"
)
_EXPERIMENT = "air-quality"
_PROMOTIONS = "air-quality-promotions"
#: Ten seconds and one more try where MLflow's own defaults wait for minutes; no phoning home, no bars in a log.
_MLFLOW_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}

#: What MLflow's migrations call a table that they have not finished.
_HALF_MADE = "_alembic_tmp_"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RegisteredModel:
    """A checked model and the registry version it came from."""

    model: Model
    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Promotion:
    """One move of the champion alias: from which version (None at first) to which, by whom, why, and when (UTC).

    ``undone`` is the version a rollback took out of service, None where the move was not a rollback.
    """

    version: str
    previous: str | None
    undone: str | None
    by: str
    why: str
    at: datetime


def register(directory: Path, settings: Settings, alias: str) -> str:
    """Register the model in ``directory`` as a new version, point ``alias`` at it, and return the version.

    The version is fetched back and checked like any that is about to serve before an alias points at it.

    Raises:
        ContractError: the folder holds no valid model, or the registry gives back another one.
        Unavailable: the registry does not answer.
    """
    model = Model.load(directory)
    with registry(settings) as client, tempfile.TemporaryDirectory() as scratch:
        mlflow.set_tracking_uri(settings.mlflow_tracking_uri)  # logging a model knows no other way to name the registry
        card = Path(shutil.copy(directory / CARD_FILE, scratch))
        with mlflow.start_run(
            experiment_id=experiment(client, settings, _EXPERIMENT), run_name=f"register {directory.name}"
        ):
            info = mlflow.xgboost.log_model(
                model.booster,
                name="model",
                registered_model_name=settings.model_name,
                signature=_signature(model),
                pip_requirements=["xgboost"],  # explicit: inferring them takes 20 s
                metadata={
                    "features_hash": model.card.features_hash,
                    "model_hash": model.hash,
                    "data_source": model.card.data_source,
                },
                extra_files=[str(card)],
            )
        version = str(info.registered_model_version)
        load(settings, version)
        if alias == settings.model_alias:
            _point(client, settings, version, f"registered from {directory}")
        else:
            client.set_registered_model_alias(settings.model_name, alias, version)
    return version


def seed(settings: Settings, replace: bool = False) -> str:
    """Register ``artifacts/`` as champion where no version serves yet, or in place of it; return the version that does."""
    serving = None if replace else champion_version(settings)
    return serving or register(settings.artifacts_dir, settings, settings.model_alias)


def champion_version(settings: Settings) -> str | None:
    """Return the version the serving alias points at, None if it points at none; raises ``Unavailable``."""
    with registry(settings) as client:
        return _version_of(client, settings, settings.model_alias)


def no_champion(settings: Settings) -> Unavailable:
    """Return the error that no version serves, and what to do."""
    return Unavailable(
        f"no version of {settings.model_name} is {settings.model_alias}: run python -m airquality registry seed, or "
        "python -m airquality registry promote VERSION"
    )


def _version_of(client: MlflowClient, settings: Settings, alias: str) -> str | None:
    try:
        return str(client.get_model_version_by_alias(settings.model_name, alias).version)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def load(settings: Settings, version: str | None = None) -> RegisteredModel:
    """Fetch a version from the registry (None: the serving one) and check everything it carries.

    Raises:
        Unavailable: the registry does not answer, or nothing serves yet.
        ContractError: the version's files are not a model of the declared features, or fail their golden predictions.
    """
    version = version or champion_version(settings)
    if version is None:
        raise no_champion(settings)
    uri = f"models:/{settings.model_name}/{version}"
    with registry(settings) as client, tempfile.TemporaryDirectory() as scratch:
        _check_place(client.get_model_version_download_uri(settings.model_name, version), uri)
        where = settings.mlflow_tracking_uri
        fetched = Path(mlflow.artifacts.download_artifacts(uri, dst_path=scratch, tracking_uri=where, registry_uri=where))
        folder = Path(scratch) / "checked"
        folder.mkdir()
        for file in (fetched / MODEL_FILE, fetched / _EXTRA_DIR / CARD_FILE):
            if not file.exists():
                raise ContractError(
                    f"{uri} has no {file.name}: its files are gone, or it is a model of another kind. {_REPLACE}"
                )
            shutil.copy(file, folder)
        return RegisteredModel(_checked(folder, uri), settings.model_name, version)


def _checked(folder: Path, uri: str) -> Model:
    try:
        return Model.load(folder, uri)
    except ContractError as error:
        raise ContractError(f"{error}. {_REPLACE}") from error


def _check_place(location: str, uri: str) -> None:
    """Raise ``ContractError`` if the files of a registry on this machine are not where it says they are."""
    folder = Path(unquote(location.removeprefix("file://")))
    if location.startswith(("file:///", "/")) and not folder.is_dir():
        raise ContractError(
            f"{uri} lies in {folder}, which is not there: was the registry, or the folder it is in, moved? "
            "Move it back; or serve the version before: python -m airquality registry rollback; or delete its mlflow.db and "
            "mlartifacts/ and run python -m airquality registry seed"
        )


def promote(settings: Settings, version: str, why: str) -> None:
    """Make ``version`` the champion, if it may be.

    Raises:
        UsageError: there is no such version, or it serves already.
        ContractError: it may not serve: see :func:`check_successor`; or its signature is not that of its features.
    """
    with registry(settings) as client:
        serving = champion_version(settings)
        if version == serving:
            raise UsageError(f"version {version} serves already")
        _require_version(client, settings, version)
        candidate = load(settings, version).model
        _check_signature(settings, version, candidate)
        check_successor(candidate, load(settings, serving).model if serving else None)
        _point(client, settings, version, why)


def rollback(settings: Settings) -> str:
    """Point the champion alias back at the version that served before, and return it.

    A rollback after a rollback goes further back, never forward to what was taken out of service. The version is checked
    as at every load, but not by its figures: it served before.

    Raises:
        UsageError: no version served before.
    """
    with registry(settings) as client:
        serving = champion_version(settings)
        moves = [move for move in promotions(settings) if move.undone is None]
        previous = next((move.previous for move in moves if move.version == serving), None)
        if serving is None or previous is None:
            raise UsageError("no version served before this one: there is nothing to roll back to")
        load(settings, previous)
        _point(client, settings, previous, "rollback", undone=serving)
        return previous


def check_successor(candidate: Model, champion: Model | None) -> None:
    """Raise ``ContractError`` if ``candidate`` is worse than ``champion`` on validation beyond :data:`NOISE_RMSE`.

    Both figures are those of the train-only fits in the cards. Signature and golden predictions were checked at load.
    """
    if "validation" not in candidate.card.scores:
        raise ContractError("the candidate's card holds no validation score: train it with training/train.py")
    if champion is None:
        return
    if candidate.card.data_source != champion.card.data_source:
        raise ContractError(
            f"the candidate was trained on {candidate.card.data_source} data, the champion on {champion.card.data_source}: "
            "their figures say nothing about each other"
        )
    ours, theirs = (m.card.scores["validation"]["rmse"] for m in (candidate, champion))
    if ours > theirs + NOISE_RMSE:
        raise ContractError(
            f"validation RMSE {ours:.4f} is worse than the champion's {theirs:.4f} beyond noise ({NOISE_RMSE})"
        )


def challenger_version(settings: Settings) -> str:
    """Return the version that would like to serve; raises ``UsageError`` if there is none."""
    with registry(settings) as client:
        found = _version_of(client, settings, CHALLENGER)
    if found is None:
        raise UsageError(f"no version of {settings.model_name} is {CHALLENGER}: make train registers one")
    return found


def aliases(settings: Settings) -> dict[str, list[str]]:
    """Return every version, newest first, and the aliases that point at it."""
    with registry(settings) as client:
        versions = client.search_model_versions(f"name = '{settings.model_name}'")
        known = client.get_registered_model(settings.model_name).aliases if versions else {}
    return {str(v.version): [alias for alias, n in known.items() if str(n) == str(v.version)] for v in versions}


def promotions(settings: Settings) -> list[Promotion]:
    """Return every move of the champion alias, newest first; a move that failed is not among them."""
    with registry(settings) as client:
        kept = client.get_experiment_by_name(_PROMOTIONS)
        runs = client.search_runs([kept.experiment_id], order_by=["start_time DESC"]) if kept else []
        return [
            Promotion(
                version=run.data.tags["version"],
                previous=run.data.tags.get("previous"),
                undone=run.data.tags.get("undone"),
                by=run.data.tags["by"],
                why=run.data.tags["why"],
                at=datetime.fromtimestamp(run.info.start_time / 1000, UTC),
            )
            for run in runs
            if run.data.tags["model"] == settings.model_name and run.info.status != "FAILED"
        ]


def _require_version(client: MlflowClient, settings: Settings, version: str) -> None:
    known = [str(found.version) for found in client.search_model_versions(f"name = '{settings.model_name}'")]
    if version not in known:
        raise UsageError(
            f"{settings.model_name} has no version {version!r}; it has {', '.join(sorted(known, key=int)) or 'none'}"
        )


def _check_signature(settings: Settings, version: str, model: Model) -> None:
    """Raise ``ContractError`` unless the registry names the same inputs, in the same order, as this system uses."""
    mlflow.set_tracking_uri(settings.mlflow_tracking_uri)
    signature = mlflow.models.get_model_info(f"models:/{settings.model_name}/{version}").signature
    if signature is None or tuple(signature.inputs.input_names()) != model.card.features:
        raise ContractError(f"the signature of version {version} is not that of its features")


def _point(client: MlflowClient, settings: Settings, version: str, why: str, undone: str | None = None) -> None:
    """Move the serving alias. The log entry is written first: a move nobody knows of cannot happen."""
    previous = champion_version(settings)
    tags = {"model": settings.model_name, "version": version, "by": getpass.getuser(), "why": why}
    if previous:
        tags["previous"] = previous
    if undone:
        tags["undone"] = undone
    run = client.create_run(experiment(client, settings, _PROMOTIONS), tags=tags, run_name=f"version {version}")
    try:
        client.set_registered_model_alias(settings.model_name, settings.model_alias, version)
    except MlflowException:
        client.set_terminated(run.info.run_id, "FAILED")
        raise
    client.set_terminated(run.info.run_id)
    logger.info("%s: version %s is now %s (%s)", settings.model_name, version, settings.model_alias, why)


def _signature(model: Model) -> ModelSignature:
    return ModelSignature(
        inputs=Schema([ColSpec("double", name) for name in model.card.features]), outputs=Schema([ColSpec("double")])
    )


def experiment(client: MlflowClient, settings: Settings, name: str) -> str:
    """Return the id of the experiment ``name``, made if there is none."""
    found = client.get_experiment_by_name(name)
    if found:
        return str(found.experiment_id)
    return str(client.create_experiment(name, artifact_location=_artifact_location(settings.mlflow_tracking_uri)))


def _artifact_location(tracking_uri: str) -> str | None:
    """Keep a sqlite registry's files beside its database; a server decides for itself."""
    database = sqlite_path(tracking_uri)
    return (database.resolve().parent / "mlartifacts").as_uri() if database else None


def configure() -> None:
    """Set what MLflow reads from the process's environment, and quiet its warnings.

    Called once, from ``main`` or when a service starts; never at import. A setting that is there already stays, but for
    the one that would let a model be unpickled.
    """
    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
    for name, value in _MLFLOW_DEFAULTS.items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore", module=r"mlflow(\.|$)")  # it warns of its own internals


def require_address(settings: Settings) -> None:
    """Raise ``UsageError`` if the registry's address can never work from here."""
    uri = settings.mlflow_tracking_uri
    require_driver("MLFLOW_TRACKING_URI", uri)
    database = sqlite_path(uri)
    if database and not database.resolve().parent.is_dir():
        raise UsageError(
            f"MLFLOW_TRACKING_URI={uri}: there is no folder {database.resolve().parent}. Make it, or correct the address "
            "(a % before two digits of a folder's name is written %25)"
        )
    if database and "%" in mlflow.__file__:
        raise UsageError(f"MLflow cannot make a database while it is installed where a path contains %: {mlflow.__file__}")


@contextmanager
def registry(settings: Settings) -> Iterator[MlflowClient]:
    """Yield a client of the settings' registry; its failures to answer become ``Unavailable``.

    Raises:
        UsageError: its address can never work.
        ContractError: its first migration was cut off.
    """
    require_address(settings)
    uri = settings.mlflow_tracking_uri
    try:
        yield MlflowClient(tracking_uri=uri, registry_uri=uri)
    except MlflowException as error:
        raise Unavailable(
            shown(f"the model registry at {uri} does not answer as it should{proxy_hint(uri)}: {error}")
        ) from error
    except Exception as error:
        if _HALF_MADE not in str(error):
            raise
        raise ContractError(
            f"the registry {shown(uri)} is half made: the process that made or upgraded it was killed, and MLflow cannot go "
            "on from there. Stop what uses it and delete its database file (it holds no model yet, unless it was there "
            "before: then put its copy back), then run python -m airquality registry seed"
        ) from error
