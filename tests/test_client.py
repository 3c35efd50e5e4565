"""The consumer's side of the prediction service: what waiting can mend, and what is a disagreement."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import orjson
import pytest

from airquality.ground.errors import ContractError, InvalidRecord, Unavailable
from airquality.model import features, rows
from airquality.model.client import PredictionClient
from airquality.model.rows import MAX_ROWS
from airquality.model.transport import Transport
from airquality.records import MAX_MODEL_VERSION_CHARACTERS, PREDICTION_LIMITS, Served
from tests.peer import ORIGIN, ROWS, Peer
from tests.simulated_kafka import rows_of

#: What a served model says of where it comes from.


@pytest.fixture
def client(peer: Peer) -> Iterator[PredictionClient]:
    with closing(Transport(peer.url, 20.0)) as transport:
        yield PredictionClient(transport)


def test_many_rows_are_one_request_that_keeps_every_bit(peer: Peer, client: PredictionClient) -> None:
    peer.says({"predictions": [1.5, 2.5], "model_version": "7"})
    assert client.predict(rows_of(ROWS)) == [(1.5, "7"), (2.5, "7")]
    [(method, path, body)] = peer.asked
    assert (method, path) == ("POST", "/predict/batch")
    head, values = rows.decode(body)
    assert orjson.loads(head) == {"features": list(features.NAMES)}
    assert values.tobytes() == ROWS.tobytes()
    assert peer.media_type == rows.MEDIA_TYPE


def test_begin_returns_once_the_rows_are_sent_and_waiting_gives_the_answers(peer: Peer, client: PredictionClient) -> None:
    began = threading.Event()

    def answers(_: bytes) -> tuple[int, Any]:
        return (200 if began.wait(10.0) else 503), {"predictions": [1.5, 2.5], "model_version": "7"}

    peer.answers = answers
    awaited = client.begin(rows_of(ROWS))
    began.set()
    assert awaited() == [(1.5, "7"), (2.5, "7")]


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 405, 407, 408, 413, 425, 429, 500, 502, 503, 504])
def test_predict_any_refusal_by_status_is_worth_waiting_for(peer: Peer, client: PredictionClient, status: int) -> None:
    peer.says({"error": "not now"}, status)
    for ask in (client.check, lambda: client.predict(rows_of(ROWS))):
        with pytest.raises(Unavailable, match=f"answers {status}.*not now"):
            ask()


@pytest.mark.parametrize(
    ("status", "hint"),
    [(401, "API_URL may hold"), (307, "where this one leads"), (404, "does API_URL name"), (429, "too often")],
)
def test_predict_a_status_an_operator_can_mend_says_how(
    peer: Peer, client: PredictionClient, status: int, hint: str
) -> None:
    peer.says({}, status)
    with pytest.raises(Unavailable, match=hint):
        client.predict(rows_of(ROWS))


def test_predict_a_refusal_that_features_explain_is_a_disagreement(peer: Peer, client: PredictionClient) -> None:
    peer.says({"error": "the features are not the model's"}, 422)
    peer.pages["/version"] = orjson.dumps({"features_hash": "0123456789abcdef", "model_version": "8", **ORIGIN})
    with pytest.raises(ContractError, match=r"version 8, fitted on features '0123456789ab'.*from the same release"):
        client.predict(rows_of(ROWS))


def test_predict_a_refusal_that_features_do_not_explain_is_waited_for(peer: Peer, client: PredictionClient) -> None:
    peer.says({"error": "something else"}, 422)
    peer.pages["/version"] = orjson.dumps({"features_hash": features.manifest()["hash"], "model_version": "8", **ORIGIN})
    with pytest.raises(Unavailable, match=r"answers 422: .*something else"):
        client.predict(rows_of(ROWS))


GOOD = [1.5, 2.5]


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>Grafana</html>",
        b"",
        b"[]",
        b"{}",
        b"null",
        b"\xff",
        {"predictions": [1.5, None], "model_version": "7"},
        {"predictions": [1.5, "2.5"], "model_version": "7"},
        {"predictions": [1.5, True], "model_version": "7"},
        {"predictions": [1.5, [2.5]], "model_version": "7"},
        {"predictions": [1.5], "model_version": "7"},
        {"predictions": [1.5, 2.5, 3.5], "model_version": "7"},
        {"predictions": 1.5, "model_version": "7"},
        {"predictions": {"0": 1.5, "1": 2.5}, "model_version": "7"},
        {"predictions": "12", "model_version": "7"},
        {"predictions": GOOD},
        {"predictions": GOOD, "model_version": 7},
        {"predictions": GOOD, "model_version": None},
        {"predictions": GOOD, "model_version": ""},
        {"predictions": GOOD, "model_version": ["7"]},
        {"predictions": GOOD, "model_version": "7" * (MAX_MODEL_VERSION_CHARACTERS + 1)},
        {"predictions": GOOD, "model_version": "7\n"},
        {"predictions": GOOD, "model_version": "\x1b[31m7"},
    ],
    ids=repr,
)
def test_predict_a_malformed_answer_is_a_wait_like_an_outage(peer: Peer, client: PredictionClient, answer: Any) -> None:
    peer.says(answer)
    with pytest.raises(Unavailable, match=peer.url) as caught:
        client.predict(rows_of(ROWS))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("answer", [b"<html>Grafana</html>", b"[]", {"features_hash": 7, "model_version": "7"}, {}])
def test_check_a_malformed_answer_is_a_wait_like_an_outage(peer: Peer, client: PredictionClient, answer: Any) -> None:
    peer.says(answer)
    with pytest.raises(Unavailable, match="as no prediction service does"):
        client.check()


def test_predict_answer_to_another_request_is_a_wait_until_the_right_one_comes(peer: Peer, client: PredictionClient) -> None:
    peer.says({"predictions": GOOD, "model_version": "7"})
    peer.names_request = 1
    with pytest.raises(Unavailable, match="something in between answers with what it kept"):
        client.predict(rows_of(ROWS))
    peer.names_request = None
    assert client.predict(rows_of(ROWS)) == [(1.5, "7"), (2.5, "7")]


def test_predict_refusal_of_another_requests_rows_refuses_none_of_these(peer: Peer, client: PredictionClient) -> None:
    peer.says({"error": "row 0 has no finite prediction", "row": 0, "reason": "unpredictable"}, 422)
    peer.pages["/version"] = orjson.dumps({"features_hash": features.manifest()["hash"], "model_version": "8", **ORIGIN})
    peer.names_request = 1
    with pytest.raises(Unavailable, match="answers 422"):
        client.predict(rows_of(ROWS))


def test_predict_asks_caches_to_keep_nothing(peer: Peer, client: PredictionClient) -> None:
    peer.says({"predictions": GOOD, "model_version": "7"})
    client.predict(rows_of(ROWS))
    assert peer.caching == "no-store"


def test_predict_whole_numbers_are_numbers(peer: Peer, client: PredictionClient) -> None:
    peer.says({"predictions": [1, 2.5], "model_version": "7"})
    assert client.predict(rows_of(ROWS)) == [(1.0, "7"), (2.5, "7")]
    answers = client.predict(rows_of(ROWS))
    assert [type(answer[0]) for answer in answers if not isinstance(answer, InvalidRecord)] == [float, float]


@pytest.mark.parametrize("value", [-5.0, -1e-300, PREDICTION_LIMITS[1] + 0.1, 1e200, 10**18])
def test_predict_a_value_outside_the_limits_refuses_its_row_only(peer: Peer, client: PredictionClient, value: float) -> None:
    peer.says({"predictions": [value, 2.5], "model_version": "7"})
    refused, prediction = client.predict(rows_of(ROWS))
    assert isinstance(refused, InvalidRecord)
    assert (refused.reason, prediction) == ("unpredictable", (2.5, "7"))
    assert f"{float(value):g} mg/m3" in str(refused)


def test_predict_limits_are_inclusive(peer: Peer, client: PredictionClient) -> None:
    peer.says({"predictions": list(PREDICTION_LIMITS), "model_version": "7"})
    assert client.predict(rows_of(ROWS)) == [(limit, "7") for limit in PREDICTION_LIMITS]


def row_numbers(body: bytes) -> list[float]:
    """Return the values of a request for rows of one value each."""
    values: list[float] = rows.decode(body)[1].tolist()
    return values


@pytest.mark.parametrize("all_at_once", [True, False])
def test_predict_rows_the_service_names_are_refused_and_the_others_predicted(
    peer: Peer, client: PredictionClient, all_at_once: bool
) -> None:
    unusable = {1.0, 4.0}

    def answers(body: bytes) -> tuple[int, Any]:
        sent = row_numbers(body)
        named = [index for index, row in enumerate(sent) if row in unusable]
        if not named:
            return 200, {"predictions": [row / 10 for row in sent], "model_version": "7"}
        refusal = {"error": f"row {named[0]} has no finite prediction", "row": named[0], "reason": "unpredictable"}
        return 422, {**refusal, "rows": named} if all_at_once else refusal

    peer.answers = answers
    found = client.predict(rows_of(np.arange(6.0).reshape(6, 1)))
    assert [a.reason if isinstance(a, InvalidRecord) else a for a in found] == [
        (0.0, "7"),
        "unpredictable",
        (0.2, "7"),
        (0.3, "7"),
        "unpredictable",
        (0.5, "7"),
    ]
    assert len(peer.asked) == (2 if all_at_once else 3)


@pytest.mark.parametrize("row", [2, -1, "0", None, 0.0, True, [0]])
def test_predict_a_refusal_that_names_no_row_of_the_request_is_waited_for(
    peer: Peer, client: PredictionClient, row: Any
) -> None:
    peer.says({"error": "odd", "row": row, "reason": "unpredictable"}, 422)
    peer.pages["/version"] = orjson.dumps({"features_hash": features.manifest()["hash"], "model_version": "8", **ORIGIN})
    with pytest.raises(Unavailable, match="answers 422"):
        client.predict(rows_of(ROWS))


@pytest.mark.parametrize("largest", [1, 3, 7])
def test_predict_a_request_that_is_too_large_for_the_peer_is_sent_in_parts(
    peer: Peer, client: PredictionClient, largest: int
) -> None:
    def answers(body: bytes) -> tuple[int, Any]:
        rows = row_numbers(body)
        if len(rows) > largest:
            return 413, {"error": "too large"}
        return 200, {"predictions": [row / 10 for row in rows], "model_version": "7"}

    peer.answers = answers
    assert client.predict(rows_of(np.arange(7.0).reshape(7, 1))) == [(row / 10, "7") for row in range(7)]


def test_predict_more_rows_than_a_request_takes_are_several(peer: Peer, client: PredictionClient) -> None:
    def answers(body: bytes) -> tuple[int, Any]:
        return 200, {"predictions": [row / 100 for row in row_numbers(body)], "model_version": "7"}

    peer.answers = answers
    found = client.predict(rows_of(np.arange(MAX_ROWS + 1.0).reshape(-1, 1)))
    assert found == [(row / 100, "7") for row in range(MAX_ROWS + 1)]
    assert [len(row_numbers(body)) for _, _, body in peer.asked] == [MAX_ROWS, 1]


def test_a_model_of_these_features_passes_the_check(peer: Peer, client: PredictionClient) -> None:
    says = {"data_source": "uci", "data_hash": "abc", "scores": {"validation": {"rmse": 0.3}}}
    peer.says({"features_hash": features.manifest()["hash"], "model_version": "7", **says})
    assert client.check() == Served("7", "uci", "abc", 0.3)
    assert peer.asked == [("GET", "/version", b"")]


def test_a_model_of_other_features_is_a_disagreement(peer: Peer, client: PredictionClient) -> None:
    says = {"data_source": "uci", "data_hash": "abc", "scores": {}}
    peer.says({"features_hash": "0123456789abcdef", "model_version": "7", **says})
    with pytest.raises(ContractError, match=r"version 7, fitted on features '0123456789ab'.*run both from the same release"):
        client.check()
