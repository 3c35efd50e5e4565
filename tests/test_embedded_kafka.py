"""Which broker is started, and how Java and Kafka's jars are found."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from kafka import KafkaConsumer, KafkaProducer

from airquality.ground.errors import Unavailable, UsageError
from lab import embedded_kafka
from lab.broker import MockBroker
from lab.kafka_installation import KAFKA_VERSION, install
from lab.waiting import PATIENCE_SECONDS, wait_until

JAVA_17 = "echo 'openjdk version \"17.0.1\" 2021-10-19' >&2"
JAVA_11 = "echo 'openjdk version \"11.0.2\" 2019-01-15' >&2"
pytestmark = pytest.mark.usefixtures("no_broker_named")
OnPath = Callable[..., Path]


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


def no_file_left(cache: Path) -> bool:
    return not cache.exists() or not list(cache.iterdir())


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


def test_cached_jars_need_no_maven(on_path: OnPath, cache: Path) -> None:
    on_path(java=JAVA_17)
    (cache / f"kafka-{KAFKA_VERSION}").mkdir(parents=True)
    assert install().jars == cache / f"kafka-{KAFKA_VERSION}"


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
    with pytest.raises(Unavailable, match="AIR_QUALITY_CACHE moves it"):
        install()


def test_the_mock_keeps_what_is_produced_until_it_is_closed() -> None:
    broker = MockBroker("a test")
    connection = {"bootstrap_servers": broker.bootstrap_servers, "api_version": (2, 3)}
    with contextlib.closing(KafkaProducer(**connection)) as producer:
        producer.send("readings", b"one").get(timeout=PATIENCE_SECONDS)
    with contextlib.closing(KafkaConsumer(auto_offset_reset="earliest", **connection)) as consumer:
        consumer.topics()  # a subscription made while the first metadata are under way waits for the next, 5 minutes on
        consumer.subscribe(["readings"])
        found: list[bytes] = []

        def arrived() -> bool:
            found.extend(record.value for records in consumer.poll(1_000).values() for record in records)
            return bool(found)

        wait_until(arrived, "the record")
        assert found == [b"one"]
    broker.close()
    broker.close()
    host, port = broker.bootstrap_servers.split(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), 5)
