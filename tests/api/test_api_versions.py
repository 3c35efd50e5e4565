"""Which version of the model answers: the alias moves, a new version is broken, the registry is away."""

from __future__ import annotations

import asyncio
import logging
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import orjson
import pytest
import requests

from airquality.ground.errors import Unavailable
from airquality.ground.settings import Settings
from airquality.model import registry
from airquality.model.model import CARD_FILE, MODEL_FILE, Model
from airquality.serving.served import ServedModel
from airquality.serving.slots import Slot
from api_service import newest_features
from lab.waiting import PATIENCE_SECONDS, wait_until
from tests.api_requests import ROW, body_of, metrics_of, samples
from tests.api_server import running
from tests.system import ARTIFACTS


@pytest.mark.slow
def test_the_alias_moves_while_requests_run(other_model: Callable[[str], Settings], rows: np.ndarray) -> None:
    settings = other_model("moved")
    assert registry.register(ARTIFACTS / "train_only", settings, "challenger") == "2"
    offline = {version: registry.load(settings, version).model.predict(rows[:20]).tolist() for version in "12"}
    assert offline["1"] != offline["2"]
    body, seen, stop = body_of(rows[:20]), set(), threading.Event()

    def ask(url: str) -> int:
        count = 0
        with requests.Session() as session:
            while not stop.is_set():
                answer = session.post(f"{url}/predict/batch", data=body, timeout=PATIENCE_SECONDS)
                assert answer.status_code == 200
                assert answer.json()["predictions"] == offline[answer.json()["model_version"]]
                seen.add(answer.json()["model_version"])
                count += 1
        return count

    with running(settings) as client, ThreadPoolExecutor(3) as pool:
        asking = [pool.submit(ask, client.url) for _ in range(3)]
        try:
            wait_until(lambda: seen == {"1"}, "the first version answers")
            registry.promote(settings, "2", "a test")
            wait_until(lambda: "2" in seen, "the second version answers")
            assert client.get("/version").json()["model_version"] == "2"
            described = samples(client.get("/metrics").text)
            assert ("air_quality_model_info", "moved", "1") not in described
        finally:
            stop.set()
        assert min(future.result() for future in asking) > 0


