"""One separate process that makes what is due of reports.

The parent never imports the plotting stack. The child is started fresh (``spawn``), is given some things that are due at a
time, and answers each; the parent kills one that is silent for too long. It ignores SIGINT, because its parent ends it, and
ends when its parent does.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Literal, get_args

from airquality.ground import log
from airquality.ground.settings import Settings
from airquality.monitoring.drift import load_judge
from airquality.monitoring.promise import Promise
from airquality.reports.due import Due

#: What a process is for: pages, which are light and soon there, or Evidently's parts.
Part = Literal["pages", "evidence"]
PARTS: tuple[Part, ...] = get_args(Part)
#: What the child does with what is due: make it, and return the page of each. Raising means it failed.
Write = Callable[[Sequence[Due]], list[Path]]
#: Called once in the child, which is where heavy imports belong; must be picklable.
OpenWriter = Callable[[Part], Write]

#: Evidently's parts wait for cores that nobody else needs: at 19 a process gets 1.5 % of a core that another one wants.
_NICENESS: dict[Part, int] = {"pages": 5, "evidence": 19}
_START_TIMEOUT_SECONDS = 300.0
_SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one thing: its page, or why there is none."""

    path: Path | None
    error: str = ""


class ChildFailed(Exception):
    """The child is dead or silent; it has to be replaced."""


class Child:
    """One running child and the pipe to it."""

    def __init__(self, open_writer: OpenWriter, part: Part) -> None:
        self._pipe, theirs = _SPAWN.Pipe()
        self._process: SpawnProcess = _SPAWN.Process(
            target=_serve, args=(theirs, open_writer, part), name=f"reports-{part}", daemon=True
        )
        self._process.start()
        theirs.close()  # so that the pipe ends when the child does
        self._ready = False

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid or 0

    def make(self, dues: Sequence[Due], timeout_seconds: float) -> list[Answer]:
        """Have the child make what is due and return its answers; raises ``ChildFailed`` if none come in time."""
        if not self._ready:
            self._receive(_START_TIMEOUT_SECONDS)
            self._ready = True
        try:
            self._pipe.send(list(dues))
        except OSError as error:
            raise ChildFailed("the report process is gone") from error
        return self._receive(timeout_seconds)

    def _receive(self, timeout_seconds: float) -> list[Answer]:
        try:
            if not self._pipe.poll(timeout_seconds):
                raise ChildFailed(f"no answer within {timeout_seconds:g} s")
            answers: list[Answer] = self._pipe.recv()
        except (EOFError, OSError) as error:
            self._process.join(timeout=5.0)  # the pipe ends with the process
            raise ChildFailed(f"the report process died (exit code {self._process.exitcode})") from error
        return answers

    def kill(self) -> None:
        """End the process; whoever waits for its answer gets an error. The only method for a second thread."""
        self._process.kill()

    def discard(self) -> None:
        """End the process and release what it held."""
        self._process.kill()
        self._process.join()
        self._process.close()
        self._pipe.close()


# ---- in the child ----


def evidently_writer(settings: Settings, part: Part) -> Write:
    """Return what makes a part of reports. For ``evidence`` it imports the plotting stack: for the child only."""
    from airquality.reports.sources import KnownRows
    from airquality.reports.writer import ReportWriter

    log.configure(settings.log_level, settings.log_format)
    judge, known = load_judge(settings.dataset_dir), KnownRows.of(settings.dataset_dir)
    promise = Promise.read(settings.dataset_dir, settings.pages_a_month)
    writer = ReportWriter(settings.reports_dir, judge, known, settings.reports_keep_days, promise)
    if part == "pages":
        return writer.write
    from airquality.reports.evidence import Artist

    artist = Artist(judge)
    return lambda dues: [writer.draw(due, artist) for due in dues]


def _serve(pipe: Connection, open_writer: OpenWriter, part: Part) -> None:
    """Answer what comes until the pipe or the parent ends. The first answer says that the writer is ready."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["DO_NOT_TRACK"] = "1"
    os.nice(_NICENESS[part])
    threading.Thread(target=_end_with_parent, daemon=True).start()
    write = open_writer(part)
    pipe.send([])
    try:
        while True:
            pipe.send(_answers(write, pipe.recv()))
    except (EOFError, BrokenPipeError):
        return


def _answers(write: Write, dues: Sequence[Due]) -> list[Answer]:
    """Return what came of each; where something of many fails, they are made one by one, so that it fails alone."""
    try:
        return [Answer(path) for path in write(dues)]
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001  one of Evidently's errors is no Exception, and any must cost this report only
        if len(dues) == 1:
            return [Answer(None, f"{type(error).__name__}: {error}")]
    return [answer for due in dues for answer in _answers(write, [due])]


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
