"""What an operator does about alarms: ``python -m airquality alarms``.

Each verb puts one record into the raw topic, with its station's key, on its station's partition. It takes effect after the
rows before it and before those after it, so that every replay decides alike.
"""

from __future__ import annotations

import argparse
import getpass
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime

from airquality.events import AlarmEvent, OperationTaken, alarm_sentence
from airquality.ground import command
from airquality.ground.errors import InvalidRecord, UsageError
from airquality.ground.settings import Settings, read_settings
from airquality.ground.shown import printable
from airquality.incoming import MAX_NOTE_CHARACTERS, MAX_WHO_CHARACTERS, Operation, parse_record
from airquality.monitoring.network import RULE_COLUMNS
from airquality.records import hour_of, isoformat
from airquality.stream import events_command, kafka_io
from airquality.stream.kafka_io import Record
from airquality.stream.reader import KafkaReader, newest

_SEND_SECONDS = 130.0

_EXAMPLES = """\
examples:
  python -m airquality alarms list                             what is open now, who saw it, and what is being worked on
  python -m airquality alarms ack --station roof --column T    seen: it stays open, marked with who
  python -m airquality alarms reset --station roof --column T --note "new sensor"
                                                               repaired: closed, and the level is learned anew
  python -m airquality alarms maintenance --station roof --from 2005-03-01T08:00 --to 2005-03-01T17:00
                                                               no alarms from these hours, and nothing learned from them

Hours are event time, the station's own, both inclusive. Without --column it is about the whole station.

exit status: 0 done (list: nothing is open), 1 failure, 2 wrong usage, 3 alarms are open
"""


def _parser() -> argparse.ArgumentParser:
    description = "Acknowledge, reset or silence alarms, in the stream's own order (RAW_TOPIC; KAFKA_BOOTSTRAP_SERVERS)."
    p = command.parser("python -m airquality alarms", description, _EXAMPLES)
    verbs = p.add_subparsers(dest="verb", required=True)
    listing = verbs.add_parser("list", help="the open alarms, and maintenance that is not over")
    listing.add_argument("--station", help="only this station's")
    for name, text in (
        ("ack", "mark open alarms as seen"),
        ("reset", "close alarms after a repair and learn the level anew"),
        ("maintenance", "neither judge nor learn from some hours"),
    ):
        verb = verbs.add_parser(name, help=text)
        verb.add_argument("--station", required=True, help="the station's id")
        verb.add_argument("--column", type=_column, required=name == "reset", help="one column, e.g. T or S1")
        verb.add_argument("--by", type=_text(MAX_WHO_CHARACTERS), help="who decided it (default: the user's name)")
        verb.add_argument("--note", type=_text(MAX_NOTE_CHARACTERS), default="", help="why")
        if name == "maintenance":
            verb.add_argument("--from", dest="first", type=_hour, required=True, metavar="TIME", help="the first hour")
            verb.add_argument("--to", dest="last", type=_hour, required=True, metavar="TIME", help="the last hour")
    return p


def _column(text: str) -> str:
    """Return the column that ``text`` names: its name, or the beginning of it without the ``PT08.``."""
    named = [name for name in RULE_COLUMNS if text in (name, name.removeprefix("PT08.").partition("(")[0])]
    if len(named) != 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no column with alarms: they are {', '.join(RULE_COLUMNS)}")
    return named[0]


