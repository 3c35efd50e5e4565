"""Stations with faults in their rows beside a clean one, for ``make run FAULT=...`` and ``make demo-fault``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from airquality.data import dataset
from airquality.events import AlarmEvent, alarm_sentence
from airquality.ground.settings import Settings
from airquality.monitoring import calibration
from airquality.records import TARGET_UNIT, Prediction, isoformat
from airquality.stream import events_command, kafka_io
from airquality.truth.kinds import DAILY
from lab.faultlab.spec import SHORT, Spec

#: Alarm lines shown of one station.
_LINES = 6


@dataclass(frozen=True, slots=True)
class Replayed:
    """A station of a run: the rows it sends, and the fault in them, if there is one."""

    station_id: str
    csv: Path
    fault: Spec | None = None


def stations(usual: str, csv: Path, faults: Sequence[Spec], folder: Path) -> list[Replayed]:
    """Return the clean station, and one with each fault, whose rows are written into ``folder``.

    All of them begin where the calibrated history ends, so they are judged as if they had lived through it.
    """
    found = [Replayed(usual, csv)]
    for index, fault in enumerate(faults):
        name = f"{usual}-{fault.kind.replace(' ', '-')}-{_short(fault.column)}"
        taken = any(station.station_id == name for station in found)
        path = folder / f"faulty-{index + 1}.csv"
        _write_faulty_rows(fault, csv, path)
        found.append(Replayed(f"{name}-{index + 1}" if taken else name, path, fault))
        print(f"\n=== a fault is put into the rows of {found[-1].station_id}: {fault.text}, from {isoformat(fault.hour)} on")
    return found


def require_within(faults: Sequence[Spec], settings: Settings) -> None:
    """Raise ``UsageError`` if a fault begins outside the rows that will be sent; nothing was started yet."""
    if faults:
        frame = dataset.load(dataset.find(settings.dataset_dir, settings.air_quality_data_source).path)
        hours = dataset.split(frame).test.hours
        for fault in faults:
            fault.require_within(int(hours[0]), int(hours[-1]))


def _short(column: str) -> str:
    return next((short for short, name in SHORT.items() if name == column), column)


def _write_faulty_rows(fault: Spec, csv: Path, path: Path) -> None:
    stream, history = dataset.read_stream_csv(csv), dataset.current(csv.parent)
    relations = calibration.load(csv.parent).suite.relations
    before = history.rows(0, len(history) - len(stream))
    dataset.write_stream_csv(fault.put_into(stream, before, relations), path)


def conclude(settings: Settings, replayed: Sequence[Replayed]) -> None:
    """Say of each station what was noticed, when, after how long, and what the fault did to the error."""
    clean = next(station for station in replayed if station.fault is None)
    normal = errors(settings, clean.station_id)
    for station in replayed:
        alarms = _alarms(settings, station.station_id)
        print(f"\n=== {station.station_id}: {station.fault.text if station.fault else 'clean'}")
        for alarm in alarms[:_LINES]:
            print(f"{isoformat(alarm.event.at)}  {alarm_sentence(alarm.event)}{_after(alarm, station.fault)}")
        if len(alarms) > _LINES:
            print(f"and {len(alarms) - _LINES} more, in the reports of these days")
        if station.fault is None:
            print("no alarm, and there should be none" if not alarms else f"{len(alarms)} false alarms")
        else:
            print(verdict(station.fault, alarms))
            print(effect(station.fault, errors(settings, station.station_id), normal))


def verdict(fault: Spec, alarms: Sequence[AlarmEvent]) -> str:
    """Return in one line whether the fault was noticed, when, and after how many hours."""
    since = [alarm for alarm in alarms if alarm.event.at >= fault.hour]
    named = [alarm for alarm in since if fault.culprits & set(alarm.event.column.split("/"))]
    if not since:
        return "not noticed: docs/detectors.md says which faults cannot be seen, and how small ones are noticed"
    first = (named or since)[0].event
    what = f"{first.column} named" if named else f"{first.column} is blamed instead,"
    return f"noticed: {what} by {first.detector} at {isoformat(first.at)}, {first.at - fault.hour} h after it began"


def effect(fault: Spec, own: dict[int, float], normal: dict[int, float]) -> str:
    """Return in one line what the fault did to the error, beside the clean station's in the same hours."""
    since = [error for hour, error in own.items() if hour >= fault.hour]
    clean = [error for hour, error in normal.items() if hour >= fault.hour]
    return f"error from then on: {_rms(since)}; of the clean station in the same hours: {_rms(clean)}"


def _after(alarm: AlarmEvent, fault: Spec | None) -> str:
    if fault is None:
        return ""
    after = alarm.event.at - fault.hour
    return f"  ({after} h after it began)" if after >= 0 else f"  ({-after} h before it began: a false alarm)"


def _alarms(settings: Settings, station_id: str) -> list[AlarmEvent]:
    """Return what the hour-by-hour detectors said of a station; the days' verdicts stand in the reports."""
    found = [finding for finding, _ in events_command.findings(settings, station_id)]
    return [alarm for alarm in found if isinstance(alarm, AlarmEvent) and alarm.event.detector != DAILY.name]


def errors(settings: Settings, station_id: str) -> dict[int, float]:
    """Return by hour the error, in the unit of the target, of every committed prediction whose truth is known."""
    return {
        made.hour: made.prediction - made.actual
        for made in _predictions(settings)
        if made.station_id == station_id and not math.isnan(made.actual)
    }


def _predictions(settings: Settings) -> Iterator[Prediction]:
    for partition in kafka_io.partitions(settings, settings.pred_topic):
        for record in kafka_io.read(settings, settings.pred_topic, partition):
            yield Prediction.from_bytes(record.value or b"")


def _rms(errors: Sequence[float]) -> str:
    if not errors:
        return "unknown"
    return f"RMSE {math.sqrt(sum(error * error for error in errors) / len(errors)):.3f} {TARGET_UNIT} of {len(errors)} hours"
