"""Settings: a flag over the environment over the default, and faults that say what to change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from airquality.ground.errors import UsageError
from airquality.ground.settings import Settings, read_settings


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(name, raising=False)


def test_the_defaults_are_those_the_user_fixed() -> None:
    settings = read_settings()
    assert settings.kafka_bootstrap_servers == "localhost:9092"
    assert (settings.raw_topic, settings.pred_topic) == ("air_quality.raw", "air_quality.pred")
    assert (settings.state_topic, settings.dlq_topic) == ("air_quality.state", "air_quality.dlq")
    assert settings.api_url == "http://localhost:8000"
    assert settings.consumer_metrics_port == 8001
    assert settings.reports_dir == Path("reports")


def test_a_flag_goes_before_the_environment_and_that_before_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAW_TOPIC", "from_the_environment")
    monkeypatch.setenv("PRED_TOPIC", "from_the_environment")
    settings = read_settings(raw_topic="from_a_flag", pred_topic=None)
    assert (settings.raw_topic, settings.pred_topic) == ("from_a_flag", "from_the_environment")


def test_an_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch) -> None:
    # `${KAFKA_API_VERSION:-}` in a compose file gives an empty one
    for name in Settings.model_fields:
        monkeypatch.setenv(name.upper(), "")
    assert read_settings() == Settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CONSUMER_METRICS_PORT", "65536"),
        ("CONSUMER_METRICS_PORT", "eight"),
        ("TOPIC_PARTITIONS", "0"),
        ("MAX_POLL_RECORDS", "0"),
        ("SNAPSHOT_SECONDS", "0"),
        ("API_TIMEOUT_SECONDS", "-1"),
        ("LOG_FORMAT", "xml"),
        ("LOG_LEVEL", "loud"),
        ("KAFKA_API_VERSION", "newest"),
        ("AIR_QUALITY_DATA_SOURCE", "guessed"),
        ("WATCHDOG_SECONDS", "inf"),
        ("API_TIMEOUT_SECONDS", "nan"),
        ("REPORT_TIMEOUT_SECONDS", "1e300"),
        ("RAW_TOPIC", "air quality"),
        ("PRED_TOPIC", "a" * 250),
        ("STATE_TOPIC", ".."),
        ("CONSUMER_GROUP", "gruppe/eins"),
        ("CONSUMER_INSTANCE_ID", "a b"),
    ],
)
def test_a_fault_is_a_usage_error_that_names_the_variable_and_its_value(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=f"{name}={value}"):
        read_settings()


def test_all_faults_are_in_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOPIC_PARTITIONS", "0")
    monkeypatch.setenv("MAX_POLL_RECORDS", "none")
    with pytest.raises(UsageError, match=r"TOPIC_PARTITIONS=0.*MAX_POLL_RECORDS=none"):
        read_settings()


@pytest.mark.parametrize("level", ["INFO", "debug", "Warning"])
def test_a_log_level_may_be_written_in_either_case(level: str) -> None:
    assert read_settings(log_level=level).log_level == level


def test_settings_are_frozen() -> None:
    made: Any = read_settings()
    with pytest.raises(ValidationError, match="frozen"):
        made.raw_topic = "other"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("API_URL", "127.0.0.1:8000", "write http://127.0.0.1:8000"),
        ("API_URL", "localhost:8000", "write http://localhost:8000"),
        ("API_URL", "api", "write http://api"),
        ("API_URL", "ftp://api:8000", "a URL such as"),
        ("API_URL", "http://", "a URL such as"),
        ("API_URL", "http://:8000", "a URL such as"),
        ("API_URL", "http://api:", "a URL such as"),
        ("API_URL", "http://api:0", "a URL such as"),
        ("API_URL", "http://api:eight", "it is no URL"),
        ("API_URL", "http://api:65536", "it is no URL"),
        ("API_URL", "http://[::1", "it is no URL"),
        ("API_URL", "http://api:8000/?x=1", "a URL such as"),
        ("API_URL", "http://a pi:8000", "a URL such as"),
        ("API_URL", 'http://"api":8000', "a URL such as"),
        ("KAFKA_BOOTSTRAP_SERVERS", "host:", "'host:' is not HOST:PORT"),
        ("KAFKA_BOOTSTRAP_SERVERS", "host:9092/", "'host:9092/' is not HOST:PORT"),
        ("KAFKA_BOOTSTRAP_SERVERS", "http://host:9092", "is not HOST:PORT"),
        ("KAFKA_BOOTSTRAP_SERVERS", "TLS://host:9092", "is not HOST:PORT"),
        ("KAFKA_BOOTSTRAP_SERVERS", "host:9092,", "'' is not HOST:PORT"),
        ("KAFKA_BOOTSTRAP_SERVERS", "host:9092;other:9092", "is not HOST:PORT"),
        ("KAFKA_BOOTSTRAP_SERVERS", "host:0", "is not HOST:PORT"),
        ("KAFKA_BOOTSTRAP_SERVERS", "host:99999", "is not HOST:PORT"),
        ("KAFKA_BOOTSTRAP_SERVERS", "host:kafka", "is not HOST:PORT"),
        ("MLFLOW_TRACKING_URI", "sqlite:/mlflow.db", "three slashes"),
        ("MLFLOW_TRACKING_URI", "sqlite://mlflow.db", "three slashes"),
        ("MLFLOW_TRACKING_URI", "sqlite:///", "three slashes"),
        ("MLFLOW_TRACKING_URI", "mlflow:5000", "expected is sqlite"),
        ("MLFLOW_TRACKING_URI", "mlruns", "expected is sqlite"),
        ("MLFLOW_TRACKING_URI", "file:///data/mlruns", "expected is sqlite"),
        ("MLFLOW_TRACKING_URI", "http://mlflow:", "a URL such as"),
        ("MLFLOW_TRACKING_URI", "postgresql:/localhost/x", "expected is sqlite"),
    ],
)
def test_read_settings_address_that_can_never_work_is_one_line(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError) as caught:
        read_settings()
    assert f"{name}={value}: " in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("quote", ['"', "'"])
@pytest.mark.parametrize("name", ["API_URL", "KAFKA_BOOTSTRAP_SERVERS", "MLFLOW_TRACKING_URI", "REPORTS_DIR", "MODEL_NAME"])
def test_read_settings_quotes_that_an_env_file_keeps_are_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, quote: str
) -> None:
    monkeypatch.setenv(name, f"{quote}http://localhost:8000{quote}")
    with pytest.raises(UsageError, match=f"{name}={quote}.*quotation marks: docker --env-file keeps them"):
        read_settings()


SEVERAL = "a:9092, b-2.example.org:9093 ,[::1]:9094,kafka_1"


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("API_URL", "http://api:8000/", "http://api:8000"),
        ("API_URL", " https://host/air//\r\n", "https://host/air"),
        ("API_URL", "http://[::1]:8000", "http://[::1]:8000"),
        ("API_URL", "http://ann:pa%23ss@api:8000", "http://ann:pa%23ss@api:8000"),
        ("KAFKA_BOOTSTRAP_SERVERS", SEVERAL, SEVERAL.replace(" ", "")),
        ("KAFKA_BOOTSTRAP_SERVERS", "PLAINTEXT://kafka:29092", "PLAINTEXT://kafka:29092"),
        ("MLFLOW_TRACKING_URI", "sqlite:////data/50% #2/m.db", "sqlite:////data/50% #2/m.db"),
        ("MLFLOW_TRACKING_URI", "sqlite:///C:/x/m.db", "sqlite:///C:/x/m.db"),
        ("MLFLOW_TRACKING_URI", "http://mlflow:5000/", "http://mlflow:5000"),
        ("MLFLOW_TRACKING_URI", "mysql+pymysql://ann:pw@db/x", "mysql+pymysql://ann:pw@db/x"),
        ("REPORTS_DIR", "O'Brien's reports", "O'Brien's reports"),
    ],
)
def test_read_settings_address_that_works_is_kept(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, meant: str
) -> None:
    monkeypatch.setenv(name, value)
    assert str(getattr(read_settings(), name.lower())) == meant


def test_read_settings_credentials_are_in_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_URL", "http://ann:secret@api:8000?x")
    with pytest.raises(UsageError) as caught:
        read_settings()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("key", ["two words", "gr\u00fcn", "'quoted'", "a\tb"])
def test_read_settings_key_that_no_header_carries_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("API_KEY", key)
    with pytest.raises(UsageError, match="API_KEY: ") as caught:
        read_settings()
    assert key not in str(caught.value)


def test_read_settings_key_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", "s3cret")
    settings = read_settings()
    assert settings.api_key is not None
    assert settings.api_key.get_secret_value() == "s3cret"
    assert "s3cret" not in f"{settings!r} {settings}"


def test_read_settings_topics_must_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLQ_TOPIC", "air_quality.raw")
    with pytest.raises(UsageError, match="each topic needs a name of its own"):
        read_settings()
