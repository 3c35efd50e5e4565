"""A broker with TLS, passwords and access rules: what works, and what every refusal says. One JVM for all of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient
from kafka.admin import ACLOperation, ResourceType, ScramMechanism, UserScramCredentialDeletion

from airquality.data import dataset
from airquality.ground.errors import Denied
from airquality.ground.settings import Settings
from airquality.stream import kafka_io, refusals
from airquality.stream.transactions import Message, Position, TransactionalStream, Written
from lab.certificates import Authority
from lab.kafka_installation import Installation
from lab.ports import free_port
from lab.secured_kafka import STRANGER, USER, SecuredBroker
from lab.waiting import PATIENCE_SECONDS, wait_until
from tests.broker_topics import owned
from tests.system import PROJECT, System

pytestmark = pytest.mark.broker

NO_SASL = {"KAFKA_SASL_MECHANISM": "", "KAFKA_SASL_USERNAME": "", "KAFKA_SASL_PASSWORD_FILE": ""}


@pytest.fixture(scope="module")
def secured(installation: Installation) -> Iterator[SecuredBroker]:
    with SecuredBroker(installation) as broker:
        broker.start()
        yield broker


def settings_of(environment: dict[str, str], **more: Any) -> Settings:
    named: dict[str, Any] = {name.lower(): value for name, value in environment.items() if value}
    return Settings(**named, **more)


def variant(secured: SecuredBroker, listener: str, **changes: str) -> Settings:
    """Settings of the broker's user for one of its listeners, with changes."""
    environment = {**secured.environment_of(USER), "KAFKA_BOOTSTRAP_SERVERS": secured.servers[listener], **changes}
    return settings_of(environment)


@pytest.mark.parametrize(
    ("listener", "changes"),
    [
        ("SASL", {}),
        ("SASL", {"KAFKA_SASL_MECHANISM": "SCRAM-SHA-256"}),
        ("SASL", {"KAFKA_SASL_MECHANISM": "PLAIN"}),
        ("CLEAR", {"KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT", "KAFKA_SSL_CAFILE": ""}),
        ("MTLS", {}),
    ],
    ids=["scram 512", "scram 256", "plain", "without TLS", "client certificate"],
)
def test_record_sent_with_each_kind_of_proof_is_read_back(
    secured: SecuredBroker, listener: str, changes: dict[str, str]
) -> None:
    if listener == "MTLS":
        changes = by_certificate(secured.authority.issue(USER))
    settings = variant(secured, listener, TOPIC_PREFIX=f"{listener}-{len(str(changes))}.", **changes)
    kafka_io.ensure_topics(settings)
    with closing(kafka_io.idempotent_producer(settings)) as producer:
        producer.send(settings.raw_topic, key=b"roof", value=b"row", partition=0).get(timeout=PATIENCE_SECONDS)
    assert [record.value for record in kafka_io.read(settings, settings.raw_topic, 0)] == [b"row"]


def wrong_password(secured: SecuredBroker) -> dict[str, str]:
    file = secured.secrets / "wrong"
    file.write_text("not-the-password")
    return {"KAFKA_SASL_PASSWORD_FILE": str(file)}


def other_authority(secured: SecuredBroker) -> dict[str, str]:
    return {"KAFKA_SSL_CAFILE": str(Authority(secured.secrets / "other").cafile)}


def by_address(secured: SecuredBroker) -> dict[str, str]:
    return {"KAFKA_BOOTSTRAP_SERVERS": secured.bootstrap_servers.replace("localhost", "127.0.0.1")}


def by_certificate(files: tuple[Path, Path]) -> dict[str, str]:
    certificate, key = map(str, files)
    return {"KAFKA_SECURITY_PROTOCOL": "SSL", **NO_SASL, "KAFKA_SSL_CERTFILE": certificate, "KAFKA_SSL_KEYFILE": key}


def expired_certificate(secured: SecuredBroker) -> dict[str, str]:
    return by_certificate(secured.authority.issue("old", valid=timedelta(days=-1)))


