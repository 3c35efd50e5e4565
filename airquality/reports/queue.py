"""The windows that wait for their reports: handed to the report process, counted at their end, retried where they failed."""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from airquality.events import WindowSettled
from airquality.metrics import ConsumerMetrics
from airquality.monitoring.drift import Window
from airquality.records import isoformat
from airquality.reports.jobs import Job, ReportResult
from airquality.reports.ledger import ReportLedger
from airquality.reports.process import ReportProcess

#: Seconds between two attempts at a report that failed; doubled as long as they fail.
RETRY_SECONDS = (30.0, 900.0)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Ticket:
    """An unfinished window, whose ledger waits for its end; ``again`` where its report has failed before."""

    ledger: ReportLedger
    window: Job
    again: bool = False


class ReportQueue:
    """Unfinished windows of all stations, and the report process.

    All methods are for one thread and none but ``close`` waits.

    Args:
        process: Makes the reports.
        metrics: What is shown of them.
        ledgers: Returns the accounts of all stations that are owned now.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        process: ReportProcess,
        metrics: ConsumerMetrics,
        ledgers: Callable[[], list[ReportLedger]],
        clock: Callable[[], float],
    ) -> None:
        self._process = process
        self._metrics = metrics
        self._ledgers = ledgers
        self._clock = clock
        self._retry_at, self._retry_pause = -math.inf, RETRY_SECONDS[0]
        self._waiting: deque[tuple[int, Job]] = deque()
        self._tickets: dict[int, _Ticket] = {}
        self._next_ticket = itertools.count()

    def __len__(self) -> int:
        """Return how many windows have a report that is neither made nor failed yet."""
        return len(self._tickets)

    def put(self, ledger: ReportLedger, window: Job) -> None:
        """Queue a window; :meth:`feed` hands it on."""
        self._put(_Ticket(ledger, window))

    def _put(self, ticket: _Ticket) -> None:
        number = next(self._next_ticket)
        self._tickets[number] = ticket
        self._waiting.append((number, ticket.window))

    def feed(self) -> None:
        """Hand to the report process what it has room for. Never blocks."""
        while self._waiting:
            self._process.not_offered = len(self._waiting) - 1
            if not self._process.offer(*self._waiting[0]):
                self._process.not_offered += 1
                break
            self._waiting.popleft()
        self._metrics.report_backlog.set(len(self._tickets))

    def forget(self, ledger: ReportLedger) -> None:
        """Drop a station's windows: its new owner replays them."""
        self._tickets = {number: ticket for number, ticket in self._tickets.items() if ticket.ledger is not ledger}
        self._waiting = deque((number, window) for number, window in self._waiting if number in self._tickets)

    def poll(self) -> list[ReportResult]:
        """Return the reports that have ended since the last call, counted in their stations' ledgers.

        Failed reports are made again one at a time, the oldest first, at growing intervals until one succeeds.
        """
        results = self._take(self._process.results())
        if self._clock() >= self._retry_at and not any(ticket.again for ticket in self._tickets.values()):
            self._retry()
        return results

    def _retry(self) -> None:
        again = ((ledger, job) for ledger in self._ledgers() if (job := ledger.next_again) is not None)
        self._retry_at = self._clock() + self._retry_pause
        for ledger, job in itertools.islice(again, 1):
            self._put(_Ticket(ledger, job, again=True))
            self.feed()

    def close(self, *, drain: bool = True, deadline_seconds: float | None = None) -> list[ReportResult]:
        """End the report process, after the reports that are still due if ``drain``.

        Windows that are unfinished at the deadline are not lost: their stations have no snapshot after them, so the
        next start replays them.

        Returns:
            The reports that ended meanwhile.
        """
        finished: list[ReportResult] = []
        deadline = math.inf if deadline_seconds is None else time.monotonic() + deadline_seconds
        while drain and self._tickets and (left := deadline - time.monotonic()) > 0:
            finished += self._take(self._process.wait(min(left, 1.0)))
        if self._tickets:
            logger.warning("%d reports unfinished; they are made after the next start", len(self._tickets))
        self._process.close()
        return finished

    def _take(self, results: list[tuple[int, ReportResult]]) -> list[ReportResult]:
        taken = []
        for number, result in results:
            ticket = self._tickets.pop(number, None)
            if ticket is None:  # its station was let go
                continue
            if isinstance(ticket.window, WindowSettled):
                self._take_settled(ticket, ticket.window, result)
                continue
            self._take_window(ticket, ticket.window, result)
            taken.append(result)
        self.feed()
        return taken

    def _take_settled(self, ticket: _Ticket, settled: WindowSettled, result: ReportResult) -> None:
        if ticket.again:
            self._take_settled_again(ticket.ledger, settled, result)
            return
        ticket.ledger.take_result(result)
        if result.result == "failed" or ticket.ledger.lacks_report(settled):
            self._retry_at = min(max(self._retry_at, self._clock()), self._clock() + self._retry_pause)
            ticket.ledger.keep_settled(settled)

    def _take_settled_again(self, ledger: ReportLedger, settled: WindowSettled, result: ReportResult) -> None:
        if result.result == "failed":
            ledger.unsettled.rotate(-1)  # another one may work
            self._retry_pause = min(2 * self._retry_pause, RETRY_SECONDS[1])
            return
        ledger.unsettled.remove(settled)
        self._retry_at, self._retry_pause = self._clock(), RETRY_SECONDS[0]

    def _take_window(self, ticket: _Ticket, window: Window, result: ReportResult) -> None:
        if ticket.again:
            self._take_again(ticket, window, result)
        else:
            self._take_first(ticket, window, result)

    def _take_first(self, ticket: _Ticket, window: Window, result: ReportResult) -> None:
        ticket.ledger.take_result(result)
        self._metrics.reports_total.labels(result.kind, result.result).inc()
        if result.result == "failed":
            self._retry_at = min(max(self._retry_at, self._clock()), self._clock() + self._retry_pause)
            lost = ticket.ledger.keep(window)
            if lost:
                logger.warning("the report of %s up to %s is given up", lost.station_id, isoformat(lost.end_hour))

    def _take_again(self, ticket: _Ticket, window: Window, result: ReportResult) -> None:
        if result.result == "failed":
            ticket.ledger.unmade.rotate(-1)  # another one may work
            self._retry_pause = min(2 * self._retry_pause, RETRY_SECONDS[1])
            return
        ticket.ledger.take_remade(window)
        self._metrics.reports_total.labels(result.kind, result.result).inc()
        self._retry_at, self._retry_pause = self._clock(), RETRY_SECONDS[0]
