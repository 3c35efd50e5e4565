"""Provide a Kafka broker without containers: an external one, else a real one in a child JVM, else librdkafka's mock.

The choice is made by :func:`start`, in this order, and told to the user in one line (``Broker.description``):

1. ``KAFKA_BOOTSTRAP_SERVERS`` is set: that broker; nothing is started.
2. A real single-node Apache Kafka (KRaft), if there is Java 17 or newer and its jars are in the cache or Maven brings them.
3. librdkafka's mock cluster, which keeps records in memory but no transactional offsets, fences nobody and compacts nothing.

``AIR_QUALITY_BROKER=real|mock`` forces a kind; ``AIR_QUALITY_CACHE`` moves the jar cache from
``~/.cache/air-quality-monitoring``.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import logging
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, NoReturn, Self

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from airquality.ground import command
from airquality.ground.errors import Unavailable, UsageError
from lab.child import Child

KAFKA_VERSION = "4.1.2"
MINIMUM_JAVA = 17
#: The newest protocol kafka-python may speak to librdkafka's mock cluster, which claims more than it can do.
MOCK_API_VERSION = "2.3"
START_TIMEOUT_SECONDS = 90.0
STOP_TIMEOUT_SECONDS = 15.0
MAVEN_TIMEOUT_SECONDS = 900.0

Kind = Literal["external", "real", "mock"]
Say = Callable[[str], None]

_LOOPBACK = "127.0.0.1"
#: Below every common ephemeral range: a client that keeps calling a stopped broker from an ephemeral port may otherwise be
#: given the broker's own port, connect to itself (a TCP simultaneous open) and keep the restarted broker from binding it.
_PORTS = range(20_000, 32_768)
_log = logging.getLogger(__name__)

_DESCRIPTION = """\
Run one Kafka broker without containers, until Ctrl-C: a real Apache Kafka if Java and Maven can provide one, else
librdkafka's mock cluster. Its first line says which; its exports lead other programs to it.
"""
_EXAMPLES = f"""\
examples:
  python -m airquality broker                        on port 9092, its data in a temporary directory
  python -m airquality broker --data-dir run/kafka   records are kept between runs
  python -m airquality broker --install-only         only fetch Kafka's jars

A real broker needs Java {MINIMUM_JAVA} or newer (JAVA_HOME or PATH) and, the first time only, Maven and a network.
environment: AIR_QUALITY_BROKER=real|mock forces a kind, AIR_QUALITY_CACHE is where the jars are kept
exit status: 0 ended by Ctrl-C, SIGTERM or SIGHUP, 1 no broker can be had, 2 wrong usage or a port that is taken
"""

_POM = """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>air-quality-monitoring</groupId>
  <artifactId>embedded-kafka</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{version}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId><artifactId>log4j-core</artifactId><version>2.26.1</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>2.26.1</version>
    </dependency>
  </dependencies>
  <build>
    <plugins>
      <plugin>
        <groupId>org.apache.maven.plugins</groupId><artifactId>maven-dependency-plugin</artifactId><version>3.8.1</version>
        <configuration>
          <includeScope>runtime</includeScope>
          <outputDirectory>${{project.basedir}}/jars</outputDirectory>
        </configuration>
      </plugin>
    </plugins>
  </build>
</project>
"""

#: Stands in every file of a data directory that a start overwrites.
_AUTHOR = "Written by python -m airquality broker"

# Standard output is the log file, so that what the JVM itself says on the way down stands in the same place.
_LOG4J = f"""\
<!-- {_AUTHOR} -->
<Configuration status="WARN" shutdownHook="disable">
  <Appenders>
    <Console name="log" target="SYSTEM_OUT"><PatternLayout pattern="%d %-5p %c{{1}} %m%n"/></Console>
  </Appenders>
  <Loggers>
    <Logger name="kafka.server.KafkaRaftServer" level="INFO"/>
    <Root level="WARN"><AppenderRef ref="log"/></Root>
  </Loggers>
