"""What the prediction service answers: the bits that the model gives offline, whatever the form of the request."""

from __future__ import annotations

import threading
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import orjson
import pytest

from airquality.model import features
from airquality.model import rows as wire
from airquality.model.model import Model
from airquality.serving.served import ServedModel
from lab.waiting import PATIENCE_SECONDS
from tests.api_requests import ROW, WIDTH, body_of
from tests.api_server import Client


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
    assert client.post("/predict/batch", shuffled, headers).json() == {**answer, "request_crc32": zlib.crc32(shuffled)}


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


def test_predict_escaped_names_are_read_as_what_they_spell(served: ServedModel) -> None:
    body = orjson.dumps({"features": ROW})
    assert served.predict(body.replace(b"hour_sin", b"\\u0068our_sin")) == served.predict(body)


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("n_rows", [64, wire.MAX_ROWS])
def test_others_are_answered_while_a_batch_is_computed(
    client: Client, monkeypatch: pytest.MonkeyPatch, rows: np.ndarray, n_rows: int, binary: bool
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    predict = Model.predict

    def slow(model: Model, matrix: np.ndarray) -> np.ndarray:
        if len(matrix) > 1:
            begun.set()
            assert go_on.wait(PATIENCE_SECONDS)
        return predict(model, matrix)

    monkeypatch.setattr(Model, "predict", slow)
    many = np.resize(rows, (n_rows, WIDTH))
    body = wire.encode_rows(features.NAMES, many) if binary else body_of(many)
    with ThreadPoolExecutor(1) as others:
        batch = others.submit(client.post, "/predict/batch", body, {"Content-Type": wire.MEDIA_TYPE} if binary else {})
        try:
            assert begun.wait(PATIENCE_SECONDS)
            assert client.get("/health").status_code == 200
            assert client.post("/predict", {"features": ROW}).status_code == 200
            assert not batch.done()
        finally:
            go_on.set()
        assert len(batch.result().json()["predictions"]) == n_rows
