"""Settings of trust: what contradicts itself is refused in one sentence, and no secret is ever part of any text."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest

from airquality.ground.errors import UsageError
from airquality.ground.kafka_security import KafkaSecurity
from airquality.ground.settings import Settings, read_settings
from airquality.stream import kafka_io, refusals, tls
from tests.system import PROJECT

SECRET = "s3cr3t-of-mine"
SASL = {
    "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
    "KAFKA_SASL_USERNAME": "ann",
    "KAFKA_SASL_PASSWORD": SECRET,
}


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def in_environment(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"KAFKA_SECURITY_PROTOCOL": "TLS"}, "KAFKA_SECURITY_PROTOCOL=TLS: .*SASL_SSL"),
        ({"KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}, "needs KAFKA_SASL_MECHANISM .*KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD"),
        ({**SASL, "KAFKA_SASL_MECHANISM": "GSSAPI"}, "KAFKA_SASL_MECHANISM=GSSAPI: "),
        ({**SASL, "KAFKA_SASL_PASSWORD": ""}, r"needs KAFKA_SASL_PASSWORD \(or KAFKA_SASL_PASSWORD_FILE\)"),
        ({**SASL, "KAFKA_SASL_PASSWORD_FILE": "/nowhere"}, "are both set"),
        (
            {**SASL, "KAFKA_SASL_PASSWORD": "", "KAFKA_SASL_PASSWORD_FILE": "/nowhere"},
            "KAFKA_SASL_PASSWORD_FILE=/nowhere: No such file",
        ),
        ({"KAFKA_SASL_PASSWORD": SECRET}, "KAFKA_SASL_PASSWORD is set, but KAFKA_SECURITY_PROTOCOL=PLAINTEXT"),
        ({"KAFKA_SSL_CAFILE": "ca.pem"}, "KAFKA_SSL_CAFILE is set, but .*PLAINTEXT encrypts nothing: set it to SSL"),
        (
            {**SASL, "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT", "KAFKA_SSL_CHECK_HOSTNAME": "false"},
            "set it to SASL_SSL",
        ),
        ({"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_SSL_KEYFILE": "key.pem"}, "no KAFKA_SSL_CERTFILE"),
        ({"KAFKA_BOOTSTRAP_SERVERS": "SASL_SSL://kafka:9092"}, "speaks SASL_SSL, but KAFKA_SECURITY_PROTOCOL is PLAINTEXT"),
        ({**SASL, "KAFKA_SASL_PASSWORD": f'"{SECRET}"'}, r"KAFKA_SASL_PASSWORD: it is in quotation marks"),
        ({"TOPIC_PREFIX": "acme/"}, "TOPIC_PREFIX=acme/"),
        ({"TOPIC_REPLICATION_FACTOR": "0"}, "TOPIC_REPLICATION_FACTOR=0"),
    ],
)
def test_read_settings_trust_that_contradicts_itself_is_one_line_without_the_secret(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], message: str
) -> None:
    in_environment(monkeypatch, **variables)
    with pytest.raises(UsageError, match=message) as caught:
        read_settings()
    assert "\n" not in str(caught.value)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_settings_with_a_password_never_show_it(monkeypatch: pytest.MonkeyPatch) -> None:
    in_environment(monkeypatch, **SASL, KAFKA_SSL_PASSWORD=SECRET)
    settings = read_settings()
    connection = kafka_io._connection(settings)
    assert connection["sasl_plain_password"] == SECRET
    shown = [repr(settings), str(settings), str(connection), repr(settings.model_dump()), settings.model_dump_json()]
    assert SECRET not in "".join(shown)


@pytest.mark.parametrize(
    "program",
    [
        ["-m", "airquality", "topics"],
        ["-m", "airquality", "topics", "--help"],
        ["consumer.py", "--help"],
        ["producer.py", "--help"],
    ],
)
@pytest.mark.slow
def test_program_with_a_password_never_prints_it(program: list[str]) -> None:
    servers = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "LOG_LEVEL": "DEBUG", "KAFKA_SSL_PASSWORD": SECRET}
    environment = {**os.environ, **SASL, **servers}
    done = subprocess.run(
        [sys.executable, *program], cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == (0 if "--help" in program else 1), done.stderr
    assert SECRET not in done.stdout + done.stderr


def test_sasl_password_comes_from_its_file_each_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("first\r\n")
    in_environment(monkeypatch, **{**SASL, "KAFKA_SASL_PASSWORD": "", "KAFKA_SASL_PASSWORD_FILE": str(file)})
    settings = read_settings()
    assert settings.sasl_password() == "first"
    file.write_text(" second ")
    assert kafka_io._connection(settings)["sasl_plain_password"] == " second "
    file.write_text("two\nlines")
    with pytest.raises(UsageError, match="it must be one line"):
        kafka_io._connection(settings)


def test_read_settings_prefix_goes_before_all_names_once(monkeypatch: pytest.MonkeyPatch) -> None:
    in_environment(monkeypatch, TOPIC_PREFIX="acme.", RAW_TOPIC="acme.rows")
    settings = read_settings()
    names = set(kafka_io.topic_names(settings).values())
    assert names == {"acme.rows", *(f"acme.air_quality.{role}" for role in ("pred", "state", "dlq", "events"))}
    assert settings.consumer_group == "acme.air-quality-consumer"


@pytest.mark.parametrize(
    ("field", "content", "message"),
    [
        ("kafka_ssl_cafile", None, "KAFKA_SSL_CAFILE=.*: No such file"),
        ("kafka_ssl_cafile", "no certificate", "KAFKA_SSL_CAFILE=.*no certificate in PEM"),
        ("kafka_ssl_certfile", None, "KAFKA_SSL_CERTFILE=.*: there is no such file"),
        ("kafka_ssl_certfile", "no certificate", "must hold a certificate and its key in PEM"),
    ],
)
def test_tls_context_of_an_unusable_file_names_its_variable(
    tmp_path: Path, field: str, content: str | None, message: str
) -> None:
    file = tmp_path / "x.pem"
    if content is not None:
        file.write_text(content)
    given: dict[str, Any] = {"kafka_security_protocol": "SSL", field: file}
    security = KafkaSecurity(**given)
    with pytest.raises(UsageError, match=message):
        tls.context(security)


def test_refusal_by_a_broker_that_hangs_is_none_and_asks_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(0.1)
        settings = Settings(kafka_bootstrap_servers=f"127.0.0.1:{silent.getsockname()[1]}")
        assert refusals.refusal(settings) is None
        silent.accept()[0].close()
        with pytest.raises(TimeoutError):
            silent.accept()
