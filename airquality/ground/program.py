"""The end of a program that has threads and connections: on a signal, and whatever hangs."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn, Self

from airquality.ground import log

#: Threads that are still running when a program has done its work are left behind after this.
LEAVE_SECONDS = 10.0

logger = logging.getLogger("program")


def stop_signals() -> list[signal.Signals]:
    """Return the signals that ask for a stop: SIGINT, SIGTERM and, where ``nohup`` does not keep it out, SIGHUP."""
    numbers = [signal.SIGINT, signal.SIGTERM]
    return numbers if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [*numbers, signal.SIGHUP]


def stop_on_signals(stop: Callable[[], None]) -> None:
    """Call ``stop`` at the first signal that asks for it; a second one ends the process at once."""
    numbers = stop_signals()

    def first(*_: object) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)
        stop()

    for number in numbers:
        signal.signal(number, first)


class Closing:
    """Ends the process if what is entered within it is not closed in time once something has failed.

    >>> with Closing(30.0) as closing:  # ... files, connections, processes
    ...     with closing.watched():
    ...         pass  # the work: an exception that leaves here starts the clock
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._closed = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Start the clock when an exception leaves the block."""
        try:
            yield
        except BaseException:
            end_unless(self._closed, self._seconds, 1)
            raise


def end_unless(done: threading.Event, seconds: float, code: int) -> None:
    """End the process in so many seconds unless ``done`` is set by then, whatever threads or connections hang."""

    def watch() -> None:
        if not done.wait(seconds):
            log.complain("program", f"not everything could be closed within {seconds:g} s: ending the process")
            os._exit(code)

    threading.Thread(target=watch, name="end-unless", daemon=True).start()


def leave(main: Callable[[], int]) -> NoReturn:
    """Run ``main`` and end the process with what it returns; a thread that never ends does not keep it."""
    code = 1
    try:
        code = main()
    except Exception:
        logger.critical("ended by a defect", exc_info=True)
    end_unless(threading.Event(), LEAVE_SECONDS, code)
    sys.exit(code)
