"""The forwarder before services that may be scaled: which of them answers, and what the caller sees when none does."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from deploy import forward
from lab.ports import free_port
from lab.waiting import PATIENCE_SECONDS, wait_until

PROJECT = Path(__file__).resolve().parent.parent


@asynccontextmanager
async def forwarding(target_port: int) -> AsyncIterator[int]:
    """Forward a free port to ``target_port`` of this machine."""
    port = free_port()
    task = asyncio.create_task(forward.forward(port, "localhost", target_port, "127.0.0.1"))
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            await writer.wait_closed()
            break
        except OSError:
            assert not task.done()
            await asyncio.sleep(0.01)
    yield port
    task.cancel()
    while len(asyncio.all_tasks()) > 1:  # what it still passes on ends by itself
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.01)  # transports close in the turn after


async def shouts(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer in capitals, once everything has been said."""
    writer.write((await reader.read()).upper())
    writer.close()


def test_forward_passes_both_directions_and_their_ends_on() -> None:
    said = b"what a long request " * 50_000

    async def ask() -> bytes:
        server = await asyncio.start_server(shouts, "127.0.0.1", 0)
        async with forwarding(server.sockets[0].getsockname()[1]) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(said)
            writer.write_eof()
            answer = await reader.read()
            writer.close()
        server.close()
        return answer

    assert asyncio.run(ask()) == said.upper()


def test_forward_nobody_behind_it_ends_the_connection() -> None:
    async def ask() -> None:
        async with forwarding(free_port()) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await reader.read() == b""
            writer.close()

    asyncio.run(ask())


def test_connect_address_that_does_not_answer_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask() -> None:
        server = await asyncio.start_server(shouts, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]

        async def addresses(*_: object, **__: object) -> list[tuple[object, ...]]:
            return [(0, 0, 0, "", (address, port)) for address in ("127.0.0.2", "127.0.0.1", "127.0.0.3")]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", addresses)
        for _ in range(10):  # whichever comes first
            reader, writer = await forward.connect("api", port)
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()
        server.close()

    asyncio.run(ask())


def connected(port: int) -> socket.socket:
    """Return a connection to a program that is starting."""
    made: list[socket.socket] = []

    def connect() -> bool:
        with suppress(OSError):
            made.append(socket.create_connection(("127.0.0.1", port), timeout=5))
        return bool(made)

    wait_until(connect, "it listens")
    return made[0]


@pytest.mark.slow
def test_main_ends_on_sigterm_though_a_connection_is_open() -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", 0)) as behind:
        command = [sys.executable, "deploy/forward.py", str(port), f"localhost:{behind.getsockname()[1]}"]
        with subprocess.Popen(command, cwd=PROJECT) as process, connected(port), behind.accept()[0]:
            process.terminate()
            assert process.wait(PATIENCE_SECONDS) == 0


@pytest.mark.parametrize("arguments", [[], ["8000"], ["8000", "api"], ["x", "api:8000"], ["1", "2:3", "4"]])
def test_main_anything_else_is_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert forward.main(arguments) == 2
    assert "usage" in capsys.readouterr().err
