"""TLS towards Kafka: the context of every connection, and what a handshake that fails says in words."""

from __future__ import annotations

import ssl
from pathlib import Path

from airquality.ground.errors import UsageError
from airquality.ground.kafka_security import KafkaSecurity

#: What a broker's alert says when it is this client's certificate that it does not take.
_CLIENT_ALERTS = ("UNKNOWN_CA", "BAD_CERTIFICATE", "CERTIFICATE_UNKNOWN", "CERTIFICATE_EXPIRED", "CERTIFICATE_REVOKED")


def context(security: KafkaSecurity) -> ssl.SSLContext:
    """Return the context that every TLS connection is made with; files are read anew each time.

    Raises:
        UsageError: a file cannot be used; the message names its variable.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.check_hostname = security.kafka_ssl_check_hostname
    if security.kafka_ssl_cafile is None:
        made.load_default_certs()
    else:
        _load_authorities(made, security.kafka_ssl_cafile)
    if security.kafka_ssl_certfile is not None:
        _load_own(made, security, security.kafka_ssl_certfile)
    return made


def _load_authorities(made: ssl.SSLContext, path: Path) -> None:
    try:
        made.load_verify_locations(path)
    except ssl.SSLError as error:
        raise UsageError(f"KAFKA_SSL_CAFILE={path}: it holds no certificate in PEM") from error
    except OSError as error:
        raise UsageError(f"KAFKA_SSL_CAFILE={path}: {error.strerror}") from error


def _load_own(made: ssl.SSLContext, security: KafkaSecurity, path: Path) -> None:
    key = security.kafka_ssl_keyfile
    for name, file in (("KAFKA_SSL_CERTFILE", path), ("KAFKA_SSL_KEYFILE", key)):
        if file is not None and not file.is_file():
            raise UsageError(f"{name}={file}: there is no such file")
    secret = security.kafka_ssl_password
    password = secret.get_secret_value() if secret else ""
    try:
        made.load_cert_chain(path, key, lambda: password)  # without a function OpenSSL would ask on the terminal
    except ssl.SSLError as error:
        raise UsageError(_key_fault(error, path, key)) from None
    except OSError as error:
        raise UsageError(f"KAFKA_SSL_CERTFILE={path}: {error.strerror}") from error


def _key_fault(error: ssl.SSLError, path: Path, key: Path | None) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"KAFKA_SSL_KEYFILE={key} is not the key of KAFKA_SSL_CERTFILE={path}"
    if error.reason in ("BAD_DECRYPT", "BAD_PASSWORD_READ") or "password" in str(error).lower():
        return f"KAFKA_SSL_KEYFILE={key or path} is locked, and KAFKA_SSL_PASSWORD does not open it"
    return f"KAFKA_SSL_CERTFILE={path} and KAFKA_SSL_KEYFILE={key or path} must hold a certificate and its key in PEM"


def broker_fault(error: ssl.SSLCertVerificationError, server: str) -> str:
    """Return in one sentence why the broker's certificate is not believed."""
    match error.verify_code:  # X509_V_ERR_* of OpenSSL
        case 10:
            return f"the certificate of {server} has expired: it has to be renewed there"
        case 9:
            return f"the certificate of {server} is not valid yet: one of the two clocks is wrong, or it has to be replaced"
        case 23:
            return f"the certificate of {server} was revoked: it has to be replaced there"
        case 62 | 64:
            return (
                f"the certificate of {server} is for another host name: use the name it was made for in "
                f"KAFKA_BOOTSTRAP_SERVERS, or KAFKA_SSL_CHECK_HOSTNAME=false where names cannot match"
            )
    return (
        f"the certificate of {server} is of no authority that is trusted here ({error.verify_message}): set "
        f"KAFKA_SSL_CAFILE to the PEM file of its authority"
    )


def own_fault(error: ssl.SSLError, security: KafkaSecurity, server: str) -> str | None:
    """Return in one sentence why the broker does not take this client's certificate; None if it is not about that."""
    reason = error.reason or ""
    if "CERTIFICATE_REQUIRED" in reason or (security.kafka_ssl_certfile is None and "HANDSHAKE_FAILURE" in reason):
        return f"{server} asks for a client certificate: set KAFKA_SSL_CERTFILE and KAFKA_SSL_KEYFILE"
    if any(alert in reason for alert in _CLIENT_ALERTS):
        if security.kafka_ssl_certfile is None:
            return f"{server} asks for a client certificate: set KAFKA_SSL_CERTFILE and KAFKA_SSL_KEYFILE"
        why = reason.rpartition("ALERT_")[2].replace("_", " ").lower()
        return f"{server} refuses the certificate KAFKA_SSL_CERTFILE={security.kafka_ssl_certfile} ({why})"
    return None
