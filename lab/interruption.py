"""What ends a run early: Ctrl-C, SIGTERM, a closed terminal, the death of the parent, an output nobody reads any more."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import NoReturn

from airquality.ground.command import EndedBySignal

POLL_SECONDS = 1.0
_REASONS = {
    signal.SIGINT: "interrupted (SIGINT)",
    signal.SIGTERM: "ended by SIGTERM",
    signal.SIGHUP: "ended by SIGHUP: its terminal was closed",
}


class Interruption:
    """Raises in the main thread once the run must end early.

    ``BrokenPipeError`` if nobody reads its output any more, ``EndedBySignal`` for a signal, else ``KeyboardInterrupt``, each
    with the reason as its message.
    """

    def __init__(self) -> None:
        """Begin to listen; only the main thread can."""
        self._error: BaseException | None = None
        for number in _REASONS:
            if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores it
                signal.signal(number, self._raise)
        threading.Thread(target=self._watch, args=(os.getppid(),), daemon=True).start()

    def _raise(self, number: int, _: object) -> NoReturn:
        raise self._error or EndedBySignal(_REASONS[signal.Signals(number)], number)

    def _watch(self, parent: int) -> None:
        output_closed = _output_poll()
        while self._error is None:
            if output_closed():
                self._error = BrokenPipeError()
            elif os.getppid() != parent:
                self._error = KeyboardInterrupt("the process that started it has ended")
        os.kill(os.getpid(), signal.SIGTERM)


def _output_poll() -> Callable[[], bool]:
    """Return a function that waits up to a second and says whether standard output has lost its reader."""
    poll = select.poll()
    try:
        poll.register(sys.stdout, 0)  # errors are always reported
    except (OSError, ValueError, TypeError):  # closed, or replaced by something that is no file

        def nothing() -> bool:
            time.sleep(POLL_SECONDS)
            return False

        return nothing
    return lambda: any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(POLL_SECONDS * 1000))