</Configuration>
"""


@dataclass
class Broker:
    """A broker to talk to, and what the user should know about it; leaving its ``with`` block closes it."""

    kind: Kind
    bootstrap_servers: str
    #: One line: which broker this is, and why it is not a better one.
    description: str
    #: What ``Settings.kafka_api_version`` must be for this broker; None lets the client ask.
    api_version: str | None = None

    def wait(self) -> None:
        """Wait until the broker ends by itself, which only a real one can do; Ctrl-C interrupts."""
        threading.Event().wait()

    def close(self) -> None:
        """Give back what was started for this broker; a second call does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class MockBroker(Broker):
    """librdkafka's mock cluster: it lives in this process and as long as this object; other processes reach it over TCP."""

    def __init__(self, why: str) -> None:
        """Start the cluster; ``why`` says in a few words why it is not a real broker."""
        self._cluster: Any = _mock_cluster()
        (broker,) = self._cluster.list_topics(timeout=10).brokers.values()
        super().__init__(
            "mock",
            f"{broker.host}:{broker.port}",
            f"Broker: librdkafka mock cluster in this process ({why}); it stores no offsets, fences nobody and compacts "
            "nothing, so a run cannot resume",
            MOCK_API_VERSION,
        )

    def close(self) -> None:
        """End the cluster; its records are gone."""
        if self._cluster is not None:
            self._cluster.close()
            self._cluster = None


def _mock_cluster() -> Any:
    try:
        from confluent_kafka import Producer
    except ImportError as error:
        raise Unavailable(f"no mock cluster either: confluent-kafka cannot be imported ({error})") from error
    # log_level 3 silences the banner about ignored bootstrap servers: the description says it better.
    return Producer({"test.mock.num.brokers": 1, "log_level": 3})


@dataclass(frozen=True)
class Installation:
    """A Java runtime and the jars it needs to be Apache Kafka."""

    java: str
    jars: Path

    def command(self, main_class: str, *arguments: str, heap_mb: int) -> list[str]:
        """Return the command line of one of Kafka's main classes, run in a data directory."""
        # The first compiler tier and the serial collector halve the CPU time of a start; one laptop needs no more.
        options = [f"-Xmx{heap_mb}m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:+ExitOnOutOfMemoryError"]
        return [
            self.java,
            *options,
            "-Dlog4j2.configurationFile=log4j2.xml",
            "-cp",
            f"{self.jars}/*",
            main_class,
            *arguments,
        ]


