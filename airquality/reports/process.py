"""One separate process that turns closed windows into report files, and the thread that watches over it.

The parent never imports the plotting stack. The child is started fresh (``spawn``), is given one window at a time, and
answers each; a child that dies, or is silent for too long, is killed and replaced, so one bad window costs its own
report and nothing else. The child ignores SIGINT, because its parent ends it, and ends when its parent does.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Literal

from airquality.events import WindowSettled
from airquality.ground import log
from airquality.ground.settings import Settings
from airquality.monitoring.drift import load_judge
from airquality.monitoring.promise import Promise
from airquality.records import isoformat
from airquality.reports.jobs import Job, ReportResult

#: What the child does with it, told how many are due after it: write the report and return the HTML's path. Raising means
#: the report failed.
Write = Callable[[Job, int], Path]
#: Called once in the child, which is where heavy imports belong; must be picklable.
OpenWriter = Callable[[], Write]

_START_TIMEOUT_SECONDS = 300.0
_ATTEMPTS = 2
_CHILD_NICENESS = 5
_SPAWN = multiprocessing.get_context("spawn")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Answer:
    path: Path | None
    error: str


class _ChildFailed(Exception):
    """The child is dead or silent; it has to be replaced."""


class _Child:
    """One running child and the pipe to it."""

    def __init__(self, open_writer: OpenWriter) -> None:
        self._pipe, theirs = _SPAWN.Pipe()
        self._process: SpawnProcess = _SPAWN.Process(target=_serve, args=(theirs, open_writer), name="reports", daemon=True)
        self._process.start()
        theirs.close()  # so that the pipe ends when the child does

    def answer(self, timeout_seconds: float) -> _Answer:
        """Return the child's next answer; raises ``_ChildFailed`` if none comes in time."""
        try:
            if not self._pipe.poll(timeout_seconds):
                raise _ChildFailed(f"no answer within {timeout_seconds:g} s")
            answer: _Answer = self._pipe.recv()
        except (EOFError, OSError) as error:
            self._process.join(timeout=5.0)  # the pipe ends with the process
            raise _ChildFailed(f"the report process died (exit code {self._process.exitcode})") from error
        return answer

    def ask(self, window: Job, waiting: int) -> None:
        """Hand ``window`` to the child; raises ``_ChildFailed`` if it is gone."""
        try:
            self._pipe.send((window, waiting))
        except OSError as error:
            raise _ChildFailed("the report process is gone") from error

    def kill(self) -> None:
        """End the process; whoever waits for its answer is told. The only method for a second thread."""
        self._process.kill()

    def discard(self) -> None:
        """End the process and release what it held."""
        self._process.kill()
        self._process.join()
        self._process.close()
        self._pipe.close()


