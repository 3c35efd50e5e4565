"""What becomes of the reports of all owned stations: stored, handed to those who make them, counted, retried."""

from __future__ import annotations

import itertools
import logging
import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from airquality.metrics import ConsumerMetrics
from airquality.monitoring.drift import Window
from airquality.records import isoformat
from airquality.reports.due import Due, DueFolder, Job, ReportResult
from airquality.reports.ledger import ReportLedger
from airquality.reports.makers import Outcome, ReportMakers

#: Seconds between two attempts at a report that failed; doubled as long as they fail.
RETRY_SECONDS = (30.0, 900.0)
#: How often it is looked how many cores are idle.
CORES_SECONDS = 2.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Ticket:
    """Something to make; ``job`` where it is not stored yet, ``again`` where it has failed before."""

    ledger: ReportLedger
    due: Due
    job: Job | None = None
    again: bool = False


class ReportQueue:
    """What is due of all stations, and those who make it.

    All methods are for one thread and none but ``close`` waits.

    Args:
        due: Where jobs are stored.
        makers: Make the reports.
        metrics: What is shown of them.
        ledgers: Returns the accounts of all stations that are owned now.
        clock: Monotonic seconds.
        idle_cores: Says for how many processes there is room, some of ours among them.
    """

    def __init__(
        self,
        due: DueFolder,
        makers: ReportMakers,
        metrics: ConsumerMetrics,
        ledgers: Callable[[], list[ReportLedger]],
        clock: Callable[[], float],
        idle_cores: Callable[[Iterable[int]], int],
    ) -> None:
        self._due = due
        self._makers = makers
        self._metrics = metrics
        self._ledgers = ledgers
        self._clock = clock
        self._idle_cores = idle_cores
        self._looked = -math.inf
        self._retry_at, self._retry_pause = -math.inf, RETRY_SECONDS[0]
        self._tickets: dict[int, _Ticket] = {}
        self._failed: deque[_Ticket] = deque()  # stored, and to be tried again
        self._n_evidence = 0
        self._closed = False
        self._next_ticket = itertools.count()

    def __len__(self) -> int:
        """Return how much is neither made nor failed yet: pages, and Evidently's parts of reports whose page is there."""
        return len(self._tickets)

    def put(self, ledger: ReportLedger, job: Job) -> None:
        """Have a job stored, and then made."""
        self._begin(_Ticket(ledger, Due.of(job), job))

    def open(self, ledger: ReportLedger, station_id: str) -> None:
        """Have made what is due of a station since an earlier start."""
        for due in self._due.of(station_id):
            ledger.take_found(due)
            self._begin(_Ticket(ledger, due))

    def _begin(self, ticket: _Ticket) -> None:
        number = next(self._next_ticket)
        self._note(number, ticket)
        if ticket.job is not None:
            self._makers.store(number, ticket.job)
        else:
            self._makers.make(number, ticket.due)

    def _note(self, number: int, ticket: _Ticket) -> None:
        self._tickets[number] = ticket
        self._n_evidence += ticket.due.stage == "evidence"

    def _pop(self, number: int) -> _Ticket | None:
        ticket = self._tickets.pop(number, None)
        self._n_evidence -= ticket is not None and ticket.due.stage == "evidence"
        return ticket

    def show(self) -> None:
        """Show how much is to be made, and by how many."""
        self._metrics.report_backlog.set(len(self._tickets) - self._n_evidence)
        self._metrics.evidence_backlog.set(self._n_evidence)
        self._metrics.evidence_processes.set(len(self._makers.drawing))

    def forget(self, ledger: ReportLedger) -> None:
        """Drop what is due of a station: its new owner finds it, or closes its windows again."""
        dropped = {number for number, ticket in self._tickets.items() if ticket.ledger is ledger}
        for number in dropped:
            self._pop(number)
        self._makers.cancel(dropped)
        self._failed = deque(ticket for ticket in self._failed if ticket.ledger is not ledger)

    def poll(self) -> list[ReportResult]:
        """Return the reports that have ended since the last call, counted in their stations' ledgers.

        What failed is made again one at a time, the oldest first, at growing intervals until one succeeds.
        """
        results = self._take(self._makers.outcomes())
        now = self._clock()
        if now - self._looked >= CORES_SECONDS:
            self._looked = now
            self._makers.allow(self._idle_cores(self._makers.drawing))
            self.show()
        if now >= self._retry_at and not any(ticket.again for ticket in self._tickets.values()):
            self._retry()
        return results

    def _retry(self) -> None:
        self._retry_at = self._clock() + self._retry_pause
        again = ((ledger, job) for ledger in self._ledgers() if (job := ledger.next_again) is not None)
        for ledger, job in itertools.islice(again, 1):
            self._begin(_Ticket(ledger, Due.of(job), job, again=True))
            return
        if self._failed:
            self._begin(self._failed.popleft())

    def close(self) -> None:
        """End those who make reports, at once.

        What is unfinished is not lost: it is stored, or its station has no snapshot after it, so that the next start closes
        its window again.
        """
        if self._tickets and not self._closed:
            logger.warning("%d reports unfinished; they are made after the next start", len(self._tickets))
        self._closed = True
        self._makers.close()

    def _take(self, outcomes: Iterable[Outcome]) -> list[ReportResult]:
        ended: list[ReportResult] = []
        for outcome in outcomes:
            ticket = self._pop(outcome.number)
            if ticket is None:  # its station was let go
                continue
            if outcome.step == "store":
                ended += self._take_stored(ticket, outcome)
            elif outcome.answer.path is None:
                ended += self._take_failure(ticket, outcome)
            else:
                ended += self._take_made(ticket, outcome)
        if outcomes:
            self.show()
        return ended

    def _take_stored(self, ticket: _Ticket, outcome: Outcome) -> list[ReportResult]:
        assert ticket.job is not None
        if outcome.answer.path is None:
            return self._take_unstorable(ticket, ticket.job, outcome)
        if ticket.again:
            ticket.ledger.take_stored_after_all(ticket.job)
            self._succeed()
        else:
            ticket.ledger.take_stored(ticket.due)
        self._note(outcome.number, _Ticket(ticket.ledger, ticket.due))
        return []

    def _take_unstorable(self, ticket: _Ticket, job: Job, outcome: Outcome) -> list[ReportResult]:
        if ticket.again:
            ticket.ledger.put_last(job)
            self._wait_longer()
            return []
        if lost := ticket.ledger.keep(job):
            logger.warning("the report of %s up to %s is given up", lost.station_id, isoformat(lost.end_hour))
        self._try_soon()
        return self._shown(ticket.due, outcome) if isinstance(job, Window) else []

    def _take_made(self, ticket: _Ticket, outcome: Outcome) -> list[ReportResult]:
        ledger, due = ticket.ledger, ticket.due
        if due.stage == "truth" and ledger.lacks_page(due):  # what is final comes after the page
            self._failed.append(_Ticket(ledger, due, again=True))
            return []
        came = ledger.take_made(due)
        if ticket.again:
            self._succeed()
        if due.stage == "page":
            self._note(outcome.number, _Ticket(ledger, due.then("evidence")))
        return self._shown(due, outcome) if came else []

    def _take_failure(self, ticket: _Ticket, outcome: Outcome) -> list[ReportResult]:
        self._failed.append(_Ticket(ticket.ledger, ticket.due, again=True))
        if ticket.again:
            self._wait_longer()
        else:
            self._try_soon()
        return self._shown(ticket.due, outcome) if ticket.ledger.take_failure(ticket.due) else []

    def _shown(self, due: Due, outcome: Outcome) -> list[ReportResult]:
        made = outcome.step == "make" and outcome.answer.path is not None
        path = outcome.answer.path if made else None
        result = ReportResult(
            due.station_id, due.kind.name, due.end_hour, "generated" if made else "failed", path, outcome.answer.error
        )
        self._metrics.reports_total.labels(result.kind, result.result).inc()
        return [result]

    def _succeed(self) -> None:
        self._retry_at, self._retry_pause = self._clock(), RETRY_SECONDS[0]

    def _wait_longer(self) -> None:
        self._retry_pause = min(2 * self._retry_pause, RETRY_SECONDS[1])

    def _try_soon(self) -> None:
        self._retry_at = min(max(self._retry_at, self._clock()), self._clock() + self._retry_pause)
