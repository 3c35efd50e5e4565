"""The Kafka client's lines, as seen while a broker restarted and while a transaction was open, and what is said of them."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import pytest

from airquality.ground.kafka_log import AGAIN_SECONDS, OUTAGE_SECONDS, KafkaLines
from tests.worker_rig import Clock

NODE = "<KafkaConnection node_id=1 broker_version=(4, 1) (disconnected)>"
#: What the client wrote in each second of a restart.
OUTAGE = (
    "No node available for metadata refresh - backoff/retry",
    "Connection failed: KafkaConnectionError: 111 ECONNREFUSED",
    f"{NODE}: Connection lost: KafkaConnectionError: 111 ECONNREFUSED",
    "Error sending FindCoordinatorRequest to node 1 [KafkaConnectionError: 111 ECONNREFUSED]",
    "Metadata refresh: failed KafkaConnectionError: 111 ECONNREFUSED",
    "Marking the coordinator dead (node coordinator-1) for group p: KafkaConnectionError: 111 ECONNREFUSED.",
    "<KafkaTCPTransport [127.0.0.1:54309<-50740]>: socket disconnected",
    "<KafkaTCPTransport [127.0.0.1:54309<-50740]>: Abort (KafkaConnectionError: socket disconnected)",
)
#: What it wrote where no broker was there from the start, before its error was logged by ours.
ABSENT_FROM_THE_START = (
    "Bootstrap bootstrap-0 not ready; waiting 0.10 secs",
    "Bootstrap failed: KafkaTimeoutError: Unable to bootstrap from ['127.0.0.1:39441']",
)
OPEN_TRANSACTION = (
    "Unknown error fetching offsets for TopicPartition(topic='raw', partition=0): <class 'UnstableOffsetCommitError'>",
)
ABSENT = "Kafka does not answer; no row is lost"
WAITING = "waiting for a transaction to end; no row is lost"


@pytest.fixture
def lines(clock: Clock) -> KafkaLines:
    return KafkaLines(clock)


def said(lines: KafkaLines, texts: Iterable[str], name: str = "kafka.net.manager") -> list[str]:
    """Return what is written of these messages."""
    records = [logging.LogRecord(name, logging.ERROR, "", 0, "%s", (text,), None) for text in texts]
    return [record.getMessage() for record in records if lines.filter(record)]


def during(lines: KafkaLines, clock: Clock, texts: Iterable[str], seconds: int) -> list[str]:
    found = []
    for _ in range(seconds):
        found += said(lines, texts)
        clock.now += 1.0
    return found


@pytest.mark.parametrize("text", OUTAGE)
def test_filter_an_outage_of_22_seconds_is_one_line(lines: KafkaLines, clock: Clock, text: str) -> None:
    assert during(lines, clock, OUTAGE, 22) == [ABSENT]
    assert said(lines, [text]) == []


def test_filter_an_outage_that_lasts_is_said_again_now_and_then(lines: KafkaLines, clock: Clock) -> None:
    n_minutes = 5
    assert during(lines, clock, OUTAGE, n_minutes * int(AGAIN_SECONDS)) == [ABSENT] * n_minutes


@pytest.mark.parametrize("burst", [OUTAGE, ABSENT_FROM_THE_START])
def test_filter_a_burst_that_is_soon_over_is_no_news(lines: KafkaLines, clock: Clock, burst: tuple[str, ...]) -> None:
    for _ in range(3):
        assert during(lines, clock, burst, int(OUTAGE_SECONDS)) == []
        clock.now += 600.0


def test_filter_a_second_outage_is_said_again(lines: KafkaLines, clock: Clock) -> None:
    for _ in range(2):
        assert during(lines, clock, OUTAGE, 10) == [ABSENT]
        clock.now += 20.0


def test_filter_waiting_for_a_transaction_is_said_at_once_and_once(lines: KafkaLines, clock: Clock) -> None:
    assert said(lines, OPEN_TRANSACTION * 101) == [WAITING]
    assert during(lines, clock, OPEN_TRANSACTION, 20) == []


def test_filter_other_lines_of_the_client_pass_once_a_minute(lines: KafkaLines, clock: Clock) -> None:
    record = ("kafka.consumer.fetcher", "Not authorized to read from topic %s")
    odd = [logging.LogRecord(record[0], logging.WARNING, "", 0, record[1], (topic,), None) for topic in "abc"]
    assert [lines.filter(one) for one in odd] == [True, False, False]
    clock.now += AGAIN_SECONDS
    assert lines.filter(odd[0])


def test_filter_the_client_s_remarks_on_a_busy_process_are_no_news(lines: KafkaLines) -> None:
    assert said(lines, ["Task <Task at 0x7f> ran for 0.127s (>0.100s threshold). It is blocking the event loop"]) == []


@pytest.mark.parametrize("name", ["consumer", "kafkaesque", "airquality.stream.kafka_io", "urllib3.connectionpool"])
def test_filter_lines_of_others_pass_unchanged(lines: KafkaLines, name: str) -> None:
    assert said(lines, OUTAGE * 2, name) == list(OUTAGE * 2)