def foreign_certificate(secured: SecuredBroker) -> dict[str, str]:
    return by_certificate(Authority(secured.secrets / "foreign").issue(USER))


def always(**changes: str) -> Callable[[SecuredBroker], dict[str, str]]:
    return lambda _: changes


@pytest.mark.parametrize(
    ("listener", "changes", "message"),
    [
        ("SASL", wrong_password, "does not take the password of user air-quality .*KAFKA_SASL_PASSWORD"),
        ("SASL", always(KAFKA_SASL_USERNAME="nobody"), "does not take the password of user nobody"),
        ("SASL", other_authority, "of no authority that is trusted here .*KAFKA_SSL_CAFILE"),
        ("SASL", always(KAFKA_SSL_CAFILE=""), "of no authority that is trusted here .*KAFKA_SSL_CAFILE"),
        ("SASL", by_address, "is for another host name"),
        ("EXPIRED", always(), "has expired"),
        ("CLEAR", always(), "does not speak TLS, .*set it to SASL_PLAINTEXT"),
        (
            "SASL",
            always(KAFKA_SECURITY_PROTOCOL="PLAINTEXT", KAFKA_SSL_CAFILE="", **NO_SASL),
            "speaks TLS, but KAFKA_SECURITY_PROTOCOL=PLAINTEXT does not",
        ),
        (
            "SASL",
            always(KAFKA_SECURITY_PROTOCOL="SSL", **NO_SASL),
            r"asks for a user name and a password \(.*SCRAM-SHA-512.*set it to SASL_SSL",
        ),
        (
            "CLEAR",
            always(KAFKA_SECURITY_PROTOCOL="PLAINTEXT", KAFKA_SSL_CAFILE="", **NO_SASL),
            "asks for a user name and a password .*set it to SASL_PLAINTEXT",
        ),
        ("MTLS", always(KAFKA_SECURITY_PROTOCOL="SSL", **NO_SASL), "asks for a client certificate: set KAFKA_SSL_CERTFILE"),
        ("MTLS", expired_certificate, "refuses the certificate KAFKA_SSL_CERTFILE=.*old.pem"),
        ("MTLS", foreign_certificate, "refuses the certificate KAFKA_SSL_CERTFILE=.*air-quality.pem"),
    ],
)
def test_refusal_is_one_sentence_that_says_what_to_set(
    secured: SecuredBroker, listener: str, changes: Callable[[SecuredBroker], dict[str, str]], message: str
) -> None:
    sentence = refusals.refusal(variant(secured, listener, **changes(secured)))
    assert sentence is not None
    assert "\n" not in sentence
    assert re.search(message, sentence), sentence


def test_refusal_by_a_broker_that_answers_is_none(secured: SecuredBroker) -> None:
    assert refusals.refusal(variant(secured, "SASL")) is None


def test_refusal_without_security_of_a_broker_that_asks_for_none_names_the_protocol(secured: SecuredBroker) -> None:
    changes = {"KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT", "KAFKA_SSL_CAFILE": ""}
    settings = variant(secured, "SASL", **{**changes, "KAFKA_BOOTSTRAP_SERVERS": secured.administration})
    assert "asks nobody for a password: set KAFKA_SECURITY_PROTOCOL=PLAINTEXT" in str(refusals.refusal(settings))


#: The consumer without a reference to judge by, which a checkout need not have: it gets no row here.
CONSUMER = [
    "-c",
    """
import contextlib, sys, consumer
from monitoring_service import MonitoringService
class Off(contextlib.nullcontext):
    def __enter__(self):
        return self
    def __getattr__(self, name):
        return lambda *_: None
MonitoringService.open = lambda *_: Off()
sys.exit(consumer.main([]))
""",
]
PROGRAMS = {
    "consumer": CONSUMER,
    "producer": ["producer.py", "--csv", "rows.csv", "--any-step", "--station-id", "roof"],
    "topics": ["-m", "airquality", "topics"],
    "check": ["-m", "airquality", "topics", "--check"],
    "events": ["-m", "airquality", "events", "tail"],
    "dlq": ["-m", "airquality", "dlq", "list"],
    "repartition": ["-m", "airquality", "repartition", "--dry-run"],
}


