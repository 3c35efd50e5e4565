"""What a person reads while the consumer runs, and the account at its end."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TypeGuard

from airquality.events import AlarmEvent, Finding, OperationTaken, RowsMissed, alarm_sentence
from airquality.ground.shown import printable
from airquality.monitoring import registry
from airquality.monitoring.drift import Verdict, Window
from airquality.records import HISTORY_HOURS, TARGET, Prediction, isoformat
from airquality.reports.due import ReportResult
from airquality.stream.account import Counts
from airquality.stream.batch import Batch
from airquality.stream.partition import PartitionState

#: A poll that brings at most this many records is live: every row gets its console line.
LIVE_RECORDS = 10
LINE_EVERY_ROWS = 100
WARMUP_LINE_EVERY_ROWS = 50
#: After this long without a line there is a sign of life; lines that would come with every row come no more often.
SIGN_OF_LIFE_SECONDS = 10.0


class Console:
    """The lines a person follows: every row when live, every hundredth when catching up, and a sign of life.

    What a station is called never acts on a terminal: every line is made printable.

    Args:
        write: Prints a line.
        clock: Monotonic seconds.
    """

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._print = write
        self._clock = clock
        self._written = clock()
        self._predictions = 0
        self._waiting: set[str] = set()
        self._repeated: Counter[str] = Counter()
        self._newest_repeated: dict[str, int] = {}
        self._repeats_shown = -math.inf

    def resume(self, counts: Counts) -> None:
        """Go on counting from what was committed before."""
        self._predictions = counts.predictions

    def show(self, batch: Batch, state: PartitionState) -> None:
        """Print what became of a committed batch."""
        live = batch.counts.rows_in <= LIVE_RECORDS
        self._show_warmup(batch, state, live)
        closed = dict[str, list[Window]]()
        for window in batch.windows:
            closed.setdefault(window.station_id, []).append(window)
        opened = {(found.station_id, found.event.at) for found in batch.findings if _opens_verdict(found)}
        for prediction in batch.predictions:
            self._predictions += 1
            windows = _closed_by(closed, prediction)
            if live or windows or self._predictions % LINE_EVERY_ROWS == 0:
                line = f"Prediction {self._predictions}: {TARGET} = {prediction.prediction:.2f}"
                queued = [f"{window.kind.name.capitalize()} report queued" for window in windows]
                self._write(" | ".join([line, *queued]) + _of(prediction.station_id))
            for window in windows:
                if (window.station_id, window.end_hour) in opened:
                    self._show_verdict(window)
        for finding in batch.findings:
            if _opens_verdict(finding):  # its window said it, with the columns
                continue
            if isinstance(finding, AlarmEvent):
                self._write(f"{alarm_sentence(finding.event)}{_of(finding.station_id)}")
            elif isinstance(finding, OperationTaken):
                self._write(f"{finding.operation.sentence}{_of(finding.station_id)}")
            elif isinstance(finding, RowsMissed):
                self._write(f"{finding.missed.sentence}{_of(finding.station_id)}")
        self._show_refused(batch)

    def show_reports(self, results: Iterable[ReportResult]) -> None:
        """Say where each report was written, or why it was not."""
        for result in results:
            what = f"{result.kind.capitalize()} report up to {isoformat(result.end_hour)}"
            where = f"written: {result.path}" if result.path else f"failed: {result.error}; it is made again later"
            self._write(f"{what} {where}{_of(result.station_id)}")

    def show_life(self, counts: Counts, n_partitions: int, behind: int, n_reports: int) -> None:
        """Say that the consumer lives, if nothing was said for a while.

        Args:
            counts: What became of the rows of the owned partitions so far.
            n_partitions: How many those are; without any nothing is known of rows.
            behind: How many rows wait in Kafka.
            n_reports: How many reports are still to be made.
        """
        self._show_repeats()
        if self._clock() - self._written < SIGN_OF_LIFE_SECONDS:
            return
        if not n_partitions:
            self._write("no partition is assigned to this consumer: its group rebalances, or the others have them all")
        else:
            waiting = f"; {behind:,} rows wait in Kafka, {n_reports} reports to be made"
            self._write(f"{counts.rows_in:,} rows in = {accounted(counts)}{waiting}")

    def show_end(self, n_reports: int) -> None:
        """Say what was held back, and what is left for the next start."""
        self._repeats_shown = -math.inf
        self._show_repeats()
        if n_reports:
            self._write(f"{n_reports} reports will be made at the next start")

    def _write(self, line: str) -> None:
        self._written = self._clock()
        self._print(printable(line))

    def _show_warmup(self, batch: Batch, state: PartitionState, live: bool) -> None:
        if batch.warming:
            station_id = batch.warming.station_id
            self._waiting.add(station_id)
            warmed = state.stations[station_id].buffer.warmed_hours
            if live or warmed % WARMUP_LINE_EVERY_ROWS == 0 or batch.counts.warmup >= WARMUP_LINE_EVERY_ROWS:
                self._write(f"Waiting for warmup... ({warmed}/{HISTORY_HOURS} rows){_of(station_id)}")
        started = self._waiting & {prediction.station_id for prediction in batch.predictions}
        for station_id in sorted(started):
            self._write(f"Warmup complete! Starting inference...{_of(station_id)}")
        self._waiting -= started

    def _show_verdict(self, window: Window) -> None:
        """Say what is wrong with a window that opens an alarm; the next ones are as wrong until the alarm is closed."""
        faults = _faults(window.verdict)
        if faults:
            name = f"{window.kind.name.capitalize()} window up to {isoformat(window.end_hour)}"
            self._write(f"{name} is not as usual: {'; '.join(faults)}{_of(window.station_id)}")

    def _show_refused(self, batch: Batch) -> None:
        for reading in batch.duplicates:
            self._repeated[reading.station_id] += 1
            self._newest_repeated[reading.station_id] = reading.hour
        self._show_repeats()
        for letter in batch.dead_letters[:LIVE_RECORDS]:
            self._write(f"Dead letter ({letter.error.reason}) at offset {letter.record.offset}: {letter.error}")
        more = len(batch.dead_letters) - LIVE_RECORDS
        if more > 0:
            self._write(f"... and {more} more dead letters of this batch, all of them in the dead-letter topic")

    def _show_repeats(self) -> None:
        """Say which stations' rows came again, now and then: a file that is sent again has thousands."""
        if not self._repeated or self._clock() - self._repeats_shown < SIGN_OF_LIFE_SECONDS:
            return
        for station_id, count in sorted(self._repeated.items()):
            newest = isoformat(self._newest_repeated[station_id])
            self._write(f"{station_id}: already predicted up to {newest}; {count} duplicates ignored")
        self._repeated.clear()
        self._newest_repeated.clear()
        self._repeats_shown = self._clock()


