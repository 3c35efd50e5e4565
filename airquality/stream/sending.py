"""Send readings to the raw topic in event-time order: the pace, the stop, the progress, and what counts as sent."""

from __future__ import annotations

import itertools
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from airquality.data.dataset import Frame
from airquality.ground.errors import Denied, Unavailable
from airquality.ground.program import stop_signals
from airquality.ground.settings import Settings
from airquality.incoming import Headers, LateTruth
from airquality.records import Reading, isoformat
from airquality.stream import kafka_io

#: Sends one record's key, value and headers; the future succeeds once the broker has acknowledged it.
Send = Callable[[bytes, bytes, Headers], "Future[object]"]

#: At this interval and above a person can follow: one line, and one record in flight, at a time.
SLOW_SECONDS = 0.1
LINE_EVERY_ROWS = 100
IN_FLIGHT = 1000
_ACKNOWLEDGE_SECONDS = 130.0  # beyond the client's own delivery timeout, whose error says more


def readings(frame: Frame, station_id: str, loop: bool = False) -> Iterator[Reading]:
    """Yield the rows in event-time order, equal hours in file order; with ``loop`` for ever, later by the span each pass."""
    order = np.argsort(frame.hours, kind="stable")
    hours, values = frame.hours[order].tolist(), [tuple(row) for row in frame.values[order].tolist()]
    span_hours = hours[-1] - hours[0] + 1
    for lap in itertools.count() if loop else range(1):
        for hour, row in zip(hours, values, strict=True):
            yield Reading(station_id, hour + lap * span_hours, row)


class Pace:
    """Hold each row back until ``interval_seconds`` after the one before; a delay longer than that is not made up for."""

    def __init__(
        self,
        interval_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.interval_seconds = interval_seconds
        self._clock = clock
        self._sleep = sleep
        self._due = clock()

    @property
    def is_slow(self) -> bool:
        """Whether a person can follow row by row."""
        return self.interval_seconds >= SLOW_SECONDS

    def wait(self, stopped: Callable[[], bool]) -> None:
        """Return when the next row is due, or soon after ``stopped``."""
        while (short := self._due - self._clock()) > 0 and not stopped():
            self._sleep(min(short, 0.1))
        now = self._clock()
        on_time = now - self._due < self.interval_seconds
        self._due = (self._due if on_time else now) + self.interval_seconds


class Stop:
    """Says whether to stop: after a time, or on a signal that asks for it while entered. A second signal ends the process.

    ``reason`` is the beginning of a sentence, empty as long as the answer was no.
    """

    def __init__(self, timeout_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.reason = ""
        self._clock = clock
        self._deadline = clock() + timeout_seconds
        self._signal = ""

    def __call__(self) -> bool:
        """Return whether to stop."""
        if self._signal:
            self.reason = f"Stopped by {self._signal}: "
        elif self._clock() >= self._deadline:
            self.reason = "Stopped by --timeout-seconds: "
        return bool(self.reason)

    def __enter__(self) -> Stop:
        self._before = {number: signal.signal(number, self._on_signal) for number in stop_signals()}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, _: object) -> None:
        self._signal = signal.Signals(number).name
        signal.signal(number, signal.SIG_DFL)


class Progress:
    """Show how many rows are acknowledged: a line each when slow, else a bar on a terminal or a line every so often.

    ``total`` is how many rows will be sent, None if there is no end to them. The last row is always shown.
    """

    def __init__(
        self, n_rows: int, total: int | None, topic: str, slow: bool, say: Callable[[str], None], bar: bool = True
    ) -> None:
        self.acknowledged = 0
        self._n_rows = n_rows
        self._topic = topic
        self._shown = 0
        self._say = say
        self._bar = tqdm(total=total, unit=" rows", disable=slow or not bar or not sys.stderr.isatty())
        self._line_every_rows = 1 if slow else LINE_EVERY_ROWS

    def __call__(self, number: int) -> None:
        """Take note that row ``number`` (counted from 1, across passes) is acknowledged."""
        self.acknowledged = number
        self._bar.update()
        if self._bar.disable and number % self._line_every_rows == 0:
            self._show()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
        if self._shown != self.acknowledged:
            self._show()

    def _show(self) -> None:
        self._shown = self.acknowledged
        lap, row = divmod(self.acknowledged - 1, self._n_rows)
        repeat = f" (pass {lap + 1})" if lap else ""
        self._say(f"Sent row {row + 1}/{self._n_rows} to {self._topic}{repeat}")


def replay(
    records: Iterable[Reading | LateTruth],
    send: Send,
    pace: Pace,
    stopped: Callable[[], bool],
    acknowledged: Callable[[int], None],
    in_flight: int = IN_FLIGHT,
) -> int:
    """Send ``records`` in order until they end or ``stopped``, then wait for every acknowledgement.

    Args:
        records: What to send; never read further ahead than the record being sent.
        send: Sends one record.
        pace: Holds each row back until it is due; a late truth goes with the row after it.
        stopped: Asked before each record.
        acknowledged: Called once per row, in order, with its number, counted from 1.
        in_flight: How many records may be unacknowledged at a time.

    Returns:
        How many late truths were acknowledged.

    Raises:
        Unavailable: a record was not acknowledged; the message says which.
    """
    pending: deque[_Pending] = deque()
    number = n_truths = 0
    for record in records:
        is_row = isinstance(record, Reading)
        if is_row:
            pace.wait(stopped)
        if stopped():
            break
        number, n_truths = number + is_row, n_truths + (not is_row)
        headers = [] if isinstance(record, Reading) else record.headers
        pending.append(_Pending(number, record, send(record.station_id.encode(), record.to_bytes(), headers)))
        _settle(pending, in_flight - 1, acknowledged)
    _settle(pending, 0, acknowledged)
    return n_truths


class _Pending(NamedTuple):
    """A record that was sent, the number of the newest row by then, and what says whether it was acknowledged."""

    number: int
    record: Reading | LateTruth
    future: Future[object]


def _settle(pending: deque[_Pending], keep: int, acknowledged: Callable[[int], None]) -> None:
    """Take off the front what is acknowledged, waiting while more than ``keep`` records are not."""
    while pending and (len(pending) > keep or pending[0].future.done()):
        number, record, future = pending.popleft()
        is_row = isinstance(record, Reading)
        try:
            error = future.exception(_ACKNOWLEDGE_SECONDS)
        except TimeoutError as timeout:
            error = timeout
        if error is not None:
            if isinstance(error, Denied):
                raise error
            what = f"row {number} ({isoformat(record.hour)})" if is_row else f"the late truth of {isoformat(record.hour)}"
            raise Unavailable(
                f"{what} was not acknowledged: {error!r}. The {number - is_row} rows before it "
                f"were; of later ones that is unknown. Sending the file again is safe: repeated hours are ignored."
            )
        if is_row:
            acknowledged(number)


def sender(client: Any, settings: Settings) -> Send:
    """Adapt the Kafka client: whatever becomes of a record, at once or later, its future says so."""

    def send(key: bytes, value: bytes, headers: Headers) -> Future[object]:
        future: Future[object] = Future()

        def fail(error: Exception) -> None:
            future.set_exception(kafka_io.denied(error, settings, "WRITE") or error)

        try:
            sent = client.send(settings.raw_topic, key=key, value=value, headers=list(headers))
            sent.add_callback(future.set_result).add_errback(fail)
        except Exception as error:  # noqa: BLE001 - the client's own errors have no name outside kafka_io
            fail(error)
        return future

    return send
