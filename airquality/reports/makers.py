"""Who makes what is due of reports: a thread that stores jobs, one process for pages, several for Evidently's parts.

A child that dies, or is silent for too long, is killed and replaced, so one bad window costs its own report and no other.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import logging
import queue
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from airquality.records import isoformat
from airquality.reports.child import Answer, Child, ChildFailed, OpenWriter, Part
from airquality.reports.due import Due, DueFolder, Job

#: Pages that are written together: those around them, a month's for one, are then written once for all of them.
PAGES_AT_A_TIME = 32
#: How long a process for Evidently's parts waits for another one before it ends: it holds 350 MB.
LINGER_SECONDS = 60.0
_ATTEMPTS = 2

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of one step: a job was stored, or what was due is made, or why not."""

    number: int
    due: Due
    step: Literal["store", "make"]
    answer: Answer


class _Maker:
    """A thread and the child process that it has make what a lane holds."""

    def __init__(self, lane: _Lane, number: int) -> None:
        self._lane = lane
        self._lock = threading.Lock()  # guards _child: close() kills it from another thread
        self._child: Child | None = None
        self._closed = False
        self.broken = False
        self.thread = threading.Thread(target=self._run, name=f"reports-{lane.part}-{number}", daemon=True)

    @property
    def pid(self) -> int | None:
        """The id of the child process, None without one."""
        with self._lock:
            return self._child.pid if self._child else None

    def kill(self) -> None:
        """End the child, in the middle of its work if need be."""
        with self._lock:
            self._closed = True
            if self._child is not None:
                self._child.kill()

    def _run(self) -> None:
        try:
            while batch := self._lane.take(self):
                for number, due, answer in self._made(batch):
                    if not self._closed:
                        self._lane.ended(Outcome(number, due, "make", answer))
                self._lane.done()
        except BaseException:
            self.broken = True
            raise
        finally:
            self._end_child()

    def _made(self, batch: Sequence[tuple[int, Due]]) -> list[tuple[int, Due, Answer]]:
        """Return what came of a batch: together at first, and what failed once more alone."""
        answers = self._attempt([due for _, due in batch], 1)
        return [
            (number, due, answer if answer.path else self._again(due, answer))
            for (number, due), answer in zip(batch, answers, strict=True)
        ]

    def _again(self, due: Due, answer: Answer) -> Answer:
        for attempt in range(2, _ATTEMPTS + 1):
            if self._closed or answer.path:
                break
            [answer] = self._attempt([due], attempt)
        return answer

    def _attempt(self, dues: Sequence[Due], attempt: int) -> list[Answer]:
        try:
            answers = self._running_child().make(dues, self._lane.timeout_seconds)
        except ChildFailed as error:
            self._end_child()
            answers = [Answer(None, str(error))] * len(dues)
        for due, answer in zip(dues, answers, strict=True):
            if not answer.path and not self._closed:
                logger.warning("%s failed (attempt %d of %d): %s", _name(due), attempt, _ATTEMPTS, answer.error)
        return answers

    def _running_child(self) -> Child:
        with self._lock:
            if self._closed:
                raise ChildFailed("closed")
            if self._child is None:
                try:
                    self._child = Child(self._lane.open_writer, self._lane.part)
                except OSError as error:
                    raise ChildFailed(f"no report process can be started: {error}") from error
            return self._child

    def _end_child(self) -> None:
        with self._lock:
            if self._child is not None:
                self._child.discard()
                self._child = None


