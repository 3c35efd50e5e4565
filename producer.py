"""Replay a CSV of readings to the raw topic: arguments, file, exit code. What sends is ``airquality/stream/sending.py``."""

from __future__ import annotations

import argparse
import itertools
import logging
import math
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from airquality.data.dataset import STATION_IDS, Frame
from airquality.data.files import answers
from airquality.ground import command, log
from airquality.ground.errors import InvalidRecord, UsageError
from airquality.ground.settings import Settings, read_settings
from airquality.ground.shown import shown
from airquality.incoming import with_late_truths
from airquality.records import TARGET, parse_station_id
from airquality.stream import kafka_io, sending
from airquality.stream.sending import IN_FLIGHT, Pace, Progress, Stop

if TYPE_CHECKING:
    from airquality.data.readings_file import ReadingsFile

logger = logging.getLogger("producer")

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
    parser.add_argument("--csv", type=Path, required=True, help="the readings to send; - is standard input")
    parser.add_argument("--topic", help="default air_quality.raw (RAW_TOPIC)")
    parser.add_argument("--bootstrap-servers", help="default localhost:9092 (KAFKA_BOOTSTRAP_SERVERS)")
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument("--delay", type=command.positive, metavar="SECONDS", help="time from one row to the next")
    pace.add_argument("--rate", type=command.positive, metavar="ROWS_PER_SECOND", help="the same, as a rate")
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
        type=command.count,
        metavar="H",
        help=f"send each row without its {TARGET.replace('%', '%%')}, and that as a late truth H hours of the station later",
    )
    parser.add_argument("--max-records", type=command.count, metavar="N", help="stop after N rows")
    parser.add_argument(
        "--timeout-seconds", type=command.positive, default=math.inf, metavar="SECONDS", help="stop after that time"
    )
    answers.add_arguments(parser)
    return parser


def _name(text: str) -> str:
    """Return the name of a station, by the rule that every record of it has to pass."""
    if not text.strip():
        raise argparse.ArgumentTypeError("a station needs a name")
    try:
        return parse_station_id(text, None)
    except InvalidRecord as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def run(args: argparse.Namespace) -> int:
    """Do what the command line asks and return the exit code; raises ``AirQualityError`` if it cannot be done."""
    settings = read_settings(kafka_bootstrap_servers=args.bootstrap_servers, raw_topic=args.topic)
    log.configure(settings.log_level, settings.log_format)
    say = log.speaker("producer", settings.log_format)
    from airquality.data import readings_file  # pandas takes half a second to import, which no --help should

    read = readings_file.read(args.csv, answers.from_arguments(args))
    _require_hourly(args.csv, read.odd_steps, args.any_step)
    for remark in read.remarks:
        logger.warning("%s", remark)
    if args.dry_run:
        say("\n".join([*read.understood, "nothing was sent (--dry-run)"]))
        return 0
    frame, station_id = read.frame, args.station_id or _station_of(args.csv, read)
    say(f"{announcement(args.csv, frame, station_id)}\n{destination(settings)}")
    rows = itertools.islice(sending.readings(frame, station_id, args.loop), args.max_records)
    records = with_late_truths(rows, args.truth_delay_hours) if args.truth_delay_hours else rows
    pace = Pace(args.delay or (1 / args.rate if args.rate else 0.0))
    total = args.max_records if args.loop else min(len(frame), args.max_records or len(frame))
    progress = Progress(len(frame), total, settings.raw_topic, pace.is_slow, say, bar=settings.log_format != "json")
    kafka_io.ensure_topics(settings, ["raw"])  # the consumer makes the others: a producer needs no right to them
    with closing(kafka_io.idempotent_producer(settings)) as client, Stop(args.timeout_seconds) as stop, progress:
        send = sending.sender(client, settings)
        n_truths = sending.replay(records, send, pace, stop, progress, 1 if pace.is_slow else IN_FLIGHT)
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


def _station_of(path: Path, read: ReadingsFile) -> str:
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


if __name__ == "__main__":
    sys.exit(main())
