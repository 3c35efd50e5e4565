"""Dead letters as a workflow: list, show, export, and send again what a fix has made sound. ``python -m airquality dlq``."""

from __future__ import annotations

import argparse
import hashlib
import json
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airquality.ground import command, log
from airquality.ground.errors import InvalidRecord, UsageError
from airquality.ground.settings import Settings, read_settings
from airquality.ground.shown import printable
from airquality.incoming import TYPE_HEADER
from airquality.records import DEAD_LETTER_REASONS, parse_json_object
from airquality.stream import kafka_io
from airquality.stream.alone import Alone, alone
from airquality.stream.dead_letters import SOURCE_TYPE, is_offset
from airquality.stream.homes import Homes
from airquality.stream.kafka_io import Record
from airquality.stream.saved import SavedStations

#: On a raw record that was sent again: partition and offset of its dead letter, and of the record that was refused. One
#: alone would not do: either topic may have been created anew, and then counts from 0 again.
REPLAYED_FROM = "replayed_from"
#: What another attempt cannot cure: the stream has gone past these hours, or holds other values for them.
INCURABLE = ("conflict", "late")
#: Letters of one transaction, and how long one that a killed run left open can hold up the readers of the raw topic.
_LETTERS, _TRANSACTION_TIMEOUT_MS = 20, 20_000
_LATEST_MS = 253_402_300_799_000  # the last second of the year 9999


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter. ``at`` is when it was written (UTC); ``cut`` says that key and value are not the whole original.

    ``type`` is the original's header of that name, None for a reading. ``sha256`` are those of the original's key and value
    where they were cut, None for a null. ``unread`` says that nothing is known of the original but its place.
    """

    partition: int
    offset: int
    at: datetime
    station: str
    reason: str
    message: str
    source: tuple[str, int, int]
    key: bytes | None
    value: bytes | None
    cut: bool
    type: str | None = None
    sha256: tuple[str | None, str | None] = (None, None)
    unread: bool = False

    @property
    def place(self) -> str:
        """Where it is in the dead-letter topic, as the commands take it."""
        return f"{self.partition}:{self.offset}"

    @classmethod
    def of(cls, record: Record) -> Letter | None:
        """Return the letter a record of the dead-letter topic holds; None if it was not written by this system."""
        headers = {name: (text or b"").decode(errors="replace") for name, text in record.headers}
        partition, offset = headers.get("source_partition", ""), headers.get("source_offset", "")
        if not {"source_topic", "reason", "error_message"} <= headers.keys() or not is_offset(offset):
            return None
        if partition != str(record.partition):  # a letter is on the partition of its original
            return None
        sha256 = headers.get("key_sha256"), headers.get("value_sha256")
        return cls(
            partition=record.partition,
            offset=record.offset,
            at=datetime.fromtimestamp(min(max(record.timestamp_ms, 0), _LATEST_MS) / 1000, UTC),
            station=(record.key or b"").decode(errors="backslashreplace"),
            reason=headers["reason"],
            message=headers["error_message"],
            source=(headers["source_topic"], record.partition, int(offset)),
            key=record.key,
            value=None if headers.get("value_null") == "true" else record.value,
            cut=sha256 != (None, None),
            type=headers.get(SOURCE_TYPE),
            sha256=sha256,
            unread=headers.get("value_unread") == "true",
        )

    @property
    def mark(self) -> str:
        """What says on a raw record that it is this letter's original, sent again."""
        return f"{self.place} {self.source[1]}:{self.source[2]}"

    def to_json(self) -> dict[str, Any]:
        """Return the letter with its bytes in base64."""
        topic, partition, offset = self.source
        return {
            "letter": self.place,
            "at": self.at.isoformat(timespec="seconds"),
            "station": self.station,
            "reason": self.reason,
            "message": self.message,
            "source": f"{topic}:{partition}:{offset}",
            "cut": self.cut,
            "type": self.type,
            "key_base64": None if self.key is None else b64encode(self.key).decode(),
            "value_base64": None if self.value is None else b64encode(self.value).decode(),
        }


@dataclass(frozen=True, slots=True)
class Filter:
    """Which letters are meant: all that fit every given condition. ``since`` is inclusive, ``until`` exclusive."""

    reason: str | None = None
    station: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def fits(self, letter: Letter) -> bool:
        """Return whether the letter is meant."""
        return (
            self.reason in (None, letter.reason)
            and self.station in (None, letter.station)
            and (self.since is None or letter.at >= self.since)
            and (self.until is None or letter.at < self.until)
        )


