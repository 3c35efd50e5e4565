"""Provide a Kafka broker without containers: an external one, else a real one in a child JVM, else librdkafka's mock.

The choice is made by :func:`start`, in this order, and shown to the user in one line (``Broker.description``):

1. ``KAFKA_BOOTSTRAP_SERVERS`` is set: that broker; nothing is started.
2. A real single-node Apache Kafka (KRaft), if there is Java 17 or newer and its jars are in the cache or Maven brings them.
3. librdkafka's mock cluster, which keeps records in memory but no transactional offsets, fences nobody and compacts nothing.

``AIR_QUALITY_BROKER=real|mock|secured|three`` forces a kind: ``secured`` is a real one with TLS, passwords and access rules,
``three`` are three real ones that replicate each other;
``AIR_QUALITY_CACHE`` moves the jar cache from ``~/.cache/air-quality-monitoring``.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import shlex
import signal
import sys
from pathlib import Path

from airquality.ground import command
from airquality.ground.errors import Unavailable, UsageError
from lab.broker import Broker, MockBroker
from lab.kafka_cluster import KafkaCluster
from lab.kafka_installation import KAFKA_VERSION, MINIMUM_JAVA, Say, install
from lab.kafka_node import RealBroker
from lab.secured_kafka import SecuredBroker

KINDS = ("real", "mock", "secured", "three")

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
--broker secured asks for TLS and a password, and allows its user only what this system needs.
--broker three starts three that replicate each other, on free ports.
environment: AIR_QUALITY_BROKER=real|mock|secured|three forces a kind, AIR_QUALITY_CACHE is where the jars are kept
exit status: 0 ended by Ctrl-C, SIGTERM or SIGHUP, 1 no broker can be had, 2 wrong usage or a port that is taken
"""


def start(prefer: str | None = None, data_dir: Path | None = None, say: Say = _log.info, port: int | None = None) -> Broker:
    """Choose a broker as the module describes, start it if it is ours to start, and wait until it answers.

    Args:
        prefer: ``real``, ``mock``, ``secured`` or ``three`` forces that kind, over both environment variables; None leaves
            the choice.
        data_dir: Where a real broker keeps its data; None: a temporary directory that ``close`` removes.
        say: Called with each line about what takes long.
        port: The client port of a real broker; the others choose or have their own.

    Raises:
        UsageError: ``prefer``, or ``AIR_QUALITY_BROKER``, is no kind; or the port is taken.
        Unavailable: the kind that was forced cannot be had, or Kafka was started and failed.
    """
    forced = prefer or os.environ.get("AIR_QUALITY_BROKER") or None
    if forced not in (None, *KINDS):
        raise UsageError(f"the kind of broker must be {', '.join(KINDS[:-1])} or {KINDS[-1]}, not {forced!r}")
    servers = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if forced is None and servers:
        return _external(servers)
    if forced == "mock":
        return MockBroker("asked for")
    try:
        installation = install(say)
    except Unavailable as error:
        if forced:
            raise Unavailable(f"a real Apache Kafka was asked for and cannot be had: {error}") from error
        return MockBroker(str(error))
    if forced == "three":
        return _start_real(KafkaCluster(installation, data_dir), say)
    kind = SecuredBroker if forced == "secured" else RealBroker
    return _start_real(kind(installation, data_dir, port), say)


def _external(servers: str) -> Broker:
    api_version = os.environ.get("KAFKA_API_VERSION") or None
    return Broker("external", servers, f"Broker: {servers}, which KAFKA_BOOTSTRAP_SERVERS names", api_version)


def _start_real(broker: RealBroker | KafkaCluster, say: Say) -> Broker:
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
    parser.add_argument(
        "--port",
        type=command.port,
        default=9092,
        help="of a real broker (%(default)s; 0: any free one); the mock picks its own",
    )
    parser.add_argument("--broker", choices=KINDS, help="insist on this kind instead of the best that can be had")
    parser.add_argument("--install-only", action="store_true", help="only make sure that Kafka's jars are in the cache")
    return parser


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
        for name, value in broker.environment.items():
            print(f"export {name}={shlex.quote(value)}")
        with contextlib.suppress(KeyboardInterrupt):
            print("Ctrl-C ends it.", flush=True)  # who reads this may press it before the next line is reached
            broker.wait()


if __name__ == "__main__":
    sys.exit(main())
