"""A second model beside the first: one line registers it, and it has routes, readiness, metrics and limits of its own."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import orjson
import pytest
import xgboost as xgb
from prometheus_client.parser import text_string_to_metric_families

from airquality.ground import log
from airquality.ground.settings import Settings
from airquality.model import features, registry, rows
from airquality.model.model import Card, Model, TargetTransform
from airquality.serving import slots
from airquality.serving.slots import Slot
from lab.waiting import wait_until
from tests.api_requests import ROW
from tests.api_server import Client, running
from tests.system import ARTIFACTS

SMALL = "models/small"


def fit_small() -> Model:
    """Return a model of five trees, fitted here."""
    drawn = np.random.default_rng(5).random((300, len(features.NAMES)))
    data = xgb.DMatrix(drawn, drawn[:, 0] - drawn[:, 1], feature_names=list(features.NAMES))
    booster = xgb.train({"max_depth": 3, "nthread": 1}, data, num_boost_round=5)
    card = Card(
        features=features.NAMES,
        features_hash=str(features.manifest()["hash"]),
        transform=TargetTransform(features.BASE_FEATURE, 1.0),
        data_source="simulated",
        data_hash="drawn",
        fitted_on="drawn numbers",
        parameters={},
        scores={"validation": {"rmse": 0.5}},
    )
    return Model(booster, card)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A registry whose champion is that of ``artifacts/``, and that does not have the small model yet."""
    folder = tmp_path_factory.mktemp("registry")
    chosen = Settings(mlflow_tracking_uri=f"sqlite:///{folder}/mlflow.db", artifacts_dir=ARTIFACTS, model_poll_seconds=0.1)
    registry.seed(chosen)
    return chosen


@pytest.fixture(scope="module")
def client(settings: Settings) -> Iterator[Client]:
    """A caller of a service of two models, of which the second is not registered yet."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log, "configure", lambda *_: None)
        second = Slot("small", model_name="small-model", model_alias="trial", max_rows=20)
        with running(settings, slots=(*slots.SLOTS, second)) as made:
            yield made


@pytest.fixture(scope="module")
def small(client: Client, settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The second model, served now; before, only the first one was ready."""
    waiting = client.get(f"/{SMALL}/ready")
    assert (waiting.status_code, client.get("/ready").status_code) == (503, 200)
    assert client.post(f"/{SMALL}/predict", {"features": ROW}).status_code == 503
    assert "Not ready" in client.get("/").text
    folder = tmp_path_factory.mktemp("small")
    model = fit_small()
    model.save(folder)
    named = settings.model_copy(update={"model_name": "small-model"})
    registry.register(folder, named, "trial")
    wait_until(lambda: client.get(f"/{SMALL}/ready").status_code == 200, "the second model is followed")
    return model


def series(client: Client, metric: str, /, **labels: str) -> float | None:
    """Return the value of the one series with exactly these labels, None where there is none."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    found = [s.value for family in families for s in family.samples if (s.name, s.labels) == (metric, labels)]
    assert len(found) <= 1
    return found[0] if found else None


def test_slots_second_model_answers_under_its_own_path(client: Client, small: Model) -> None:
    matrix = np.random.default_rng(6).random((20, len(features.NAMES)))
    body = {"features": list(features.NAMES), "rows": matrix.tolist()}
    first = np.array(client.post("/predict/batch", body).json()["predictions"])
    second = np.array(client.post(f"/{SMALL}/predict/batch", body).json()["predictions"])
    binary = client.post(
        f"/{SMALL}/predict/batch", rows.encode_rows(features.NAMES, matrix), {"Content-Type": rows.MEDIA_TYPE}
    )
    assert first.tobytes() == Model.load(ARTIFACTS).predict(matrix).tobytes()
    assert second.tobytes() == small.predict(matrix).tobytes() == np.array(binary.json()["predictions"]).tobytes()
    assert first.tobytes() != second.tobytes()
    one = client.post(f"/{SMALL}/predict", {"features": dict(zip(features.NAMES, matrix[3].tolist(), strict=True))})
    assert one.json() == {"prediction": second[3], "model_version": "1"}


def test_slots_each_model_says_what_it_is(client: Client, small: Model) -> None:
    described = [client.get(path).json() for path in ("/version", f"/{SMALL}/version")]
    assert [found["model_name"] for found in described] == ["air-quality-co", "small-model"]
    assert described[1]["model_hash"] == small.hash != described[0]["model_hash"]
    assert "Version 1 of small-model" in client.get("/").text
    documented = client.get("/openapi.json").json()["paths"]
    assert documented[f"/{SMALL}/predict"]["post"]["operationId"] == "predict_small"
    assert documented[f"/{SMALL}/predict"]["post"]["requestBody"] == documented["/predict"]["post"]["requestBody"]


def test_slots_only_the_second_models_series_are_labelled(client: Client, small: Model) -> None:
    def counts() -> list[float | None]:
        return [series(client, "predictions_total"), series(client, "predictions_total", model="small")]

    before = counts()
    answer = client.post(f"/{SMALL}/predict", {"features": ROW})
    client.post(f"/{SMALL}/predict", b"{")
    after = counts()
    assert [int(new or 0) - int(old or 0) for old, new in zip(before, after, strict=True)] == [0, 1]
    assert series(client, "prediction_value", model="small") == answer.json()["prediction"]
    assert series(client, "inference_errors_total", reason="invalid_request") == 0
    assert series(client, "inference_errors_total", reason="invalid_request", model="small") == 1
    assert series(client, "air_quality_model_info", name="small-model", version="1", model="small") == 1
    assert series(client, "air_quality_model_info", name="air-quality-co", version="1") == 1


def test_slots_second_models_own_limit_is_413_for_it_alone(client: Client, small: Model) -> None:
    matrix = np.full((21, len(features.NAMES)), 0.1)
    bodies = [orjson.dumps({"features": features.NAMES, "rows": matrix.tolist()}), rows.encode_rows(features.NAMES, matrix)]
    headers = [{}, {"Content-Type": rows.MEDIA_TYPE}]
    for body, header in zip(bodies, headers, strict=True):
        asked = [client.post(f"{path}/predict/batch", body, header).status_code for path in ("", f"/{SMALL}")]
        assert asked == [200, 413]
