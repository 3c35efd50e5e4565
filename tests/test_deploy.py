"""The two small programs of the container set-up: who the consumer becomes, and what preflight says."""

from __future__ import annotations

import doctest
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from deploy import make_data, preflight, run_as_owner

ROOT = Path(__file__).resolve().parent.parent


def test_files_that_are_missing_are_named_with_the_command_that_makes_them(tmp_path: Path) -> None:
    (tmp_path / "here").touch()
    assert list(preflight.files({"here": "make it", "gone": "python make_gone.py"}, tmp_path)) == [
        "gone: python make_gone.py"
    ]


def test_a_port_in_use_is_named_unless_the_stack_itself_uses_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (complaint,) = preflight.ports({port: "Kafka"}, ours=set())
        assert f"port {port} for Kafka" in complaint
        assert list(preflight.ports({port: "Kafka"}, ours={port})) == []
    assert list(preflight.ports({port: "Kafka"}, ours=set())) == []


def test_too_little_memory_is_named() -> None:
    (complaint,) = preflight.memory({"MemTotal": 2_000_000_000})
    assert "2.0 GB" in complaint
    assert list(preflight.memory({"MemTotal": 8_000_000_000})) == []


@pytest.mark.parametrize(("brokers", "gb"), [(1, 3), (3, 4)])
def test_preflight_of_three_brokers_wants_their_ports_and_memory(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], brokers: int, gb: int
) -> None:
    three = yaml.safe_load((ROOT / "docker-compose.three-brokers.yml").read_text())["services"]
    published = {port.split(":")[1] for name in ("kafka-2", "kafka-3") for port in three[name]["ports"]}
    monkeypatch.setattr(preflight, "engine", lambda: iter(()))
    monkeypatch.setattr(preflight, "docker_info", lambda: {"MemTotal": 0})
    monkeypatch.setattr(preflight, "is_taken", lambda _: True)
    assert preflight.main(["--bare", "--brokers", str(brokers)]) == 1
    said = capsys.readouterr().err
    assert f"the stack needs {gb} (" in said
    assert {f"port {port} for Kafka, broker" in said for port in published} == {brokers == 3}


@pytest.mark.parametrize("verb", ["up", "stream", "logs", "down"])
def test_verb_with_three_brokers_checks_for_them_where_it_starts_them(verb: str) -> None:
    printed = subprocess.run(["make", "-n", verb, "BROKERS=3"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert ("--brokers 3" in printed) == (verb in ("up", "stream"))


def test_three_brokers_asked_of_make_are_both_files_for_compose() -> None:
    shown = "show: ; @printenv COMPOSE_FILE || true"
    for chosen, files in (("3", "docker-compose.yml:docker-compose.three-brokers.yml\n"), ("", "")):
        asked = ["make", "-s", "--eval", shown, "show", f"BROKERS={chosen}"]
        environment = {name: value for name, value in os.environ.items() if name != "COMPOSE_FILE"}
        assert subprocess.run(asked, cwd=ROOT, env=environment, capture_output=True, text=True).stdout == files


def test_a_missing_engine_has_another_message_than_one_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "install" in next(preflight.engine())
    (tmp_path / "docker").write_text("#!/bin/sh\necho cannot connect >&2; exit 1\n")
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setattr(preflight, "output", lambda *_: "")
    assert "does not answer" in next(preflight.engine())


def test_examples_in_docstrings_hold() -> None:
    assert doctest.testmod(run_as_owner).failed == 0
    assert doctest.testmod(run_as_owner).attempted > 0


def test_started_as_nobody_special_it_only_runs_the_program(tmp_path: Path) -> None:
    if os.getuid() == 0:
        pytest.skip("runs as root")
    assert run_as_owner_of(tmp_path) == str(os.getuid())


def test_started_as_root_it_becomes_the_directorys_owner(tmp_path: Path) -> None:
    needs_root()
    os.chown(tmp_path, 1234, 1234)
    tmp_path.parent.chmod(0o755)
    assert run_as_owner_of(tmp_path) == "1234"
    assert list(tmp_path.iterdir()) == []


def test_a_directory_of_root_is_handed_to_the_images_user(tmp_path: Path) -> None:
    needs_root()
    if run_as_owner.is_user_namespace(Path("/proc/self/uid_map").read_text()):
        pytest.skip("this root is somebody else outside")
    reports, elsewhere = tmp_path / "reports", tmp_path / "elsewhere"
    (reports / "daily").mkdir(parents=True)
    (reports / "daily" / "daily_1.html").touch()
    elsewhere.touch()
    (reports / "link").symlink_to(elsewhere)
    assert run_as_owner_of(reports, image_user="nobody") == "65534"
    assert (reports / "daily" / "daily_1.html").stat().st_uid == 65534
    assert elsewhere.stat().st_uid == 0, "links are not followed"


def needs_root() -> None:
    if os.getuid() != 0:
        pytest.skip("only root can become somebody else")


def run_as_owner_of(directory: Path, image_user: str = "app") -> str:
    program = f"from deploy import run_as_owner as r; r.IMAGE_USER = {image_user!r}; r.main(['{directory}', 'id', '-u'])"
    return subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()


# --- the containers' data


def prepared(directory: Path, source: str | None = "uci") -> Path:
    """Fill a dataset directory as a person's commands do."""
    directory.mkdir()
    for name in make_data.PREPARED:
        (directory / name).write_text(f"{name} of {directory.name}")
    if source:
        (directory / make_data.LABEL).write_text(json.dumps({"data_source": source}))
    return directory


def test_make_data_takes_what_a_person_prepared_even_over_what_was_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host, own = prepared(tmp_path / "host"), prepared(tmp_path / "own", "simulated")
    assert make_data.main([str(own), str(host)]) == 0
    assert all((own / name).read_text() == f"{name} of host" for name in make_data.PREPARED)
    assert "data source: uci" in capsys.readouterr().out


def test_make_data_keeps_what_it_made_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = prepared(tmp_path / "own")
    monkeypatch.setattr(make_data, "run", lambda *_, **__: pytest.fail("nothing is to be made"))
    (tmp_path / "host").mkdir()
    assert make_data.main([str(own), str(tmp_path / "host")]) == 0
    assert all((own / name).read_text() == f"{name} of own" for name in make_data.PREPARED)


def test_make_data_without_label_calls_the_data_unlabelled(tmp_path: Path) -> None:
    assert make_data.source(prepared(tmp_path / "host", None)) == "unlabelled"


def test_make_data_program_that_fails_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(*command: str, **_: str) -> None:
        raise subprocess.CalledProcessError(1, command)

    for name in ("own", "host"):
        (tmp_path / name).mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(make_data, "run", fail)
        assert make_data.main([str(tmp_path / "own"), str(tmp_path / "host")]) == 1
    assert "dataset/create_dataset.py failed" in capsys.readouterr().err


def test_make_data_simulated_model_that_is_not_taken_up_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = prepared(tmp_path / "own", "simulated")
    (tmp_path / "host").mkdir()
    monkeypatch.setattr(make_data, "SERVED_WITHIN_SECONDS", 0)
    monkeypatch.setattr(make_data, "served_source", lambda _: "")
    assert make_data.main([str(own), str(tmp_path / "host")]) == 1
    captured = capsys.readouterr()
    assert "SIMULATED DATA" in captured.out
    assert "does not serve the simulated model" in captured.err