class RealBroker(Broker):
    """A single-node Apache Kafka in a child JVM: broker and controller in one, on the loopback interface only.

    ``start`` after ``stop`` or ``kill`` brings it back with the same data on the same client port.
    """

    def __init__(self, installation: Installation, data_dir: Path | None = None, port: int | None = None) -> None:
        """Prepare a broker that is not running yet.

        Args:
            installation: What :func:`install` returned.
            data_dir: Where records, configuration and ``kafka.log`` live. None: a temporary one that ``close`` removes.
            port: The client port; None: any free one.
        """
        self.installation = installation
        self._temporary = data_dir is None
        self.data_dir = Path(tempfile.mkdtemp(prefix="air-quality-kafka-")) if data_dir is None else data_dir.absolute()
        self._port = _free_port() if port is None else port
        self._jvm: Child | None = None
        self._log_start = 0
        servers = f"{_LOOPBACK}:{self._port}"
        kept = "removed at the end" if self._temporary else "kept"
        description = (
            f"Broker: Apache Kafka {KAFKA_VERSION} at {servers}, started here; its data are in {self.data_dir} ({kept})"
        )
        super().__init__("real", servers, description)

    @property
    def pid(self) -> int | None:
        """The process id of the running JVM."""
        return None if self._jvm is None else self._jvm.pid

    @property
    def log_path(self) -> Path:
        """The file that holds what the JVM and Kafka say, warnings and worse."""
        return self.data_dir / "kafka.log"

    def start(self) -> None:
        """Start the JVM and return once it answers a metadata request; does nothing while it runs.

        Raises:
            UsageError: the port is taken, or the data directory is in use or cannot be written.
            Unavailable: the JVM ended or did not answer in time; the message carries the end of its log.
        """
        if self._jvm is not None and self._jvm.poll() is None:
            return
        self.kill()  # clean up after a JVM that exited on its own
        if not _is_free(self._port):
            raise UsageError(f"port {self._port} of {_LOOPBACK} is taken: stop what listens there, or choose another port")
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
            with self.log_path.open("ab") as log:
                self._lock(log)
                self._write_configuration()
                self._launch(log)
            self._await_ready()
        except OSError as error:
            self.kill()
            raise UsageError(f"the data directory {self.data_dir} cannot be used: {error}") from error
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """End the JVM as an operator would (SIGTERM), or by force if it does not end in time; its data stay."""
        if self._jvm is not None:
            self._jvm.end(STOP_TIMEOUT_SECONDS)
            self._jvm = None

    def kill(self) -> None:
        """End the JVM as a crash would (SIGKILL); its data stay."""
        if self._jvm is not None:
            self._jvm.kill()
            self._jvm = None

    def close(self) -> None:
        """End the JVM and remove the data directory if it was a temporary one."""
        try:
            self.stop()
        finally:
            if self._temporary:
                shutil.rmtree(self.data_dir, ignore_errors=True)

    def wait(self) -> NoReturn:
        """Wait until the JVM ends by itself, which is an error: it raises :class:`Unavailable` with the end of its log."""
        if self._jvm is not None:
            self._jvm.wait()
        raise Unavailable(self._death_notice())

    def _lock(self, log: BinaryIO) -> None:
        """Claim the data directory for as long as anybody, and that will be the JVM, has ``log`` open.

        Kafka locks its directories too, but only after it has appended to the metadata log: a second node started by
        mistake would die, and leave the first one unable to shut down.
        """
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(
                f"a running Kafka uses the data directory {self.data_dir}: stop it, or choose another"
            ) from error

    def _write_configuration(self) -> None:
        self._write_own("log4j2.xml", _LOG4J)
        self._write_own("server.properties", _server_properties(self._port, _free_port()))
        if not (self.data_dir / "topics" / "meta.properties").exists():
            self._format()

    def _write_own(self, name: str, text: str) -> None:
        path = self.data_dir / name
        if path.exists() and _AUTHOR not in path.read_text(errors="replace"):
            raise UsageError(f"{path} was written by another program: choose an empty data directory")
        path.write_text(text)

    def _format(self) -> None:
        cluster_id = urlsafe_b64encode(uuid.uuid4().bytes)[:22].decode()
        command = self.installation.command(
            "kafka.tools.StorageTool", "format", f"--cluster-id={cluster_id}", "--config=server.properties", heap_mb=64
        )
        done = subprocess.run(
            command,
            cwd=self.data_dir,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        if done.returncode:
            said = _tail(done.stdout.decode(errors="replace"))
            raise Unavailable(f"Apache Kafka could not format {self.data_dir}:\n{said}")

    def _launch(self, log: BinaryIO) -> None:
        self._log_start = log.tell()
        # Paths inside the data directory are relative, so that blanks, commas and umlauts in its name cannot hurt.
        command = self.installation.command("kafka.Kafka", "server.properties", heap_mb=512)
        self._jvm = Child(command, self.data_dir, output=log, temporary=self.data_dir if self._temporary else None)

    def _await_ready(self) -> None:
        assert self._jvm is not None
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while not _answers(self._port):
            if self._jvm.poll() is not None:
                raise Unavailable(self._death_notice())
            if time.monotonic() > deadline:
                raise Unavailable(f"Apache Kafka did not answer within {START_TIMEOUT_SECONDS:.0f} s. {self._log_end()}")
            time.sleep(0.05)

    def _death_notice(self) -> str:
        status = "unknown" if self._jvm is None else self._jvm.poll()
        return f"Apache Kafka's JVM ended with status {status}. {self._log_end()}"

    def _log_end(self) -> str:
        with self.log_path.open("rb") as log:
            log.seek(self._log_start)
            return f"The end of {self.log_path}:\n{_tail(log.read().decode(errors='replace'))}"


def _tail(text: str, lines: int = 20) -> str:
    return "\n".join(text.splitlines()[-lines:]) or "(empty)"


def _server_properties(port: int, controller_port: int) -> str:
    """Return the configuration of a node that is alone: one replica of everything, small internal topics, quick to start."""
    properties = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@{_LOOPBACK}:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"CLIENT://{_LOOPBACK}:{port},CONTROLLER://{_LOOPBACK}:{controller_port}",
        "advertised.listeners": f"CLIENT://{_LOOPBACK}:{port}",
        "inter.broker.listener.name": "CLIENT",
        "listener.security.protocol.map": "CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": "topics",
        "auto.create.topics.enable": "false",
        # After kill -9 the controller refuses the reborn broker until the old one's session ends: 9 s by default.
        "broker.session.timeout.ms": 3_000,
        "broker.heartbeat.interval.ms": 500,
        "default.replication.factor": 1,
        "min.insync.replicas": 1,
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 1,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 1,
        "transaction.state.log.segment.bytes": 1_048_576,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "share.coordinator.state.topic.num.partitions": 1,
        "group.initial.rebalance.delay.ms": 0,
        "log.cleaner.enable": "true",
        # A quarter of the heap by default; 16 MB hold the offsets of 600,000 keys.
        "log.cleaner.dedupe.buffer.size": 16_777_216,
    }
    return "".join([f"# {_AUTHOR}\n", *(f"{name}={value}\n" for name, value in properties.items())])


def _free_port() -> int:
    while True:
        port = secrets.choice(_PORTS)
        if _is_free(port):
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Kafka does: connections in TIME_WAIT do not count
        try:
            probe.bind((_LOOPBACK, port))
        except OSError:
            return False
    return True


