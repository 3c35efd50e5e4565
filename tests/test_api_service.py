"""The prediction service: what it answers, what it refuses and how clearly, and which model answers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import requests
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

import api_service
from airquality.ground import log
from airquality.ground.errors import Unavailable
from airquality.ground.settings import Settings
from airquality.metrics import INFERENCE_ERRORS
from airquality.model import features, registry
from airquality.model import rows as wire
from airquality.model.model import CARD_FILE, MODEL_FILE, Model
from airquality.model.registry import RegisteredModel
from airquality.serving import bodies, uploads
from airquality.serving.problems import MAX_NAMED, RequestError
from airquality.serving.served import ServedModel
from airquality.serving.slots import Slot
from api_service import newest_features
from lab.waiting import wait_until
from tests import stations
from tests.api_server import Client, running
from tests.system import is_ready

ARTIFACTS = Path(__file__).resolve().parent.parent / "artifacts"
# mlflow says this of its own types, at its first import of pyfunc
pytestmark = pytest.mark.filterwarnings("ignore:.*Any type hint is inferred:UserWarning")

ROW = dict.fromkeys(features.NAMES, 0.1) | {features.BASE_FEATURE: 1.8}


@pytest.fixture(autouse=True)
def _log_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "configure", lambda *_: None)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A registry on sqlite whose champion is version 1, seeded from ``artifacts/``."""
    folder = tmp_path_factory.mktemp("registry")
    chosen = Settings(mlflow_tracking_uri=f"sqlite:///{folder}/mlflow.db", artifacts_dir=ARTIFACTS, model_poll_seconds=0.1)
    assert registry.seed(chosen) == "1"
    return chosen


@pytest.fixture(scope="module")
def other_model(settings: Settings) -> Callable[[str], Settings]:
    """Return settings of a registered model of that name, which the test may change as it likes."""

    def make(name: str) -> Settings:
        own = settings.model_copy(update={"model_name": name})
        registry.seed(own)
        return own

    return make


@pytest.fixture(scope="module")
def loaded(settings: Settings) -> RegisteredModel:
    return registry.load(settings)


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    """Feature rows of made-up hours with gaps in every column and a stretch without any CO."""
    values = stations.values_of(400, seed=3)
    values[np.random.default_rng(4).random(values.shape) < 0.2] = np.nan
    values[100:290, 0] = np.nan
    return features.batch(np.arange(300_000, 300_400), values)


def body_of(matrix: np.ndarray) -> bytes:
    return orjson.dumps({"features": features.NAMES, "rows": matrix}, option=orjson.OPT_SERIALIZE_NUMPY)


def samples(text: str) -> dict[tuple[str, ...], float]:
    """Return every sample by its name and label values."""
    families = text_string_to_metric_families(text)
    return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


def metrics_of(served: ServedModel) -> dict[tuple[str, ...], float]:
    return samples(generate_latest(served.registry).decode())


# --- being there, being ready ---


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


# --- metrics ---


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


# --- the same bits ---


def test_what_is_served_equals_what_is_scored_offline_bit_for_bit(client: Client, champion: Model, rows: np.ndarray) -> None:
    offline = champion.predict(rows)
    assert np.isnan(rows).any(axis=1).all()  # every row of this test has gaps
    served = client.post("/predict/batch", body_of(rows)).json()["predictions"]
    assert np.array(served).tobytes() == offline.tobytes()
    for row, expected in zip(rows[::40], offline[::40], strict=True):
        body = orjson.dumps({"features": dict(zip(features.NAMES, row, strict=True))}, option=orjson.OPT_SERIALIZE_NUMPY)
        assert client.post("/predict", body).json()["prediction"] == expected