def _hour(text: str) -> int:
    try:
        return hour_of(datetime.fromisoformat(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no hour such as 2005-03-01T08:00: {error}") from error


def _text(limit: int) -> Callable[[str], str]:
    def text(value: str) -> str:
        if len(value) > limit:
            raise argparse.ArgumentTypeError(f"at most {limit} characters, not {len(value)}")
        return value

    return text


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 0 done, 1 failure, 2 usage, 3 alarms are open."""
    args = _parser().parse_args(argv)
    return command.run("alarms", lambda: _list(args) if args.verb == "list" else _send(args))


# ---- operations ----


def _send(args: argparse.Namespace) -> int:
    settings, operation = read_settings(), _operation(args)
    partition = home(settings, operation.station_id)
    if operation.kind != "maintenance" and not _concerned(settings, operation):
        print(f"no alarm of {operation.column or operation.station_id} is open as far as the events say; sent all the same")
    offset = send(settings, operation, partition)
    print(printable(f"{operation.station_id}: {operation.sentence}"))
    print(f"sent: {settings.raw_topic}, partition {partition}, offset {offset}; it takes effect after the rows before it")
    return command.DONE


def _operation(args: argparse.Namespace) -> Operation:
    first, last = getattr(args, "first", None), getattr(args, "last", None)
    who = args.by or getpass.getuser()[:MAX_WHO_CHARACTERS]
    operation = Operation(args.station, args.verb, args.column, first, last, who, args.note)
    try:
        parse_record(args.station.encode(), operation.to_bytes(), operation.headers)
    except (InvalidRecord, UnicodeEncodeError) as error:
        raise UsageError(str(error)) from error
    return operation


def _concerned(settings: Settings, operation: Operation) -> list[AlarmEvent]:
    events = events_command.findings(settings, operation.station_id)
    alarms = [alarm for alarm, _ in events_command.open_alarms(events)]
    return [alarm for alarm in alarms if operation.column is None or operation.column in alarm.event.column.split("/")]


def home(settings: Settings, station_id: str) -> int:
    """Return the partition a station lives on: where its newest prediction is, or, before its first one, its newest row.

    Raises:
        UsageError: neither topic holds anything of the station.
        Unavailable: no broker answers.
    """
    key, reader = station_id.encode(), KafkaReader(settings)
    for topic in (settings.pred_topic, settings.raw_topic):
        for partition in kafka_io.partitions(settings, topic):
            within = reader.log_ranges([topic], partition)[topic]
            if newest(reader, topic, partition, within, lambda record: _is_of(record, key)) >= 0:
                return partition
    raise UsageError(f"{settings.raw_topic} holds no row of a station {station_id!r}: there is nothing to decide about it")


def _is_of(record: Record, key: bytes) -> int | None:
    """Return the record's offset if it is a row of the station, with a key or without."""
    if record.key is not None:
        return record.offset if record.key == key else None
    try:
        found = parse_record(None, record.value, record.headers)
    except InvalidRecord:
        return None
    return record.offset if found.station_id.encode() == key else None


def send(settings: Settings, operation: Operation, partition: int) -> int:
    """Put an operation's record into the raw topic and return its offset; raises ``Unavailable`` if no broker answers."""
    with kafka_io.kafka_errors_as_unavailable(settings), closing(kafka_io.idempotent_producer(settings)) as producer:
        sent = producer.send(
            settings.raw_topic,
            key=operation.station_id.encode(),
            value=operation.to_bytes(),
            headers=operation.headers,
            partition=partition,
        )
        return int(sent.get(timeout=_SEND_SECONDS).offset)


# ---- list ----


def _list(args: argparse.Namespace) -> int:
    found = list(events_command.findings(read_settings(), args.station))
    alarms = [alarm for alarm, _ in events_command.open_alarms(found)]
    for alarm in alarms:
        print(printable(f"{isoformat(alarm.at)}  {alarm.station_id}  {alarm_sentence(alarm.event)}"))
    if not alarms:
        print("no alarm is open")
    latest: dict[str, int] = {}
    for finding, _ in found:
        latest[finding.station_id] = max(finding.at, latest.get(finding.station_id, finding.at))
    for taken in _unfinished([finding for finding, _ in found if isinstance(finding, OperationTaken)], latest):
        print(printable(f"{isoformat(taken.at)}  {taken.station_id}  {taken.operation.sentence}"))
    return events_command.OPEN_ALARMS if alarms else command.DONE


def _unfinished(operations: list[OperationTaken], latest: dict[str, int]) -> Iterator[OperationTaken]:
    """Yield the maintenance that is not over at its station's newest event."""
    for taken in operations:
        if taken.operation.to_hour is not None and taken.operation.to_hour >= latest[taken.station_id]:
            yield taken
