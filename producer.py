"""Replay a CSV of readings in event-time order to the raw topic; see ``--help``."""

from __future__ import annotations

import argparse
import itertools
import logging
import math
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from tqdm import tqdm

from airquality.data.dataset import STATION_IDS, Frame
from airquality.data.files import answers
from airquality.ground import command, log
from airquality.ground.errors import Denied, Unavailable, UsageError
from airquality.ground.settings import Settings, read_settings
from airquality.ground.shown import shown
from airquality.incoming import Headers, LateTruth, with_late_truths
from airquality.records import TARGET, Reading, isoformat
from airquality.stream import kafka_io

if TYPE_CHECKING:
    from airquality.data.incoming import Incoming

#: Sends one record's key, value and headers; the future succeeds once the broker has acknowledged it.
Send = Callable[[bytes, bytes, Headers], "Future[object]"]

#: At this interval and above a person can follow: one line, and one record in flight, at a time.
SLOW_SECONDS = 0.1
LINE_EVERY_ROWS = 100
IN_FLIGHT = 1000
logger = logging.getLogger("producer")
_ACKNOWLEDGE_SECONDS = 130.0  # beyond the client's own delivery timeout, whose error says more

_DESCRIPTION = """\
Send the rows of a CSV to Kafka, ordered by DateTime, one JSON record an hour.

The file is dataset/test_data_raw.csv, which python dataset/create_dataset.py writes, or your own: the published
AirQualityUCI.csv, its copies, and exports like them (docs/files.md says which). Its columns are taken by name where the
name leaves no doubt; whatever is in doubt is refused, with the flag that settles it. An empty cell, NA or -200 is a missing
value and is sent as null. --dry-run says what was understood and sends nothing. A row counts as sent once every in-sync
replica has acknowledged it; a retry never writes it twice.

Rows are hourly readings. Gaps between them are fine; a file whose rows are a day or three hours apart is refused before
anything is sent, unless --any-step says that it is meant.
"""
_EXAMPLES = """\
examples:
  python producer.py --csv dataset/test_data_raw.csv                   as fast as the broker acknowledges
  python producer.py --csv dataset/test_data_raw.csv --delay 1         an hour of data a second
  python producer.py --csv dataset/test_data_raw.csv --rate 50 --loop  50 rows a second until Ctrl-C
  python producer.py --csv dataset/test_data_raw.csv --truth-delay-hours 24   each measured value a day after its row
  python producer.py --csv AirQualityUCI.csv --dry-run                 what is understood of the published file
  python producer.py --csv my.csv --station-id roof --dates day-first  a file of your own
  python producer.py --csv my.csv --start 2026-01-01T00:00 --station-id roof   a CSV without DateTime

exit status: 0 done or stopped on request, 1 the broker cannot be reached or a row was not acknowledged,
2 wrong usage or a file that cannot be read or is not hourly
"""


def main(argv: list[str] | None = None) -> int:
    """Run the program and return its exit code."""
    args = _parser().parse_args(argv)
    return command.run("producer.py", lambda: run(args))


