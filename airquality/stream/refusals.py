"""Why Kafka refuses this process, in one sentence that names resource and operation.

The client hides most of it: a wrong password, a certificate that is not believed and a port that speaks something else all
end as "Unable to bootstrap". So where no broker answers, the bootstrap servers are asked once more, step by step.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from kafka.errors import (
    AuthorizationError,
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailedError,
)
from kafka.net.sasl import get_sasl_mechanism

from airquality.ground.settings import Settings
from airquality.stream import tls

PROBE_SECONDS = 2.0
#: SaslHandshake says which mechanisms a listener knows: any broker answers it, whether or not it asks for SASL.
_SASL_HANDSHAKE, _SASL_AUTHENTICATE = 17, 36
_UNSUPPORTED_MECHANISM, _NO_SASL_HERE, _NOT_AUTHENTICATED = 33, 34, 58
_LARGEST_ANSWER = 65_536

Connected = socket.socket | ssl.SSLSocket


def principal(settings: Settings) -> str:
    """Return who this process is to Kafka, in words."""
    if settings.uses_sasl:
        return f"user {settings.kafka_sasl_username}"
    if settings.uses_tls and settings.kafka_ssl_certfile:
        return f"the owner of KAFKA_SSL_CERTFILE={settings.kafka_ssl_certfile}"
    return "clients without a name (KAFKA_SECURITY_PROTOCOL sets how to say one)"


def missing_right(error: BaseException, settings: Settings, operation: str) -> str | None:
    """Return what an access rule is missing for, None if the error is of another kind.

    Args:
        error: What the client raised, or what is behind that.
        settings: Who this is, and where.
        operation: What was asked for of a topic, in the words of Kafka's access rules, such as READ.
    """
    found = next((each for each in _chain(error) if isinstance(each, AuthorizationError)), None)
    if found is None:
        return None
    wanted = _wanted(found, settings, operation)
    return (
        f"Kafka at {settings.kafka_bootstrap_servers} denies {principal(settings)} {wanted}: an access rule (ACL) has to "
        f"allow it"
    )


def _wanted(error: AuthorizationError, settings: Settings, operation: str) -> str:
    if isinstance(error, TopicAuthorizationFailedError):
        return f"{operation} on {_topics(error, settings)}"
    if isinstance(error, GroupAuthorizationFailedError):
        return f"READ on group {settings.consumer_group}"
    if isinstance(error, TransactionalIdAuthorizationFailedError):
        return f"WRITE on transactional ids that begin with {settings.consumer_group}-"
    if isinstance(error, ClusterAuthorizationFailedError):
        return f"{operation if operation in ('CREATE', 'ALTER', 'DESCRIBE') else 'IDEMPOTENT_WRITE'} on the cluster"
    return f"{operation} ({type(error).__name__})"


def _topics(error: TopicAuthorizationFailedError, settings: Settings) -> str:
    ours = {getattr(settings, name) for name in type(settings).model_fields if name.endswith("_topic")}
    named = error.args[0] if error.args else ()
    names = sorted(ours & (set(named) if isinstance(named, set | list | tuple) else {named}))
    return of_topics(names) if names else f"one of the topics {', '.join(sorted(ours))}"


def of_topics(names: Sequence[str]) -> str:
    """Return the names of topics in words."""
    return f"topic{'s' if len(names) > 1 else ''} {', '.join(names)}"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and what is behind it: its causes, and errors that it carries as arguments."""
    waiting, seen = [error], set[int]()
    while waiting:
        each = waiting.pop(0)
        if id(each) not in seen:
            seen.add(id(each))
            yield each
            behind = (each.__cause__, each.__context__, *each.args)
            waiting += [other for other in behind if isinstance(other, BaseException)]


def refusal(settings: Settings) -> str | None:
    """Ask the bootstrap servers why they do not answer; return the first reason that waiting cannot mend, None if none."""
    if settings.kafka_api_version:  # librdkafka's mock knows nothing of security
        return None
    for server in settings.kafka_bootstrap_servers.split(","):
        if reason := _refusal_of(server.rpartition("://")[2], settings):
            return f"Kafka refuses this connection: {reason}"
    return None


def _refusal_of(server: str, settings: Settings) -> str | None:
    with ExitStack() as opened:
        try:
            connected: Connected = opened.enter_context(_connect(server))
            if settings.uses_tls:
                host = _address(server)[0]
                connected = opened.enter_context(tls.context(settings).wrap_socket(connected, server_hostname=host))
            answer = _mechanisms(connected, settings.kafka_sasl_mechanism or "PLAIN")
            if fault := _sasl_fault(server, settings, answer):
                return fault
            return _login_fault(connected, server, settings) if settings.uses_sasl else None
        except ssl.SSLCertVerificationError as error:
            return tls.broker_fault(error, server)
        except ssl.SSLError as error:
            return tls.own_fault(error, settings, server) or _other_protocol(server, settings)
        except TimeoutError:  # a broker that hangs: another protocol would have been answered, or hung up on
            return None
        except (OSError, ValueError, struct.error):
            return _other_protocol(server, settings)


