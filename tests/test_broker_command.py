"""`python -m airquality broker` as a person uses it."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from lab.kafka_installation import Installation
from lab.ports import free_port
from lab.waiting import PATIENCE_SECONDS

pytestmark = pytest.mark.usefixtures("no_broker_named")


def command_line(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "airquality", "broker", *arguments]


def test_help_teaches() -> None:
    text = subprocess.run(command_line("--help"), capture_output=True, text=True, check=True).stdout
    assert {"Java", "Maven", "AIR_QUALITY_BROKER=real|mock|secured|three", "--install-only"} <= set(
        text.replace(",", " ").split()
    )


@pytest.mark.slow
def test_the_command_runs_the_mock_until_ctrl_c() -> None:
    with subprocess.Popen(command_line("--broker", "mock"), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().strip() for _ in range(4)]
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_SECONDS) == 0
    assert lines[0].startswith("Broker: librdkafka mock cluster in this process (asked for)")
    assert lines[1].startswith("export KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:")
    assert lines[2] == "export KAFKA_API_VERSION=2.3"


@pytest.mark.slow
def test_the_command_fails_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("AIR_QUALITY_CACHE", str(tmp_path / "cache"))
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


@pytest.mark.broker
def test_ctrl_c_ends_the_command_and_keeps_the_data_directory(installation: Installation, tmp_path: Path) -> None:
    port = free_port()
    command = command_line("--broker", "real", "--port", str(port), "--data-dir", str(tmp_path))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().strip() for _ in range(2)]
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_SECONDS) == 0
    assert lines[1] == f"export KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:{port}"
    assert (tmp_path / "topics" / "meta.properties").exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 5)