def test_a_request_names_the_version_that_made_it_even_if_another_comes_meanwhile(
    served: ServedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict = Model.predict

    def overtaken(model: Model, matrix: np.ndarray) -> np.ndarray:
        served.serve(registry.RegisteredModel(model, "overtaking", "2"))
        return predict(model, matrix)

    monkeypatch.setattr(Model, "predict", overtaken)
    asked = orjson.dumps({"features": ROW})
    assert [served.predict(asked)["model_version"] for _ in range(2)] == ["1", "2"]


def test_the_alias_is_asked_for_every_poll_interval(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    def champion_version(_: Settings) -> str:
        asked.append(time.monotonic())
        return "1"

    monkeypatch.setattr(registry, "champion_version", champion_version)
    with running(settings, ready=False):
        wait_until(lambda: len(asked) >= 4, "four polls")
    assert asked[3] - asked[1] >= 1.9 * settings.model_poll_seconds


def _tampered_booster(folder: Path) -> None:
    booster = folder / MODEL_FILE
    booster.write_bytes((ARTIFACTS / "train_only" / MODEL_FILE).read_bytes())


def _truncated_booster(folder: Path) -> None:
    booster = folder / MODEL_FILE
    booster.write_bytes(booster.read_bytes()[:1000])


def _other_features(folder: Path) -> None:
    card = folder / "extra_files" / CARD_FILE
    card.write_bytes(orjson.dumps({**orjson.loads(card.read_bytes()), "features_hash": "of another release"}))


def _no_card(folder: Path) -> None:
    (folder / "extra_files" / CARD_FILE).unlink()


def _gone(folder: Path) -> None:
    shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.parametrize("break_it", [_tampered_booster, _truncated_booster, _other_features, _no_card, _gone])
def test_a_broken_new_version_leaves_the_old_one_serving(
    other_model: Callable[[str], Settings],
    caplog: pytest.LogCaptureFixture,
    break_it: Callable[[Path], None],
) -> None:
    settings = other_model(f"broken {break_it.__name__}")
    served = ServedModel(Slot(), settings, newest_features)
    served.refresh()
    before = _booster_folders(settings)
    registry.register(ARTIFACTS, settings, settings.model_alias)
    [folder] = _booster_folders(settings) - before
    break_it(folder)
    for _ in range(2):
        caplog.clear()
        served.refresh()
        assert "still serving the version before" in caplog.text
        assert "python -m airquality registry rollback" in caplog.text
        assert metrics_of(served)["air_quality_registry_unreachable",] == 1
        assert served.predict(orjson.dumps({"features": ROW}))["model_version"] == "1"
    registry.register(ARTIFACTS / "train_only", settings, settings.model_alias)
    served.refresh()
    assert served.predict(orjson.dumps({"features": ROW}))["model_version"] == "3"
    assert metrics_of(served)["air_quality_registry_unreachable",] == 0


@pytest.mark.slow
def test_refresh_alias_that_is_gone_is_said_with_the_remedy_and_the_version_goes_on(
    other_model: Callable[[str], Settings], caplog: pytest.LogCaptureFixture
) -> None:
    settings = other_model("without a champion")
    served = ServedModel(Slot(), settings, newest_features)
    served.refresh()
    with registry.registry(settings) as client:
        client.delete_registered_model_alias(settings.model_name, settings.model_alias)
    served.refresh()
    assert "no version of without a champion is champion: run python -m airquality registry seed" in caplog.text
    assert "still serving the version before" in caplog.text
    assert metrics_of(served)["air_quality_registry_unreachable",] == 1
    assert served.predict(orjson.dumps({"features": ROW}))["model_version"] == "1"
    registry.promote(settings, "1", "again")
    served.refresh()
    assert metrics_of(served)["air_quality_registry_unreachable",] == 0


def _booster_folders(settings: Settings) -> set[Path]:
    registry = Path(settings.mlflow_tracking_uri.removeprefix("sqlite:///")).parent
    return {path.parent for path in registry.rglob(MODEL_FILE)}


def test_refresh_registry_away_is_a_metric_until_it_answers(served: ServedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(_: Settings) -> str:
        raise Unavailable("it does not answer")

    def unreachable() -> float:
        return metrics_of(served)["air_quality_registry_unreachable",]

    assert unreachable() == 0
    with monkeypatch.context() as patch:
        patch.setattr(registry, "champion_version", away)
        served.refresh()
        assert unreachable() == 1
    served.refresh()
    assert unreachable() == 0


def test_follow_registry_that_never_finishes_its_answer_is_said(
    served: ServedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished = threading.Event()

    def slow(_: Settings) -> str:
        finished.wait(PATIENCE_SECONDS)
        return "1"

    async def scenario() -> list[float]:
        seen, following = [], asyncio.create_task(served.follow())
        for wanted in (1.0, 0.0):
            while metrics_of(served)["air_quality_registry_unreachable",] != wanted:
                await asyncio.sleep(0.01)
            seen.append(wanted)
            finished.set()
        following.cancel()
        return seen

    monkeypatch.setattr(registry, "champion_version", slow)
    monkeypatch.setattr("airquality.serving.served.SLOW_SECONDS", 0.05)
    assert asyncio.run(asyncio.wait_for(scenario(), PATIENCE_SECONDS)) == [1.0, 0.0]
    assert "has taken 0.05 s so far" in served.why_not_ready


@pytest.mark.parametrize(
    "outage", [Unavailable("it does not answer"), OSError("disk full"), ModuleNotFoundError("no psycopg")], ids=repr
)
def test_whatever_ails_the_registry_what_is_served_goes_on(
    served: ServedModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, outage: Exception
) -> None:
    def away(_: Settings) -> str:
        raise outage

    monkeypatch.setattr(registry, "champion_version", away)
    served.refresh()
    assert str(outage) in caplog.text
    assert str(outage) in served.why_not_ready
    assert caplog.records[-1].levelno >= logging.WARNING
    assert served.predict(orjson.dumps({"features": ROW}))["model_version"] == "1"


def test_an_alias_that_was_taken_away_leaves_the_old_one_serving(
    served: ServedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "champion_version", lambda _: None)
    served.refresh()
    assert served.loaded is not None
