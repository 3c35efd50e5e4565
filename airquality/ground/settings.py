"""Every setting of every program, read once in ``main`` and passed down.

A flag overrides the environment variable of the same name, which overrides the default below. Durations are seconds.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from airquality.ground.errors import UsageError
from airquality.ground.kafka_security import KafkaSecurity
from airquality.ground.shown import shown

#: Kafka's own rule for names of topics; the others that end up in Kafka or in file names follow it.
_NAME = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}")
_KAFKA_HOST = re.compile(r"(?:(?:SASL_)?(?:PLAINTEXT|SSL)://)?(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?")


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError("1 to 249 letters, digits, dots, hyphens and underscores are expected")
    return name


def _checked_kafka(servers: str) -> str:
    """Return the servers without the blanks around them."""
    listed = [server.strip() for server in servers.split(",")]
    for server in listed:
        match = _KAFKA_HOST.fullmatch(server)
        if match is None or not 0 < int(match[1] or 9092) < 65536:
            raise ValueError(f"{server!r} is not HOST:PORT; expected is a list such as localhost:9092,other:9092")
    return ",".join(listed)


def _checked_http(url: str) -> str:
    """Return the URL without a slash at its end."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError as error:
        raise ValueError(f"it is no URL: {error}") from error
    if "://" not in url:
        raise ValueError(f"it has no scheme: write http://{url}")
    if not usable or parts.netloc.endswith(":") or parts.query or parts.fragment or re.search(r"[\s\"'<>]", url):
        raise ValueError("a URL such as http://localhost:8000 is expected (in a password, write ? as %3F, # as %23)")
    return url.rstrip("/")


def _checked_registry(uri: str) -> str:
    if uri.startswith(("http:", "https:")):
        return _checked_http(uri)
    if uri.startswith("sqlite:") and not re.fullmatch(r"sqlite:///[^?].*", uri):
        raise ValueError("sqlite takes three slashes and a file: sqlite:///mlflow.db, or sqlite:////data/mlflow.db")
    if not re.match(r"[a-z][a-z0-9]*(\+[a-z0-9_]+)?://.", uri) or uri.startswith("file:"):
        raise ValueError("expected is sqlite:///FILE, http://HOST:PORT, or the URI of a database")
    return uri


Name = Annotated[str, AfterValidator(_checked_name)]
Seconds = Annotated[float, Field(gt=0, le=7 * 24 * 3600)]


