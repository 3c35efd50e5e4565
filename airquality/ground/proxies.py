"""Proxies in the environment: never between this process and its own machine, and named where they are in the way."""

from __future__ import annotations

import ipaddress
import os
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

#: What every client of this process reaches without a proxy. Some know networks, some only names and addresses.
_LOOPBACK = ("localhost", "127.0.0.1", "127.0.0.0/8", "::1")


def is_loopback(url: str) -> bool:
    """Return whether ``url`` names this machine.

    >>> is_loopback("http://127.0.0.1:8000"), is_loopback("http://api:8000")
    (True, False)
    """
    host = urlsplit(url).hostname or ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or address.is_unspecified


def exempt_loopback() -> None:
    """Keep proxies in the environment from this machine's own addresses, for every HTTP client of this process."""
    if not getproxies_environment():
        return
    listed = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    if listed.strip() != "*":
        exempt = [name for name in (part.strip() for part in listed.split(",")) if name]
        os.environ["no_proxy"] = ",".join([*exempt, *(name for name in _LOOPBACK if name not in exempt)])


def proxy_hint(url: str) -> str:
    """Return the half sentence that names the proxy variable that applies to ``url``, if one does."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    proxies = getproxies_environment()
    scheme = next((scheme for scheme in (parts.scheme, "all") if scheme in proxies), None)
    if scheme is None or is_loopback(url) or proxy_bypass(host):
        return ""
    names = (f"{scheme}_proxy", f"{scheme}_proxy".upper())
    variable = next((name for name in names if os.environ.get(name)), names[0])
    return f" (asked by way of the proxy in {variable}; NO_PROXY={host} goes around it)"
