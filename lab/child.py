"""Programs that end with the process that started them, however that ends: by a signal, an error, or kill -9."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import BinaryIO, Self

END_TIMEOUT_SECONDS = 15.0

# read returns at end of file: when the parent closes its end of the pipe, which its death does for it, kill -9 included.
# Ask the program to end, then insist on its whole group ($1); remove the folder $2 if one is named.
_WATCHDOG = """\
read -r _
kill "$1"
for _ in 1 2 3 4 5 6 7 8 9 10; do kill -0 "$1" || break; sleep 1; done
kill -9 "-$1"
[ -z "$2" ] || rm -rf "$2"
"""


class Child:
    """A running program, the leader of a process group of its own; leaving its ``with`` block ends the whole group.

    A session of its own keeps the terminal's Ctrl-C from it: who started it decides when it ends. If that process dies
    without :meth:`end`, a shell that holds a pipe to it does the same. Linux's PR_SET_PDEATHSIG would need no shell, but
    does not exist on macOS, fires when the *thread* that started the program ends, and wants Python code between fork
    and exec. Descriptors are closed on exec, so only a child forked without exec could hold the pipe open longer.
    """

    def __init__(
        self,
        command: Sequence[str],
        cwd: Path,
        env: Mapping[str, str] | None = None,
        output: BinaryIO | None = None,
        temporary: Path | None = None,
    ) -> None:
        """Start the program.

        Args:
            command: What to run.
            cwd: In which folder.
            env: With which environment; None: this process's.
            output: Where standard output and error go; None: where this process's go.
            temporary: A folder to remove if this process dies before the program.
        """
        with _signals_deferred():  # a signal between the start of the program and that of its watchdog would strand it
            self._process = subprocess.Popen(
                command,
                cwd=cwd,
                env=None if env is None else dict(env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=None if output is None else subprocess.STDOUT,
                start_new_session=True,
            )
            self._watchdog: subprocess.Popen[bytes] | None = _watchdog(self._process.pid, temporary)

    @property
    def pid(self) -> int:
        """The program's process id, which is its group's."""
        return self._process.pid

    def poll(self) -> int | None:
        """Return the program's exit status, None while it runs."""
        return self._process.poll()

    def wait(self, timeout_seconds: float | None = None) -> int:
        """Wait until the program ends by itself and return its exit status; raises ``subprocess.TimeoutExpired``."""
        return self._process.wait(timeout_seconds)

    def send_signal(self, number: int) -> None:
        """Send the program a signal, not its group; does nothing once it has ended."""
        self._process.send_signal(number)

    def end(self, timeout_seconds: float = END_TIMEOUT_SECONDS) -> None:
        """Ask the program to end (SIGTERM); by force if it has not in time, or if this wait is interrupted."""
        try:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout_seconds)
        finally:
            self.kill()

    def kill(self) -> None:
        """End the program and what it started as a crash would (SIGKILL); does nothing a second time."""
        if self._watchdog is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        self._watchdog.kill()  # before its pipe closes: the process id it knows may soon be somebody else's
        self._watchdog.communicate()
        self._watchdog = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def _watchdog(pid: int, temporary: Path | None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["/bin/sh", "-c", _WATCHDOG, "watchdog", str(pid), str(temporary or "")],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


@contextlib.contextmanager
def _signals_deferred() -> Iterator[None]:
    """Hold back the signals this process handles, and deliver them at the end of the block."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        caught.append(number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    handlers = {number: handler for number in numbers if callable(handler := signal.getsignal(number))}
    for number in handlers:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for received in caught:
            os.kill(os.getpid(), received)
