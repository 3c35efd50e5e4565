"""What strangers send to the running service: each gets a clear answer, and the service goes on."""

from __future__ import annotations

import gzip
import socket
from collections.abc import Iterator

import numpy as np
import orjson
import pytest

from airquality.ground.settings import Settings
from airquality.model import features, rows
from airquality.serving import connections
from lab.waiting import PATIENCE_SECONDS
from tests.api_requests import NAMES_LINE
from tests.api_server import Client, running_artifacts

ROW = orjson.dumps({"features": dict.fromkeys(features.NAMES, 0.5)})
MATRIX = np.full((3, len(features.NAMES)), 1.5)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with running_artifacts(Settings()) as made:
        yield made


def exchange(client: Client, sent: bytes) -> bytes:
    """Send bytes on a connection of their own and return all that is answered before it ends."""
    with socket.create_connection(("127.0.0.1", int(client.url.rpartition(":")[2])), timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(sent)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    return answer


def request(path: str, body: bytes, *headers: str) -> bytes:
    head = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


@pytest.mark.parametrize("body", [gzip.compress(ROW), ROW], ids=["compressed", "only said to be"])
def test_predict_compressed_body_is_415_and_says_what_to_do(client: Client, body: bytes) -> None:
    answer = client.post("/predict", body, {"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.headers["content-type"]) == (415, "application/problem+json")
    assert "send it uncompressed" in answer.json()["detail"]
    assert client.post("/predict", ROW, {"Content-Encoding": "identity"}).status_code == 200


@pytest.mark.parametrize("kind", [">f8", "<i8", ">i8"])
def test_predict_batch_binary_values_of_another_kind_are_refused(client: Client, kind: str) -> None:
    body = NAMES_LINE + np.ones_like(MATRIX).astype(kind).tobytes()
    answer = client.post("/predict/batch", body, {"Content-Type": rows.MEDIA_TYPE})
    assert (answer.status_code, "big-endian" in answer.text) == (422, True), answer.text


@pytest.mark.parametrize("media_type", [rows.MEDIA_TYPE.upper(), f"{rows.MEDIA_TYPE}; v=1"])
def test_predict_batch_binary_media_type_is_read_as_http_has_it(client: Client, media_type: str) -> None:
    sent = rows.encode_rows(features.NAMES, MATRIX)
    answer = client.post("/predict/batch", sent, {"Content-Type": media_type, "Accept": media_type})
    assert answer.headers["content-type"] == rows.MEDIA_TYPE
    assert len(rows.decode(answer.content)[1]) == 3


def test_predict_batch_binary_answer_and_refusal_name_the_request(client: Client) -> None:
    for sent, status in ((rows.encode_rows(features.NAMES, MATRIX), 200), (NAMES_LINE + b"\0" * 7, 422)):
        answer = client.post("/predict/batch", sent, {"Content-Type": rows.MEDIA_TYPE})
        assert (answer.status_code, answer.json()[rows.ANSWERED]) == (status, rows.checksum(sent))


def test_predict_batch_binary_under_another_type_says_which_is_needed(client: Client) -> None:
    answer = client.post("/predict/batch", rows.encode_rows(features.NAMES, MATRIX), {"Content-Type": "application/json"})
    assert (answer.status_code, f"Content-Type: {rows.MEDIA_TYPE}" in answer.json()["detail"]) == (422, True)


def test_predict_upgrade_of_http_loses_its_body_and_is_told_so(client: Client) -> None:
    answer = exchange(client, request("/predict", ROW, "Upgrade: h2c", "Connection: Upgrade"))
    assert answer.startswith(b"HTTP/1.1 422 ") or answer.startswith(b"HTTP/1.1 200 ")  # h11 reads the body
    assert b"200" in answer.splitlines()[0] or b"--http1.1" in answer


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        request("/predict", ROW, "Content-Length: 3"),
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
    ids=["TLS", "HTTP/2", "two lengths", "no chunk"],
)
def test_connection_that_speaks_no_http_is_answered_in_the_shape_of_every_error(client: Client, sent: bytes) -> None:
    head, _, body = exchange(client, sent).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert "is it https" in orjson.loads(body)["detail"]


def test_connection_endless_head_is_refused_at_its_bound(client: Client) -> None:
    half = b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 2 * connections.MAX_HEAD_BYTES
    try:
        answer = exchange(client, half)
    except ConnectionResetError:  # it hangs up while we still send
        answer = b""
    assert answer == b"" or answer.split()[1] in (b"431", b"400")  # 400: h11's own bound
    assert client.get("/health").status_code == 200


def test_get_large_body_is_no_head(client: Client) -> None:
    body = b"x" * 3 * connections.MAX_HEAD_BYTES
    sent = b"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
    with socket.create_connection(("127.0.0.1", int(client.url.rpartition(":")[2])), timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(sent)
        first = connection.recv(65536)
        connection.sendall(body + b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        rest = connection.recv(65536)
    assert first.startswith(b"HTTP/1.1 200 ")
    assert rest.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(("path", "status"), [("/predictions", 404), ("/predict", 405)])
def test_call_that_does_not_exist_says_where_all_are_listed(client: Client, path: str, status: int) -> None:
    answer = client.get(path)
    assert (answer.status_code, "/docs lists every call" in answer.json()["detail"]) == (status, True)