def test_predict_batch_of_a_binary_body_equals_json_bit_for_bit(client: Client, champion: Model, rows: np.ndarray) -> None:
    sent, headers = wire.encode_rows(features.NAMES, rows), {"Content-Type": wire.MEDIA_TYPE}
    expected = champion.predict(rows)
    answer = client.post("/predict/batch", sent, headers).json()
    assert np.array(answer["predictions"]).tobytes() == expected.tobytes()
    binary = client.post("/predict/batch", sent, {**headers, "Accept": wire.MEDIA_TYPE})
    head, predictions = wire.decode(binary.content)
    assert orjson.loads(head) == {"model_version": answer["model_version"]}
    assert predictions.tobytes() == expected.tobytes()
    order = np.random.default_rng(6).permutation(len(features.NAMES))
    shuffled = wire.encode_rows([features.NAMES[i] for i in order], rows[:, order])
    assert client.post("/predict/batch", shuffled, headers).json() == answer


NAMES_LINE = orjson.dumps({"features": features.NAMES}) + b"\n"


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 422, "no line of JSON"),
        (b"\x00\xff" * 500, 422, "no line of JSON"),
        (NAMES_LINE, 422, "no rows"),
        (NAMES_LINE + bytes(7), 422, "no whole number of float64"),
        (NAMES_LINE + bytes(8), 422, "no whole number of rows"),
        (b'{"features": []}\n' + bytes(8), 422, "no whole number of rows"),
        (b'{"features": {}}\n' + bytes(8), 422, "JSON array"),
        (b'{"features": [[]]}\n' + bytes(8), 422, "the features are not the model's"),
        (b'{"features": ["a"], "features": ["b"]}\n' + bytes(8), 422, "there twice"),
        (b"hello\n" + bytes(8), 422, "not JSON"),
        (NAMES_LINE + np.full(len(features.NAMES), np.inf).tobytes(), 422, "within"),
        (NAMES_LINE + bytes(8 * 2_001 * len(features.NAMES)), 413, "too many"),
    ],
)
def test_predict_batch_of_a_faulty_binary_body_is_refused(client: Client, body: bytes, status: int, said: str) -> None:
    answer = client.post("/predict/batch", body, {"Content-Type": wire.MEDIA_TYPE})
    assert (answer.status_code, said in answer.text) == (status, True), answer.text


def test_the_order_of_the_names_does_not_matter(served: ServedModel, rows: np.ndarray) -> None:
    expected = served.predict_batch(body_of(rows[:50]))["predictions"]
    order = np.random.default_rng(6).permutation(len(features.NAMES))
    names = [features.NAMES[i] for i in order]
    shuffled = orjson.dumps({"features": names, "rows": rows[:50, order].tolist()})
    assert served.predict_batch(shuffled)["predictions"] == expected
    one = orjson.dumps({"features": dict(zip(names, rows[7, order].tolist(), strict=True))})
    assert served.predict(one)["prediction"] == expected[7]


def test_null_is_nan_and_not_a_number_of_its_own(served: ServedModel, champion: Model) -> None:
    some = np.array([[np.nan if i % 3 == 0 else 0.1 for i in range(len(features.NAMES))]])
    body = orjson.dumps({"features": {n: None if i % 3 == 0 else 0.1 for i, n in enumerate(features.NAMES)}})
    prediction = served.predict(body)["prediction"]
    assert prediction == champion.predict(some)[0]
    assert prediction != champion.predict(np.nan_to_num(some))[0]


def test_a_whole_number_is_a_number(served: ServedModel) -> None:
    body = {"features": ROW | {"temperature": 20}}
    same = {"features": ROW | {"temperature": 20.0}}
    assert served.predict(orjson.dumps(body)) == served.predict(orjson.dumps(same))


# --- refusals ---


def refusal(served: ServedModel, request: object) -> dict[str, Any]:
    """Return the detail with which the batch request is refused."""
    with pytest.raises(RequestError) as caught:
        served.predict_batch(request if isinstance(request, bytes) else orjson.dumps(request))
    assert (caught.value.status, caught.value.reason) == (422, "invalid_request")
    return caught.value.problem()