class Settings(KafkaSecurity):
    """Frozen settings; each field's environment variable is its name in upper case (``KAFKA_BOOTSTRAP_SERVERS``)."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", protected_namespaces=(), env_ignore_empty=True, hide_input_in_errors=True
    )

    # Kafka
    kafka_bootstrap_servers: Annotated[str, AfterValidator(_checked_kafka)] = "localhost:9092"
    kafka_api_version: str | None = Field(
        None, pattern=r"^\d+(\.\d+)+$", description='only for brokers that lie about theirs: "2.3" for librdkafka\'s mock'
    )
    topic_prefix: str = Field(
        "",
        pattern="^[A-Za-z0-9._-]{0,100}$",
        description="before the names of all topics, of the group and so of the transactional ids; names that have it stay",
    )
    raw_topic: Name = "air_quality.raw"
    pred_topic: Name = "air_quality.pred"
    state_topic: Name = "air_quality.state"
    dlq_topic: Name = "air_quality.dlq"
    events_topic: Name = "air_quality.events"
    topic_partitions: int = Field(
        3, ge=1, description="partitions of topics this system creates; existing topics keep theirs"
    )
    topic_replication_factor: int | None = Field(
        None, ge=1, le=100, description="replicas of topics this system creates; default: the broker's default"
    )
    consumer_group: Name = "air-quality-consumer"
    consumer_instance_id: Name | None = Field(
        None, description="a name of its own for each consumer of a group: faster restarts"
    )

    # consumer
    max_poll_records: int = Field(500, ge=1)
    max_poll_interval_seconds: Seconds = Field(
        300.0, description="a consumer that does not poll for so long is put out of its group"
    )
    snapshot_offsets: int = Field(
        5_000,
        ge=1,
        description="a station is snapshotted once its oldest unsaved row is this far back (times stations / 100, if more)",
    )
    snapshot_seconds: Seconds = Field(30.0, description="... or this old")
    watchdog_seconds: Seconds = Field(120.0, description="a blocking broker call longer than this ends the process")
    consumer_waits_for_kafka: bool = Field(
        False, description="also at its start, for a supervisor that would only start it again and again"
    )
    consumer_metrics_port: int = Field(8001, ge=0, le=65535)
    consumer_metrics_host: str = Field(
        "auto",
        description="addresses for the metrics port, separated by commas; auto: this machine, and Docker's bridge if there "
        "is one, for the stack's Prometheus",
    )

    metrics_stations: int = Field(
        200,
        ge=0,
        description="stations with series of their own in a consumer's metrics, some 30 each; the others share one",
    )

    # service
    api_url: Annotated[str, AfterValidator(_checked_http)] = "http://localhost:8000"
    api_timeout_seconds: Seconds = 10.0
    api_allowed_hosts: str = Field(
        "",
        description="more host names, comma separated, to call the API by and whose pages may call it; * allows any",
    )
    api_key: SecretStr | None = Field(
        None, description="what requests from beyond this machine must carry; the consumer sends it"
    )
    api_open: bool = Field(False, description="answer requests from beyond this machine without the key, too")
    mlflow_tracking_uri: Annotated[str, AfterValidator(_checked_registry)] = "sqlite:///mlflow.db"
    model_name: str = "air-quality-co"
    model_alias: str = "champion"
    model_poll_seconds: Seconds = Field(10.0, description="how often the API asks the registry whether the alias moved")

    # files
    air_quality_data_source: Literal["auto", "uci", "simulated"] = Field(
        "auto", description="auto: simulated where the real is not to be had"
    )
    artifacts_dir: Path = Path("artifacts")
    dataset_dir: Path = Path("dataset")
    reports_dir: Path = Path("reports")
    run_dir: Path = Field(Path("run"), description="what make run keeps for itself: its registry, its logs")

    # monitoring
    pages_a_month: float = Field(
        1.0, gt=0, description="how many false alarms of the hour-by-hour detectors a station may raise in a month"
    )
    truth_deadline_hours: int = Field(
        72, ge=0, le=167, description="hours of the station after a window's end in which its truth may come late"
    )
    report_queue_size: int = Field(64, ge=1)
    report_timeout_seconds: Seconds = 120.0
    reports_keep_days: int | None = Field(
        None, ge=1, description="reports that end earlier than this before their station's newest are removed"
    )

    log_format: str = Field("auto", pattern="^(auto|text|json)$", description="auto: text on a terminal, JSON otherwise")
    log_level: str = Field("INFO", pattern="^(?i:debug|info|warning|error|critical)$")

    @field_validator("*", mode="before")
    @classmethod
    def _check_text(cls, value: object, info: ValidationInfo) -> object:
        """Strip blanks and line ends, and refuse the quotes that files of variables keep; Kafka's secrets may have both."""
        if not isinstance(value, str) or info.field_name in ("kafka_sasl_password", "kafka_ssl_password"):
            return value
        text = value.strip()
        if text.startswith(("'", '"')) or text.endswith(("'", '"')):
            raise ValueError("it holds quotation marks: docker --env-file keeps them, write the value without")
        return text

    @field_validator("api_key")
    @classmethod
    def _check_key(cls, key: SecretStr | None) -> SecretStr | None:
        if key and not re.fullmatch(r"[!-~]+", key.get_secret_value()):
            raise ValueError("a header carries it: ASCII letters, digits and signs are expected, without blanks")
        return key

    @model_validator(mode="after")
    def _add_prefix(self) -> Self:
        for name in ("consumer_group", *(name for name in type(self).model_fields if name.endswith("_topic"))):
            value = getattr(self, name)
            if not value.startswith(self.topic_prefix):
                object.__setattr__(self, name, _checked_name(self.topic_prefix + value))
        return self

    @model_validator(mode="after")
    def _check_protocol(self) -> Self:
        for server in self.kafka_bootstrap_servers.split(","):
            protocol, separator, _ = server.partition("://")
            if separator and protocol != self.kafka_security_protocol:
                raise ValueError(
                    f"KAFKA_BOOTSTRAP_SERVERS={server} speaks {protocol}, but KAFKA_SECURITY_PROTOCOL is "
                    f"{self.kafka_security_protocol}"
                )
        return self

    @model_validator(mode="after")
    def _check_topics(self) -> Self:
        topics = [getattr(self, name) for name in sorted(type(self).model_fields) if name.endswith("_topic")]
        if len(set(topics)) < len(topics):
            raise ValueError(f"each topic needs a name of its own, not {', '.join(topics)}")
        return self


def read_settings(**flags: Any) -> Settings:
    """Return the settings, the ``flags`` that are not None over the environment; raises ``UsageError`` naming faults."""
    try:
        return Settings(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        faults = "; ".join(f"{_place(fault)}{fault['msg'].removeprefix('Value error, ')}" for fault in error.errors())
        raise UsageError(shown(f"settings: {faults}")) from error


def _place(fault: Any) -> str:
    """Return which variable holds what, empty where a fault is of several together; never what a secret holds."""
    if not fault["loc"]:
        return ""
    name = str(fault["loc"][0])
    secret = "SecretStr" in str(Settings.model_fields[name].annotation)
    return f"{name.upper()}: " if secret else f"{name.upper()}={fault['input']}: "
