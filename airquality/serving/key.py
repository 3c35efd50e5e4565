"""The key of the service: who comes from beyond this machine must show it."""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import logging
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache

from pydantic import SecretStr

#: Where a program puts the key; ``Authorization: Bearer`` and the password of ``Authorization: Basic`` do as well, so that
#: a browser, which asks for a password, can show the pages.
HEADER = b"x-api-key"
CHALLENGE = b'Basic realm="air quality: any name, the API key as password"'
#: Answered to anybody: whoever runs or watches the container asks for them, and they say nothing of the data.
EXEMPT = ("/health", "/ready", "/metrics")

logger = logging.getLogger(__name__)

Headers = Iterable[tuple[bytes, bytes]]


class Key:
    """Decide who may come in.

    Args:
        secret: The key, None where there is none.
        open_to_all: Let everybody in who can reach the service, with and without the key.
        exempt: Paths that are answered to anybody.
    """

    def __init__(
        self, secret: SecretStr | None = None, *, open_to_all: bool = False, exempt: Collection[str] = EXEMPT
    ) -> None:
        if secret and open_to_all:
            logger.warning("API_OPEN lets requests in without the key, although API_KEY is set")
        self._secret = secret.get_secret_value().encode() if secret else None
        self._open_to_all, self._exempt = open_to_all, exempt

    def fault(self, address: str, path: str, headers: Headers) -> str | None:
        """Return why a request that arrived on this address of this machine is refused, None if it is not."""
        if self._open_to_all or path in self._exempt or is_loopback_address(address):
            return None
        if self._secret is None:
            return (
                "requests from other machines and containers need a key, and this service has none: set API_KEY, or "
                "API_OPEN=1 to let everybody in who can reach it"
            )
        if any(hmac.compare_digest(shown, self._secret) for shown in _keys_shown(headers)):
            return None
        return "the key of this service (its API_KEY) is needed, in the header X-API-Key or as the password"


def _keys_shown(headers: Headers) -> Iterator[bytes]:
    for name, value in headers:
        if name == HEADER:
            yield value
        elif name == b"authorization":
            scheme, _, credentials = value.partition(b" ")
            if scheme.lower() == b"bearer":
                yield credentials.strip()
            elif scheme.lower() == b"basic":
                yield _password(credentials)


def _password(credentials: bytes) -> bytes:
    try:
        return base64.b64decode(credentials, validate=True).partition(b":")[2]
    except binascii.Error:
        return b""


@lru_cache(maxsize=256)  # of this machine's own addresses there are few
def is_loopback_address(address: str) -> bool:
    """Return whether only programs of this machine can have sent to this address; of a socket's file nothing is known.

    >>> [is_loopback_address(address) for address in ("127.8.0.1", "::1", "::ffff:127.0.0.1", "172.17.0.2", "/run/api.sock")]
    [True, True, True, False, False]
    """
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (mapped or found).is_loopback
