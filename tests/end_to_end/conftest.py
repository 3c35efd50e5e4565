"""The system as its users run it, on a real Apache Kafka: what it is made of once, and one that runs for each test."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.broker import Broker
from lab.ports import free_port
from tests import real_data
from tests.system import PROJECT, System, system


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Data, model, reference and a served registry, made by the programs a user types; the environment that finds them.

    The real data if the project has them, else simulated ones with a quick model of their own.
    """
    directory = tmp_path_factory.mktemp("prepared")
    data = directory / "dataset"
    data.mkdir()
    real = real_data.FILE
    if real:
        shutil.copy(real, data)
    base = {
        "DATASET_DIR": str(data),
        "ARTIFACTS_DIR": str(PROJECT / "artifacts" if real else directory / "artifacts"),
        "AIR_QUALITY_DATA_SOURCE": "uci" if real else "simulated",
        "MLFLOW_TRACKING_URI": f"sqlite:///{directory}/mlflow.db",
        "API_URL": f"http://127.0.0.1:{free_port()}",
    }
    made = System(directory, {**os.environ, **base})
    made.run("dataset/create_dataset.py")
    if not real:
        made.run("training/train.py", "--quick")
    made.run("generate_reference_dataset.py")
    made.run("-m", "airquality", "registry", "seed")
    return base


@pytest.fixture
def running(prepared: dict[str, str], broker: Broker, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[System]:
    """A system with topics of its own and its prediction service up."""
    base = {**prepared, "API_URL": f"http://127.0.0.1:{free_port()}"}
    with system(tmp_path, base, broker.bootstrap_servers, request.node.name.replace("_", "-")) as made:
        made.start_api()
        yield made
