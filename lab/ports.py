"""Ports of this machine that nobody listens on."""

from __future__ import annotations

import secrets
import socket

LOOPBACK = "127.0.0.1"
#: Below every common ephemeral range: a client that keeps calling a stopped server from an ephemeral port may otherwise be
#: given the server's own port, connect to itself (a TCP simultaneous open) and keep the restarted server from binding it.
_PORTS = range(20_000, 32_768)


def free_port() -> int:
    """Return a port that nobody listens on now, and that no outgoing connection will be given."""
    while True:
        port = secrets.choice(_PORTS)
        if is_free(port):
            return port


def is_free(port: int) -> bool:
    """Whether a server could listen on ``port``; connections in TIME_WAIT do not count, as they do not for Kafka."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
