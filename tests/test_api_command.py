"""`python api_service.py` as a person uses it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import api_service
from airquality.ground import log
from lab.waiting import PATIENCE_SECONDS
from tests.system import PROJECT


@pytest.mark.slow
def test_api_service_ctrl_c_is_a_clean_end(tmp_path: Path) -> None:
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db", "LOG_FORMAT": "text"}
    with subprocess.Popen(
        [sys.executable, "api_service.py", "--port", "0"],
        cwd=PROJECT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert "Ctrl-C stops it" in process.stdout.readline()
        for line in process.stderr:
            if "startup complete" in line:
                break
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(PATIENCE_SECONDS) == 0
    assert "interrupted" not in rest


def loopback() -> str:
    """Return the address of this machine: IPv6's where there is one."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return "::1"
    except OSError:
        return "127.0.0.1"


@pytest.mark.slow
def test_api_service_with_json_says_nothing_else(tmp_path: Path) -> None:
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db", "LOG_FORMAT": "json"}
    program = [sys.executable, "api_service.py", "--port", "0", "--host", loopback()]
    with subprocess.Popen(program, cwd=PROJECT, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "startup complete" in line:
                break
        process.send_signal(signal.SIGINT)
        lines += process.stderr.read().splitlines()
        assert process.wait(PATIENCE_SECONDS) == 0
    said = [json.loads(line) for line in lines]
    shown = "[::1]" if loopback() == "::1" else "127.0.0.1"
    assert said[0]["message"].startswith(f"http://{shown}:")
    assert any(line["logger"] == "uvicorn.error" for line in said)


def test_program_port_taken_is_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(log, "configure", lambda *_: None)  # this process's log is pytest's
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert api_service.main(["--port", str(port)]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert f"127.0.0.1:{port}" in said
    assert "--port" in said