class ReportProcess:
    """Make reports in a child process, one at a time, from a bounded queue.

    Invariant: every accepted window yields exactly one result, unless :meth:`close` ends the work first. The child
    starts with the first window. Methods are called from one thread and do not block, but for ``close``.
    """

    def __init__(self, open_writer: OpenWriter, queue_size: int, timeout_seconds: float) -> None:
        self._open_writer = open_writer
        self._timeout_seconds = timeout_seconds
        self._windows: queue.Queue[tuple[int, Job] | None] = queue.Queue(maxsize=queue_size)
        self._results: queue.SimpleQueue[tuple[int, ReportResult]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._child: _Child | None = None
        self._lock = threading.Lock()  # guards _child and _closing: close() kills the child from another thread
        self._closing = False
        #: Windows that the caller has not yet offered, so that the index can say how many reports are due.
        self.not_offered = 0

    def offer(self, ticket: int, window: Job) -> bool:
        """Take ``window`` if there is room; its result comes back with ``ticket``."""
        try:
            self._windows.put_nowait((ticket, window))
        except queue.Full:
            return False
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="report-supervisor", daemon=True)
            self._thread.start()
        return True

    def results(self) -> list[tuple[int, ReportResult]]:
        """Return the results that have come in since the last call.

        Raises:
            RuntimeError: the supervising thread ended on a defect of its own; no report would ever come.
        """
        if self._thread is not None and not self._thread.is_alive() and not self._closing:
            raise RuntimeError("the thread that supervises the report process has ended; its traceback was logged")
        found = []
        while not self._results.empty():
            found.append(self._results.get_nowait())
        return found

    def wait(self, timeout_seconds: float) -> list[tuple[int, ReportResult]]:
        """Wait for a result and return it with any others that are there; empty if none came in time."""
        try:
            first = self._results.get(timeout=max(timeout_seconds, 0.0))
        except queue.Empty:
            return []
        return [first, *self.results()]

    def close(self) -> None:
        """End the child at once, in the middle of a report if need be. Windows still queued are let go."""
        with self._lock:
            self._closing = True
            if self._child is not None:
                self._child.kill()
        if self._thread is not None:
            with contextlib.suppress(queue.Full):  # full, the thread finds another window and sees that it is closing
                self._windows.put_nowait(None)
            self._thread.join()

    def _run(self) -> None:
        try:
            while (item := self._windows.get()) is not None and not self._closing:
                ticket, window = item
                result = self._report(window)
                if result is not None:
                    self._results.put((ticket, result))
        finally:
            self._end_child()

    def _report(self, window: Job) -> ReportResult | None:
        """Return the window's result after at most two attempts; ``None`` if the process was closed meanwhile."""
        answer = _Answer(None, "")
        for attempt in range(1, _ATTEMPTS + 1):
            answer = self._attempt(window)
            if self._closing:
                return None
            if answer.path is not None:
                return _result(window, "generated", answer)
            logger.warning("%s failed (attempt %d of %d): %s", _name(window), attempt, _ATTEMPTS, answer.error)
        return _result(window, "failed", answer)

    def _attempt(self, window: Job) -> _Answer:
        try:
            child = self._running_child()
            child.ask(window, self._windows.qsize() + self.not_offered)
            return child.answer(self._timeout_seconds)
        except _ChildFailed as error:
            self._end_child()
            return _Answer(None, str(error))

    def _running_child(self) -> _Child:
        with self._lock:
            if self._closing:
                raise _ChildFailed("closed")
            if self._child is not None:
                return self._child
            try:
                child = self._child = _Child(self._open_writer)
            except OSError as error:
                raise _ChildFailed(f"no report process can be started: {error}") from error
        child.answer(_START_TIMEOUT_SECONDS)
        return child

    def _end_child(self) -> None:
        with self._lock:
            if self._child is not None:
                self._child.discard()
                self._child = None


def _result(window: Job, result: Literal["generated", "failed"], answer: _Answer) -> ReportResult:
    settled = isinstance(window, WindowSettled)
    return ReportResult(
        window.station_id, window.kind.name, window.end_hour, result, answer.path, answer.error, settled=settled
    )


def _name(window: Job) -> str:
    return f"The {window.kind.name} report of {window.station_id} up to {isoformat(window.end_hour)}"


# ---- in the child ----


def evidently_writer(settings: Settings) -> Write:
    """Return the writer of reports. Imports the plotting stack: for the child only."""
    from airquality.reports.sources import KnownRows
    from airquality.reports.writer import ReportWriter

    log.configure(settings.log_level, settings.log_format)
    judge, known = load_judge(settings.dataset_dir), KnownRows.of(settings.dataset_dir)
    promise = Promise.read(settings.dataset_dir, settings.pages_a_month)
    return ReportWriter(settings.reports_dir, judge, known, settings.reports_keep_days, promise).write


def _serve(pipe: Connection, open_writer: OpenWriter) -> None:
    """Answer windows until the pipe or the parent ends. The first answer says that the writer is ready."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["DO_NOT_TRACK"] = "1"
    os.nice(_CHILD_NICENESS)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    write = open_writer()
    pipe.send(_Answer(None, ""))
    try:
        while True:
            pipe.send(_answer(write, *pipe.recv()))
    except (EOFError, BrokenPipeError):
        return


def _answer(write: Write, window: Job, waiting: int) -> _Answer:
    try:
        return _Answer(write(window, waiting), "")
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001  one of Evidently's errors is no Exception, and any must cost this report only
        return _Answer(None, f"{type(error).__name__}: {error}")


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
