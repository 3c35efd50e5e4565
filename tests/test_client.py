"""The consumer's side of the prediction service: what waiting can mend, and what is a disagreement."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import orjson
import pytest
import requests

from airquality.ground.errors import ContractError, Unavailable
from airquality.model import features
from airquality.model.client import PredictionClient
from airquality.records import Served
from tests.system import free_port

ROWS = np.array([[np.nan, 0.1, 1 / 3, -0.0], [5e-324, 1.7976931348623157e308, 1.0, np.nan]])


class Peer(ThreadingHTTPServer):
    """A service that answers what it is told to, and remembers what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.status = 200
        self.answer: bytes = b""
        self.silent = False
        self.released = threading.Event()
        self.asked: list[tuple[str, str, bytes]] = []

    def says(self, answer: Any, status: int = 200) -> None:
        self.status, self.answer = status, answer if isinstance(answer, bytes) else orjson.dumps(answer)


class Handler(BaseHTTPRequestHandler):
    server: Peer

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((self.command, self.path, body))
        if self.server.silent:
            self.server.released.wait(5)
            return
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.answer)))
        self.end_headers()
        self.wfile.write(self.server.answer)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def peer() -> Iterator[Peer]:
    with Peer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as made:
        yield made


@pytest.fixture
def client(peer: Peer, session: requests.Session) -> PredictionClient:
    return PredictionClient(peer.url, 0.3, session)


def test_many_rows_are_one_request_that_keeps_every_bit(peer: Peer, client: PredictionClient) -> None:
    peer.says({"predictions": [1.5, 2.5], "model_version": "7"})
    assert client.predict(ROWS) == [(1.5, "7"), (2.5, "7")]
    [(method, path, body)] = peer.asked
    assert (method, path) == ("POST", "/predict/batch")
    sent = orjson.loads(body)
    assert sent["features"] == list(features.NAMES)
    assert np.array(sent["rows"], dtype=np.float64).tobytes() == ROWS.tobytes()


@pytest.mark.parametrize("status", [500, 502, 503])
def test_a_service_in_trouble_is_worth_waiting_for(peer: Peer, client: PredictionClient, status: int) -> None:
    peer.says({"error": "no model is loaded"}, status)
    with pytest.raises(Unavailable, match=f"answers {status}: .*no model is loaded"):
        client.predict(ROWS)


def test_a_silent_service_is_worth_waiting_for(peer: Peer, client: PredictionClient) -> None:
    peer.silent = True
    with pytest.raises(Unavailable, match="does not answer: ReadTimeout"):
        client.predict(ROWS)
    peer.released.set()


def test_an_absent_service_is_worth_waiting_for(session: requests.Session) -> None:
    with pytest.raises(Unavailable, match="does not answer: ConnectionError"):
        PredictionClient(f"http://127.0.0.1:{free_port()}", 0.3, session).check()


@pytest.mark.parametrize("status", [404, 413, 422])
def test_a_refusal_is_a_disagreement(peer: Peer, client: PredictionClient, status: int) -> None:
    peer.says({"error": "the features are not the model's"}, status)
    with pytest.raises(ContractError, match=f"/predict/batch refuses the request: {status} .*not the model's"):
        client.predict(ROWS)


def test_another_number_of_predictions_is_a_disagreement(peer: Peer, client: PredictionClient) -> None:
    peer.says({"predictions": [1.5], "model_version": "7"})
    with pytest.raises(ContractError, match="1 predictions for 2 rows"):
        client.predict(ROWS)


@pytest.mark.parametrize(
    "answer", [b"<html>Grafana</html>", b"[]", b"{}", b"null", b'{"predictions": [1.5, null], "model_version": "7"}']
)
def test_an_answer_of_another_kind_is_a_disagreement(peer: Peer, client: PredictionClient, answer: bytes) -> None:
    peer.says(answer)
    with pytest.raises(ContractError, match=peer.url):
        client.predict(ROWS)
    with pytest.raises(ContractError, match=peer.url):
        client.check()


def test_a_model_of_these_features_passes_the_check(peer: Peer, client: PredictionClient) -> None:
    says = {"data_source": "uci", "data_hash": "abc", "scores": {"validation": {"rmse": 0.3}}}
    peer.says({"features_hash": features.manifest()["hash"], "model_version": "7", **says})
    assert client.check() == Served("7", "uci", "abc", 0.3)
    assert peer.asked == [("GET", "/version", b"")]


def test_a_model_of_other_features_is_a_disagreement(peer: Peer, client: PredictionClient) -> None:
    says = {"data_source": "uci", "data_hash": "abc", "scores": {}}
    peer.says({"features_hash": "0123456789abcdef", "model_version": "7", **says})
    with pytest.raises(ContractError, match=r"version 7, fitted on features 0123456789ab.*run both from the same release"):
        client.check()