def _parser() -> argparse.ArgumentParser:
    parser = command.parser("python producer.py", _DESCRIPTION, _EXAMPLES)
    parser.add_argument("--csv", type=Path, required=True, help="the readings to send")
    parser.add_argument("--topic", help="default air_quality.raw (RAW_TOPIC)")
    parser.add_argument("--bootstrap-servers", help="default localhost:9092 (KAFKA_BOOTSTRAP_SERVERS)")
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument("--delay", type=_positive, metavar="SECONDS", help="time from one row to the next")
    pace.add_argument("--rate", type=_positive, metavar="ROWS_PER_SECOND", help="the same, as a rate")
    parser.add_argument("--loop", action="store_true", help="begin again at the end, DateTime moved on by the file's span")
    parser.add_argument(
        "--station-id",
        type=_name,
        help="whose readings these are; uci-360 or simulated-360 for what create_dataset.py wrote",
    )
    parser.add_argument("--any-step", action="store_true", help="send a file whose rows are not hourly as it is")
    parser.add_argument("--dry-run", action="store_true", help="say what was understood of the file, and send nothing")
    parser.add_argument(
        "--truth-delay-hours",
        type=_count,
        metavar="H",
        help=f"send each row without its {TARGET.replace('%', '%%')}, and that as a late truth H hours of the station later",
    )
    parser.add_argument("--max-records", type=_count, metavar="N", help="stop after N rows")
    parser.add_argument(
        "--timeout-seconds", type=_positive, default=math.inf, metavar="SECONDS", help="stop after that time"
    )
    answers.add_arguments(parser)
    return parser


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return value


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def _name(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("a station needs a name")
    return text


def run(args: argparse.Namespace) -> int:
    """Do what the command line asks and return the exit code; raises ``AirQualityError`` if it cannot be done."""
    settings = read_settings(kafka_bootstrap_servers=args.bootstrap_servers, raw_topic=args.topic)
    log.configure(settings.log_level, settings.log_format)
    say = log.speaker("producer", settings.log_format)
    from airquality.data import incoming  # pandas takes half a second to import, which no --help should

    read = incoming.read(args.csv, answers.from_arguments(args))
    _require_hourly(args.csv, read.odd_steps, args.any_step)
    for remark in read.remarks:
        logger.warning("%s", remark)
    if args.dry_run:
        say("\n".join([*read.understood, "nothing was sent (--dry-run)"]))
        return 0
    frame, station_id = read.frame, args.station_id or _station_of(args.csv, read)
    say(f"{announcement(args.csv, frame, station_id)}\n{destination(settings)}")
    rows = itertools.islice(readings(frame, station_id, args.loop), args.max_records)
    records = with_late_truths(rows, args.truth_delay_hours) if args.truth_delay_hours else rows
    pace = Pace(args.delay or (1 / args.rate if args.rate else 0.0))
    total = args.max_records if args.loop else min(len(frame), args.max_records or len(frame))
    progress = Progress(len(frame), total, settings.raw_topic, pace.is_slow, say, bar=settings.log_format != "json")
    kafka_io.ensure_topics(settings, ["raw"])  # the consumer makes the others: a producer needs no right to them
    with closing(kafka_io.idempotent_producer(settings)) as client, Stop(args.timeout_seconds) as stop, progress:
        send = _sender(client, settings)
        n_truths = replay(records, send, pace, stop, progress, 1 if pace.is_slow else IN_FLIGHT)
    truths = f" and {n_truths:,} late truths" if args.truth_delay_hours else ""
    say(f"{stop.reason}{progress.acknowledged:,} rows{truths} acknowledged by {settings.raw_topic}{_caveat(frame)}")
    return 0


def _require_hourly(path: Path, odd_steps: str | None, any_step: bool) -> None:
    """Raise ``UsageError`` if the rows are not hourly readings; with ``any_step`` only warn."""
    if odd_steps is None:
        return
    found = f"{path} is not a file of hourly readings: {odd_steps}."
    if not any_step:
        raise UsageError(
            f"{found} Each row would be taken for one hour and the hours between for gaps, so nothing was sent. Send hourly "
            "rows, or pass --any-step to send these as they are."
        )
    logger.warning("%s Sending it all the same, as --any-step says: the hours between count as gaps.", found)


def _station_of(path: Path, read: Incoming) -> str:
    """Return whose readings a file holds that says so itself; anybody else's would end the history of the station here."""
    if read.frame.source not in STATION_IDS:
        raise UsageError(
            "\n".join(read.understood)
            + f"\nWhose readings are these? {path} is not labelled by create_dataset.py: say --station-id NAME."
        )
    return STATION_IDS[read.frame.source]


def announcement(path: Path, frame: Frame, station_id: str) -> str:
    """Return the line that says what is about to be sent."""
    return shown(f"{path}: {len(frame):,} rows of station {station_id}, data source: {frame.source}{_caveat(frame)}")


def destination(settings: Settings) -> str:
    """Return the line that says where the rows go, and how to stop."""
    return f"to {settings.raw_topic} at {settings.kafka_bootstrap_servers}; Ctrl-C stops it, and what was sent stays"


def _caveat(frame: Frame) -> str:
    return " *** SIMULATED DATA, not measurements ***" if frame.source == "simulated" else ""


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
    """Says whether to stop: after a time, or on SIGINT or SIGTERM while entered. A second signal ends the process.

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
        self._before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
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


def _sender(client: Any, settings: Settings) -> Send:
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


if __name__ == "__main__":
    sys.exit(main())
