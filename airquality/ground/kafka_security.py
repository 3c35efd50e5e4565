"""How this system proves to Kafka who it is, and how it knows Kafka: settings under the names of the client's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


def _plain_secret(value: object) -> object:
    """Take off the line end that files of variables leave, and refuse the quotes that ``docker --env-file`` keeps."""
    if not isinstance(value, str):
        return value
    text = value.rstrip("\r\n")
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        raise ValueError(
            "it is in quotation marks, which docker --env-file keeps: write the value without; a password that has them "
            "goes into a file (KAFKA_SASL_PASSWORD_FILE)"
        )
    return text


Secret = Annotated[SecretStr, BeforeValidator(_plain_secret)]


class KafkaSecurity(BaseSettings):
    """The settings of every connection to Kafka that have to do with trust. A secret is never part of any text."""

    kafka_security_protocol: Annotated[Protocol, BeforeValidator(_upper)] = "PLAINTEXT"
    kafka_sasl_mechanism: Annotated[Mechanism | None, BeforeValidator(_upper)] = None
    kafka_sasl_username: str | None = None
    kafka_sasl_password: Secret | None = None
    kafka_sasl_password_file: Path | None = Field(None, description="a file that holds the password and nothing else")
    kafka_ssl_cafile: Path | None = Field(
        None, description="PEM: the authorities that may vouch for a broker; default: this machine's"
    )
    kafka_ssl_certfile: Path | None = Field(None, description="PEM: this client's certificate, with its chain")
    kafka_ssl_keyfile: Path | None = Field(None, description="PEM: its private key, where it is not in the same file")
    kafka_ssl_password: Secret | None = Field(None, description="of the private key")
    kafka_ssl_check_hostname: bool = Field(True, description="whether a broker's certificate must be for its host name")

    @property
    def uses_tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.kafka_security_protocol in ("SSL", "SASL_SSL")

    @property
    def uses_sasl(self) -> bool:
        """Whether a user name and a password are sent."""
        return self.kafka_security_protocol in ("SASL_PLAINTEXT", "SASL_SSL")

    def sasl_password(self) -> str:
        """Return the password, from its file where there is one; read at every connection, so that it may be replaced.

        Raises:
            ValueError: the file cannot be read, or holds no password; the message names it.
        """
        if self.kafka_sasl_password_file is None:
            return self.kafka_sasl_password.get_secret_value() if self.kafka_sasl_password else ""
        try:
            password = self.kafka_sasl_password_file.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
            raise ValueError(f"KAFKA_SASL_PASSWORD_FILE={self.kafka_sasl_password_file}: {reason}") from None
        if not password or "\n" in password:
            raise ValueError(f"KAFKA_SASL_PASSWORD_FILE={self.kafka_sasl_password_file}: it must be one line, the password")
        return password

    @model_validator(mode="after")
    def _check_security(self) -> Self:
        """Refuse what contradicts itself: a password that would not be used may be one that was meant to protect."""
        protocol = self.kafka_security_protocol
        if self.uses_sasl:
            self._require_sasl()
        elif said := self._set("kafka_sasl_"):
            raise ValueError(
                f"{said[0]} is set, but KAFKA_SECURITY_PROTOCOL={protocol} uses none: set it to SASL_SSL (or SASL_PLAINTEXT)"
            )
        if not self.uses_tls and (said := self._set("kafka_ssl_")):
            raise ValueError(
                f"{said[0]} is set, but KAFKA_SECURITY_PROTOCOL={protocol} encrypts nothing: set it to "
                f"{'SASL_SSL' if self.uses_sasl else 'SSL'}"
            )
        if self.kafka_ssl_keyfile and not self.kafka_ssl_certfile:
            raise ValueError("KAFKA_SSL_KEYFILE is set, but no KAFKA_SSL_CERTFILE, whose key it is")
        return self

    def _set(self, prefix: str) -> list[str]:
        """Return the variables of a kind that say something."""
        fields = [name for name in KafkaSecurity.model_fields if name.startswith(prefix)]
        return [name.upper() for name in fields if getattr(self, name) not in (None, True)]

    def _require_sasl(self) -> None:
        if self.kafka_sasl_password and self.kafka_sasl_password_file:
            raise ValueError("KAFKA_SASL_PASSWORD and KAFKA_SASL_PASSWORD_FILE are both set: one of them is enough")
        needed: dict[str, Any] = {
            "KAFKA_SASL_MECHANISM (PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512)": self.kafka_sasl_mechanism,
            "KAFKA_SASL_USERNAME": self.kafka_sasl_username,
            "KAFKA_SASL_PASSWORD (or KAFKA_SASL_PASSWORD_FILE)": self.kafka_sasl_password or self.kafka_sasl_password_file,
        }
        absent = [name for name, value in needed.items() if not value]
        if absent:
            raise ValueError(f"KAFKA_SECURITY_PROTOCOL={self.kafka_security_protocol} needs {', '.join(absent)}")
        self.sasl_password()
