"""A broker of our own: what it refuses before it starts, what outlives its JVM, and what its end leaves behind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

from airquality.ground.errors import Unavailable, UsageError
from lab import embedded_kafka
from lab.kafka_installation import Installation
from lab.kafka_node import RealBroker
from lab.secured_kafka import SecuredBroker
from lab.waiting import PATIENCE_SECONDS, wait_until
from tests.system import is_running

pytestmark = pytest.mark.usefixtures("no_broker_named")


def test_secured_broker_on_a_port_that_is_taken_is_wrong_usage(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        broker = SecuredBroker(Installation("/nowhere/java", tmp_path), tmp_path / "data", port)
        with pytest.raises(UsageError, match=rf"port {port} of 127\.0\.0\.1 is taken"):
            broker.start()


@pytest.fixture(scope="module")
def kafka(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealBroker]:
    """A running broker on a data directory whose name is hard to quote; tests leave it running."""
    with RealBroker(installation, tmp_path_factory.mktemp("da ta,ü")) as broker:
        broker.start()
        yield broker


def create_topic(broker: RealBroker, topic: str) -> None:
    with contextlib.closing(KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)) as admin:
        admin.create_topics([NewTopic(topic, 1, 1)])


def produce(broker: RealBroker, topic: str, value: bytes, *, commit: bool = True) -> None:
    with contextlib.closing(KafkaProducer(bootstrap_servers=broker.bootstrap_servers, transactional_id=topic)) as producer:
        producer.init_transactions()
        producer.begin_transaction()
        producer.send(topic, value).get(timeout=PATIENCE_SECONDS)
        if commit:
            producer.commit_transaction()
        else:
            producer.abort_transaction()


def committed(broker: RealBroker, topic: str) -> list[bytes]:
    """Everything committed to the one partition of a topic."""
    partition = TopicPartition(topic, 0)
    values = []
    with contextlib.closing(
        KafkaConsumer(bootstrap_servers=broker.bootstrap_servers, group_id=None, isolation_level="read_committed")
    ) as consumer:
        consumer.assign([partition])
        consumer.seek_to_beginning(partition)
        end = consumer.end_offsets([partition])[partition]
        while consumer.position(partition) < end:
            values += [record.value for records in consumer.poll(1_000).values() for record in records]
    return values


@pytest.mark.broker
def test_only_committed_transactions_are_read(kafka: RealBroker) -> None:
    create_topic(kafka, "transactions")
    produce(kafka, "transactions", b"committed")
    produce(kafka, "transactions", b"aborted", commit=False)
    produce(kafka, "transactions", b"committed too")
    assert committed(kafka, "transactions") == [b"committed", b"committed too"]


@pytest.mark.broker
@pytest.mark.parametrize("end", [RealBroker.stop, RealBroker.kill], ids=["stop", "kill"])
def test_committed_records_outlive_the_jvm(kafka: RealBroker, end: Callable[[RealBroker], None]) -> None:
    topic, pid, servers = f"after-{end.__name__}", kafka.pid, kafka.bootstrap_servers
    assert pid is not None
    create_topic(kafka, topic)
    produce(kafka, topic, b"before")
    end(kafka)
    assert not is_running(pid)
    assert (kafka.data_dir / "topics" / ".kafka_cleanshutdown").exists() == (end is RealBroker.stop)
    kafka.start()
    produce(kafka, topic, b"after")
    assert (kafka.bootstrap_servers, committed(kafka, topic)) == (servers, [b"before", b"after"])


@pytest.mark.broker
def test_a_jvm_that_died_by_itself_is_noticed_and_can_be_started_again(kafka: RealBroker) -> None:
    pid = kafka.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(Unavailable, match="ended with status -9"):
        kafka.wait()
    kafka.start()
    assert kafka.pid not in (None, pid)


@pytest.mark.broker
def test_a_second_broker_on_the_same_data_is_refused_before_it_harms_the_first(kafka: RealBroker) -> None:
    configuration = (kafka.data_dir / "server.properties").read_text()
    with RealBroker(kafka.installation, kafka.data_dir) as second, pytest.raises(UsageError, match="a running Kafka uses"):
        second.start()
    assert (kafka.data_dir / "server.properties").read_text() == configuration


@pytest.mark.broker
def test_a_failed_start_shows_the_end_of_the_log(installation: Installation, tmp_path: Path) -> None:
    (tmp_path / "topics").mkdir()
    (tmp_path / "topics" / "meta.properties").write_text("version=1\ncluster.id=somebody-elses\nnode.id=7\n")
    with RealBroker(installation, tmp_path) as broker:
        with pytest.raises(Unavailable, match=r"ended with status 1\.(.|\n)*Stored node id 7"):
            broker.start()
        assert broker.pid is None


@pytest.mark.broker
def test_close_leaves_neither_jvm_nor_temporary_data(installation: Installation) -> None:
    broker = embedded_kafka.start("real")
    assert isinstance(broker, RealBroker)
    pid = broker.pid
    assert pid is not None
    assert is_running(pid)
    assert os.getsid(pid) != os.getsid(0), "the terminal's Ctrl-C would reach the JVM"
    assert broker.data_dir.is_dir()
    broker.close()
    broker.close()
    assert not is_running(pid)
    assert not broker.data_dir.exists()


PARENT = """
import sys, threading
from lab import embedded_kafka
broker = embedded_kafka.start("real")
print(broker.pid, broker.data_dir, flush=True)
threading.Event().wait()
"""


@pytest.mark.broker
def test_a_killed_parent_leaves_neither_jvm_nor_temporary_data(installation: Installation) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid, data_dir = parent.stdout.readline().split()
        assert is_running(int(pid))
        parent.kill()
    wait_until(lambda: not is_running(int(pid)), "the JVM ended")
    wait_until(lambda: not Path(data_dir).exists(), "the data directory was removed")


def nothing_installed() -> Installation:
    return Installation("/no/such/java", Path("/no/such/jars"))


def test_a_taken_port_is_said_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with (
            RealBroker(nothing_installed(), tmp_path, port) as broker,
            pytest.raises(UsageError, match=f"port {port} .* taken"),
        ):
            broker.start()
    assert not list(tmp_path.iterdir())


def test_a_data_directory_that_cannot_be_used_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with RealBroker(nothing_installed(), tmp_path / "file") as broker, pytest.raises(UsageError, match="cannot be used"):
        broker.start()