def test_every_program_with_a_wrong_password_says_so_and_exits_1(secured: SecuredBroker, tmp_path: Path) -> None:
    frame = dataset.simulate().rows(0, 3)
    dataset.write_stream_csv(frame, tmp_path / "rows.csv")
    environment = {**os.environ, **secured.environment, **wrong_password(secured), "CONSUMER_METRICS_PORT": "0"}
    running = {
        name: subprocess.Popen(
            [sys.executable, *(str(tmp_path / part) if part == "rows.csv" else part for part in program)],
            cwd=PROJECT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name, program in PROGRAMS.items()
    }
    for name, process in running.items():
        said, _ = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 1, (name, said)
        assert "does not take the password of user air-quality" in said, name
        assert "Traceback" not in said, name


class Stranger:
    """A user who may do nothing, and is allowed one thing after the other under a prefix of the test's own."""

    def __init__(self, secured: SecuredBroker, prefix: str) -> None:
        self._secured = secured
        self.prefix = prefix
        self.settings = settings_of(secured.environment_of(STRANGER), topic_prefix=prefix)
        self.owner = settings_of(secured.environment_of(USER), topic_prefix=prefix)

    def allow(self, kind: ResourceType, name: str, *operations: ACLOperation, prefixed: bool = False) -> None:
        self._secured.allow(STRANGER, kind, name, *operations, prefixed=prefixed)

    def deny(self, kind: ResourceType, name: str, *operations: ACLOperation) -> None:
        self._secured.deny(STRANGER, kind, name, *operations)

    def denied(self, action: Callable[[], object]) -> str:
        with pytest.raises(Denied) as caught:
            action()
        assert f"denies user {STRANGER} " in str(caught.value)
        return str(caught.value).partition(f"denies user {STRANGER} ")[2]

    def commit(self) -> Written:
        with closing(TransactionalStream(self.settings)) as stream:
            return self.commit_on(stream)

    def commit_on(self, stream: TransactionalStream) -> Written:
        messages = [Message(topic, 0, b"roof", b"x") for topic in (self.settings.pred_topic, self.settings.state_topic)]
        return stream.commit(messages, {0: Position(0, "")}, owned(stream, 3))

    def send(self) -> None:
        with (
            kafka_io.kafka_errors_as_unavailable(self.settings, "WRITE"),
            closing(kafka_io.idempotent_producer(self.settings)) as producer,
        ):
            producer.send(self.settings.raw_topic, key=b"roof", value=b"row").get(timeout=PATIENCE_SECONDS)


TOPIC, GROUP, TRANSACTION = ResourceType.TOPIC, ResourceType.GROUP, ResourceType.TRANSACTIONAL_ID


def test_missing_right_names_resource_and_operation_one_after_the_other(secured: SecuredBroker) -> None:
    one = Stranger(secured, "acl.")
    names = kafka_io.topic_names(one.settings)
    assert one.denied(lambda: kafka_io.ensure_topics(one.settings)).startswith("DESCRIBE on topics acl.air_quality.raw, ")
    one.allow(TOPIC, "acl.", ACLOperation.DESCRIBE, prefixed=True)
    message = one.denied(lambda: kafka_io.ensure_topics(one.settings))
    assert message.startswith("CREATE on topics acl.air_quality.raw, ")
    assert "--create --topic acl.air_quality.state --partitions 3 --config message" in message
    assert "cleanup.policy=compact" in message
    kafka_io.ensure_topics(one.owner)
    kafka_io.ensure_topics(one.settings)  # what is there need not be made
    assert one.denied(one.commit).startswith("WRITE on transactional ids that begin with acl.air-quality-consumer-")
    one.allow(TRANSACTION, "acl.", ACLOperation.WRITE, prefixed=True)
    assert one.denied(one.commit).startswith("READ on group acl.air-quality-consumer:")
    one.allow(GROUP, "acl.", ACLOperation.READ, prefixed=True)
    assert one.denied(one.commit).startswith("WRITE on topic acl.air_quality.pred:")
    one.allow(TOPIC, names["pred"], ACLOperation.WRITE)
    one.allow(TOPIC, names["state"], ACLOperation.WRITE)
    one.allow(TOPIC, names["raw"], ACLOperation.READ)
    assert len(one.commit()) == 2
    assert one.denied(one.send).startswith("WRITE on topic acl.air_quality.raw:")
    read = lambda: list(kafka_io.read(one.settings, names["pred"], 0))  # noqa: E731
    assert one.denied(read).startswith("READ on topic acl.air_quality.pred:")


def test_right_taken_away_from_a_running_consumer_is_named(secured: SecuredBroker) -> None:
    one = Stranger(secured, "gone.")
    kafka_io.ensure_topics(one.owner)
    one.allow(TOPIC, "gone.", ACLOperation.READ, ACLOperation.WRITE, prefixed=True)
    one.allow(GROUP, "gone.", ACLOperation.READ, prefixed=True)
    one.allow(TRANSACTION, "gone.", ACLOperation.WRITE, prefixed=True)
    with closing(TransactionalStream(one.settings)) as stream:
        for partition in owned(stream, 3).partitions:
            stream.start(partition, 0)
        one.deny(GROUP, one.settings.consumer_group, ACLOperation.READ)
        message = one.denied(lambda: wait_until(lambda: not one.commit_on(stream), "the group is denied"))
        assert message.startswith("READ on group gone.air-quality-consumer:")


def test_right_to_read_taken_away_while_polling_is_named(secured: SecuredBroker) -> None:
    one = Stranger(secured, "poll.")
    kafka_io.ensure_topics(one.owner)
    one.allow(TOPIC, "poll.", ACLOperation.READ, ACLOperation.WRITE, prefixed=True)
    one.allow(GROUP, "poll.", ACLOperation.READ, prefixed=True)
    one.allow(TRANSACTION, "poll.", ACLOperation.WRITE, prefixed=True)
    with closing(TransactionalStream(one.settings)) as stream:
        for partition in owned(stream, 3).partitions:
            stream.start(partition, 0)
        one.deny(TOPIC, one.settings.raw_topic, ACLOperation.READ)

        def polled() -> bool:
            stream.poll(0.2, 10)
            return False

        message = one.denied(lambda: wait_until(polled, "the topic is denied"))
        assert message.startswith("READ on topic poll.air_quality.raw:")


def test_running_consumer_whose_password_was_changed_says_so_and_exits_1(secured: SecuredBroker, tmp_path: Path) -> None:
    one = Stranger(secured, "later.")
    kafka_io.ensure_topics(one.owner)
    for kind, operations in ((TOPIC, (ACLOperation.READ, ACLOperation.WRITE)), (GROUP, (ACLOperation.READ,))):
        one.allow(kind, "later.", *operations, prefixed=True)
    one.allow(TRANSACTION, "later.", ACLOperation.WRITE, prefixed=True)
    more = {"TOPIC_PREFIX": "later.", "CONSUMER_METRICS_PORT": "0", "API_URL": f"http://127.0.0.1:{free_port()}"}
    made = System(tmp_path, {**os.environ, **secured.environment_of(STRANGER), **more})
    try:
        consumer = made.start("consumer", *CONSUMER)
        wait_until(lambda: "no row is lost, trying again" in made.log("consumer"), "the consumer waits for the service")
        with closing(KafkaAdminClient(bootstrap_servers=secured.administration)) as admin:
            admin.alter_user_scram_credentials(
                [UserScramCredentialDeletion(STRANGER, mechanism) for mechanism in (ScramMechanism.SCRAM_SHA_512,)]
            )
        secured.kill()
        secured.start()
        wait_until(lambda: consumer.poll() is not None, "the consumer ends")
    finally:
        made.stop()
    assert consumer.poll() == 1, made.log("consumer")[-2000:]
    assert "does not take the password of user stranger (SCRAM-SHA-512" in made.log("consumer")