def test_absent_unknown_and_repeated_names_are_listed_all_at_once(served: ServedModel) -> None:
    first, second, third, *rest = features.NAMES
    names = [*rest, third, third, "co_gt", "temprature"]
    assert refusal(served, {"features": names, "rows": [[0.1] * len(names)]}) == {
        "title": HTTPStatus(422).phrase,
        "status": 422,
        "detail": "the features are not the model's: 2 absent, 2 unknown, 1 repeated",
        "reason": "invalid_request",
        "absent": [first, second],
        "unknown": ["co_gt", "temprature"],
        "repeated": [third],
    }
    with pytest.raises(RequestError) as caught:
        served.predict(orjson.dumps({"features": {"co_gt": 1.0}}))
    assert caught.value.more["unknown"] == ["co_gt"]
    assert caught.value.more["absent"] == list(features.NAMES)
    assert "repeated" not in caught.value.more


@pytest.mark.parametrize("name", [None, 1, ["s1_log"], {"s1_log": 1}, True])
def test_a_name_that_is_no_text_is_an_unknown_one(served: ServedModel, name: object) -> None:
    detail = refusal(served, {"features": [name, *features.NAMES[1:]], "rows": [[0.1] * len(features.NAMES)]})
    assert detail["absent"] == [features.NAMES[0]]
    assert detail["unknown"] == [str(name)]


@pytest.mark.timeout(30)
def test_a_flood_of_names_is_refused_without_holding_up_the_others(served: ServedModel) -> None:
    names = [f"name_{i}" for i in range(200_000)]
    answer = refusal(served, {"features": [*names, "x" * 1_000_000], "rows": []})
    assert "200001 unknown" in answer["detail"]
    assert answer["unknown"] == names[:MAX_NAMED]
    assert len(orjson.dumps(answer)) < 32_000


def test_predict_long_unknown_name_is_answered_in_short(served: ServedModel) -> None:
    answer = refusal(served, {"features": ["x" * 1_000_000, *features.NAMES[1:]], "rows": [[0.1] * WIDTH]})
    assert len(orjson.dumps(answer)) < 1_000


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/predict", b'{"features": {"hour_sin": 1, "hour_sin": 2}}'),
        ("/predict", b'{"features": {}, "features": {}}'),
        ("/predict", b'{"features": {"hour_sin": 1, "\\u0068our_sin": 2}}'),
        ("/predict/batch", b'{"features": [], "rows": [], "rows": []}'),
        ("/predict/batch", b'{"features": ["a:b"], "features": ["a:b"], "rows": []}'),
        ("/predict/from-readings", b'{"readings": [{"T": 1, "T": 2}]}'),
        ("/predict/from-readings", b'{"readings": [], "readings": [{"DateTime": "2005-02-05T03:00:00"}]}'),
    ],
)
def test_predict_name_that_is_there_twice_is_refused(client: Client, path: str, body: bytes) -> None:
    answer = client.post(path, body)
    assert (answer.status_code, "there twice" in answer.json()["detail"]) == (422, True)


def test_predict_escaped_names_are_read_as_what_they_spell(served: ServedModel) -> None:
    body = orjson.dumps({"features": ROW})
    assert served.predict(body.replace(b"hour_sin", b"\\u0068our_sin")) == served.predict(body)


def test_predict_batch_more_rows_than_the_limit_is_413_and_so_halved_by_the_client(served: ServedModel) -> None:
    rows = [[0.1] * WIDTH] * (bodies.MAX_ROWS + 1)
    with pytest.raises(RequestError) as caught:
        served.predict_batch(orjson.dumps({"features": features.NAMES, "rows": rows}))
    assert caught.value.status == 413