def _of(station_id: str) -> str:
    return f" [{station_id}]"


def _opens_verdict(finding: Finding) -> TypeGuard[AlarmEvent]:
    if not isinstance(finding, AlarmEvent) or finding.event.kind != "opened":
        return False
    return any(finding.event.detector == detector.name for detector in registry.window_detectors())


def _closed_by(closed: dict[str, list[Window]], prediction: Prediction) -> list[Window]:
    """Take the windows that the prediction's row closed out of those of its station, and return them."""
    windows = closed.get(prediction.station_id)
    if not windows:
        return []
    closed[prediction.station_id] = [window for window in windows if window.end_hour > prediction.hour]
    return [window for window in windows if window.end_hour <= prediction.hour]


def _faults(verdict: Verdict) -> list[str]:
    drifted = [column.column for column in (*verdict.columns, verdict.prediction) if column.drifted]
    faults = {
        "drift in": drifted,
        "missing all the time:": list(verdict.missing),
        "": ["the error is above its threshold"] if verdict.degraded else [],
    }
    return [f"{what} {', '.join(names)}".strip() for what, names in faults.items() if names]


def accounted(counts: Counts) -> str:
    """Format the row counts.

    >>> accounted(Counts(rows_in=3, warmup=2, predictions=1))
    '2 warm-up + 1 predictions + 0 dead letters + 0 duplicates'
    >>> accounted(Counts(rows_lost=600))
    '0 warm-up + 0 predictions + 0 dead letters + 0 duplicates; 600 ROWS LOST, which was accepted'
    >>> accounted(Counts(rows_in=2, truths={"filled": 1, "too_old": 1}))
    '0 warm-up + 0 predictions + 0 dead letters + 0 duplicates + 2 late truths (1 filled, 1 too_old)'
    """
    account = (
        f"{counts.warmup} warm-up + {counts.predictions} predictions + {_by_reason('dead letters', counts.dead_letters)}"
    )
    account += f" + {counts.duplicates} duplicates"
    for name, reasons in (("late truths", counts.truths), ("operations", counts.operations)):
        account += f" + {_by_reason(name, reasons)}" if reasons else ""
    return account + (f"; {counts.rows_lost:,} ROWS LOST, which was accepted" if counts.rows_lost else "")


def _by_reason(name: str, reasons: Mapping[str, int]) -> str:
    total = sum(reasons.values())
    listed = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    return f"{total} {name}" + (f" ({listed})" if total else "")
