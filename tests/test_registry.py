"""The life of a version: registered, served, promoted after checks, taken back, and never forgotten."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from airquality.data import dataset
from airquality.ground import log
from airquality.ground.errors import ContractError, Unavailable, UsageError
from airquality.ground.settings import Settings
from airquality.model import registry, registry_command
from airquality.model.model import CARD_FILE, MODEL_FILE, Model
from tests.system import ARTIFACTS
from training import champion
from training.protocol import Study

Command = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of models by what their cards say of validation."""
    study = Study.of(dataset.simulate().rows(0, 1200))
    root = tmp_path_factory.mktemp("models")
    for number, (name, rmse) in enumerate({"first": 0.300, "better": 0.290, "equal": 0.304, "worse": 0.306}.items()):
        model = champion.fit(study, "train", {**champion.HAND_SET, "rounds": 5 + number})
        replace(model, card=replace(model.card, scores={"validation": {"rmse": rmse}})).save(root / name)
    model = Model.load(root / "better")
    replace(model, card=replace(model.card, scores={})).save(root / "unscored")
    replace(model, card=replace(model.card, data_source="uci")).save(root / "other data")
    return root


@pytest.fixture(scope="module")
def template(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry in which ``first`` serves as version 1; made once, for MLflow takes seconds to make a database."""
    root = tmp_path_factory.mktemp("template")
    settings = Settings(mlflow_tracking_uri=f"sqlite:///{root}/mlflow.db", artifacts_dir=models / "first")
    assert registry.champion_version(settings) is None
    assert registry.seed(settings) == "1"
    return root


@pytest.fixture
def settings(template: Path, models: Path, tmp_path: Path) -> Settings:
    shutil.copy(template / "mlflow.db", tmp_path)
    return Settings(mlflow_tracking_uri=f"sqlite:///{tmp_path}/mlflow.db", artifacts_dir=models / "first")


@pytest.fixture
def own_registry(models: Path, tmp_path: Path) -> Settings:
    """A registry of the test's own, files and all, to be damaged and moved."""
    folder = tmp_path / "registry"
    folder.mkdir()
    made = Settings(mlflow_tracking_uri=f"sqlite:///{quote(str(folder))}/mlflow.db", artifacts_dir=models / "first")
    registry.seed(made)
    return made


def served(settings: Settings) -> str:
    return registry.load(settings).version


def moves(settings: Settings) -> list[tuple[str | None, str]]:
    return [(m.previous, m.version) for m in registry.promotions(settings)]


def test_an_empty_registry_is_seeded_once(settings: Settings) -> None:
    assert registry.seed(settings) == "1"
    assert moves(settings) == [(None, "1")]


def test_what_is_served_is_the_file_that_was_registered(settings: Settings, models: Path) -> None:
    found = registry.load(settings)
    assert (found.name, found.version) == (settings.model_name, "1")
    assert found.model.hash == Model.load(models / "first").hash
    assert found.model.card == Model.load(models / "first").card


def test_a_challenger_does_not_serve_until_it_is_promoted(settings: Settings, models: Path) -> None:
    version = registry.register(models / "better", settings, "challenger")
    assert served(settings) == "1"
    registry.promote(settings, version, "better on validation")
    assert served(settings) == version
    assert moves(settings) == [("1", version), (None, "1")]
    newest = registry.promotions(settings)[0]
    assert newest.why == "better on validation"
    assert newest.by


@pytest.mark.slow
def test_a_version_worse_than_noise_is_refused_and_one_within_it_is_not(settings: Settings, models: Path) -> None:
    worse = registry.register(models / "worse", settings, "challenger")
    with pytest.raises(ContractError, match="worse than the champion"):
        registry.promote(settings, worse, "")
    assert served(settings) == "1"
    assert moves(settings) == [(None, "1")]
    equal = registry.register(models / "equal", settings, "challenger")
    registry.promote(settings, equal, "")
    assert served(settings) == equal


@pytest.mark.parametrize(
    ("name", "why"), [("unscored", "no validation score"), ("other data", "say nothing about each other")]
)
@pytest.mark.slow
def test_a_version_that_cannot_be_compared_is_refused(settings: Settings, models: Path, name: str, why: str) -> None:
    version = registry.register(models / name, settings, "challenger")
    with pytest.raises(ContractError, match=why):
        registry.promote(settings, version, "")
    assert served(settings) == "1"


def test_a_version_with_another_signature_is_refused(
    settings: Settings, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signature = registry._signature
    monkeypatch.setattr(
        registry,
        "_signature",
        lambda m: signature(replace(m, card=replace(m.card, features=m.card.features[::-1]))),
    )
    version = registry.register(models / "better", settings, "challenger")
    with pytest.raises(ContractError, match="signature"):
        registry.promote(settings, version, "")
    assert served(settings) == "1"


@pytest.mark.slow
def test_rolling_back_goes_further_back_and_never_forward(settings: Settings, models: Path) -> None:
    for _ in range(2):
        registry.promote(settings, registry.register(models / "better", settings, "challenger"), "")
    assert served(settings) == "3"
    assert registry.rollback(settings) == "2"
    assert registry.rollback(settings) == "1"
    with pytest.raises(UsageError, match="nothing to roll back to"):
        registry.rollback(settings)
    assert served(settings) == "1"
    assert moves(settings) == [("2", "1"), ("3", "2"), ("2", "3"), ("1", "2"), (None, "1")]
    assert [m.undone for m in registry.promotions(settings)] == ["2", "3", None, None, None]


def test_a_move_the_registry_refuses_is_not_in_the_log(
    settings: Settings, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = registry.register(models / "better", settings, "challenger")

    def refuse(*args: object) -> None:
        raise MlflowException("no")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_registered_model_alias", refuse)
        with pytest.raises(Unavailable):
            registry.promote(settings, version, "")
    assert moves(settings) == [(None, "1")]


def test_two_names_in_one_registry_have_two_logs(settings: Settings, models: Path) -> None:
    other = settings.model_copy(update={"model_name": "other"})
    assert registry.seed(other) == "1"
    assert len(moves(settings)) == len(moves(other)) == 1


def test_a_registry_that_cannot_be_reached_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    nowhere = Settings(mlflow_tracking_uri="http://127.0.0.1:9", artifacts_dir=tmp_path)
    with pytest.raises(Unavailable):
        registry.load(nowhere)


@pytest.fixture
def command(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", settings.mlflow_tracking_uri)
    monkeypatch.setenv("ARTIFACTS_DIR", str(settings.artifacts_dir))
    monkeypatch.setattr(log, "configure", lambda *a: None)

    def run(*arguments: str) -> tuple[int, str]:
        code = registry_command.main(list(arguments))
        said = capsys.readouterr()
        return code, said.out or said.err

    return run


def test_the_command_line_lists_promotes_and_rolls_back(command: Command, settings: Settings, models: Path) -> None:
    registry.register(models / "better", settings, "challenger")
    code, listing = command("list")
    assert code == 0
    assert [line.split()[1:] for line in listing.splitlines()[:2]] == [["2", "challenger"], ["1", "champion"]]
    assert command("promote", "challenger", "--why", "tried") == (0, f"{settings.model_name}: version 2 is now champion\n")
    assert command("promote", "2")[0] == 2
    code, refusal = command("promote", "17")
    assert (code, "it has 1, 2" in refusal) == (2, True)
    assert command("rollback") == (0, f"{settings.model_name}: version 1 serves again\n")
    _, listing = command("list")
    assert "2 -> 1" in listing
    assert "1 -> 2" in listing
    assert ": tried" in listing


def test_promoting_a_challenger_that_is_not_there_is_a_usage_error(command: Command) -> None:
    assert command("promote", "challenger")[0] == 2


def test_refusals_exit_with_one(command: Command, settings: Settings, models: Path) -> None:
    registry.register(models / "worse", settings, "challenger")
    assert command("promote", "challenger")[0] == 1


def test_command_line_never_allows_pickles(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")
    command("list")
    assert os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"


# --- what the registry gives back is checked before it is parsed, whoever damaged it ---


def files_of(settings: Settings, name: str) -> set[Path]:
    database = Path(settings.mlflow_tracking_uri.removeprefix("sqlite:///"))
    return set(database.parent.rglob(name))


@pytest.mark.parametrize("name", [MODEL_FILE, CARD_FILE])
@pytest.mark.slow
def test_load_registered_file_with_a_flipped_bit_is_refused_with_the_remedy(own_registry: Settings, name: str) -> None:
    [file] = files_of(own_registry, name)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(ContractError, match=r"models:/air-quality-co/1 .*seed --replace"):
        registry.load(own_registry)
    assert registry.seed(own_registry, replace=True) == "2"
    assert served(own_registry) == "2"


@pytest.mark.slow
def test_load_version_registered_without_checksums_is_refused_with_the_remedy(own_registry: Settings) -> None:
    [file] = files_of(own_registry, CARD_FILE)
    card = json.loads(file.read_bytes())
    del card["model_sha256"], card["card_sha256"]
    file.write_text(json.dumps(card))
    with pytest.raises(ContractError, match=r"carries no checksums.*seed --replace"):
        registry.load(own_registry)


def test_register_damaged_on_the_way_points_no_alias_at_it(
    settings: Settings, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_model = mlflow.xgboost.log_model

    def damaging(*args: Any, **kwargs: Any) -> Any:
        before = files_of(settings, MODEL_FILE)
        info = log_model(*args, **kwargs)
        for file in files_of(settings, MODEL_FILE) - before:
            file.write_bytes(file.read_bytes()[:-1] + b"\0")
        return info

    # the template's files lie in its own folder: look there
    location = MlflowClient(settings.mlflow_tracking_uri).get_model_version_download_uri(settings.model_name, "1")
    root = Path(location.removeprefix("file://")).parents[3]
    monkeypatch.setattr(sys.modules[__name__], "files_of", lambda _, name: set(root.rglob(name)))
    monkeypatch.setattr(mlflow.xgboost, "log_model", damaging)
    with pytest.raises(ContractError, match="SHA-256"):
        registry.register(models / "better", settings, settings.model_alias)
    assert served(settings) == "1"
    assert moves(settings) == [(None, "1")]


@pytest.mark.slow
def test_load_registry_moved_elsewhere_says_so_and_what_to_do(own_registry: Settings, tmp_path: Path) -> None:
    old = Path(own_registry.mlflow_tracking_uri.removeprefix("sqlite:///")).parent
    old.rename(tmp_path / "new place")
    moved = own_registry.model_copy(update={"mlflow_tracking_uri": f"sqlite:///{tmp_path}/new place/mlflow.db"})
    with pytest.raises(ContractError) as caught:
        registry.load(moved)
    assert str(old / "mlartifacts") in str(caught.value)
    assert "moved" in str(caught.value)
    assert "registry seed" in str(caught.value)
    assert "registered by this system" not in str(caught.value)


# --- where it may live, and who may use it ---


@pytest.mark.parametrize("name", ["50% off #2", "a%20b?"])
@pytest.mark.slow
def test_seed_odd_characters_in_the_path_are_read_as_they_are(models: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    settings = Settings(mlflow_tracking_uri=f"sqlite:///{quote(str(folder))}/mlflow.db", artifacts_dir=models / "first")
    assert registry.seed(settings) == "1"
    assert served(settings) == "1"
    assert sorted(path.name for path in folder.iterdir()) == ["mlartifacts", "mlflow.db"]


def test_registry_folder_that_is_not_there_is_a_usage_error_at_once(tmp_path: Path) -> None:
    nowhere = Settings(mlflow_tracking_uri=f"sqlite:///{tmp_path}/a#b%20c/mlflow.db", artifacts_dir=tmp_path)
    with pytest.raises(UsageError, match=r"there is no folder .*%25"):
        registry.champion_version(nowhere)


_NAMELESS = """
import pwd, runpy, sys

def nameless(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")

pwd.getpwuid = nameless
sys.argv = ["airquality", *sys.argv[1:]]
runpy.run_module("airquality", run_name="__main__")
"""


@pytest.mark.slow
def test_seed_command_by_a_uid_without_a_name_and_home_succeeds(models: Path, tmp_path: Path) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "ARTIFACTS_DIR": str(models / "first"),
        "PYTHONPATH": str(ARTIFACTS.parent),
    }
    run = [sys.executable, "-c", _NAMELESS, "registry", "seed"]
    done = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, "version 1 is champion" in done.stdout) == (0, True), done.stderr[-2000:]


# --- one process, many threads ---


def test_polling_changes_nothing_of_the_process(settings: Settings) -> None:
    before = dict(os.environ), list(warnings.filters)
    registry.load(settings)
    registry.champion_version(settings)
    assert (dict(os.environ), list(warnings.filters)) == before


@pytest.mark.parametrize("password", ["secret", "p@ss"])
def test_registry_error_shows_no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, password: str) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    address = {"mlflow_tracking_uri": f"http://me:{password}@127.0.0.1:9"}  # settings would refuse the second
    nowhere = Settings(artifacts_dir=tmp_path).model_copy(update=address)
    with pytest.raises(Unavailable) as caught:
        registry.load(nowhere)
    assert "127.0.0.1" in str(caught.value)
    assert password not in str(caught.value)
    assert "me:" not in str(caught.value)


def test_registry_installed_under_a_percent_sign_is_refused_in_one_sentence(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow, "__file__", "/home/me/50%20/mlflow/__init__.py")
    with pytest.raises(UsageError, match=r"MLflow cannot .* path contains %: /home/me/50%20"):
        registry.champion_version(settings)


@pytest.mark.slow
def test_registry_whose_first_migration_was_cut_off_says_what_to_do(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        database.execute("create table _alembic_tmp_experiments (name text)")
    settings = Settings(mlflow_tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(ContractError, match=r"mlflow\.db is half made: .* delete .* python -m airquality registry seed"):
        registry.champion_version(settings)