def _answers(port: int) -> bool:
    """Ask the broker for its cluster; only one that is registered and unfenced lists itself."""
    try:
        socket.create_connection((_LOOPBACK, port), timeout=1).close()  # first: kafka-python logs every refusal
        admin = KafkaAdminClient(
            bootstrap_servers=f"{_LOOPBACK}:{port}", bootstrap_timeout_ms=5_000, request_timeout_ms=5_000
        )
    except (OSError, KafkaError):
        return False
    try:
        return bool(admin.describe_cluster()["brokers"])
    except KafkaError:
        return False
    finally:
        admin.close()


def install(say: Say = _log.info) -> Installation:
    """Find Java and make sure the jars are in the cache, by Maven the first time.

    Raises:
        Unavailable: with the reason in one line.
    """
    return Installation(_find_java(), _cached_jars(say))


def why_not_real(say: Say = _log.info) -> str | None:
    """Return in one line why no real broker can be had here, or None if it can; may run Maven, as :func:`install` does."""
    try:
        install(say)
    except Unavailable as error:
        return str(error)
    return None


def _find_java() -> str:
    refused = []
    for java in _java_candidates():
        version = _java_version(java)
        if version is not None and version >= MINIMUM_JAVA:
            return java
        refused.append(f"{java} is Java {version}" if version else f"{java} does not run")
    raise Unavailable(f"no Java {MINIMUM_JAVA} or newer: {', '.join(refused) or 'no java on the PATH and no JAVA_HOME'}")


def _java_candidates() -> Iterator[str]:
    if home := os.environ.get("JAVA_HOME"):
        yield str(Path(home) / "bin" / "java")
    if java := shutil.which("java"):
        yield java


def _java_version(java: str) -> int | None:
    """Return the feature release of a Java runtime; None if it does not run or says nothing."""
    try:
        done = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return _parse_java_version(done.stderr + done.stdout)


def _parse_java_version(text: str) -> int | None:
    """Return the feature release that ``java -version`` names.

    >>> _parse_java_version('openjdk version "17.0.15" 2025-04-15'), _parse_java_version('java version "1.8.0_392"')
    (17, 8)
    """
    match = re.search(r'version "(?:1\.)?(\d+)', text)
    return int(match[1]) if match else None


def _cache_dir() -> Path:
    return Path(os.environ.get("AIR_QUALITY_CACHE") or _user_cache()).expanduser().absolute()


def _user_cache() -> Path:
    """Return the user's cache folder, the checkout's for a user without a home."""
    try:
        return Path.home() / ".cache" / "air-quality-monitoring"
    except RuntimeError:
        return Path(__file__).resolve().parent.parent / ".cache"


def _cached_jars(say: Say) -> Path:
    """Return the directory of Kafka's jars; it exists only once it is complete."""
    jars = _cache_dir() / f"kafka-{KAFKA_VERSION}"
    if jars.is_dir():
        return jars
    maven = shutil.which("mvn")
    if maven is None:
        raise Unavailable(f"no Maven (mvn) on the PATH, and no Apache Kafka {KAFKA_VERSION} in {jars}")
    try:
        jars.parent.mkdir(parents=True, exist_ok=True)
        _collect(maven, jars, say)
    except OSError as error:
        raise Unavailable(f"the jar cache cannot be written ({error}); AIR_QUALITY_CACHE moves it") from error
    return jars


def _collect(maven: str, jars: Path, say: Say) -> None:
    say(f"Collecting Apache Kafka {KAFKA_VERSION} with Maven into {jars} (45 MB, only this once) ...")
    with tempfile.TemporaryDirectory(prefix="collecting-", dir=jars.parent) as work:
        (Path(work) / "pom.xml").write_text(_POM.format(version=KAFKA_VERSION))
        _run_maven(maven, work, say)
        try:
            (Path(work) / "jars").rename(jars)
        except OSError:
            if not jars.is_dir():  # else another process collected the same jars meanwhile
                raise