def _address(server: str) -> tuple[str, int]:
    """Return host and port of ``HOST``, ``HOST:PORT`` or ``[ADDRESS]:PORT``."""
    host, separator, port = server.rpartition(":")
    if not separator or server.endswith("]"):
        host, port = server, "9092"
    return host.strip("[]"), int(port)


def _connect(server: str) -> socket.socket:
    return socket.create_connection(_address(server), timeout=PROBE_SECONDS)


def _mechanisms(connected: Connected, mechanism: str) -> tuple[int, list[str]]:
    """Ask a broker for SASL with this mechanism; return its error code and the mechanisms it knows.

    Raises:
        OSError: there was no answer.
        ValueError: what answers is no Kafka broker, at least not without TLS.
    """
    name = mechanism.encode()
    answer = _asked(connected, _SASL_HANDSHAKE, 1, struct.pack(">h", len(name)) + name)
    _, code, count = struct.unpack_from(">ihi", answer)
    at, names = 10, []
    for _ in range(max(count, 0)):
        (length,) = struct.unpack_from(">h", answer, at)
        names.append(answer[at + 2 : at + 2 + length].decode())
        at += 2 + length
    return code, names


def _asked(connected: Connected, api: int, version: int, body: bytes) -> bytes:
    """Send one request of Kafka's protocol and return its answer, the correlation id in front."""
    request = struct.pack(">hhih", api, version, 1, -1) + body
    connected.sendall(struct.pack(">i", len(request)) + request)
    (size,) = struct.unpack(">i", _receive(connected, 4))
    if not 8 <= size <= _LARGEST_ANSWER:
        raise ValueError("this is no answer of a Kafka broker")
    return _receive(connected, size)


def _receive(connected: Connected, n_bytes: int) -> bytes:
    received = b""
    while len(received) < n_bytes:
        more = connected.recv(n_bytes - len(received))
        if not more:
            raise ConnectionError("the connection was closed")
        received += more
    return received


def _other_protocol(server: str, settings: Settings) -> str | None:
    """Return what a port speaks that does not speak what it was asked to, None if nothing answers."""
    protocol = settings.kafka_security_protocol
    try:
        with _connect(server) as connected:
            if settings.uses_tls:
                _mechanisms(connected, "PLAIN")
                return f"{server} does not speak TLS, but KAFKA_SECURITY_PROTOCOL={protocol} does: " + _other(protocol)
            with _unchecked().wrap_socket(connected):
                return f"{server} speaks TLS, but KAFKA_SECURITY_PROTOCOL={protocol} does not: " + _other(protocol)
    except ssl.SSLError as error:
        asks = "CERTIFICATE" in (error.reason or "")
        return f"{server} speaks TLS and asks for a client certificate: set KAFKA_SECURITY_PROTOCOL=SSL" if asks else None
    except (OSError, ValueError, struct.error):
        return None


def _other(protocol: str) -> str:
    other = protocol.replace("SSL", "PLAINTEXT") if "SSL" in protocol else protocol.replace("PLAINTEXT", "SSL")
    return f"set it to {other}, or KAFKA_BOOTSTRAP_SERVERS to another port"


def _unchecked() -> ssl.SSLContext:
    """Return a context that believes anybody: only whether TLS is spoken is asked, and nothing is sent."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    return made


def _sasl_fault(server: str, settings: Settings, answer: tuple[int, list[str]]) -> str | None:
    code, known = answer
    protocol, mechanism = settings.kafka_security_protocol, settings.kafka_sasl_mechanism
    if code == _NO_SASL_HERE:
        without = "SSL" if settings.uses_tls else "PLAINTEXT"
        return f"{server} asks nobody for a password: set KAFKA_SECURITY_PROTOCOL={without}" if settings.uses_sasl else None
    if not settings.uses_sasl:
        names = ", ".join(known) or "PLAIN"
        return (
            f"{server} asks for a user name and a password ({names}), but KAFKA_SECURITY_PROTOCOL={protocol} sends none: "
            f"set it to SASL_{protocol}, with KAFKA_SASL_MECHANISM, KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD"
        )
    if code == _UNSUPPORTED_MECHANISM or mechanism not in known:
        return f"{server} does not take KAFKA_SASL_MECHANISM={mechanism}, but {', '.join(known) or 'none'}"
    return None


def _login_fault(connected: Connected, server: str, settings: Settings) -> str | None:
    """Log in with the client's own means of doing so; it would lose the broker's answer, which closes the connection."""
    user, mechanism = settings.kafka_sasl_username, settings.kafka_sasl_mechanism
    login = get_sasl_mechanism(mechanism)(
        sasl_mechanism=mechanism, sasl_plain_username=user, sasl_plain_password=settings.sasl_password()
    )
    while not login.is_done():
        token = login.auth_bytes()
        answer = _asked(connected, _SASL_AUTHENTICATE, 0, struct.pack(">i", len(token)) + token)
        code, length = struct.unpack_from(">hh", answer, 4)
        said = answer[8 : 8 + length].decode(errors="replace") if length > 0 else ""
        if code == _NOT_AUTHENTICATED:
            return (
                f"{server} does not take the password of user {user} ({mechanism}; it says: {said}): check "
                f"KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD"
            )
        (size,) = struct.unpack_from(">i", answer, 8 + max(length, 0))
        at = 12 + max(length, 0)
        login.receive(answer[at : at + size])
    return None
