"""What several test modules share: how hard hypothesis looks, and a real broker."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import signal
import threading
import types
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings as hypothesis_settings

from airquality.stream import collector

if TYPE_CHECKING:
    from airquality.data.dataset import Frame
    from airquality.ground.settings import Settings
    from lab.broker import Broker
    from lab.kafka_installation import Installation
    from tests.peer import Peer
    from tests.report_rig import Rig as ReportRig
    from tests.worker_rig import Clock, Rig

# The same commit gets the same verdict; `pytest --hypothesis-profile=search` looks elsewhere, and longer.
hypothesis_settings.register_profile("ci", deadline=None, max_examples=40, derandomize=True, database=None, print_blob=True)
hypothesis_settings.register_profile("search", deadline=None, max_examples=1_000, print_blob=True)
hypothesis_settings.load_profile("ci")


def pytest_configure() -> None:
    """Let SIGTERM and SIGHUP end a session as Ctrl-C does: its tests then end the programs that they have started."""
    if threading.current_thread() is not threading.main_thread():
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's & leaves it ignored
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores SIGHUP
            signal.signal(number, signal.default_int_handler)


def pytest_collection() -> None:
    """Look for no garbage while a hundred test files are imported: nothing of them is any, and each look sees them all."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Leave out of every later look what is there now: ten times as much as a consumer holds."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def spared_collector() -> Iterator[None]:
    """Keep workers from looking through all that pytest holds whenever they restart: that took most of their tests' time.

    ``tests/test_collector.py`` tests the real thing.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collector, "restoring", contextlib.nullcontext)
        patch.setattr(collector, "let_go", lambda: None)
        yield


@pytest.fixture(scope="session")
def simulated() -> Frame:
    """The simulated data set."""
    from airquality.data import dataset

    return dataset.simulate()


@pytest.fixture(scope="session")
def real() -> Frame:
    """The real one, for tests that are marked ``real_data.needs_real_data``."""
    from airquality.data import dataset
    from tests import real_data

    assert real_data.FILE is not None
    return dataset.load(real_data.FILE)


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    """A real Apache Kafka, shared by the session; without one a test is skipped, or fails where one was promised."""
    from lab import embedded_kafka

    with embedded_kafka.start() as broker:
        if broker.kind == "mock" and os.environ.get("AIR_QUALITY_REQUIRE_BROKER") == "1":
            pytest.fail(f"AIR_QUALITY_REQUIRE_BROKER=1, but {broker.description}")
        if broker.kind == "mock":
            pytest.skip(broker.description)
        with pytest.MonkeyPatch.context() as patch:  # what a secured one asks for: AIR_QUALITY_BROKER=secured
            for name in set(broker.environment) - {"KAFKA_BOOTSTRAP_SERVERS", "KAFKA_API_VERSION"}:
                patch.setenv(name, broker.environment[name])
            yield broker


@pytest.fixture(scope="session")
def installation() -> Installation:
    """Java and Kafka's jars; without them a broker test is skipped, or fails where a broker was promised."""
    from airquality.ground.errors import Unavailable
    from lab.kafka_installation import install

    try:
        return install()
    except Unavailable as error:
        if os.environ.get("AIR_QUALITY_REQUIRE_BROKER") == "1":
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture
def no_broker_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave nothing in the environment that chooses a broker, or a Java for one."""
    for name in ("KAFKA_BOOTSTRAP_SERVERS", "KAFKA_API_VERSION", "AIR_QUALITY_BROKER", "JAVA_HOME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def settings(broker: Broker, request: pytest.FixtureRequest) -> Settings:
    """Settings of topics and a group of the test's own on the real broker."""
    from tests import broker_topics

    name = re.sub(r"[^a-zA-Z0-9.-]+", "-", request.node.name)
    return broker_topics.topics(broker.bootstrap_servers, f"{name}-{uuid.uuid4().hex[:6]}")


@pytest.fixture
def report_rig(tmp_path: Path) -> Iterator[Callable[..., ReportRig]]:
    """Build monitoring services over writers of reports that are sound, or have a ``fault`` for ``when`` they meet it."""
    from tests import report_writers
    from tests.report_rig import Rig

    rigs: list[Rig] = []

    def build(fault: str = "", when: str = "", **changes: Any) -> Rig:
        writer = report_writers.faulty(tmp_path, fault, when) if fault else report_writers.plain(tmp_path)
        rigs.append(Rig(tmp_path, writer, **changes))
        return rigs[-1]

    yield build
    for built in rigs:
        built.service.close()


@pytest.fixture
def peer() -> Iterator[Peer]:
    """A service that answers the prediction client as the test says."""
    from tests.peer import serving

    with serving() as peer:
        yield peer


@pytest.fixture
def clock() -> Clock:
    """A clock that only a test, or what waits by it, moves."""
    from tests.worker_rig import Clock

    return Clock()


@pytest.fixture
def rig(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Rig:
    """A worker among fakes, whose clock only its own waiting moves."""
    from airquality.stream import worker
    from tests.worker_rig import Rig

    made = Rig(clock)
    monkeypatch.setattr(worker, "time", types.SimpleNamespace(sleep=clock.sleep, monotonic=clock))
    return made
