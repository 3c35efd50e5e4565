"""The service with the champion of a registry on sqlite, seeded once for all tests of this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from airquality.ground import log
from airquality.ground.settings import Settings
from airquality.model import features, registry
from airquality.model.model import Model
from airquality.model.registry import RegisteredModel
from airquality.serving.served import ServedModel
from airquality.serving.slots import Slot
from api_service import newest_features
from tests import stations
from tests.api_server import Client, running
from tests.system import ARTIFACTS


@pytest.fixture(autouse=True)
def _log_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "configure", lambda *_: None)


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A registry on sqlite whose champion is version 1, seeded from ``artifacts/``."""
    folder = tmp_path_factory.mktemp("registry")
    chosen = Settings(mlflow_tracking_uri=f"sqlite:///{folder}/mlflow.db", artifacts_dir=ARTIFACTS, model_poll_seconds=0.1)
    assert registry.seed(chosen) == "1"
    return chosen


@pytest.fixture(scope="session")
def other_model(settings: Settings) -> Callable[[str], Settings]:
    """Return settings of a registered model of that name, which the test may change as it likes."""

    def make(name: str) -> Settings:
        own = settings.model_copy(update={"model_name": name})
        registry.seed(own)
        return own

    return make


@pytest.fixture(scope="session")
def loaded(settings: Settings) -> RegisteredModel:
    return registry.load(settings)


@pytest.fixture(scope="session")
def champion(loaded: RegisteredModel) -> Model:
    return loaded.model


@pytest.fixture
def load_once(settings: Settings, loaded: RegisteredModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every service of these settings the version that was loaded once: a quarter of a second each time otherwise."""
    load = registry.load

    def known(chosen: Settings, version: str | None = None) -> RegisteredModel:
        return loaded if chosen is settings and version in (None, loaded.version) else load(chosen, version)

    monkeypatch.setattr(registry, "load", known)


@pytest.fixture
def served(settings: Settings, load_once: None) -> ServedModel:
    made = ServedModel(Slot(), settings, newest_features)
    made.refresh()
    return made


@pytest.fixture
def client(settings: Settings, load_once: None) -> Iterator[Client]:
    with running(settings) as made:
        yield made


@pytest.fixture(scope="session")
def rows() -> np.ndarray:
    """Feature rows of made-up hours with gaps in every column and a stretch without any CO."""
    values = stations.values_of(400, seed=3)
    values[np.random.default_rng(4).random(values.shape) < 0.2] = np.nan
    values[100:290, 0] = np.nan
    return features.batch(np.arange(300_000, 300_400), values)