@dataclass(frozen=True, slots=True)
class Resent:
    """How a replay ended: letters sent again, and those left alone, by why."""

    sent: int
    left: Counter[str]


#: A letter, and key and value of its original.
Original = tuple[Letter, bytes | None, bytes | None]


def letters(settings: Settings, wanted: Filter) -> Iterator[Letter]:
    """Yield the dead letters that are meant, by partition and offset; raises ``Unavailable`` if no broker answers."""
    for record in _records(settings, settings.dlq_topic):
        letter = Letter.of(record)
        if letter is not None and wanted.fits(letter):
            yield letter


def replay(settings: Settings, wanted: Filter, *, dry_run: bool = False) -> Resent:
    """Send the original bytes of the letters that are meant to the raw topic once more, each marked with where it came from.

    Each goes to the partition its station lives on now, whatever partitioner its producer has; where that is not known, to
    the one it came on. A letter that was sent again before is left alone, so that this may be repeated, also while another
    run is at work, which ends then; so is one that another attempt cannot cure, one that came from another topic, and one
    whose original was cut and is gone from the raw topic.

    Raises:
        Unavailable: no broker answers.
        ContractError: another run took over.
    """
    if dry_run:
        originals, left = _originals(settings, wanted)
        return Resent(len(originals), left)
    with alone(settings, "dlq replay", _TRANSACTION_TIMEOUT_MS) as run:
        originals, left = _originals(settings, wanted)
        _send(settings, originals, run)
    return Resent(len(originals), left)


def _originals(settings: Settings, wanted: Filter) -> tuple[list[Original], Counter[str]]:
    """Return what is to be sent again, and how many letters are left alone, by why."""
    chosen = list(letters(settings, wanted))
    before = {value for record in _records(settings, settings.raw_topic) for value in _replayed_from(record)}
    left: Counter[str] = Counter()
    originals: list[Original] = []
    for letter in chosen:
        why = _left_alone(letter, before, settings.raw_topic)
        found = None if why else _original(settings, letter)
        if found is None:
            left[why or "cut, and the original is gone from the raw topic"] += 1
        else:
            originals.append((letter, *found))
    return originals, left


def _records(settings: Settings, topic: str) -> Iterator[Record]:
    for partition in kafka_io.partitions(settings, topic):
        yield from kafka_io.read(settings, topic, partition)


def _replayed_from(record: Record) -> list[str]:
    return [(value or b"").decode(errors="replace") for name, value in record.headers if name == REPLAYED_FROM]


def _left_alone(letter: Letter, before: set[str], raw_topic: str) -> str:
    if letter.source[0] != raw_topic:
        return f"they came from another topic than {raw_topic}"
    if letter.unread:
        return "too large to be read, so that nobody has the original's bytes"
    if letter.reason in INCURABLE:
        return f"{letter.reason}: sending it again cannot cure it"
    if letter.mark in before:
        return "sent again before"
    if letter.key is None and letter.value is None:
        return "neither key nor value"
    return ""


def _original(settings: Settings, letter: Letter) -> tuple[bytes | None, bytes | None] | None:
    if not letter.cut:
        return letter.key, letter.value
    topic, partition, offset = letter.source
    for record in kafka_io.read(settings, topic, partition, offset, offset + 1):
        if (_sha256(record.key), _sha256(record.value)) == letter.sha256:  # not that of a topic that was created anew
            return record.key, record.value
    return None


def _sha256(content: bytes | None) -> str | None:
    return None if content is None else hashlib.sha256(content).hexdigest()


def _homes(settings: Settings) -> Homes:
    """Return where the stations live, by their snapshots."""
    homes = Homes()
    for partition in kafka_io.partitions(settings, settings.state_topic):
        saved = SavedStations(kafka_io.read(settings, settings.state_topic, partition))
        for station_id in saved.snapshots:
            homes.learn(station_id, partition, saved.since_ms(station_id))
    return homes


def _destination(letter: Letter, value: bytes | None, homes: Homes) -> int:
    """Return the partition a letter's original is sent to; ``value`` is that original's."""
    station = letter.station
    if letter.key is None:
        with suppress(InvalidRecord):
            station = str(parse_json_object(None, value).get("station_id"))
    home = homes.home(station)
    return letter.source[1] if home is None else home


def _send(settings: Settings, originals: Sequence[Original], run: Alone) -> None:
    homes = _homes(settings) if originals else Homes()
    for first in range(0, len(originals), _LETTERS):
        with run.transaction() as producer:
            for letter, key, value in originals[first : first + _LETTERS]:
                where = _destination(letter, value, homes)
                producer.send(settings.raw_topic, key=key, value=value, headers=_headers(letter), partition=where)


