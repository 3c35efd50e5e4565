from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

from airquality.ground.errors import Unavailable, UsageError
from lab import embedded_kafka
from lab.broker import MockBroker
from lab.kafka_installation import KAFKA_VERSION, Installation, install, why_not_real
from lab.kafka_node import RealBroker
from lab.ports import free_port
from lab.secured_kafka import SecuredBroker
from lab.waiting import wait_until

JAVA_17 = "echo 'openjdk version \"17.0.1\" 2021-10-19' >&2"
JAVA_11 = "echo 'openjdk version \"11.0.2\" 2019-01-15' >&2"
ENVIRONMENT = ("KAFKA_BOOTSTRAP_SERVERS", "KAFKA_API_VERSION", "AIR_QUALITY_BROKER", "JAVA_HOME")

OnPath = Callable[..., Path]


@pytest.fixture(autouse=True)
def _no_broker_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty jar cache of this test's own."""
    monkeypatch.setenv("AIR_QUALITY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> OnPath:
    """Make the given shell scripts the only programs on the PATH, beside an empty cache."""

    def put(**scripts: str) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        for name, script in scripts.items():
            write_script(folder / name, script)
        monkeypatch.setenv("PATH", str(folder))
        return folder

    return put


def write_script(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def runs(pid: int) -> bool:
    """Whether a process runs; a zombie that init has not collected does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.startswith("Z")


def no_file_left(cache: Path) -> bool:
    return not cache.exists() or not list(cache.iterdir())


# --- the choice ---


def test_a_named_broker_is_used_and_nothing_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "kafka.example:9092")
    monkeypatch.setenv("KAFKA_API_VERSION", "2.3")
    with embedded_kafka.start() as broker:
        assert (broker.kind, broker.bootstrap_servers, broker.api_version) == ("external", "kafka.example:9092", "2.3")
        assert "KAFKA_BOOTSTRAP_SERVERS" in broker.description


@pytest.mark.parametrize(
    ("scripts", "reason"),
    [
        ({}, "no java on the PATH and no JAVA_HOME"),
        ({"java": JAVA_11}, "java is Java 11"),
        ({"java": "exit 1"}, "java does not run"),
        ({"java": JAVA_17}, "no Maven (mvn) on the PATH"),
        (
            {"java": JAVA_17, "mvn": "echo '[ERROR] Fetching x: Connect failed: refused -> [Help 1]'; exit 1"},
            "Connect failed: refused",
        ),
        ({"java": JAVA_17, "mvn": "echo JAVA_HOME is wrong >&2; exit 1"}, "JAVA_HOME is wrong"),
        ({"java": JAVA_17, "mvn": "exit 1"}, "it said nothing"),
    ],
    ids=["no java", "old java", "broken java", "no maven", "maven offline", "maven will not start", "maven says nothing"],
)
def test_the_mock_says_why_it_is_not_a_real_broker(
    on_path: OnPath, cache: Path, scripts: dict[str, str], reason: str
) -> None:
    on_path(**scripts)
    with embedded_kafka.start() as broker:
        assert (broker.kind, broker.api_version) == ("mock", "2.3")
        assert reason in broker.description
        assert "cannot resume" in broker.description
        assert len(broker.description.splitlines()) == 1
    assert no_file_left(cache)


def test_an_empty_variable_names_no_broker(on_path: OnPath, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path()
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "")
    monkeypatch.setenv("AIR_QUALITY_BROKER", "")
    with embedded_kafka.start() as broker:
        assert broker.kind == "mock"


def test_forcing_real_where_it_cannot_be_had_is_an_error(on_path: OnPath, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path()
    with pytest.raises(Unavailable, match="asked for and cannot be had: no Java 17"):
        embedded_kafka.start("real")
    monkeypatch.setenv("AIR_QUALITY_BROKER", "real")
    with pytest.raises(Unavailable, match="asked for and cannot be had: no Java 17"):
        embedded_kafka.start()


def test_a_forced_kind_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "kafka.example:9092")
    monkeypatch.setenv("AIR_QUALITY_BROKER", "real")
    with embedded_kafka.start("mock") as broker:
        assert broker.kind == "mock"


def test_an_unknown_kind_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIR_QUALITY_BROKER", "rael")
    with pytest.raises(UsageError, match="real, mock, secured or three, not 'rael'"):
        embedded_kafka.start()


# --- finding Java and collecting the jars ---


def test_cached_jars_need_no_maven(on_path: OnPath, cache: Path) -> None:
    on_path(java=JAVA_17)
    (cache / f"kafka-{KAFKA_VERSION}").mkdir(parents=True)
    assert why_not_real() is None


def test_java_home_comes_first_and_the_path_still_counts(
    on_path: OnPath, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cache / f"kafka-{KAFKA_VERSION}").mkdir(parents=True)
    folder = on_path(java=JAVA_17)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    write_script(tmp_path / "home" / "bin" / "java", JAVA_11)
    assert install().java == str(folder / "java")
    write_script(tmp_path / "home" / "bin" / "java", JAVA_17)
    assert install().java == str(tmp_path / "home" / "bin" / "java")


def test_maven_runs_once_and_its_progress_is_shown(on_path: OnPath, cache: Path) -> None:
    downloads = "i=0; while [ $i -lt 120 ]; do i=$((i+1)); echo Downloaded from central: x; done"
    folder = on_path(java=JAVA_17, mvn=f"{downloads}; /bin/mkdir jars; : > jars/kafka.jar")
    said: list[str] = []
    installation = install(said.append)
    (folder / "mvn").unlink()
    assert install() == installation
    assert [jar.name for jar in installation.jars.iterdir()] == ["kafka.jar"]
    assert list(cache.iterdir()) == [installation.jars]
    assert said[1:] == ["... 50 files", "... 100 files"]


def test_jars_that_another_process_collected_meanwhile_are_used(on_path: OnPath, cache: Path) -> None:
    theirs = cache / f"kafka-{KAFKA_VERSION}"
    on_path(java=JAVA_17, mvn=f"/bin/mkdir jars '{theirs}'; : > jars/ours.jar; : > '{theirs}/theirs.jar'")
    assert [jar.name for jar in install().jars.iterdir()] == ["theirs.jar"]
    assert list(cache.iterdir()) == [theirs]


def test_a_cache_that_cannot_be_written_is_a_reason(on_path: OnPath, cache: Path) -> None:
    on_path(java=JAVA_17, mvn="exit 0")
    cache.write_text("a file where a directory should be")
    assert "AIR_QUALITY_CACHE moves it" in str(why_not_real())


# --- the mock ---


def test_the_mock_keeps_what_is_produced_until_it_is_closed() -> None:
    broker = MockBroker("a test")
    connection = {"bootstrap_servers": broker.bootstrap_servers, "api_version": (2, 3)}
    with contextlib.closing(KafkaProducer(**connection)) as producer:
        producer.send("readings", b"one").get(timeout=10)
    with contextlib.closing(KafkaConsumer(auto_offset_reset="earliest", **connection)) as consumer:
        consumer.topics()  # a subscription made while the first metadata are under way waits for the next, 5 minutes on
        consumer.subscribe(["readings"])
        found: list[bytes] = []
        deadline = time.monotonic() + 30
        while not found and time.monotonic() < deadline:
            found += [record.value for records in consumer.poll(1_000).values() for record in records]
        assert found == [b"one"]
    broker.close()
    broker.close()
    host, port = broker.bootstrap_servers.split(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), 5)


# --- the command line ---


def command_line(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "airquality", "broker", *arguments]


def test_help_teaches() -> None:
    text = subprocess.run(command_line("--help"), capture_output=True, text=True, check=True).stdout
    assert {"Java", "Maven", "AIR_QUALITY_BROKER=real|mock|secured|three", "--install-only"} <= set(
        text.replace(",", " ").split()
    )


def test_secured_broker_on_a_port_that_is_taken_is_wrong_usage(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        broker = SecuredBroker(Installation("/nowhere/java", tmp_path), tmp_path / "data", port)
        with pytest.raises(UsageError, match=rf"port {port} of 127\.0\.0\.1 is taken"):
            broker.start()


@pytest.mark.slow
def test_the_command_runs_the_mock_until_ctrl_c() -> None:
    with subprocess.Popen(command_line("--broker", "mock"), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().strip() for _ in range(4)]
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    assert lines[0].startswith("Broker: librdkafka mock cluster in this process (asked for)")
    assert lines[1].startswith("export KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:")
    assert lines[2] == "export KAFKA_API_VERSION=2.3"


@pytest.mark.slow
def test_the_command_fails_with_its_reason(on_path: OnPath) -> None:
    on_path()
    for arguments in (["--install-only"], ["--broker", "real"]):
        done = subprocess.run(command_line(*arguments), capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert "no java on the PATH" in done.stderr


@pytest.mark.slow
def test_the_command_starts_nothing_beside_a_named_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "kafka.example:9092")
    done = subprocess.run(command_line(), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "nothing to start: KAFKA_BOOTSTRAP_SERVERS=kafka.example:9092" in done.stderr


# --- the real broker ---


@pytest.fixture(scope="module")
def installation() -> Installation:
    """Java and Kafka's jars; without them a broker test is skipped, or fails where a broker was promised."""
    reason = why_not_real()
    if reason and os.environ.get("AIR_QUALITY_REQUIRE_BROKER") == "1":
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
    return install()


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
        producer.send(topic, value).get(timeout=30)
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
    assert not runs(pid)
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
    assert runs(pid)
    assert os.getsid(pid) != os.getsid(0), "the terminal's Ctrl-C would reach the JVM"
    assert broker.data_dir.is_dir()
    broker.close()
    broker.close()
    assert not runs(pid)
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
        assert runs(int(pid))
        parent.kill()
    wait_until(lambda: not runs(int(pid)), "the JVM ended")
    wait_until(lambda: not Path(data_dir).exists(), "the data directory was removed")


@pytest.mark.broker
def test_ctrl_c_ends_the_command_and_keeps_the_data_directory(installation: Installation, tmp_path: Path) -> None:
    port = free_port()
    command = command_line("--broker", "real", "--port", str(port), "--data-dir", str(tmp_path))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().strip() for _ in range(2)]
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    assert lines[1] == f"export KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:{port}"
    assert (tmp_path / "topics" / "meta.properties").exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 5)


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
