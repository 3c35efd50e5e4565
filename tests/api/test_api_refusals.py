"""What the prediction service refuses, and how clearly."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import numpy as np
import orjson
import pytest
import requests

from airquality.model import features
from airquality.model import rows as wire
from airquality.serving import uploads
from airquality.serving.problems import MAX_NAMED, RequestError
from airquality.serving.served import ServedModel
from lab.waiting import PATIENCE_SECONDS
from tests.api_requests import NAMES_LINE, ROW, WIDTH
from tests.api_server import Client


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


def test_predict_batch_more_rows_than_the_limit_is_413_and_so_halved_by_the_client(served: ServedModel) -> None:
    rows = [[0.1] * WIDTH] * (wire.MAX_ROWS + 1)
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
        requests.get(client.url + "/ready", headers={"Host": "evil.example"}, timeout=PATIENCE_SECONDS),
    ]
    assert [answer.status_code for answer in answers] == [422, 422, 404, 405, 404, 403]
    for answer in answers:
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert problem["status"] == answer.status_code
        assert problem["title"]
        assert problem["detail"]


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
