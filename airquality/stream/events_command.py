"""Follow the findings of the stream: ``python -m airquality events``."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Iterator, Sequence

from airquality.events import (
    AlarmEvent,
    Finding,
    OperationTaken,
    RowsMissed,
    WindowSettled,
    alarm_sentence,
    finding_of,
    settled_sentence,
)
from airquality.ground import command
from airquality.ground.errors import InvalidRecord
from airquality.ground.settings import Settings, read_settings
from airquality.ground.shown import printable
from airquality.records import TARGET_UNIT, isoformat
from airquality.stream import kafka_io

_EXAMPLES = """\
examples:
  python -m airquality events tail                     every alarm and judged window so far
  python -m airquality events alarms --station roof    the alarms that are open now
  python -m airquality events alarms --json            one JSON object a line, as the topic holds it

exit status: 0 done (alarms: none is open), 1 failure, 2 wrong usage, 3 alarms are open
"""
OPEN_ALARMS = 3


def findings(settings: Settings, station_id: str | None = None) -> Iterator[tuple[Finding, bytes]]:
    """Yield every committed finding with its record's value, by partition; raises ``Unavailable`` if no broker answers.

    Records that are not of this release are passed over, and what strangers wrote.
    """
    for partition in kafka_io.partitions(settings, settings.events_topic):
        for record in kafka_io.read(settings, settings.events_topic, partition):
            finding = known(record.value)
            if finding is not None and station_id in (None, finding.station_id):
                yield finding, record.value or b""


def known(value: bytes | None) -> Finding | None:
    """Return what a record of the events topic holds, None if it is not ours: something in it is of another type."""
    try:
        finding = finding_of(value)
        names = finding.alarm if isinstance(finding, AlarmEvent) else (finding.station_id,)
        sentence(finding)
    except (ValueError, TypeError, LookupError, AttributeError, InvalidRecord):
        return None
    return finding if all(isinstance(name, str) for name in names) else None


def open_alarms(events: Iterable[tuple[Finding, bytes]]) -> list[tuple[AlarmEvent, bytes]]:
    """Return the alarms that no later event closed, as their latest event says, by station and column."""
    latest: dict[tuple[str, str, str], tuple[AlarmEvent, bytes]] = {}
    for finding, value in events:
        if not isinstance(finding, AlarmEvent):
            continue
        if finding.event.kind == "closed":
            latest.pop(finding.alarm, None)
        else:
            latest[finding.alarm] = finding, value
    return [latest[key] for key in sorted(latest)]


def sentence(finding: Finding) -> str:
    """Return a finding in one line."""
    if isinstance(finding, AlarmEvent):
        return printable(f"{isoformat(finding.event.at)}  {finding.station_id}  {alarm_sentence(finding.event)}")
    if isinstance(finding, OperationTaken):
        return printable(f"{isoformat(finding.at)}  {finding.station_id}  {finding.operation.sentence}")
    if isinstance(finding, RowsMissed):
        return printable(f"{isoformat(finding.at)}  {finding.station_id}  {finding.missed.sentence}")
    if isinstance(finding, WindowSettled):
        return printable(f"{isoformat(finding.truth.at)}  {finding.station_id}  {settled_sentence(finding.truth)}")
    raised = ", ".join(finding.raised) or "nothing raised"
    rmse = "" if math.isnan(finding.rmse) else f", RMSE {finding.rmse:.3f} {TARGET_UNIT} of {finding.n_truths} truths"
    return printable(f"{isoformat(finding.end_hour)}  {finding.station_id}  {finding.kind} window judged: {raised}{rmse}")


def _parser() -> argparse.ArgumentParser:
    description = "What the monitoring found, from the events topic (EVENTS_TOPIC; KAFKA_BOOTSTRAP_SERVERS)."
    p = command.parser("python -m airquality events", description, _EXAMPLES)
    verbs = p.add_subparsers(dest="verb", required=True)
    for name, text in (("tail", "every finding so far"), ("alarms", "the alarms that are open now")):
        verb = verbs.add_parser(name, help=text)
        verb.add_argument("--station", help="only this station's")
        verb.add_argument("--json", action="store_true", help="the records themselves, one a line")
    return p


def nothing_open(station_id: str | None, is_known: bool) -> str:
    """Return the line for no open alarm; a name that no finding has may be misspelt.

    >>> nothing_open("rof", is_known=False)
    "no alarm is open, and nothing at all is known of a station 'rof'"
    """
    unknown = "" if station_id is None or is_known else f", and nothing at all is known of a station {station_id!r}"
    return f"no alarm is open{unknown}"


def _show(args: argparse.Namespace) -> int:
    found = findings(read_settings(), args.station)
    if args.verb == "alarms":
        return _show_alarms(args, list(found))
    for finding, value in found:
        _print(args, finding, value)
    return command.DONE


def _show_alarms(args: argparse.Namespace, found: Sequence[tuple[Finding, bytes]]) -> int:
    opened = open_alarms(found)
    for finding, value in opened:
        _print(args, finding, value)
    if not opened and not args.json:
        print(nothing_open(args.station, bool(found)))
    return OPEN_ALARMS if opened else command.DONE


def _print(args: argparse.Namespace, finding: Finding, value: bytes) -> None:
    print(value.decode() if args.json else sentence(finding))


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 0 done, 1 failure, 2 usage, 3 alarms are open."""
    args = _parser().parse_args(argv)
    return command.run("events", lambda: _show(args))
