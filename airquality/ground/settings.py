"""Every setting of every program, read once in ``main`` and passed down.

A flag overrides the environment variable of the same name, which overrides the default below. Durations are seconds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from airquality.ground.errors import UsageError


class Settings(BaseSettings):
    """Frozen settings; each field's environment variable is its name in upper case (``KAFKA_BOOTSTRAP_SERVERS``)."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", protected_namespaces=(), env_ignore_empty=True)

    # Kafka
    kafka_bootstrap_servers: str = "localhost:9092"
    kafka_api_version: str | None = Field(
        None, pattern=r"^\d+(\.\d+)+$", description='only for brokers that lie about theirs: "2.3" for librdkafka\'s mock'
    )
    raw_topic: str = "air_quality.raw"
    pred_topic: str = "air_quality.pred"
    state_topic: str = "air_quality.state"
    dlq_topic: str = "air_quality.dlq"
    topic_partitions: int = Field(
        3, ge=1, description="partitions of topics this system creates; existing topics keep theirs"
    )
    consumer_group: str = "air-quality-consumer"
    consumer_instance_id: str | None = Field(
        None, description="a name of its own for each consumer of a group: faster restarts"
    )

    # consumer
    max_poll_records: int = Field(500, ge=1)
    snapshot_offsets: int = Field(
        5_000, ge=1, description="a station is snapshotted once its oldest unsaved row is this far back"
    )
    snapshot_seconds: float = Field(30.0, gt=0, description="... or this old")
    watchdog_seconds: float = Field(120.0, gt=0, description="a blocking broker call longer than this ends the process")
    consumer_metrics_port: int = Field(8001, ge=0, le=65535)
    consumer_metrics_host: str = Field(
        "auto",
        description="addresses for the metrics port, separated by commas; auto: this machine, and Docker's bridge if there "
        "is one, for the stack's Prometheus",
    )

    # service
    api_url: str = "http://localhost:8000"
    api_timeout_seconds: float = Field(10.0, gt=0)
    api_allowed_hosts: str = Field(
        "",
        description="more host names, comma separated, to call the API by and whose pages may call it; * allows any",
    )
    mlflow_tracking_uri: str = "sqlite:///mlflow.db"
    model_name: str = "air-quality-co"
    model_alias: str = "champion"
    model_poll_seconds: float = Field(10.0, gt=0, description="how often the API asks the registry whether the alias moved")

    # files
    air_quality_data_source: Literal["auto", "uci", "simulated"] = Field(
        "auto", description="auto: simulated where the real is not to be had"
    )
    artifacts_dir: Path = Path("artifacts")
    dataset_dir: Path = Path("dataset")
    reports_dir: Path = Path("reports")
    run_dir: Path = Field(Path("run"), description="what make run keeps for itself: its registry, its logs")

    # monitoring
    report_queue_size: int = Field(64, ge=1)
    report_timeout_seconds: float = Field(120.0, gt=0)

    log_format: str = Field("auto", pattern="^(auto|text|json)$", description="auto: text on a terminal, JSON otherwise")
    log_level: str = Field("INFO", pattern="^(?i:debug|info|warning|error|critical)$")


def read_settings(**flags: Any) -> Settings:
    """Return the settings, the ``flags`` that are not None over the environment; raises ``UsageError`` naming faults."""
    try:
        return Settings(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, fault['loc'])).upper()}={fault['input']}: {fault['msg']}" for fault in error.errors())
        raise UsageError(f"settings: {'; '.join(faults)}") from error
