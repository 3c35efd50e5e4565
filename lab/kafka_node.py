"""Run a real, single-node Apache Kafka (KRaft) in a child JVM."""

from __future__ import annotations

import fcntl
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, NoReturn

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from airquality.ground.errors import Unavailable, UsageError
from lab.broker import Broker
from lab.child import Child
from lab.kafka_installation import KAFKA_VERSION, Installation
from lab.ports import LOOPBACK, free_port, is_free
from lab.waiting import PATIENCE_SECONDS

#: A broker that is killed because it stops slowly checks its logs at the next start.
STOP_TIMEOUT_SECONDS = 60.0


#: Written in every file of a data directory that a start overwrites.
_AUTHOR = "Written by python -m airquality broker"

# Standard output is the log file, so that what the JVM itself says on the way down is in the same place.
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


class RealBroker(Broker):
    """A single-node Apache Kafka in a child JVM: broker and controller in one, on the loopback interface only.

    ``start`` after ``stop`` or ``kill`` brings it back with the same data on the same client port.
    """

    def __init__(self, installation: Installation, data_dir: Path | None = None, port: int | None = None) -> None:
        """Prepare a broker that is not running yet.

        Args:
            installation: What ``kafka_installation.install`` returned.
            data_dir: Where records, configuration and ``kafka.log`` live. None: a temporary one that ``close`` removes.
            port: The client port; None or 0: any free one.
        """
        self.installation = installation
        self._temporary = data_dir is None
        self.data_dir = Path(tempfile.mkdtemp(prefix="air-quality-kafka-")) if data_dir is None else data_dir.absolute()
        self._port = port or free_port()
        #: What this node's configuration says beyond, or instead of, what every node's says.
        self.properties: Mapping[str, object] = {}
        self.format_arguments: tuple[str, ...] = ()
        self.cluster_id = urlsafe_b64encode(uuid.uuid4().bytes)[:22].decode()
        self.heap_mb = 512
        #: Of listeners beside the one that every node has.
        self.more_ports: tuple[int, ...] = ()
        self._jvm: Child | None = None
        self._log_start = 0
        servers = f"{LOOPBACK}:{self._port}"
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
        for port in (self._port, *self.more_ports):
            if not is_free(port):
                raise UsageError(f"port {port} of {LOOPBACK} is taken: stop what listens there, or choose another port")
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
        properties = {**_PROPERTIES, **self._listeners(), **self.properties}
        lines = [f"# {_AUTHOR}\n", *(f"{name}={value}\n" for name, value in properties.items())]
        self._write_own("server.properties", "".join(lines))
        if not (self.data_dir / "topics" / "meta.properties").exists():
            self._format()

    def _listeners(self) -> dict[str, str]:
        """Return what the configuration says of where clients and controllers are heard."""
        client, controller = f"{LOOPBACK}:{self._port}", f"{LOOPBACK}:{free_port()}"
        return {
            "controller.quorum.voters": f"1@{controller}",
            "listeners": f"CLIENT://{client},CONTROLLER://{controller}",
            "advertised.listeners": f"CLIENT://{client}",
            "listener.security.protocol.map": "CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        }

    def _write_own(self, name: str, text: str) -> None:
        path = self.data_dir / name
        if path.exists() and _AUTHOR not in path.read_text(errors="replace"):
            raise UsageError(f"{path} was written by another program: choose an empty data directory")
        path.write_text(text)

    def _format(self) -> None:
        arguments = ("format", f"--cluster-id={self.cluster_id}", "--config=server.properties", *self.format_arguments)
        command = self.installation.command("kafka.tools.StorageTool", *arguments, heap_mb=64)
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
        command = self.installation.command("kafka.Kafka", "server.properties", heap_mb=self.heap_mb)
        self._jvm = Child(command, self.data_dir, output=log, temporary=self.data_dir if self._temporary else None)

    def _await_ready(self) -> None:
        assert self._jvm is not None
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not _answers(self._port):
            if self._jvm.poll() is not None:
                raise Unavailable(self._death_notice())
            if time.monotonic() > deadline:
                raise Unavailable(f"Apache Kafka did not answer within {PATIENCE_SECONDS:.0f} s. {self._log_end()}")
            time.sleep(0.05)

    def _death_notice(self) -> str:
        status = "unknown" if self._jvm is None else self._jvm.poll()
        return f"Apache Kafka's JVM ended with status {status}. {self._log_end()}"

    def _log_end(self) -> str:
        with self.log_path.open("rb") as log:
            log.seek(self._log_start)
            return f"The end of {self.log_path}:\n{_tail(log.read().decode(errors='replace'))}"


def _tail(text: str) -> str:
    return "\n".join(text.splitlines()[-20:]) or "(empty)"


#: The configuration of a node that is alone: one replica of everything, small internal topics, quick to start.
_PROPERTIES: dict[str, object] = {
    "process.roles": "broker,controller",
    "node.id": 1,
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "CLIENT",
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


def _answers(port: int) -> bool:
    """Ask the broker for its cluster; only one that is registered and unfenced lists itself."""
    try:
        socket.create_connection((LOOPBACK, port), timeout=1).close()  # first: kafka-python logs every refusal
        admin = KafkaAdminClient(
            bootstrap_servers=f"{LOOPBACK}:{port}", bootstrap_timeout_ms=5_000, request_timeout_ms=5_000
        )
    except (OSError, KafkaError):
        return False
    try:
        return bool(admin.describe_cluster()["brokers"])
    except KafkaError:
        return False
    finally:
        admin.close()
