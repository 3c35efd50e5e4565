"""Pass connections on: ``forward.py PORT HOST:PORT``, from this container's port to that one.

A published port belongs to one container, so a service that may be scaled cannot publish one. This listens in front of it:
each connection goes to one of the addresses that the name has at that moment, whichever of them answers.
"""

from __future__ import annotations

import asyncio
import random
import signal
import socket
import sys
from contextlib import suppress

CONNECT_SECONDS = 3.0
CHUNK_BYTES = 64 * 1024


async def forward(port: int, host: str, target_port: int, address: str = "0.0.0.0") -> None:
    """Accept connections on ``address:port`` until cancelled, and join each with one to ``host:target_port``."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answers, requests = await connect(host, target_port)
        except OSError:
            writer.close()  # the caller sees at once that nobody is there
            return
        try:
            await asyncio.gather(pipe(reader, requests), pipe(answers, writer))
        finally:
            requests.close()
            writer.close()

    server = await asyncio.start_server(accept, address, port)
    try:
        await asyncio.Event().wait()
    finally:
        server.close()  # not waiting for its connections, which may be idle for long


async def connect(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to any address of ``host``; raises ``OSError`` if none answers."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(entry[4][0]) for entry in found]
    failure: OSError = ConnectionError(f"{host} has no address")
    for address in random.sample(addresses, len(addresses)):
        try:
            async with asyncio.timeout(CONNECT_SECONDS):  # wait_for can lose a cancellation that comes with the answer
                return await asyncio.open_connection(address, port)
        except OSError as error:  # TimeoutError among them
            failure = error
    raise failure


async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy bytes until the sender ends, and tell the receiver; a connection that breaks ends the other one, too."""
    try:
        while chunk := await reader.read(CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.transport.abort()


async def run(port: int, host: str, target_port: int) -> None:
    """Forward until SIGTERM or SIGINT."""
    forwarding = asyncio.create_task(forward(port, host, target_port))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, forwarding.cancel)
    with suppress(asyncio.CancelledError):
        await forwarding


def main(argv: list[str]) -> int:
    """Run the program; 0 stopped on request, 2 usage."""
    match argv:
        case [port, target] if port.isdecimal() and target.rpartition(":")[2].isdecimal():
            host, _, target_port = target.rpartition(":")
        case _:
            print("usage: forward.py PORT HOST:PORT", file=sys.stderr)
            return 2
    asyncio.run(run(int(port), host, int(target_port)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
