"""The connection to the prediction service: silence, trickles, proxies, credentials."""

from __future__ import annotations

import gzip
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing

import pytest
from pydantic import SecretStr

from airquality.ground.errors import Unavailable
from airquality.model import features
from airquality.model.client import PredictionClient
from airquality.model.transport import MAX_ANSWER_BYTES, Transport
from lab.ports import free_port
from tests.peer import ORIGIN, ROWS, Peer
from tests.simulated_kafka import rows_of

#: What a served model says of where it comes from.


@pytest.fixture
def client(peer: Peer) -> Iterator[PredictionClient]:
    with closing(Transport(peer.url, 20.0)) as transport:
        yield PredictionClient(transport)


@pytest.fixture
def impatient(peer: Peer) -> Iterator[PredictionClient]:
    with closing(Transport(peer.url, 0.3)) as transport:
        yield PredictionClient(transport)
    peer.released.set()


def test_begin_without_a_service_returns_and_waiting_raises_unavailable() -> None:
    with closing(Transport(f"http://127.0.0.1:{free_port()}", 20.0)) as transport:
        awaited = PredictionClient(transport).begin(rows_of(ROWS))
        with pytest.raises(Unavailable, match="does not answer"):
            awaited()


def test_a_silent_service_is_worth_waiting_for(peer: Peer, impatient: PredictionClient) -> None:
    peer.silent = True
    with pytest.raises(Unavailable, match=r"does not answer: (ReadTimeout|no whole answer within 0.3 s)"):
        impatient.predict(rows_of(ROWS))


@pytest.mark.parametrize("part", ["head", "body"])
def test_ask_a_service_that_trickles_is_cut_off_at_the_deadline(peer: Peer, impatient: PredictionClient, part: str) -> None:
    peer.trickles = part
    with pytest.raises(Unavailable, match=r"no whole answer within 0.3 s"):
        impatient.check()


@pytest.mark.parametrize("lying", [False, True])
def test_ask_an_answer_without_end_is_given_up(peer: Peer, client: PredictionClient, lying: bool) -> None:
    peer.says(b"[" + b"0," * MAX_ANSWER_BYTES)
    peer.claimed = 10**12 if lying else None
    with pytest.raises(Unavailable, match=f"answers more than {MAX_ANSWER_BYTES} bytes"):
        client.check()


def test_ask_a_compressed_answer_is_not_inflated(peer: Peer, client: PredictionClient) -> None:
    peer.says(gzip.compress(b"0" * 100_000_000))
    peer.encoding = "gzip"
    with pytest.raises(Unavailable, match="as no prediction service does"):
        client.check()
    assert "identity" in peer.accepted


def test_ask_after_an_answer_that_was_cut_goes_on(peer: Peer) -> None:
    with closing(Transport(peer.url, 2.0)) as transport:
        peer.trickles = "body"
        with pytest.raises(Unavailable):
            transport.ask("GET", "/version")
        peer.trickles = ""
        peer.says({})
        assert transport.ask("GET", "/version").content == b"{}"
    peer.released.set()


def test_an_absent_service_is_worth_waiting_for() -> None:
    transport = Transport(f"http://127.0.0.1:{free_port()}", 20.0)
    with closing(transport), pytest.raises(Unavailable, match="does not answer: ConnectionError"):
        PredictionClient(transport).check()


def test_ask_loopback_is_never_proxied(peer: Peer, client: PredictionClient, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    peer.says({"features_hash": features.manifest()["hash"], "model_version": "7", **ORIGIN})
    client.check()


def test_ask_a_proxy_in_the_way_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    transport = Transport("http://api.invalid:8000", 20.0)
    wanted = r"proxy in http_proxy; NO_PROXY=api.invalid goes around it"
    with closing(transport), pytest.raises(Unavailable, match=wanted):
        PredictionClient(transport).check()


def test_ask_credentials_are_sent_and_never_shown(peer: Peer) -> None:
    peer.says({}, 401)
    transport = Transport(peer.url.replace("//", "//ann:secret@"), 20.0)
    with closing(transport), pytest.raises(Unavailable) as caught:
        PredictionClient(transport).check()
    assert "secret" not in str(caught.value)
    assert peer.authorization == "Basic " + b64encode(b"ann:secret").decode()


def test_ask_key_is_sent_and_never_shown(peer: Peer) -> None:
    peer.says({}, 401)
    transport = Transport(peer.url, 20.0, SecretStr("k3y"))
    with closing(transport), pytest.raises(Unavailable, match="set API_KEY") as caught:
        PredictionClient(transport).check()
    assert (peer.key, "k3y" in str(caught.value)) == ("k3y", False)