class _Lane:
    """What waits for one part of reports, newest first, and who makes it.

    Args:
        open_writer: Opens the writer in a child.
        timeout_seconds: How long a child may take.
        ended: Called at each end, in a thread of the lane.
        changed: Guards the lane.
        part: What is made.
        at_a_time: How many a child is given at a time.
        may_begin: Whether anything is to be made now, asked while ``changed`` is held.
    """

    def __init__(
        self,
        open_writer: OpenWriter,
        timeout_seconds: float,
        ended: Callable[[Outcome], None],
        changed: threading.Condition,
        part: Part,
        at_a_time: int,
        may_begin: Callable[[], bool],
    ) -> None:
        self.part = part
        self.open_writer = open_writer
        self.timeout_seconds = timeout_seconds
        self.ended = ended
        self.allowed = 1
        self._at_a_time = at_a_time
        self._changed = changed
        self._may_begin = may_begin
        self._waiting: list[tuple[bool, int, int, int, Due]] = []
        self._order = itertools.count()
        self._makers: list[_Maker] = []
        self._busy = 0
        self._closed = False

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nobody works."""
        return not self._waiting and not self._busy

    @property
    def pids(self) -> list[int]:
        """The ids of the child processes."""
        with self._changed:
            return [pid for maker in self._makers if (pid := maker.pid) is not None]

    @property
    def broken(self) -> bool:
        """Whether a thread ended on a defect of its own."""
        return any(maker.broken for maker in self._makers)

    def add(self, number: int, due: Due) -> None:
        """Have something made: pages before what is final of windows, the newest window first. To be called guarded."""
        heapq.heappush(self._waiting, (due.stage == "truth", -due.end_hour, next(self._order), number, due))
        self._staff()

    def allow(self, makers: int) -> None:
        """Let so many work at a time."""
        with self._changed:
            self.allowed = makers
            self._staff()

    def cancel(self, numbers: Collection[int]) -> None:
        """Forget what waits under some numbers. To be called while guarded."""
        self._waiting = [item for item in self._waiting if item[3] not in numbers]
        heapq.heapify(self._waiting)
        self._changed.notify_all()

    def _staff(self) -> None:
        while len(self._makers) < self.allowed and len(self._waiting) > len(self._makers) - self._busy:
            maker = _Maker(self, len(self._makers))
            self._makers.append(maker)
            maker.thread.start()
        self._changed.notify_all()

    def take(self, maker: _Maker) -> list[tuple[int, Due]]:
        """Wait for the next ones to make and return them; none if the maker is to end."""
        with self._changed:
            while not self._closed and len(self._makers) <= self.allowed:
                if self._waiting and self._may_begin():
                    self._busy += 1
                    n_taken = min(self._at_a_time, len(self._waiting))
                    return [heapq.heappop(self._waiting)[3:] for _ in range(n_taken)]
                lingers = LINGER_SECONDS if self.part == "evidence" and not self._waiting else None
                if not self._changed.wait(lingers) and not self._waiting:
                    break
            if not self._closed:
                self._makers.remove(maker)
            return []

    def done(self) -> None:
        """Note that a maker has made what it took."""
        with self._changed:
            self._busy -= 1
            self._changed.notify_all()

    def close(self) -> None:
        """End the children at once; what waits is let go."""
        with self._changed:
            self._closed = True
            makers = list(self._makers)
            self._changed.notify_all()
        for maker in makers:
            maker.kill()
        for maker in makers:
            maker.thread.join()


class ReportMakers:
    """Stores jobs and has made what is due: pages first, then Evidently's parts, both newest first.

    Invariant: everything accepted ends in exactly one outcome, unless :meth:`close` ends the work first. Methods are called
    from one thread and do not block, but for ``close``.

    Args:
        due: Where jobs are stored.
        open_writer: Opens the writer in a child.
        timeout_seconds: How long a child may take.
    """

    def __init__(self, due: DueFolder, open_writer: OpenWriter, timeout_seconds: float) -> None:
        self._due = due
        self._jobs: queue.SimpleQueue[tuple[int, Job] | None] = queue.SimpleQueue()
        self._outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._storing: threading.Thread | None = None
        self._closed = False
        self._changed = threading.Condition()  # guards the lanes, and what is wanted and stored
        self._wanted: set[int] = set()
        self._unstored = 0
        lane = functools.partial(_Lane, open_writer, timeout_seconds, self._ended, self._changed)
        self._pages = lane("pages", PAGES_AT_A_TIME, lambda: True)
        self._evidence = lane("evidence", 1, lambda: self._pages.idle and not self._unstored)

    def store(self, number: int, job: Job) -> None:
        """Make a job durable, off this thread, and then what is due of it."""
        if self._storing is None:
            self._storing = threading.Thread(target=self._store, name="reports-store", daemon=True)
            self._storing.start()
        with self._changed:
            self._wanted.add(number)
            self._unstored += 1
        self._jobs.put((number, job))

    def make(self, number: int, due: Due) -> None:
        """Make what is stored, and then what follows from it."""
        with self._changed:
            self._wanted.add(number)
            self._lane_of(due).add(number, due)

    def cancel(self, numbers: Collection[int]) -> None:
        """Forget what is to be made under some numbers."""
        with self._changed:
            self._wanted.difference_update(numbers)
            self._pages.cancel(numbers)
            self._evidence.cancel(numbers)

    def allow(self, processes: int) -> None:
        """Let so many processes draw at a time."""
        self._evidence.allow(processes)

    @property
    def drawing(self) -> list[int]:
        """The ids of the processes that draw."""
        return self._evidence.pids

    def outcomes(self) -> list[Outcome]:
        """Return what has ended since the last call.

        Raises:
            RuntimeError: a thread ended on a defect of its own; what it had would never end.
        """
        dead = self._storing is not None and not self._storing.is_alive()
        if not self._closed and (dead or self._pages.broken or self._evidence.broken):
            raise RuntimeError("a thread that has reports made has ended; its traceback was logged")
        outcomes = []
        while not self._outcomes.empty():
            outcomes.append(self._outcomes.get_nowait())
        return outcomes

    def close(self) -> None:
        """End all children at once. What is stored is made after the next start."""
        self._closed = True
        self._jobs.put(None)
        self._pages.close()
        self._evidence.close()
        if self._storing is not None:
            self._storing.join()

    def _store(self) -> None:
        while (item := self._jobs.get()) is not None and not self._closed:
            number, job = item
            due = Due.of(job)
            try:
                self._due.store(job)
                answer = Answer(self._due.path(due))
            except Exception as error:  # noqa: BLE001  whatever is wrong costs this report, not the consumer
                answer = Answer(None, f"{type(error).__name__}: {error}")
            with self._changed:
                self._unstored -= 1
                self._end(Outcome(number, due, "store", answer), due)

    def _ended(self, outcome: Outcome) -> None:
        with self._changed:
            self._end(outcome, outcome.due.then("evidence") if outcome.due.stage == "page" else None)

    def _end(self, outcome: Outcome, following: Due | None) -> None:
        """Tell the outcome, and have made what follows from it."""
        if outcome.number not in self._wanted:
            return
        self._outcomes.put(outcome)
        if following is not None and outcome.answer.path is not None:
            self._lane_of(following).add(outcome.number, following)
        else:
            self._wanted.discard(outcome.number)

    def _lane_of(self, due: Due) -> _Lane:
        return self._evidence if due.stage == "evidence" else self._pages


def _name(due: Due) -> str:
    what = {"page": "The report", "truth": "What is final", "evidence": "Evidently's part"}[due.stage]
    return f"{what} of {due.station_id}, {due.kind.name} up to {isoformat(due.end_hour)},"
