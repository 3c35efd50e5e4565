"""Operators' decisions about alarms: put into the stream of their station, and listed from its events."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from airquality.events import AlarmEvent, OperationTaken, alarm_sentence
from airquality.ground import command
from airquality.ground.errors import InvalidRecord, UsageError
from airquality.ground.settings import Settings
from airquality.ground.shown import printable
from airquality.incoming import Operation, parse_record
from airquality.records import isoformat
from airquality.stream import events_command, kafka_io
from airquality.stream.kafka_io import Record
from airquality.stream.reader import KafkaReader, newest

_SEND_SECONDS = 130.0


def send(settings: Settings, operation: Operation) -> int:
    """Put an operation into the stream of its station, say so, and return the exit code."""
    partition = home(settings, operation.station_id)
    if operation.kind != "maintenance" and not _concerned(settings, operation):
        print(f"no alarm of {operation.column or operation.station_id} is open as far as the events say; sent all the same")
    offset = _sent(settings, operation, partition)
    print(printable(f"{operation.station_id}: {operation.sentence}"))
    print(f"sent: {settings.raw_topic}, partition {partition}, offset {offset}; it takes effect after the rows before it")
    return command.DONE


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


def _sent(settings: Settings, operation: Operation, partition: int) -> int:
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


def show_open(settings: Settings, station_id: str | None) -> int:
    """Print the open alarms and unfinished maintenance, of one station where one is named; 0 if no alarm is open, else 3."""
    found = list(events_command.findings(settings, station_id))
    alarms = [alarm for alarm, _ in events_command.open_alarms(found)]
    for alarm in alarms:
        print(printable(f"{isoformat(alarm.at)}  {alarm.station_id}  {alarm_sentence(alarm.event)}"))
    if not alarms:
        print(events_command.nothing_open(station_id, bool(found)))
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