def _run_maven(maven: str, work: str, say: Say) -> None:
    """Copy the jars into ``jars`` under the directory ``work``, which holds the pom."""
    command = [maven, "-B", "org.apache.maven.plugins:maven-dependency-plugin:copy-dependencies"]
    with subprocess.Popen(
        command, cwd=work, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        limit = threading.Timer(MAVEN_TIMEOUT_SECONDS, process.kill)
        limit.start()
        try:
            output = list(_with_progress(process.stdout or (), say))
        except BaseException:
            process.kill()
            raise
        finally:
            limit.cancel()
    if process.returncode:
        raise Unavailable(f"Maven could not bring Apache Kafka {KAFKA_VERSION}: {_maven_reason(output, say)}")


def _with_progress(lines: Iterable[str], say: Say) -> Iterator[str]:
    downloads = 0
    for line in lines:
        if line.startswith("Downloaded"):
            downloads += 1
            if downloads % 50 == 0:
                say(f"... {downloads} files")
        yield line.strip()


def _maven_reason(output: list[str], say: Say) -> str:
    """Return the cause in Maven's output: the last links of the chain in its first error line, else what it said last."""
    errors = [line for line in output if line.startswith("[ERROR]")] or [line for line in reversed(output) if line]
    if not errors:
        return f"it said nothing within {MAVEN_TIMEOUT_SECONDS:.0f} s"
    say(f"Maven: {errors[0]}")
    chain = errors[0].removeprefix("[ERROR] ").removesuffix(" -> [Help 1]").split(": ")
    return ": ".join(chain[-2:])


def start(prefer: str | None = None, data_dir: Path | None = None, say: Say = _log.info, port: int | None = None) -> Broker:
    """Choose a broker as the module describes, start it if it is ours to start, and wait until it answers.

    Args:
        prefer: ``real`` or ``mock`` forces that kind, over both environment variables; None leaves the choice.
        data_dir: Where a real broker keeps its data; None: a temporary directory that ``close`` removes.
        say: Told, line by line, what takes long.
        port: The client port of a real broker; the others choose or have their own.

    Raises:
        UsageError: ``prefer``, or ``AIR_QUALITY_BROKER``, is neither; or the port is taken.
        Unavailable: the kind that was forced cannot be had, or Kafka was started and failed.
    """
    forced = prefer or os.environ.get("AIR_QUALITY_BROKER") or None
    if forced not in (None, "real", "mock"):
        raise UsageError(f"the kind of broker must be real or mock, not {forced!r}")
    servers = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if forced is None and servers:
        return _external(servers)
    if forced == "mock":
        return MockBroker("asked for")
    try:
        installation = install(say)
    except Unavailable as error:
        if forced == "real":
            raise Unavailable(f"a real Apache Kafka was asked for and cannot be had: {error}") from error
        return MockBroker(str(error))
    return _start_real(installation, data_dir, port, say)


def _external(servers: str) -> Broker:
    api_version = os.environ.get("KAFKA_API_VERSION") or None
    return Broker("external", servers, f"Broker: {servers}, which KAFKA_BOOTSTRAP_SERVERS names", api_version)


def _start_real(installation: Installation, data_dir: Path | None, port: int | None, say: Say) -> RealBroker:
    broker = RealBroker(installation, data_dir, port)
    say(f"Starting Apache Kafka {KAFKA_VERSION} ...")
    try:
        broker.start()
    except BaseException:
        broker.close()
        raise
    return broker


def main(argv: list[str] | None = None) -> int:
    """Run one broker until Ctrl-C, SIGTERM or SIGHUP; return 0, 1 if none could be had, 2 if asked for the impossible."""
    arguments = _parser().parse_args(argv)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    return command.run("broker", lambda: _run(arguments))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = command.parser("python -m airquality broker", _DESCRIPTION, _EXAMPLES)
    parser.add_argument("--data-dir", type=Path, help="keep records here between runs (default: a temporary directory)")
    parser.add_argument("--port", type=_port, default=9092, help="of a real broker (default: 9092); the mock picks its own")
    parser.add_argument("--broker", choices=["real", "mock"], help="insist on this kind instead of the best that can be had")
    parser.add_argument("--install-only", action="store_true", help="only make sure that Kafka's jars are in the cache")
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65_536:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port (1 to 65535)")
    return int(text)


def _run(arguments: argparse.Namespace) -> None:
    if arguments.install_only:
        print(f"Apache Kafka {KAFKA_VERSION}: {install(_say).jars}")
        return
    with start(arguments.broker, arguments.data_dir, _say, arguments.port) as broker:
        if broker.kind == "external":
            raise UsageError(
                f"nothing to start: KAFKA_BOOTSTRAP_SERVERS={broker.bootstrap_servers}; unset it or pass --broker"
            )
        print(broker.description)
        print(f"export KAFKA_BOOTSTRAP_SERVERS={broker.bootstrap_servers}")
        if broker.api_version:
            print(f"export KAFKA_API_VERSION={broker.api_version}")
        with contextlib.suppress(KeyboardInterrupt):
            print("Ctrl-C ends it.", flush=True)  # who reads this may press it before the next line is reached
            broker.wait()


if __name__ == "__main__":
    sys.exit(main())