@pytest.mark.parametrize("value", [b"[]", b"{}", b"0"])
def test_predict_batch_of_too_many_values_is_413_before_it_is_parsed(
    served: ServedModel, monkeypatch: pytest.MonkeyPatch, value: bytes
) -> None:
    monkeypatch.setattr(orjson, "loads", lambda _: pytest.fail("parsed"))
    body = b'{"features": [], "rows": [' + b",".join([value] * (2_500 if value != b"0" else 600_000)) + b"]}"
    with pytest.raises(RequestError) as caught:
        served.predict_batch(body)
    assert caught.value.status == 413


def test_every_error_is_a_problem_of_one_shape(client: Client) -> None:
    answers = [
        client.post("/predict", b"{"),
        client.post("/predict/from-readings", b"DateTime"),
        client.get("/nowhere"),
        client.get("/predict"),
        client.get("/reports/daily/none.html"),
        requests.get(client.url + "/ready", headers={"Host": "evil.example"}, timeout=20),
    ]
    assert [answer.status_code for answer in answers] == [422, 422, 404, 405, 404, 403]
    for answer in answers:
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert problem["status"] == answer.status_code
        assert problem["title"]
        assert problem["detail"]


WIDTH = len(features.NAMES)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([["1.5"] * WIDTH], "values must be numbers or null"),
        ([[True] * WIDTH], "values must be numbers or null"),
        ([[[1.0]] * WIDTH], "values must be numbers or null"),
        ([[{}] * WIDTH], "values must be numbers or null"),
        ([[1e39] * WIDTH], "values must lie within"),
        ([[-1e300] * WIDTH], "values must lie within"),
        ([[10**30] * WIDTH, [10**300] * WIDTH], "values must lie within"),
        ([[0.1] * WIDTH, [0.1] * (WIDTH - 1)], f"row 1 must be an array of {WIDTH} values"),
        ([[0.1] * WIDTH, 0.1], f"row 1 must be an array of {WIDTH} values"),
        ([None], f"row 0 must be an array of {WIDTH} values"),
        ([], "no rows"),
        ({"0": [0.1] * WIDTH}, "'rows' must be a JSON array"),
        (None, "'rows' must be a JSON array"),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value)[:24],
)
def test_rows_that_are_no_matrix_of_numbers_are_refused(served: ServedModel, rows: object, message: str) -> None:
    written = str(rows).replace("'", '"').replace("True", "true").replace("None", "null")
    request = b'{"features": %b, "rows": %b}' % (orjson.dumps(features.NAMES), written.encode())
    assert message in refusal(served, request)["detail"]


def test_a_row_without_a_finite_prediction_is_refused_rather_than_answered_with_null(served: ServedModel) -> None:
    row = [-1.0 if name == features.BASE_FEATURE else 0.1 for name in features.NAMES]
    answer = refusal(served, {"features": features.NAMES, "rows": [list(ROW.values()), row, row]})
    assert "row 1" in answer["detail"]
    assert (answer["reason"], answer["row"], answer["rows"]) == ("unpredictable", 1, [1, 2])


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/predict", b"", "not JSON"),
        ("/predict", b'{"features": {"a": NaN}}', "not JSON"),
        ("/predict", b'{"features": {"a": 1e999}}', "not JSON"),
        ("/predict", b"\xff\xfe", "not JSON"),
        ("/predict", b"[" * 1_500, "not JSON"),
        ("/predict", b"[]", "must be a JSON object"),
        ("/predict", b"null", "must be a JSON object"),
        ("/predict", b"{}", "'features' must be a JSON object"),
        ("/predict", b'{"features": []}', "'features' must be a JSON object"),
        ("/predict/batch", b'{"features": {}}', "'features' must be a JSON array"),
        ("/predict/batch", b'{"features": []}', "'rows' must be a JSON array"),
    ],
)
def test_a_body_of_another_shape_is_refused_with_what_is_wrong(client: Client, path: str, body: bytes, message: str) -> None:
    answer = client.post(path, body)
    assert answer.status_code == 422
    assert message in answer.json()["detail"]


