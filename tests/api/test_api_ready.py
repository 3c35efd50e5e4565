"""When the prediction service is ready, and what it says of itself."""

from __future__ import annotations

import threading

import numpy as np
import orjson
import pytest

from airquality.ground.errors import Unavailable
from airquality.ground.settings import Settings
from airquality.metrics import INFERENCE_ERRORS
from airquality.model import features, registry
from airquality.model.model import Model
from airquality.serving import uploads
from airquality.serving.served import ServedModel
from airquality.serving.slots import Slot
from api_service import newest_features
from lab.waiting import wait_until
from tests.api_requests import ROW, body_of, metrics_of, samples
from tests.api_server import Client, running


def test_it_is_alive_before_it_is_ready_and_says_why_it_is_not(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    away, champion_version = threading.Event(), registry.champion_version

    def answered(asked: Settings) -> str | None:
        if not away.is_set():
            raise Unavailable("the model registry is away for lunch")
        return champion_version(asked)

    monkeypatch.setattr(registry, "champion_version", answered)
    with running(settings, ready=False) as client:
        wait_until(lambda: "lunch" in client.get("/ready").text, "the reason")
        assert client.get("/health").json() == {"status": "ok"}
        assert [client.get(path).status_code for path in ("/ready", "/version")] == [503, 503]
        refused = client.post("/predict", {"features": ROW})
        assert (refused.status_code, "away for lunch" in refused.json()["detail"]) == (503, True)
        assert samples(client.get("/metrics").text)["inference_errors_total", "model_not_loaded"] == 1
        away.set()
        wait_until(lambda: client.get("/ready").status_code == 200, "ready")
        assert client.get("/ready").json() == {"status": "ready", "model_version": "1"}
        assert client.get("/health").json() == {"status": "ok"}
        assert client.post("/predict", {"features": ROW}).status_code == 200


def test_a_registry_without_the_model_says_what_to_run(settings: Settings) -> None:
    served = ServedModel(Slot(), settings.model_copy(update={"model_name": "nobody's"}), newest_features)
    served.refresh()
    assert "python -m airquality registry seed" in served.why_not_ready


def test_the_version_says_what_the_model_carries(client: Client, champion: Model) -> None:
    described = client.get("/version").json()
    assert described["model_version"] == "1"
    assert described["model_hash"] == champion.hash
    assert described["features_hash"] == features.manifest()["hash"] == champion.card.features_hash
    assert described["data_source"] == champion.card.data_source
    assert described["scores"] == champion.card.scores
    assert (described["target"], described["history_hours"]) == ("CO(GT)", 168)


def test_the_examples_of_the_documentation_run_as_pasted(client: Client) -> None:
    assert client.get("/docs").status_code == 200
    examples = {
        path: operation["post"]["requestBody"]["content"]["application/json"]["example"]
        for path, operation in client.get("/openapi.json").json()["paths"].items()
        if "post" in operation
    }
    assert set(examples) == {"/predict", "/predict/batch", "/predict/from-readings"}
    for path, example in examples.items():
        answer = client.post(path, example)
        assert (answer.status_code, answer.json()["model_version"]) == (200, "1")


def test_metrics_are_a_plain_200_with_every_name_and_its_zeros(client: Client) -> None:
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    found = samples(answer.text)
    for reason in INFERENCE_ERRORS:
        assert found["inference_errors_total", reason] == 0
    assert found["predictions_total",] == found["prediction_latency_count",] == 0
    assert {("prediction_value",), ("missing_values_count",), ("prediction_latency_bucket", "0.01")} <= set(found)
    assert found["air_quality_model_info", "air-quality-co", "1"] == 1


def test_the_gauges_tell_the_latest_row(served: ServedModel, rows: np.ndarray) -> None:
    predictions = served.predict_batch(body_of(rows[150:160]))["predictions"]
    found = metrics_of(served)
    assert found["prediction_value",] == predictions[-1]
    assert found["missing_values_count",] == np.isnan(rows[159]).sum() > 0
    assert found["air_quality_missing_features_total",] == np.isnan(rows[150:160]).sum() > found["missing_values_count",]
    assert (found["predictions_total",], found["prediction_latency_count",]) == (10, 1)
    one = served.predict(orjson.dumps({"features": ROW | {"t_over_mean_24h": None}}))["prediction"]
    found = metrics_of(served)
    assert (found["prediction_value",], found["missing_values_count",]) == (one, 1)
    assert (found["predictions_total",], found["prediction_latency_count",]) == (11, 2)


def test_errors_are_counted_by_reason(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    client.post("/predict", b"{")
    client.post("/predict/batch", b"[]")
    client.post("/predict", b" " * (uploads.MAX_BODY_BYTES + 1))

    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Model, "predict", broken)
    assert client.post("/predict", {"features": ROW}).status_code == 500
    found = samples(client.get("/metrics").text)
    assert found["inference_errors_total", "invalid_request"] == 3
    assert found["inference_errors_total", "internal"] == 1
    assert found["predictions_total",] == 0
    assert found["prediction_latency_count",] == 3  # a body that was not read is no prediction request