def _headers(letter: Letter) -> list[tuple[str, bytes]]:
    kept = [] if letter.type is None else [(TYPE_HEADER, letter.type.encode())]
    return [(REPLAYED_FROM, letter.mark.encode()), *kept]


# ---- the command ----

_EXAMPLES = """\
examples:
  python -m airquality dlq list                                what was refused, and why
  python -m airquality dlq list --reason out_of_range --json   one JSON object a line
  python -m airquality dlq show 0:17                           one letter whole
  python -m airquality dlq export letters.jsonl --station roof
  python -m airquality dlq replay --reason malformed --dry-run what would be sent again

exit status: 0 done, 1 failure, 2 wrong usage
"""


_DESCRIPTION = """\
Dead letters: records that could not become a reading or a prediction, kept as they came (DLQ_TOPIC; KAFKA_BOOTSTRAP_SERVERS
says where).
"""


def _parser() -> argparse.ArgumentParser:
    p = command.parser("python -m airquality dlq", _DESCRIPTION, _EXAMPLES)
    verbs = p.add_subparsers(dest="verb", required=True)
    listing = verbs.add_parser("list", help="one line a letter, and how many of each reason")
    listing.add_argument("--json", action="store_true", help="one JSON object a line instead")
    show = verbs.add_parser("show", help="one letter whole")
    show.add_argument("letter", metavar="PARTITION:OFFSET", help="as list names it")
    replaying = verbs.add_parser("replay", help="send the original bytes to the raw topic again, after a fix")
    replaying.add_argument("--dry-run", action="store_true", help="only say what would be sent")
    export = verbs.add_parser("export", help="write letters to a file, one JSON object a line, bytes in base64")
    export.add_argument("file", type=Path)
    for verb in (listing, replaying, export):
        _add_filters(verb)
    return p


def _add_filters(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--reason", choices=DEAD_LETTER_REASONS, help="only letters with this reason")
    verb.add_argument("--station", help="only letters with this key")
    verb.add_argument("--since", type=_moment, metavar="TIME", help="written at or after, UTC, e.g. 2026-11-26T08:00")
    verb.add_argument("--until", type=_moment, metavar="TIME", help="written before")


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 2026-11-26T08:00: {error}") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _list(settings: Settings, args: argparse.Namespace) -> Iterator[str]:
    reasons: Counter[str] = Counter()
    for letter in letters(settings, _filter(args)):
        reasons[letter.reason] += 1
        line = f"{letter.place:>10}  {letter.at:%Y-%m-%d %H:%M:%S}Z  {letter.station}  {letter.reason}: {letter.message}"
        yield json.dumps(letter.to_json()) if args.json else printable(line)
    if not args.json:
        counts = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
        yield f"{reasons.total()} dead letters{f' ({counts})' if counts else ''}"


def _show(settings: Settings, args: argparse.Namespace) -> Iterator[str]:
    for letter in letters(settings, Filter()):
        if letter.place == args.letter:
            content = (letter.value or b"").decode(errors="backslashreplace")
            shown = letter.to_json().items()
            yield from (printable(f"{name}: {value}") for name, value in shown if not name.endswith("base64"))
            yield f"value: {'null' if letter.value is None else printable(content)}"
            return
    raise UsageError(f"there is no dead letter {args.letter}: python -m airquality dlq list names them")


def _replay(settings: Settings, args: argparse.Namespace) -> Iterator[str]:
    resent = replay(settings, _filter(args), dry_run=args.dry_run)
    yield f"{resent.sent} dead letters {'would be ' if args.dry_run else ''}sent again to {settings.raw_topic}"
    yield from (f"{count} left alone: {why}" for why, count in sorted(resent.left.items()))


def _export(settings: Settings, args: argparse.Namespace) -> Iterator[str]:
    count = 0
    with args.file.open("w") as file:
        for letter in letters(settings, _filter(args)):
            file.write(json.dumps(letter.to_json()) + "\n")
            count += 1
    yield f"{count} dead letters written to {args.file}"


def _filter(args: argparse.Namespace) -> Filter:
    return Filter(args.reason, args.station, args.since, args.until)


_VERBS: dict[str, Callable[[Settings, argparse.Namespace], Iterator[str]]] = {
    "list": _list,
    "show": _show,
    "replay": _replay,
    "export": _export,
}


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    args = _parser().parse_args(argv)
    return command.run("dlq", lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    settings = read_settings()
    log.configure(settings.log_level, settings.log_format)
    try:
        for line in _VERBS[args.verb](settings, args):
            print(line)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise UsageError(f"{error.filename} cannot be written: {error.strerror}") from error
