"""What a person reads while the consumer runs, and the account at its end."""

from __future__ import annotations

from collections.abc import Callable

from airquality.events import AlarmEvent, alarm_sentence
from airquality.monitoring.drift import Window
from airquality.records import HISTORY_HOURS, Prediction, isoformat
from airquality.stream.account import Counts
from airquality.stream.partition import Batch, PartitionState

#: A poll that brings at most this many records is live: every row gets its console line.
LIVE_RECORDS = 10
LINE_EVERY_ROWS = 100
WARMUP_LINE_EVERY_ROWS = 50


class Console:
    """The lines a person follows: every row when live, every hundredth when catching up."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._predictions = 0
        self._waiting: set[str] = set()

    def resume(self, counts: Counts) -> None:
        """Go on counting from what was committed before."""
        self._predictions = counts.predictions

    def show(self, batch: Batch, state: PartitionState) -> None:
        """Print what became of a committed batch."""
        live = batch.counts.rows_in <= LIVE_RECORDS
        self._show_warmup(batch, state, live)
        closed = list(batch.windows)
        for prediction in batch.predictions:
            self._predictions += 1
            reports = _queued(closed, prediction)
            if live or reports or self._predictions % LINE_EVERY_ROWS == 0:
                line = f"Prediction {self._predictions}: CO(GT) = {prediction.prediction:.2f}"
                self._write(" | ".join([line, *reports]))
        for finding in batch.findings:
            if isinstance(finding, AlarmEvent):
                self._write(f"{finding.station_id}: {alarm_sentence(finding.event)}")
        self._show_refused(batch)

    def _show_warmup(self, batch: Batch, state: PartitionState, live: bool) -> None:
        if batch.warming:
            self._waiting.add(batch.warming.station_id)
            warmed = state.stations[batch.warming.station_id].buffer.warmed_hours
            if live or warmed % WARMUP_LINE_EVERY_ROWS == 0 or batch.counts.warmup >= WARMUP_LINE_EVERY_ROWS:
                self._write(f"Waiting for warmup... ({warmed}/{HISTORY_HOURS} rows)")
        started = self._waiting & {prediction.station_id for prediction in batch.predictions}
        for _ in started:
            self._write("Warmup complete! Starting inference...")
        self._waiting -= started

    def _show_refused(self, batch: Batch) -> None:
        for station_id in sorted({reading.station_id for reading in batch.duplicates}):
            repeated = [reading.hour for reading in batch.duplicates if reading.station_id == station_id]
            self._write(
                f"{station_id}: already predicted up to {isoformat(max(repeated))}; {len(repeated)} duplicates ignored"
            )
        for letter in batch.dead_letters:
            self._write(f"Dead letter ({letter.error.reason}) at offset {letter.record.offset}: {letter.error}")


def _queued(closed: list[Window], prediction: Prediction) -> list[str]:
    """Take the windows that the prediction's row closed out of ``closed``, and return what is said of them."""
    here = [w for w in closed if w.station_id == prediction.station_id and w.end_hour <= prediction.hour]
    for window in here:
        closed.remove(window)
    return [f"{window.kind.name.capitalize()} report queued" for window in here]


def accounted(counts: Counts) -> str:
    """Format the row counts.

    >>> accounted(Counts(rows_in=3, warmup=2, predictions=1))
    '2 warm-up + 1 predictions + 0 dead letters + 0 duplicates'
    >>> accounted(Counts(rows_lost=600))
    '0 warm-up + 0 predictions + 0 dead letters + 0 duplicates; 600 ROWS LOST, which was accepted'
    """
    dead = sum(counts.dead_letters.values())
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.dead_letters.items()))
    refused = f"{dead} dead letters" + (f" ({reasons})" if dead else "")
    account = f"{counts.warmup} warm-up + {counts.predictions} predictions + {refused} + {counts.duplicates} duplicates"
    return account + (f"; {counts.rows_lost:,} ROWS LOST, which was accepted" if counts.rows_lost else "")
