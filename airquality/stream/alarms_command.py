"""What an operator does about alarms: ``python -m airquality alarms``.

Each verb puts one record into the raw topic, with its station's key, on its station's partition. It takes effect after the
rows before it and before those after it, so that every replay decides alike.
"""

from __future__ import annotations

import argparse
import getpass
from collections.abc import Callable

from airquality.ground import command
from airquality.ground.errors import InvalidRecord, UsageError
from airquality.incoming import MAX_NOTE_CHARACTERS, MAX_WHO_CHARACTERS, Operation, parse_record
from airquality.monitoring.network import RULE_COLUMNS
from airquality.records import hour_of_isoformat

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
        return hour_of_isoformat(text)
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
    return command.run("alarms", lambda: _run(args))


def _run(args: argparse.Namespace) -> int:
    from airquality.ground.settings import read_settings
    from airquality.stream import operations  # Kafka's client takes a third of a second, which no --help should

    settings = read_settings()
    return (
        operations.show_open(settings, args.station) if args.verb == "list" else operations.send(settings, _operation(args))
    )


def _operation(args: argparse.Namespace) -> Operation:
    first, last = getattr(args, "first", None), getattr(args, "last", None)
    who = args.by or getpass.getuser()[:MAX_WHO_CHARACTERS]
    operation = Operation(args.station, args.verb, args.column, first, last, who, args.note)
    try:
        parse_record(args.station.encode(), operation.to_bytes(), operation.headers)
    except (InvalidRecord, UnicodeEncodeError, TypeError) as error:  # an argument with bytes that are no text
        raise UsageError(str(error)) from error
    return operation