@pytest.mark.timeout(60)
def test_a_body_is_read_up_to_its_limit_and_no_further(client: Client) -> None:
    limit = uploads.MAX_BODY_BYTES
    asked = orjson.dumps({"features": ROW})
    assert client.post("/predict", asked.ljust(limit)).status_code == 200
    answer = client.post("/predict", asked.ljust(limit + 1))
    assert (answer.status_code, answer.json()["detail"]) == (413, f"the body is larger than {limit} bytes")
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield b" " * 1024 * 1024

    with contextlib.suppress(requests.ConnectionError):  # it hangs up while we still send: as good an end as an answer
        assert client.post("/predict", endless()).status_code == 413
    assert sent < 200


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("n_rows", [64, bodies.MAX_ROWS])
def test_others_are_answered_while_a_batch_is_computed(
    client: Client, monkeypatch: pytest.MonkeyPatch, rows: np.ndarray, n_rows: int, binary: bool
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    predict = Model.predict

    def slow(model: Model, matrix: np.ndarray) -> np.ndarray:
        if len(matrix) > 1:
            begun.set()
            assert go_on.wait(20)
        return predict(model, matrix)

    monkeypatch.setattr(Model, "predict", slow)
    many = np.resize(rows, (n_rows, WIDTH))
    body = wire.encode_rows(features.NAMES, many) if binary else body_of(many)
    with ThreadPoolExecutor(1) as others:
        batch = others.submit(client.post, "/predict/batch", body, {"Content-Type": wire.MEDIA_TYPE} if binary else {})
        try:
            assert begun.wait(20)
            assert client.get("/health").status_code == 200
            assert client.post("/predict", {"features": ROW}).status_code == 200
            assert not batch.done()
        finally:
            go_on.set()
        assert len(batch.result().json()["predictions"]) == n_rows


# --- which model answers ---


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
                answer = session.post(f"{url}/predict/batch", data=body, timeout=10)
                assert answer.status_code == 200
                assert answer.json()["predictions"] == offline[answer.json()["model_version"]]
                seen.add(answer.json()["model_version"])
                count += 1
        return count

    with running(settings) as client, ThreadPoolExecutor(3) as pool:
        asking = [pool.submit(ask, client.url) for _ in range(3)]
        try:
            wait_until(lambda: seen == {"1"}, "the first version answers", 20)
            registry.promote(settings, "2", "a test")
            wait_until(lambda: "2" in seen, "the second version answers", 20)
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
        finished.wait(20)
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
    assert asyncio.run(asyncio.wait_for(scenario(), 20)) == [1.0, 0.0]
    assert "has taken 0.05 s so far" in served.why_not_ready


# --- the program ---


def test_program_port_taken_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert api_service.main(["--port", str(port)]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert f"127.0.0.1:{port}" in said
    assert "--port" in said


@pytest.mark.parametrize("arguments", [["--port", "99999"], ["--port", "x"], ["--workers", "2"]])
def test_program_wrong_arguments_are_a_usage_error(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        api_service.main(arguments)
    assert ended.value.code == 2


@pytest.mark.parametrize(("argument", "message"), [("--help", "examples:"), ("--version", "air-quality-monitoring ")])
def test_program_help_has_examples_and_version_is_known(
    argument: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        api_service.main([argument])
    assert (ended.value.code, message in capsys.readouterr().out) == (0, True)


def test_program_wrong_setting_is_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("LOG_LEVEL", "often")
    assert api_service.main(["--port", "0"]) == 2
    assert "LOG_LEVEL=often" in capsys.readouterr().err


@pytest.mark.slow
def test_program_serves_and_ends_on_a_signal(settings: Settings) -> None:
    environment = {**os.environ, "MLFLOW_TRACKING_URI": settings.mlflow_tracking_uri, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "api_service.py", "--port", "0"]
    with subprocess.Popen(command, cwd=ARTIFACTS.parent, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().split("/ ")[0]
            wait_until(lambda: is_ready(url), "ready")
            assert "/docs" in requests.get(url, timeout=20).text
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


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
