"""Settings: a flag over the environment over the default, and faults that say what to change."""

from __future__ import annotations

from pathlib import Path

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
    ],
)
def test_a_fault_is_a_usage_error_that_names_the_variable_and_its_value(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=f"{name}={value}"):
        read_settings()


def test_all_faults_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOPIC_PARTITIONS", "0")
    monkeypatch.setenv("MAX_POLL_RECORDS", "none")
    with pytest.raises(UsageError, match=r"TOPIC_PARTITIONS=0.*MAX_POLL_RECORDS=none"):
        read_settings()


@pytest.mark.parametrize("level", ["INFO", "debug", "Warning"])
def test_a_log_level_may_be_written_in_either_case(level: str) -> None:
    assert read_settings(log_level=level).log_level == level


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        read_settings().raw_topic = "other"  # type: ignore[misc]
